//! Reading physical memory, one reader for each thread.
//!
//! Knows which piece of memory lies where in the store. Must not know what the pages are. The bytes go to `memory` and to
//! `pipeline`.

use super::{
    MAX_READ, RamMap,
    ram::Finder,
    store::{Failure, StoreError, StoreReader},
};

/// Why physical memory could not be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReadError {
    /// The dump holds no byte of this range.
    #[error("physical address {0:#x} is not in the dump")]
    Absent(u64),
    /// The store could not be read.
    #[error("{1} at physical address {0:#x}")]
    Failed(u64, Failure),
    /// The file ends before the data does.
    #[error("the file ends before physical address {0:#x}")]
    Truncated(u64),
}

impl ReadError {
    fn at(paddr: u64, error: StoreError) -> Self {
        match error {
            StoreError::Failed(cause) => Self::Failed(paddr, cause),
            StoreError::Truncated(got) => Self::Truncated(paddr + got as u64),
        }
    }
}

/// Reads physical memory. Not shared between threads.
#[derive(Debug)]
pub struct PageReader<'a> {
    store: Box<dyn StoreReader + 'a>,
    ram: &'a RamMap,
    finder: Finder<'a>,
    /// For ranges that lie in several pieces.
    buffer: Vec<u8>,
}

impl<'a> PageReader<'a> {
    pub(super) fn new(store: Box<dyn StoreReader + 'a>, ram: &'a RamMap) -> Self {
        Self { store, ram, finder: ram.finder(), buffer: Vec::new() }
    }

    /// The `len` bytes of memory at `paddr`. More than [`MAX_READ`] are put together in a buffer that stays as large. Bytes that
    /// the dump does not hold inside a range that it holds in part are zero: firmware may end a RAM range in the middle of a page.
    ///
    /// # Errors
    /// [`ReadError`]; nothing was read.
    pub fn read(&mut self, paddr: u64, len: usize) -> Result<&[u8], ReadError> {
        let end = paddr.checked_add(len as u64).ok_or(ReadError::Absent(paddr))?;
        let first = self.finder.next(paddr, end).ok_or(ReadError::Absent(paddr))?;
        let whole = first.paddr <= paddr && first.end() >= end && len <= MAX_READ;
        match (whole, first.offset) {
            (true, Some(offset)) => {
                let offset = offset + (paddr - first.paddr);
                self.store.read(offset, len).map_err(|error| ReadError::at(paddr, error))
            }
            _ => self.read_in_parts(paddr, len),
        }
    }

    /// Whether the input stores any byte of the range. What it does not store is zero and need not be read: a segment may
    /// claim terabytes past its data.
    #[must_use]
    pub fn is_stored(&self, paddr: u64, len: usize) -> bool {
        let end = paddr.saturating_add(len as u64);
        self.ram.overlapping(paddr, end).any(|piece| piece.offset.is_some())
    }

    /// As [`PageReader::read`], but fails where the dump lacks any byte of the range: for the kernel's own structures, where
    /// zeros instead of what is missing would be believed.
    ///
    /// # Errors
    /// [`ReadError`]; nothing was read.
    pub fn read_whole(&mut self, paddr: u64, len: usize) -> Result<&[u8], ReadError> {
        let end = paddr.checked_add(len as u64).ok_or(ReadError::Absent(paddr))?;
        let mut at = paddr;
        while let Some(piece) = self.finder.next(at, end).filter(|piece| piece.paddr <= at) {
            at = piece.end();
        }
        if at < end { Err(ReadError::Absent(at)) } else { self.read(paddr, len) }
    }

    fn read_in_parts(&mut self, paddr: u64, len: usize) -> Result<&[u8], ReadError> {
        let Self { store, finder, buffer, .. } = self;
        let end = paddr + len as u64;
        buffer.clear();
        buffer.resize(len, 0);
        let mut at = paddr;
        while let Some(piece) = finder.next(at, end) {
            let (from, to) = (piece.paddr.max(at), piece.end().min(end));
            let to = to.min(from + MAX_READ as u64);
            if let Some(offset) = piece.offset {
                let part = &mut buffer[(from - paddr) as usize..(to - paddr) as usize];
                let bytes = store.read(offset + (from - piece.paddr), part.len());
                part.copy_from_slice(bytes.map_err(|error| ReadError::at(from, error))?);
            }
            at = to;
        }
        Ok(buffer)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::source::{
        Load,
        store::{FileStore, Store as _},
    };

    /// Whoever uses the library need not know how much is read at once.
    #[test]
    fn a_read_may_have_any_length() {
        let bytes: Vec<u8> = (0..3u32 << 20).map(|at| (at.wrapping_mul(at) >> 7) as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let store = FileStore::new(file).unwrap();
        let load = |paddr, offset, len| Load { paddr, vaddr: 0, offset, filesz: len, memsz: len };
        let ram = RamMap::from_loads(&[load(0x1000, 0, 2 << 20), load(0x1000 + (2 << 20), 2 << 20, 1 << 20)]);
        let mut reader = PageReader::new(store.reader(), &ram);
        for (at, len) in [(0, 3 << 20), (5, (2 << 20) + 77), (1, MAX_READ), (7, MAX_READ + 1)] {
            assert!(reader.read(0x1000 + at as u64, len).unwrap() == &bytes[at..at + len], "{at} {len}");
            assert!(reader.read_whole(0x1000 + at as u64, len).unwrap() == &bytes[at..at + len], "{at} {len}");
        }
        assert_eq!(reader.read_whole(0x1000, (3 << 20) + 1), Err(ReadError::Absent(0x1000 + (3 << 20))));
    }
}
