//! What a crash dump keeps and what it drops: the facts about a page, the class they amount to, and the dump level.
//!
//! This crate knows how each kernel era encodes a page's state in its `struct page` ([`Encodings`]), and the table that
//! turns the decoded facts into a class ([`decide()`]). It must not know where the bytes came from: no I/O, no pointers,
//! no page tables. Its classes go to the page bitmap and to the report. What the loader and the filter both need is here too
//! ([`iomem`], [`message`], [`number`], [`ranges`]).
//!
//! The one rule above all others: **when a page's class is in doubt the page is kept and counted**
//! ([`PageClass::Doubtful`]).

#![forbid(unsafe_code)]

mod class;
mod decide;
mod encoding;
mod facts;
pub mod iomem;
mod level;
pub mod message;
pub mod number;
mod pfn;
pub mod ranges;
mod selection;

pub use class::{Doubt, PageClass};
pub use decide::{Rule, decide, rule_for};
pub use encoding::{Encodings, FlagBits, HugetlbEncoding, OrderEncoding, SlabEncoding, TypeTest};
pub use facts::{PageFacts, RawPage};
pub use level::{DumpLevel, InvalidDumpLevel};
pub use pfn::{Pfn, PfnRange, PfnRanges};
pub use selection::{NoChoice, Selection};
