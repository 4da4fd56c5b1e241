//! Redaction: rules that name a symbol, or a member behind it, become physical ranges that no output may show.
//!
//! Knows the language of rules, types, and how to follow pointers and lists in the crashed kernel's memory. Must not know
//! outputs: the [`crate::source::Mask`] lies over whatever they read.

mod follow;
mod plan;
mod rules;

pub use follow::{Follower, Redaction, Ruled, Tally};
pub use plan::{Fault, Plan, Questions};
pub use rules::{MAX_FILE, RuleError, Rules};
