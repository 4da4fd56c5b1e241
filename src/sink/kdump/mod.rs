//! Writing kdump-compressed files: crash, drgn and libkdumpfile read them.
//!
//! One writer, and two orders in which its bytes may reach their place. A dump that ends early opens all the same, and shows
//! nothing but what it has; or it is a stream, which nobody takes for a dump then. Must not know how pages were compressed.

mod body;
mod descs;
mod front;
mod in_place;
mod set;
mod streamed;

use std::path::PathBuf;

use vdump_filters::PfnRange;

use super::{
    Order, Sink, Written,
    medium::{Medium, RandomWrites},
};
use crate::{
    bitmap::PageBitmap,
    error::{Error, Result},
    format::diskdump::{Areas, Header, STATUS_INCOMPLETE},
    pipeline::{Fate, PackedBatch},
};

pub use front::KdumpFacts;
pub use set::KdumpSet;

use body::Body;
use descs::Described;
use in_place::InPlace;
use streamed::Streamed;

/// A kdump file in the making.
#[derive(Debug)]
pub struct KdumpSink {
    body: Box<dyn Body>,
    rest: Rest,
}

/// What the writer knows besides.
#[derive(Debug)]
struct Rest {
    header: Header,
    /// Pages are missing whatever comes.
    partial: bool,
    written: Written,
}

impl Rest {
    /// The header with the mark that says *incomplete*, or without it if nothing is missing here or in the input.
    fn header(&mut self, incomplete: bool) -> &Header {
        let status = self.header.status.get() & !STATUS_INCOMPLETE;
        self.header.status = (if incomplete || self.partial { status | STATUS_INCOMPLETE } else { status }).into();
        &self.header
    }

    fn count(&mut self, batch: &PackedBatch) {
        for page in &batch.pages {
            match &page.fate {
                Fate::Stored { .. } => self.written.stored += 1,
                Fate::Zero => self.written.zero += 1,
                Fate::Lost(cause) => self.written.lose(page.pfn, cause),
            }
        }
    }
}

impl KdumpSink {
    /// Bytes of memory for each page until the end, where its place takes every offset once.
    pub const STREAMED_PAGE_BYTES: u64 = Streamed::PAGE_BYTES;

    /// Writes everything in front of the page data. `ram` are the frames that exist, `dumped` those that will be committed.
    ///
    /// # Errors
    /// The place is full or fails, or takes bytes only one after the other; or the sizes leave the format's fields.
    pub fn create(
        medium: Box<dyn Medium>,
        facts: &KdumpFacts<'_>,
        page_size: u64,
        ram: impl Iterator<Item = PfnRange>,
        dumped: &PageBitmap,
    ) -> Result<Self> {
        let areas = front::areas(page_size, facts, dumped, dumped.count())?;
        let mut body: Box<dyn Body> = match medium.into_random() {
            Ok(file) => Box::new(InPlace::new(file, &areas)?),
            Err(stream) if stream.order() == Order::Once => {
                Box::new(Streamed::new(stream, areas, dumped.count(), facts.codec_flags)?)
            }
            Err(_) => return Err(Error::unexpected("a kdump file cannot be written from front to back")),
        };
        let rest = begin(body.as_mut(), &areas, (facts, None), ram, dumped)?;
        Ok(Self { body, rest })
    }
}

/// Writes what is in front of the data. `part`: the frames of one part of a split set.
fn begin(
    body: &mut dyn Body,
    areas: &Areas,
    (facts, part): (&KdumpFacts<'_>, Option<PfnRange>),
    ram: impl Iterator<Item = PfnRange>,
    dumped: &PageBitmap,
) -> Result<Rest> {
    // What cannot be written again cannot be marked: the dump is whole if its end mark is there.
    let marked = body.medium().order() == Order::Any;
    let header = front::header(facts, areas, dumped.len(), marked);
    front::write(areas, &header, facts, part, ram, dumped, |bytes, at| body.put_front(bytes, at))?;
    // All zero pages share this one.
    body.begin_data(&vec![0; areas.block_size as usize])?;
    Ok(Rest { header, partial: facts.partial, written: Written::default() })
}

fn commit(body: &mut dyn Body, rest: &mut Rest, batch: &PackedBatch) -> Result<()> {
    rest.count(batch);
    body.append(&mut batch.pages.iter().map(|page| Described::from(&page.fate)), &batch.data)
}

fn abandon(body: &mut dyn Body, rest: &mut Rest, keep: bool) -> Option<PathBuf> {
    if body.medium().stays(keep) {
        body.end_early(rest.header(true));
    }
    body.medium().abandon(keep)
}

impl Sink<PackedBatch> for KdumpSink {
    fn commit(&mut self, batch: &PackedBatch) -> Result<()> {
        commit(self.body.as_mut(), &mut self.rest, batch)
    }

    fn written(&self) -> &Written {
        &self.rest.written
    }

    fn finish(&mut self) -> Result<u64> {
        let lost = self.rest.written.lost > 0;
        self.body.finish(self.rest.header(lost))
    }

    fn remarks(&mut self) -> Vec<String> {
        self.body.medium().remarks()
    }

    fn abandon(&mut self, keep: bool) -> Option<PathBuf> {
        abandon(self.body.as_mut(), &mut self.rest, keep)
    }

    fn discard(&mut self) {
        self.body.medium().discard();
    }
}

/// One part of a split set: it gets its name when all are whole.
#[derive(Debug)]
pub struct KdumpPart {
    body: InPlace,
    rest: Rest,
}

impl KdumpPart {
    /// As [`KdumpSink::create`], with those of the frames of `dumped` that lie in `part`.
    fn create(
        file: Box<dyn RandomWrites>,
        facts: &KdumpFacts<'_>,
        page_size: u64,
        ram: impl Iterator<Item = PfnRange>,
        dumped: &PageBitmap,
        part: PfnRange,
    ) -> Result<Self> {
        let stored = dumped.runs_in(part).map(PfnRange::len).sum();
        let areas = front::areas(page_size, facts, dumped, stored)?;
        let mut body = InPlace::new(file, &areas)?;
        let rest = begin(&mut body, &areas, (facts, Some(part)), ram, dumped)?;
        Ok(Self { body, rest })
    }

    /// Writes one batch.
    ///
    /// # Errors
    /// As [`Sink::commit`].
    pub fn commit(&mut self, batch: &PackedBatch) -> Result<()> {
        commit(&mut self.body, &mut self.rest, batch)
    }

    /// What was written so far.
    #[must_use]
    pub fn written(&self) -> &Written {
        &self.rest.written
    }

    fn complete(&mut self) -> Result<u64> {
        self.body.complete()
    }

    fn mark(&mut self, incomplete: bool) -> Result<()> {
        self.body.mark(self.rest.header(incomplete))
    }

    fn file(&mut self) -> &mut dyn RandomWrites {
        self.body.file()
    }

    fn abandon(&mut self, keep: bool) -> Option<PathBuf> {
        abandon(&mut self.body, &mut self.rest, keep)
    }
}
