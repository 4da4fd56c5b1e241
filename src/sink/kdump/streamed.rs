//! The pages of a kdump file where every offset is written once: the descriptors come last.
//!
//! That is the one order of records that every reader of a flattened stream takes: the front, page data, all descriptors.

use zerocopy::IntoBytes as _;

use super::{
    body::Body,
    descs::{Described, Descs},
};
use crate::{
    error::{Error, Result},
    format::diskdump::{Areas, DESC_SIZE, Header, PageDesc, flags},
    sink::medium::Medium,
};

/// Bytes of page data in a stretch, at least: libkdumpfile walks through all records for each read.
const STRETCH: usize = 1 << 20;
/// Bytes of descriptors written at a time.
const PART: usize = 64 << 10;
/// What is remembered of each page until its descriptor is written: its length, or one of these.
const ZERO: u32 = u32::MAX;
const LOST: u32 = u32::MAX - 1;
/// Marks a page that is stored as it was.
const RAW: u32 = 1 << 31;

#[derive(Debug)]
pub(super) struct Streamed {
    medium: Box<dyn Medium>,
    areas: Areas,
    /// Page data that is not written yet; it begins at `next`.
    data: Vec<u8>,
    next: u64,
    pages: Vec<u32>,
    codec_flags: u32,
}

impl Streamed {
    /// Bytes of memory for each page until the end.
    pub(super) const PAGE_BYTES: u64 = size_of::<u32>() as u64;

    /// Prepares for `pages` pages.
    pub(super) fn new(mut medium: Box<dyn Medium>, areas: Areas, pages: u64, codec_flags: u32) -> Result<Self> {
        medium.announce(0, areas.descs)?;
        let pages = Vec::with_capacity(pages as usize);
        Ok(Self { medium, areas, data: Vec::new(), next: areas.data, pages, codec_flags })
    }

    fn send_data(&mut self) -> Result<()> {
        self.medium.announce(self.next, self.data.len() as u64)?;
        self.medium.write(&self.data, self.next)?;
        self.next += self.data.len() as u64;
        self.data.clear();
        Ok(())
    }

    fn send_descs(&mut self) -> Result<()> {
        let (mut at, len) = (self.areas.descs, self.areas.data - self.areas.descs);
        if self.pages.len() as u64 * DESC_SIZE != len {
            return Err(Error::unexpected("not as many pages as planned"));
        }
        self.medium.announce(at, len)?;
        // Nothing can be marked later: the dump is whole if its end mark is there.
        let mut descs = Descs::new(&self.areas, false);
        for part in self.pages.chunks(PART / DESC_SIZE as usize) {
            let part: Vec<PageDesc> = part.iter().map(|page| descs.of(remembered(*page, self.codec_flags))).collect();
            self.medium.write(part.as_bytes(), at)?;
            at += part.as_bytes().len() as u64;
        }
        Ok(())
    }
}

/// As little as is enough.
fn reminder(page: Described) -> u32 {
    match page {
        Described::Stored { len, flags: flags::RAW } => len | RAW,
        Described::Stored { len, .. } => len,
        Described::Zero => ZERO,
        Described::Lost => LOST,
    }
}

fn remembered(page: u32, codec_flags: u32) -> Described {
    match page {
        ZERO => Described::Zero,
        LOST => Described::Lost,
        page if page & RAW == 0 => Described::Stored { len: page, flags: codec_flags },
        page => Described::Stored { len: page & !RAW, flags: flags::RAW },
    }
}

impl Body for Streamed {
    fn put_front(&mut self, bytes: &[u8], at: u64) -> Result<()> {
        self.medium.write(bytes, at)
    }

    fn begin_data(&mut self, zeros: &[u8]) -> Result<()> {
        self.data.extend_from_slice(zeros);
        Ok(())
    }

    fn append(&mut self, pages: &mut dyn ExactSizeIterator<Item = Described>, data: &[u8]) -> Result<()> {
        self.pages.extend(pages.map(reminder));
        self.data.extend_from_slice(data);
        if self.data.len() >= STRETCH { self.send_data() } else { Ok(()) }
    }

    fn finish(&mut self, _header: &Header) -> Result<u64> {
        self.send_data()?;
        self.send_descs()?;
        self.medium.finish()?;
        Ok(self.next + self.medium.overhead())
    }

    fn medium(&mut self) -> &mut dyn Medium {
        self.medium.as_mut()
    }

    /// Without its end mark no reader takes it for a dump.
    fn end_early(&mut self, _header: &Header) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_what_was_described() {
        let stored = |len, flags| Described::Stored { len, flags };
        for page in [
            stored(1, flags::ZSTD),
            stored(65_536, flags::RAW),
            stored(0, flags::ZSTD),
            Described::Zero,
            Described::Lost,
        ] {
            assert_eq!(remembered(reminder(page), flags::ZSTD), page);
        }
    }
}
