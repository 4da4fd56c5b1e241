//! The dumped pages of a kdump-compressed file, or of a split set, one after the other.
//!
//! Knows descriptors and codecs. Must not know which frame a page is of: the map of memory counts the dumped pages. A
//! [`Store`], read like a file that holds the pages uncompressed and without gaps.

use std::ops::Range;

use zerocopy::{FromBytes as _, FromZeros as _};

use super::header::File;
use crate::{
    codec::Decoder,
    format::diskdump::{DESC_SIZE, PageDesc},
    source::{
        MAX_READ,
        store::{Cause, Failure, PutStored, Store, StoreError, StoreReader, StoredPages},
    },
};

/// Decoded pages that each reader keeps for small reads, bytes: struct pages and page tables are read in small pieces.
const CACHED: usize = 256 << 10;
/// Compressed data read at once, bytes.
const DATA: u64 = 256 << 10;

/// One file's share of the pages.
#[derive(Debug)]
pub(super) struct Share {
    pub(super) file: File,
    /// Numbers of its pages, over all parts.
    pub(super) pages: Range<u64>,
    /// File offset of its first descriptor.
    pub(super) descs: u64,
}

/// The pages of all parts.
#[derive(Debug)]
pub(super) struct Pages {
    /// In order; between two of them a part may be missing.
    pub(super) shares: Vec<Share>,
    pub(super) page_shift: u32,
}

impl Pages {
    /// The flags of the first few descriptors, all together.
    pub(super) fn sample_flags(&self) -> u32 {
        let mut reader = Reader::new(self);
        let some =
            self.shares.first().map_or(0..0, |share| share.pages.start..share.pages.end.min(share.pages.start + 64));
        match reader.descs(0, some) {
            Ok(()) => reader.descs.iter().fold(0, |all, desc| all | desc.flags.get()),
            Err(_) => 0,
        }
    }

    /// The share that has a page.
    fn share(&self, page: u64) -> Option<usize> {
        let index = self.shares.partition_point(|share| share.pages.end <= page);
        self.shares.get(index).filter(|share| share.pages.contains(&page)).map(|_| index)
    }
}

impl Store for Pages {
    fn size(&self) -> u64 {
        self.shares.last().map_or(0, |share| share.pages.end << self.page_shift)
    }

    fn reader(&self) -> Box<dyn StoreReader + '_> {
        Box::new(Reader::new(self))
    }

    fn memory(&self) -> (u64, u64) {
        // A reader has one of each file.
        let files = self.shares.iter().map(|share| share.file.store.memory());
        files.fold((0, 0), |(all, each), (store, reader)| (all + store, each + reader))
    }

    fn front(&self) -> Option<&dyn Store> {
        self.shares.first().map(|share| share.file.store.as_ref())
    }

    fn stored_pages(&self) -> Option<Box<dyn StoredPages + '_>> {
        Some(Box::new(Reader::new(self)))
    }
}

#[derive(Debug)]
struct Reader<'a> {
    pages: &'a Pages,
    files: Vec<Box<dyn StoreReader + 'a>>,
    decoder: Decoder,
    descs: Vec<PageDesc>,
    buffer: Vec<u8>,
    /// Decoded pages by number, the last used first.
    cache: Vec<(u64, Box<[u8]>)>,
}

impl<'a> Reader<'a> {
    fn new(pages: &'a Pages) -> Self {
        let files = pages.shares.iter().map(|share| share.file.store.reader()).collect();
        let decoder = Decoder::default();
        Self { pages, files, decoder, descs: Vec::new(), buffer: Vec::new(), cache: Vec::new() }
    }

    /// The decoded page with this number, from the cache or into it.
    fn cached(&mut self, page: u64) -> Result<&[u8], StoreError> {
        let size = 1usize << self.pages.page_shift;
        let index = match self.cache.iter().position(|(number, _)| *number == page) {
            Some(index) => index,
            None => {
                let mut fresh = vec![0; size];
                self.decode(page, &mut fresh)?;
                if self.cache.len() >= CACHED / size {
                    self.cache.pop();
                }
                self.cache.push((page, fresh.into()));
                self.cache.len() - 1
            }
        };
        self.cache[..=index].rotate_right(1);
        Ok(&self.cache[0].1)
    }

