//! The containers: one writer for each output format, over any place that can take it.
//!
//! Knows formats. Must not see page tables or struct pages, nor know files: what a place can do is in [`Medium`].

mod append;
mod elf;
mod frames;
mod kdump;
mod medium;
mod pages;
mod publish;
mod shown;

pub use elf::ElfSink;
pub use frames::FrameSink;
pub use kdump::{KdumpFacts, KdumpPart, KdumpSet, KdumpSink};
pub use medium::{Medium, Order, RandomWrites, Syncer};
pub use pages::PAGE;

use crate::error::Result;

/// A page that could not be read and is missing in the output.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LostPage {
    /// The frame.
    pub pfn: u64,
    /// Why.
    pub cause: String,
}

/// What came of the pages committed so far.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Written {
    /// Pages of zeros.
    pub zero: u64,
    /// Pages stored.
    pub stored: u64,
    /// How many could not be read.
    pub lost: u64,
    /// The first of those, as many as a report can bear.
    pub lost_pages: Vec<LostPage>,
}

impl Written {
    /// As many lost pages as are listed one by one.
    const LISTED: usize = 100;

    /// This, followed by what came `later`.
    #[must_use]
    pub fn and(mut self, later: Self) -> Self {
        self.zero += later.zero;
        self.stored += later.stored;
        self.lost += later.lost;
        self.lost_pages.extend(later.lost_pages);
        self.lost_pages.truncate(Self::LISTED);
        self
    }

    fn lose(&mut self, pfn: u64, cause: &str) {
        self.lost += 1;
        if self.lost_pages.len() < Self::LISTED {
            self.lost_pages.push(LostPage { pfn, cause: cause.to_owned() });
        }
    }
}

/// An output format that takes batches in order: `B` are pages, or frames of a stream.
pub trait Sink<B> {
    /// Writes one batch.
    ///
    /// # Errors
    /// The device is full or fails; everything committed before stays readable.
    fn commit(&mut self, batch: &B) -> Result<()>;

    /// What was written so far.
    fn written(&self) -> &Written;

    /// Whether everything was committed; for formats that know it themselves.
    fn is_whole(&self) -> bool {
        true
    }

    /// Completes the dump and gives it its final name. Returns its size, bytes.
    ///
    /// # Errors
    /// As [`Sink::commit`].
    fn finish(&mut self) -> Result<u64>;

    /// What was done otherwise than it should be, and not told yet.
    fn remarks(&mut self) -> Vec<String>;

    /// Gives up. `keep`: leave what was written under its `-incomplete` name, marked as such. Returns that name.
    fn abandon(&mut self, keep: bool) -> Option<std::path::PathBuf>;

    /// Gives up and leaves nothing under any name: the dump will be written again.
    fn discard(&mut self);
}
