//! One worker's job where pages stay as they are stored: take a batch out of one dump and hand it to another.
//!
//! Knows pages and their codecs' flags. Must not change a byte of what it copies. The batch goes to a sink.

use vdump_filters::{Pfn, PfnRange};

use super::{Fate, PackedBatch, PackedPage, is_zero};
use crate::{
    codec::Decoder,
    format::diskdump::flags,
    plan::Batch,
    source::{Finder, RamMap, StoredPages},
};

/// A worker's state.
pub struct Copier<'a> {
    stored: Box<dyn StoredPages + 'a>,
    ram: Finder<'a>,
    page_shift: u32,
    /// Every page is decoded into this, to see whether it can be.
    judge: Option<(Decoder, Vec<u8>)>,
}

impl<'a> Copier<'a> {
    /// Makes a worker. `ram` says which frame has which page; `decode`: pages that cannot be decoded are lost.
    #[must_use]
    pub fn new(stored: Box<dyn StoredPages + 'a>, ram: &'a RamMap, page_shift: u32, decode: bool) -> Self {
        let judge = decode.then(|| (Decoder::default(), vec![0; 1 << page_shift]));
        Self { stored, ram: ram.finder(), page_shift, judge }
    }

    /// Copies `batch` into `out`, whose former contents are forgotten.
    pub fn copy(&mut self, batch: &Batch, out: &mut PackedBatch) {
        out.pages.clear();
        out.data.clear();
        for run in &batch.extents {
            self.copy_run(*run, out);
        }
    }

    /// A run of kept frames lies in one piece: pieces end where frames are missing.
    fn copy_run(&mut self, run: PfnRange, out: &mut PackedBatch) {
        let Self { stored, ram, page_shift, judge } = self;
        let paddr = Pfn(run.start).paddr(*page_shift);
        let piece = ram.next(paddr, Pfn(run.end).paddr(*page_shift)).filter(|piece| piece.paddr <= paddr);
        let Some(offset) = piece.and_then(|piece| Some(piece.offset? + (paddr - piece.paddr))) else {
            let lost = |pfn| PackedPage { pfn, fate: Fate::Lost("the dump does not have it".to_owned()) };
            out.pages.extend((run.start..run.end).map(lost));
            return;
        };
        let PackedBatch { pages, data, .. } = out;
        let mut pfn = run.start;
        stored.each(offset >> *page_shift, run.len(), &mut |page| {
            let fate = match &page {
                Ok((codec, bytes)) => fate(*codec, bytes, 1 << *page_shift, judge),
                Err(error) => Fate::Lost(error.to_string()),
            };
            if let (Fate::Stored { .. }, Ok((_, bytes))) = (&fate, page) {
                data.extend_from_slice(bytes);
            }
            pages.push(PackedPage { pfn, fate });
            pfn += 1;
        });
    }
}

/// What becomes of a page. What no reader could decode is lost; whether the data is sound only decoding tells.
fn fate(codec: u32, bytes: &[u8], size: usize, judge: &mut Option<(Decoder, Vec<u8>)>) -> Fate {
    match codec {
        flags::RAW if bytes.len() != size => {
            return Fate::Lost(format!("the page is stored as {} bytes instead of {size}", bytes.len()));
        }
        // Zero pages share one again.
        flags::RAW if is_zero(bytes) => return Fate::Zero,
        flags::RAW | flags::ZLIB | flags::LZO | flags::SNAPPY | flags::ZSTD => {}
        unknown => return Fate::Lost(format!("the page's flags {unknown:#x} name no known codec")),
    }
    if let Some((decoder, page)) = judge
        && let Err(error) = decoder.decode(codec, bytes, page)
    {
        return Fate::Lost(error.to_string());
    }
    Fate::Stored { len: bytes.len() as u32, flags: codec }
}