    /// Decodes pages from number `first` on into all of `out`, whose length is a multiple of the page size.
    fn decode(&mut self, first: u64, out: &mut [u8]) -> Result<(), StoreError> {
        let shift = self.pages.page_shift;
        let (mut at, end) = (first, first + (out.len() >> shift) as u64);
        while at < end {
            let past_end = StoreError::Truncated((at.saturating_sub(first) as usize) << shift);
            let index = self.pages.share(at).ok_or(past_end)?;
            let here = at..end.min(self.pages.shares[index].pages.end);
            self.descs(index, here.clone())?;
            let part = ((here.start - first) as usize) << shift..((here.end - first) as usize) << shift;
            self.decode_described(index, here.start, &mut out[part])?;
            at = here.end;
        }
        Ok(())
    }

    /// Reads the descriptors of some pages of one share.
    fn descs(&mut self, index: usize, pages: Range<u64>) -> Result<(), StoreError> {
        let Share { file, descs, .. } = &self.pages.shares[index];
        let offset = self.desc_at(index, pages.start);
        self.descs.resize_with((pages.end - pages.start) as usize, PageDesc::new_zeroed);
        for (chunk, at) in self.descs.chunks_mut(MAX_READ / DESC_SIZE as usize).zip((offset..).step_by(MAX_READ)) {
            debug_assert!(at >= *descs);
            let bytes = self.files[index].read(at, chunk.len() * DESC_SIZE as usize).map_err(|error| match error {
                StoreError::Truncated(_) => lost(format!(
                    "the descriptor at byte {offset} lies past the end of {}, which was truncated",
                    file.path.display()
                )),
                failed @ StoreError::Failed(_) => failed,
            })?;
            for (desc, bytes) in chunk.iter_mut().zip(bytes.chunks_exact(DESC_SIZE as usize)) {
                *desc = PageDesc::read_from_bytes(bytes).unwrap_or_default();
            }
        }
        Ok(())
    }

    /// File offset of a page's descriptor.
    fn desc_at(&self, index: usize, page: u64) -> u64 {
        let Share { pages, descs, .. } = &self.pages.shares[index];
        descs + (page - pages.start) * DESC_SIZE
    }

    /// Decodes the pages whose descriptors were just read; neighbours in the file are read together.
    fn decode_described(&mut self, index: usize, first: u64, out: &mut [u8]) -> Result<(), StoreError> {
        let size = 1usize << self.pages.page_shift;
        let mut at = 0;
        while at < self.descs.len() {
            let same_as_last = at > 0 && self.descs[at] == self.descs[at - 1];
            if same_as_last {
                // All zero pages of a dump share one.
                out.copy_within((at - 1) * size..at * size, at * size);
                at += 1;
                continue;
            }
            let (start, mut end, from) = (at, self.check(index, first, at)?, self.descs[at].offset.get());
            at += 1;
            while let Some(next) = self.descs.get(at)
                && next.offset.get() == end
                && end - from < DATA
            {
                end = self.check(index, first, at)?;
                at += 1;
            }
            let data = self.files[index].read(from, (end - from) as usize)?;
            for number in start..at {
                let desc = &self.descs[number];
                let (from, len) = ((desc.offset.get() - from) as usize, desc.size.get() as usize);
                let page = &mut out[number * size..(number + 1) * size];
                self.decoder.decode(desc.flags.get(), &data[from..from + len], page).map_err(|error| {
                    let Share { file, .. } = &self.pages.shares[index];
                    let (offset, path) = (desc.offset.get(), file.path.display());
                    StoreError::damaged(format!("{error}, in {len} bytes at byte {offset} of {path}"))
                })?;
            }
        }
        Ok(())
    }

