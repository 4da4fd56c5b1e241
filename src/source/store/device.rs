//! Memory behind a device: `/dev/mem` and its like, or a disk that memory was copied to.
//!
//! Knows that devices are read by whole pages, and may not say how long they are. Must not know what the bytes mean. Used
//! for raw memory only.

use std::{
    fs::File,
    io::{self, Seek as _, SeekFrom},
};

use super::{Store, StoreError, StoreReader};
use crate::sys::file::read_some_at;

/// What `pread` takes for an offset at most.
const ENDLESS: u64 = i64::MAX as u64;

/// A character or block device. A range that it cannot give is an error of that range alone.
#[derive(Debug)]
pub struct DeviceStore {
    file: File,
    size: u64,
    page: u64,
}

impl DeviceStore {
    /// Takes the device; without a size of its own (`/dev/mem` cannot seek to an end) it is endless.
    ///
    /// # Errors
    /// A block device does not say its size.
    pub fn new(mut file: File, is_block: bool) -> io::Result<Self> {
        let size = match file.seek(SeekFrom::End(0)) {
            Ok(size) if size > 0 || is_block => size,
            Err(error) if is_block => return Err(error),
            _ => ENDLESS,
        };
        Ok(Self { file, size, page: rustix::param::page_size() as u64 })
    }
}

impl Store for DeviceStore {
    fn size(&self) -> u64 {
        self.size
    }

    fn reader(&self) -> Box<dyn StoreReader + '_> {
        Box::new(DeviceReader { store: self, buffer: Vec::new() })
    }
}

#[derive(Debug)]
struct DeviceReader<'a> {
    store: &'a DeviceStore,
    buffer: Vec<u8>,
}

impl StoreReader for DeviceReader<'_> {
    fn read(&mut self, offset: u64, len: usize) -> Result<&[u8], StoreError> {
        let DeviceStore { file, size, page } = self.store;
        let end = offset.checked_add(len as u64).filter(|end| end <= size);
        let end = end.ok_or_else(|| StoreError::Truncated(size.saturating_sub(offset) as usize))?;
        // Whole pages and no more: the next one may be a hole.
        let start = offset - offset % page;
        let wanted = (end.div_ceil(*page).saturating_mul(*page).min(*size) - start) as usize;
        let skip = (offset - start) as usize;
        self.buffer.resize(wanted.max(self.buffer.len()), 0);
        match read_some_at(file, &mut self.buffer[..wanted], start) {
            Ok(got) if got >= skip + len => Ok(&self.buffer[skip..skip + len]),
            Ok(got) => Err(StoreError::Truncated(got.saturating_sub(skip))),
            Err(error) => Err(StoreError::system(&error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn reads_at_any_offset_and_ends_where_the_device_does() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..20_000u32).map(|n| (n % 251) as u8).collect();
        file.write_all(&bytes).unwrap();
        let store = DeviceStore::new(file, true).unwrap();
        assert_eq!(store.size(), 20_000);
        let mut reader = store.reader();
        for (offset, len) in [(0, 1), (4095, 2), (5000, 9000), (19_999, 1), (0, 20_000)] {
            assert_eq!(reader.read(offset as u64, len).unwrap(), &bytes[offset..offset + len]);
        }
        assert_eq!(reader.read(19_000, 2000), Err(StoreError::Truncated(1000)));
        assert_eq!(reader.read(u64::MAX, 2), Err(StoreError::Truncated(0)));
    }

    #[test]
    fn a_character_device_has_no_end() {
        let store = DeviceStore::new(File::open("/dev/zero").unwrap(), false).unwrap();
        assert_eq!(store.size(), ENDLESS);
        assert_eq!(store.reader().read(1 << 40, 5000).unwrap(), vec![0; 5000]);
    }
}
