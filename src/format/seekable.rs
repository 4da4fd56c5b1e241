//! The seek table of the Zstandard seekable format (version 0.1.0), which also stands behind LZ4 frames.
//!
//! Knows its bytes: a skippable frame, the last one of the file, that decompressors pass over. Must not do I/O. Used by
//! the stores that read compressed dumps at random and by the sink that writes them.

/// Magic number of the skippable frame; LZ4 reserves the same sixteen numbers as Zstandard.
const SKIPPABLE: u32 = 0x184D_2A5E;
/// The last four bytes of the file.
pub const SEEKABLE: u32 = 0x8F92_EAB1;
/// Bytes of the skippable frame's own header.
pub const SKIPPABLE_HEADER: u64 = 8;
/// Bytes of the footer: number of frames, descriptor, magic number.
pub const FOOTER: u64 = 9;
/// More frames than the format allows cannot be in a table.
pub const MAX_FRAMES: u64 = 1 << 27;
/// Descriptor bit: each entry has a checksum.
const HAS_CHECKSUMS: u8 = 0x80;
/// Descriptor bits that must be zero.
const RESERVED: u8 = 0x7c;

/// One frame as the table describes it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Bytes in the file.
    pub stored: u32,
    /// Bytes when decompressed.
    pub plain: u32,
    /// The low half of the decompressed bytes' XXH64.
    pub checksum: Option<u32>,
}

/// The table as bytes, the skippable frame around it included.
#[must_use]
pub fn encode(frames: &[(u32, u32)]) -> Vec<u8> {
    let len = frames.len() * 8 + FOOTER as usize;
    let mut out = Vec::with_capacity(len + SKIPPABLE_HEADER as usize);
    out.extend(SKIPPABLE.to_le_bytes());
    out.extend((len as u32).to_le_bytes());
    for (stored, plain) in frames {
        out.extend(stored.to_le_bytes());
        out.extend(plain.to_le_bytes());
    }
    out.extend((frames.len() as u32).to_le_bytes());
    out.push(0);
    out.extend(SEEKABLE.to_le_bytes());
    out
}

/// What the last bytes of a file say about the table in front of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Footer {
    /// Frames in the file.
    pub frames: u32,
    checksums: bool,
}

impl Footer {
    /// `None` where the bytes end no seek table.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; FOOTER as usize] = bytes.try_into().ok()?;
        let (frames, descriptor) = (le32(&bytes[..4])?, bytes[4]);
        let known = le32(&bytes[5..])? == SEEKABLE && descriptor & RESERVED == 0 && u64::from(frames) <= MAX_FRAMES;
        known.then_some(Self { frames, checksums: descriptor & HAS_CHECKSUMS != 0 })
    }

    /// Bytes of an entry.
    #[must_use]
    pub fn entry_len(self) -> usize {
        if self.checksums { 12 } else { 8 }
    }

    /// Bytes of the whole skippable frame.
    #[must_use]
    pub fn table_len(self) -> u64 {
        SKIPPABLE_HEADER + u64::from(self.frames) * self.entry_len() as u64 + FOOTER
    }

    /// Whether `bytes` are the header of the skippable frame that this footer ends.
    #[must_use]
    pub fn matches(self, bytes: &[u8]) -> bool {
        let len = self.table_len() - SKIPPABLE_HEADER;
        bytes.split_at_checked(4).is_some_and(|(magic, rest)| {
            le32(magic) == Some(SKIPPABLE) && le32(rest).is_some_and(|found| u64::from(found) == len)
        })
    }

    /// The entries in `bytes`, which follow the skippable frame's header.
    pub fn entries(self, bytes: &[u8]) -> impl Iterator<Item = Entry> + '_ {
        let entries = bytes.chunks_exact(self.entry_len()).take(self.frames as usize);
        entries.filter_map(|entry| {
            Some(Entry {
                stored: le32(&entry[..4])?,
                plain: le32(&entry[4..8])?,
                checksum: entry.get(8..).and_then(le32),
            })
        })
    }
}

fn le32(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_reads_as_it_was_written() {
        let frames = [(100, 1 << 20), (7, 1 << 20), (9, 12)];
        let bytes = encode(&frames);
        let footer = Footer::parse(&bytes[bytes.len() - 9..]).unwrap();
        assert_eq!((u64::from(footer.frames), footer.table_len()), (3, bytes.len() as u64));
        assert!(footer.matches(&bytes[..8]));
        let entries = footer.entries(&bytes[8..]).map(|entry| (entry.stored, entry.plain));
        assert!(entries.eq(frames));
    }

    #[test]
    fn what_is_no_table_is_none() {
        let mut bytes = encode(&[(1, 2)]);
        assert_eq!(Footer::parse(&bytes), None, "too long");
        let at = bytes.len() - 5;
        bytes[at] = 0x40;
        assert_eq!(Footer::parse(&bytes[bytes.len() - 9..]), None, "a reserved bit");
        assert_eq!(Footer::parse(b"123456789"), None);
    }
}
