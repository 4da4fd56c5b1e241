//! One worker's job: read a batch, recognise zeros, compress the rest.
//!
//! Knows pages and codecs. Must not know where the bytes go. The packed batch goes to a sink.

use vdump_filters::{Pfn, PfnRange};

use super::is_zero;
use crate::{
    codec::Codec,
    plan::Batch,
    source::{MAX_READ, OutputReader},
};

/// What became of a page.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Stored in the batch's data as so many bytes, with the codec that the flags name.
    Stored {
        /// Bytes in the batch's data.
        len: u32,
        /// `format::diskdump::flags` of the codec; 0: the page as it was.
        flags: u32,
    },
    /// All zeros.
    Zero,
    /// Could not be read; why.
    Lost(String),
}

/// One page of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PackedPage {
    /// Its frame.
    pub pfn: u64,
    /// What became of it.
    pub fate: Fate,
}

impl PackedPage {
    /// Frame and cause, if it is lost.
    #[must_use]
    pub fn lost(&self) -> Option<(u64, &str)> {
        match &self.fate {
            Fate::Lost(cause) => Some((self.pfn, cause)),
            _ => None,
        }
    }
}

/// A batch after the work; reused from batch to batch.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PackedBatch {
    /// The pages in order.
    pub pages: Vec<PackedPage>,
    /// The stored pages' bytes, one after the other.
    pub data: Vec<u8>,
}

/// What workers make of pages, whatever it is.
pub trait Packed: Clone + Default + Send {
    /// The pages whose bytes begin in it, in order.
    fn pages(&self) -> &[PackedPage];
}

impl Packed for PackedBatch {
    fn pages(&self) -> &[PackedPage] {
        &self.pages
    }
}

/// A worker's state: its reader, its codec context and room for one page.
pub struct Packer<'a> {
    reader: OutputReader<'a>,
    codec: Box<dyn Codec>,
    page_shift: u32,
    scratch: Vec<u8>,
}

impl<'a> Packer<'a> {
    /// Makes a worker.
    #[must_use]
    pub fn new(reader: OutputReader<'a>, codec: Box<dyn Codec>, page_shift: u32) -> Self {
        Self { reader, codec, page_shift, scratch: vec![0; 1 << page_shift] }
    }

    /// Reads and packs `batch` into `out`, whose former contents are forgotten.
    pub fn pack(&mut self, batch: &Batch, out: &mut PackedBatch) {
        out.pages.clear();
        out.data.clear();
        let step = (MAX_READ >> self.page_shift) as u64;
        for extent in &batch.extents {
            let mut at = extent.start;
            while at < extent.end {
                let part = PfnRange::new(at, extent.end.min(at + step));
                self.pack_extent(part, out);
                at = part.end;
            }
        }
    }

    /// Reads a run at once; where that fails, page by page, so that one bad page loses only itself.
    fn pack_extent(&mut self, run: PfnRange, out: &mut PackedBatch) {
        let Self { reader, codec, page_shift, scratch } = self;
        let page_size = 1usize << *page_shift;
        let paddr = |pfn| Pfn(pfn).paddr(*page_shift);
        if !reader.is_stored(paddr(run.start), run.len() as usize * page_size) {
            out.pages.extend((run.start..run.end).map(|pfn| PackedPage { pfn, fate: Fate::Zero }));
            return;
        }
        if let Ok(bytes) = reader.read(paddr(run.start), run.len() as usize * page_size) {
            for (pfn, page) in (run.start..).zip(bytes.chunks_exact(page_size)) {
                pack_page(pfn, page, codec.as_mut(), scratch, out);
            }
            return;
        }
        for pfn in run.start..run.end {
            match reader.read(paddr(pfn), page_size) {
                Ok(page) => pack_page(pfn, page, codec.as_mut(), scratch, out),
                Err(error) => out.pages.push(PackedPage { pfn, fate: Fate::Lost(error.to_string()) }),
            }
        }
    }
}

/// Adds one page to `out`: nothing but a mark if it is zero, else compressed if that makes it smaller. `scratch` has room for
/// a page.
pub fn pack_page(pfn: u64, page: &[u8], codec: &mut dyn Codec, scratch: &mut [u8], out: &mut PackedBatch) {
    let fate = if is_zero(page) {
        Fate::Zero
    } else {
        // Readers take a page of full size for a raw one, so compressed data must be smaller.
        let room = page.len() - 1;
        match codec.compress(page, &mut scratch[..room]) {
            Some(len) => {
                out.data.extend_from_slice(&scratch[..len]);
                Fate::Stored { len: len as u32, flags: codec.flags() }
            }
            None => {
                out.data.extend_from_slice(page);
                Fate::Stored { len: page.len() as u32, flags: crate::format::diskdump::flags::RAW }
            }
        }
    };
    out.pages.push(PackedPage { pfn, fate });
}