    /// Where the data of a page ends, after making sure that it can be there.
    fn check(&self, index: usize, first: u64, at: usize) -> Result<u64, StoreError> {
        let desc = &self.descs[at];
        let (offset, size, block) = (desc.offset.get(), desc.size.get(), 1u32 << self.pages.page_shift);
        let file = &self.pages.shares[index].file;
        let what = || format!("the descriptor at byte {}", self.desc_at(index, first + at as u64));
        let within = |text: String| format!("{text}, in {}", file.path.display());
        Err(match offset.checked_add(size.into()) {
            _ if offset == 0 => {
                lost(within("the page was lost when the dump was written, which is incomplete".to_owned()))
            }
            _ if size == 0 || size > block => {
                StoreError::damaged(within(format!("{} claims {size} bytes for a page of {block}", what())))
            }
            Some(end) if end <= file.store.size() => return Ok(end),
            _ => {
                lost(within(format!("{} leads to byte {offset}, but the file has {} bytes", what(), file.store.size())))
            }
        })
    }
}

/// The data of a page is not in the file.
fn lost(text: String) -> StoreError {
    StoreError::Failed(Failure { cause: Cause::Lost, text })
}

impl StoreReader for Reader<'_> {
    fn read(&mut self, offset: u64, len: usize) -> Result<&[u8], StoreError> {
        let size = 1usize << self.pages.page_shift;
        let within = (offset % size as u64) as usize;
        let page = offset >> self.pages.page_shift;
        if within + len <= size && len < size {
            return self.cached(page).map(|bytes| &bytes[within..within + len]);
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        let span = (within + len).next_multiple_of(size);
        buffer.resize(span.max(buffer.len()), 0);
        let decoded = self.decode(page, &mut buffer[..span]);
        self.buffer = buffer;
        decoded.map(|()| &self.buffer[within..within + len])
    }
}

/// Descriptors read at once where pages are handed over as they are.
const DESCS: u64 = 1024;

impl StoredPages for Reader<'_> {
    fn each(&mut self, first: u64, count: u64, put: PutStored<'_>) {
        let (mut at, end) = (first, first.saturating_add(count));
        while at < end {
            let Some(index) = self.pages.share(at) else {
                (at..end).for_each(|_| put(Err(StoreError::Truncated(0))));
                return;
            };
            let to = end.min(self.pages.shares[index].pages.end).min(at + DESCS);
            match self.descs(index, at..to) {
                Ok(()) => self.hand_over(index, at, put),
                // One by one: where the file ends, what lies before is good.
                Err(_) if to - at > 1 => {
                    for page in at..to {
                        match self.descs(index, page..page + 1) {
                            Ok(()) => self.hand_over(index, page, put),
                            Err(error) => put(Err(error)),
                        }
                    }
                }
                Err(error) => put(Err(error)),
            }
            at = to;
        }
    }
}

impl Reader<'_> {
    /// Hands over the pages whose descriptors were just read; neighbours in the file are read together.
    fn hand_over(&mut self, index: usize, first: u64, put: PutStored<'_>) {
        let mut at = 0;
        while at < self.descs.len() {
            let start = at;
            let mut end = match self.check(index, first, at) {
                Ok(end) => end,
                Err(error) => {
                    put(Err(error));
                    at += 1;
                    continue;
                }
            };
            let from = self.descs[at].offset.get();
            at += 1;
            while let Some(next) = self.descs.get(at)
                && next.offset.get() == end
                && end - from < DATA
                && let Ok(further) = self.check(index, first, at)
            {
                end = further;
                at += 1;
            }
            let place = |desc: &PageDesc| ((desc.offset.get() - from) as usize, desc.size.get() as usize);
            if let Ok(data) = self.files[index].read(from, (end - from) as usize) {
                for desc in &self.descs[start..at] {
                    let (offset, len) = place(desc);
                    put(Ok((desc.flags.get(), &data[offset..offset + len])));
                }
                continue;
            }
            // One by one: what cannot be read loses only itself.
            for desc in &self.descs[start..at] {
                let data = self.files[index].read(desc.offset.get(), place(desc).1);
                put(data.map(|data| (desc.flags.get(), data)));
            }
        }
    }
}
