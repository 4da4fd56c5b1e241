//! What the user sees: progress while it runs, the summary at the end, the same as JSON.
//!
//! Knows how numbers read. Must not know how they were found. Every room may report progress; only `run` makes reports.

mod document;
mod progress;
mod redaction;
mod self_check;
mod summary;

pub use document::{Document, Failure, Head, hex, hex_or_null};
pub use progress::{Mode, Progress};
pub use redaction::{RedactedAt, RedactionLine, RuleLine, UnfollowedLine};
pub use self_check::{CheckLine, SeemLine, SelfCheck};
pub use summary::{
    ClassLine, DoubtLine, MappedLine, PageTotals, PartLine, PickedLine, ProblemLine, ReadErrorLine, Report, Seconds,
    TaskLine, human_bytes, human_seconds,
};
