//! makedumpfile's flattened format: a dump as records for a pipe, which cannot seek.
//!
//! Knows its header and records, all big-endian. Must not do I/O. Used by the flattened store and the flattened sink.

/// Bytes of the header block.
pub const HEADER: u64 = 4096;
/// Bytes in front of each record's data.
pub const RECORD: u64 = 16;
/// How the header starts, padded to 16 bytes.
pub const SIGNATURE: &[u8; 16] = b"makedumpfile\0\0\0\0";
/// Its type and its version; there are no others.
const ONE: [u8; 8] = 1i64.to_be_bytes();

/// What a record says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Record {
    /// So many bytes of data follow, for this offset.
    Data {
        /// Offset in the dump, bytes.
        offset: u64,
        /// Bytes, never none.
        len: u64,
    },
    /// Nothing follows.
    End,
}

impl Record {
    /// `None` where the numbers are impossible.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (offset, len) = bytes.split_first_chunk::<8>()?;
        let (offset, len) = (i64::from_be_bytes(*offset), i64::from_be_bytes(len.try_into().ok()?));
        if (offset, len) == (-1, -1) {
            return Some(Self::End);
        }
        let (offset, len) = (u64::try_from(offset).ok()?, u64::try_from(len).ok().filter(|len| *len > 0)?);
        offset.checked_add(len).filter(|end| *end <= i64::MAX as u64)?;
        Some(Self::Data { offset, len })
    }

    /// As it is written.
    #[must_use]
    pub fn encode(self) -> [u8; RECORD as usize] {
        let (offset, len) = match self {
            Self::Data { offset, len } => (offset, len),
            Self::End => (u64::MAX, u64::MAX),
        };
        let mut bytes = [0; RECORD as usize];
        bytes[..8].copy_from_slice(&offset.to_be_bytes());
        bytes[8..].copy_from_slice(&len.to_be_bytes());
        bytes
    }
}

/// The header block.
#[must_use]
pub fn header() -> Vec<u8> {
    let mut block = [&SIGNATURE[..], &ONE, &ONE].concat();
    block.resize(HEADER as usize, 0);
    block
}

/// Whether a block is the header of a format that we know.
#[must_use]
pub fn is_header(block: &[u8]) -> bool {
    block.strip_prefix(SIGNATURE.as_slice()).is_some_and(|rest| rest.starts_with(&ONE) && rest[8..].starts_with(&ONE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_read() {
        assert!(is_header(&header()));
        for record in [Record::Data { offset: 0, len: 1 }, Record::Data { offset: 1 << 46, len: 77 }, Record::End] {
            assert_eq!(Record::parse(&record.encode()), Some(record));
        }
        assert_eq!(Record::Data { offset: 1, len: 2 }.encode(), [0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2]);
    }
}
