//! Writing kdump-compressed files.
//!
//! Knows in which order the parts must reach the disk, so that a dump that ends early opens all the same. Must not know how
//! pages were compressed. Its bytes are read by crash, drgn and libkdumpfile.

use vdump_filters::PfnRange;
use zerocopy::IntoBytes as _;

use super::{KdumpFacts, Sink, Target, Written, front};
use crate::{
    bitmap::PageBitmap,
    error::{Error, Kind, Result},
    format::diskdump::{Areas, DESC_SIZE, Header, PageDesc, STATUS_INCOMPLETE},
    pipeline::{Fate, PackedBatch},
};

/// Of a plane, so many bytes are copied at once.
const BITS: usize = 256 << 10;

/// A kdump file in the making.
#[derive(Debug)]
pub struct KdumpSink {
    target: Target,
    areas: Areas,
    header: Header,
    /// Where the next descriptor goes.
    next_desc: u64,
    /// One past the descriptors' area.
    end_descs: u64,
    /// Where the next page's data goes.
    next_data: u64,
    descs: Vec<PageDesc>,
    /// Pages are missing whatever comes.
    partial: bool,
    written: Written,
}

impl KdumpSink {
    /// Writes everything in front of the page data. `ram` are the frames that exist, `dumped` those that will be committed,
    /// in a part of a split set those of them that lie in `part`.
    ///
    /// # Errors
    /// The device is full or fails, or the sizes leave the format's fields.
    pub fn create(
        target: Target,
        facts: &KdumpFacts,
        page_size: u64,
        ram: impl Iterator<Item = PfnRange>,
        dumped: &PageBitmap,
        part: Option<PfnRange>,
    ) -> Result<Self> {
        let stored = part.map_or_else(|| dumped.count(), |part| dumped.runs_in(part).map(PfnRange::len).sum());
        let areas = front::areas(page_size, facts, dumped, stored)?;
        target.require(areas.data, "the dump's headers")?;
        let header = front::header(facts, &areas, dumped.len(), true);
        let mut sink = Self {
            target,
            areas,
            header,
            next_desc: areas.descs,
            end_descs: areas.data,
            next_data: areas.data,
            descs: Vec::new(),
            partial: facts.partial,
            written: Written::default(),
        };
        sink.write_front(facts, part, ram, dumped)?;
        Ok(sink)
    }

    fn write_front(
        &mut self,
        facts: &KdumpFacts,
        part: Option<PfnRange>,
        ram: impl Iterator<Item = PfnRange>,
        dumped: &PageBitmap,
    ) -> Result<()> {
        let Areas { block_size, descs, .. } = self.areas;
        // Reserved first, so that a full disk later costs data but never the way to the data before it.
        self.target.reserve(0, self.end_descs)?;
        self.target.set_len(self.end_descs)?;
        front::write(&self.areas, &self.header, facts, part, ram, dumped, |bytes, at| self.target.write(bytes, at))?;
        debug_assert_eq!(descs, self.next_desc);
        // All zero pages share this one.
        let zero = vec![0; block_size as usize];
        self.target.write(&zero, self.next_data)?;
        self.next_data += block_size;
        self.target.settle();
        Ok(())
    }

    /// Takes a page out of the dump: the descriptors are packed, so a lost page must lose its bit too, and at once, or every
    /// later descriptor of a dump that ends early would stand for the wrong page.
    fn drop_page(&mut self, pfn: u64) -> Result<()> {
        let at = self.areas.bitmap2 + pfn / 8;
        let mut byte = [0];
        self.target.read(&mut byte, at)?;
        byte[0] &= !(1 << (pfn % 8));
        self.target.write(&byte, at)
    }

    /// Takes over what another part of the set knows of its own frames: it cleared the bits of those that it lost.
    pub(super) fn copy_bits(&self, other: &Self, frames: PfnRange) -> Result<()> {
        let (mut at, end) = (frames.start / 8, frames.end.div_ceil(8));
        let mut bytes = vec![0; BITS];
        while at < end {
            let part = (end - at).min(BITS as u64);
            let bytes = &mut bytes[..part as usize];
            other.target.read(bytes, other.areas.bitmap2 + at)?;
            self.target.write(bytes, self.areas.bitmap2 + at)?;
            at += part;
        }
        Ok(())
    }

    /// Brings everything to the disk but the mark that it is whole. Returns the size, bytes.
    pub(super) fn complete(&mut self) -> Result<u64> {
        // At least as long as the largest page of an analysing host, which reads that much as the header.
        let size = self.next_data.max(crate::format::diskdump::BITMAP_ALIGNMENT);
        self.target.set_len(size)?;
        self.target.sync()?;
        Ok(size)
    }

    /// Writes the header with the mark that says *incomplete*, or if the input had none without it.
    pub(super) fn mark(&mut self, incomplete: bool) -> Result<()> {
        let status = self.header.status.get() & !STATUS_INCOMPLETE;
        self.header.status = (if incomplete || self.partial { status | STATUS_INCOMPLETE } else { status }).into();
        self.target.write(self.header.as_bytes(), 0)
    }

    pub(super) fn target(&mut self) -> &mut Target {
        &mut self.target
    }

    fn collect_descs(&mut self, batch: &PackedBatch) -> Result<()> {
        self.descs.clear();
        let mut at = self.next_data;
        for page in &batch.pages {
            let (offset, size, flags) = match &page.fate {
                Fate::Stored { len, flags } => {
                    let offset = at;
                    at += u64::from(*len);
                    self.written.stored += 1;
                    (offset, *len, *flags)
                }
                Fate::Zero => {
                    self.written.zero += 1;
                    (self.areas.data, self.areas.block_size as u32, 0)
                }
                Fate::Lost(cause) => {
                    self.written.lose(page.pfn, cause);
                    self.drop_page(page.pfn)?;
                    continue;
                }
            };
            self.descs.push(PageDesc {
                offset: offset.into(),
                size: size.into(),
                flags: flags.into(),
                page_flags: 0.into(),
            });
        }
        Ok(())
    }
}

impl Sink for KdumpSink {
    fn commit(&mut self, batch: &PackedBatch) -> Result<()> {
        // Data first: a descriptor on the disk never leads to data that is not there.
        self.target.write(&batch.data, self.next_data)?;
        self.collect_descs(batch)?;
        let end = self.next_desc + self.descs.len() as u64 * DESC_SIZE;
        if end > self.end_descs {
            return Err(Error::new(Kind::Output, "internal error: more pages than planned")
                .next_step("please report this together with the output of 'vdump info'"));
        }
        self.target.write(self.descs.as_bytes(), self.next_desc)?;
        self.next_desc = end;
        self.next_data += batch.data.len() as u64;
        Ok(())
    }

    fn written(&self) -> &Written {
        &self.written
    }

    fn finish(&mut self) -> Result<u64> {
        // The mark goes only when everything else is on the disk.
        let size = self.complete()?;
        self.mark(false)?;
        self.target.finish()?;
        Ok(size)
    }

    fn abandon(&mut self, keep: bool) -> Option<std::path::PathBuf> {
        // It may have gone already, in a `finish` that failed.
        let _ = self.mark(true);
        self.target.abandon(keep)
    }

    fn discard(&mut self) {
        self.target.discard();
    }
}
