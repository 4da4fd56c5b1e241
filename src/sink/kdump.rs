//! Writing kdump-compressed files.
//!
//! Knows in which order the parts must reach the disk, so that a dump that ends early opens all the same and shows nothing but
//! what it has. Must not know how
//! pages were compressed. Its bytes are read by crash, drgn and libkdumpfile.

use vdump_filters::PfnRange;
use zerocopy::IntoBytes as _;

use super::{
    KdumpFacts, Sink, Target, Written, front,
    pages::{PAGE, Pages},
    publish::{Lead, Publisher},
};
use crate::{
    bitmap::PageBitmap,
    error::{Error, Kind, Result},
    format::diskdump::{Areas, DESC_SIZE, Header, PageDesc, STATUS_INCOMPLETE},
    pipeline::{Fate, PackedBatch},
};

/// A kdump file in the making.
#[derive(Debug)]
pub struct KdumpSink {
    target: Target,
    areas: Areas,
    header: Header,
    /// Descriptors that are not written yet, or lie in a page of which some are not; the first one goes to `descs_at`.
    descs: Vec<u8>,
    descs_at: u64,
    /// One past the descriptors' area.
    end_descs: u64,
    publisher: Publisher,
    /// Where the next page's data goes.
    data: Pages,
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
        facts: &KdumpFacts<'_>,
        page_size: u64,
        ram: impl Iterator<Item = PfnRange>,
        dumped: &PageBitmap,
        part: Option<PfnRange>,
    ) -> Result<Self> {
        let stored = part.map_or_else(|| dumped.count(), |part| dumped.runs_in(part).map(PfnRange::len).sum());
        let areas = front::areas(page_size, facts, dumped, stored)?;
        target.require(areas.data, "the dump's headers")?;
        let header = front::header(facts, &areas, dumped.len(), true);
        let publisher = Publisher::new(target.handle()?);
        let mut sink = Self {
            target,
            areas,
            header,
            descs: Vec::new(),
            descs_at: areas.descs,
            end_descs: areas.data,
            publisher,
            data: Pages::from(areas.data),
            partial: facts.partial,
            written: Written::default(),
        };
        sink.write_front(facts, part, ram, dumped)?;
        Ok(sink)
    }

    fn write_front(
        &mut self,
        facts: &KdumpFacts<'_>,
        part: Option<PfnRange>,
        ram: impl Iterator<Item = PfnRange>,
        dumped: &PageBitmap,
    ) -> Result<()> {
        let Areas { block_size, .. } = self.areas;
        // Reserved first, so that a full disk later costs data but never the way to the data before it.
        self.target.reserve(0, self.end_descs)?;
        self.target.set_len(self.end_descs)?;
        let mut pages = Pages::from(0);
        front::write(&self.areas, &self.header, facts, part, ram, dumped, |bytes, at| {
            pages.skip_to(at);
            pages.append(&self.target, bytes)
        })?;
        // All zero pages share this one.
        self.data.append(&self.target, &vec![0; block_size as usize])?;
        self.target.settle();
        Ok(())
    }

    /// Has the descriptors written that are held back, as soon as the data that they lead to is on the disk.
    fn publish(&mut self) -> Result<()> {
        let mut bytes = self.descs.clone();
        bytes.resize(bytes.len().next_multiple_of(PAGE).min((self.end_descs - self.descs_at) as usize), 0);
        let lead = Lead { offset: self.descs_at, bytes };
        // The rest of the last page comes with the next ones.
        let whole = self.descs.len() / PAGE * PAGE;
        self.descs.drain(..whole);
        self.descs_at += whole as u64;
        self.publisher.publish(vec![lead]).map_err(|error| self.target.failed(&error))
    }

    fn publish_all(&mut self) -> Result<()> {
        self.publish()?;
        self.publisher.settle().map_err(|error| self.target.failed(&error))
    }

    /// Brings everything to the disk but the mark that it is whole. Returns the size, bytes.
    pub(super) fn complete(&mut self) -> Result<u64> {
        self.publish_all()?;
        // At least as long as the largest page of an analysing host, which reads that much as the header.
        let size = self.data.at().max(crate::format::diskdump::BITMAP_ALIGNMENT);
        self.target.set_len(size)?;
        self.target.sync()?;
        Ok(size)
    }

    /// Writes the header with the mark that says *incomplete*, or without it if nothing is missing here or in the input.
    pub(super) fn mark(&mut self, incomplete: bool) -> Result<()> {
        let status = self.header.status.get() & !STATUS_INCOMPLETE;
        self.header.status = (if incomplete || self.partial { status | STATUS_INCOMPLETE } else { status }).into();
        self.target.write_page(self.header.as_bytes(), 0)
    }

    pub(super) fn target(&mut self) -> &mut Target {
        &mut self.target
    }

    /// The descriptors of a batch whose data lies at `at`. A lost page keeps its bit and has an empty one: so readers tell it
    /// from pages that were left out, and later descriptors stay where they belong.
    fn descs_of(&mut self, batch: &PackedBatch, mut at: u64) -> Vec<PageDesc> {
        let mut descs = Vec::with_capacity(batch.pages.len());
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
                    (0, 0, 0)
                }
            };
            descs.push(PageDesc {
                offset: offset.into(),
                size: size.into(),
                flags: flags.into(),
                page_flags: 0.into(),
            });
        }
        descs
    }
}

impl Sink for KdumpSink {
    fn commit(&mut self, batch: &PackedBatch) -> Result<()> {
        let at = self.data.at();
        self.data.append(&self.target, &batch.data)?;
        self.publisher.wrote(batch.data.len() as u64);
        let descs = self.descs_of(batch, at);
        if self.descs_at + self.descs.len() as u64 + descs.len() as u64 * DESC_SIZE > self.end_descs {
            return Err(Error::new(Kind::Output, "internal error: more pages than planned")
                .next_step("please report this together with the output of 'vdump info'"));
        }
        self.descs.extend_from_slice(descs.as_bytes());
        let held = self.descs.len() as u64;
        if self.publisher.is_due(held).map_err(|error| self.target.failed(&error))? { self.publish() } else { Ok(()) }
    }

    fn written(&self) -> &Written {
        &self.written
    }

    fn finish(&mut self) -> Result<u64> {
        // The mark goes only when everything else is on the disk.
        let size = self.complete()?;
        self.mark(self.written.lost > 0)?;
        self.target.finish()?;
        Ok(size)
    }

    fn remarks(&mut self) -> Vec<String> {
        self.target.remarks()
    }

    fn abandon(&mut self, keep: bool) -> Option<std::path::PathBuf> {
        if self.target.stays(keep) {
            let _ = self.publish_all();
            // It may have gone already, in a `finish` that failed.
            let _ = self.mark(true);
        }
        self.target.abandon(keep)
    }

    fn discard(&mut self) {
        self.target.discard();
    }
}
