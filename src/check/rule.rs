//! What a rule is.
//!
//! Must not know any format. The rules themselves are the table in `rules`.

use serde::Serialize;

use super::reader::{Harm, Reader};

/// What it means when a rule is broken.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Data is lost, or no reader can be trusted with the dump.
    Error,
    /// Nothing is lost, but some reader stumbles.
    Warning,
}

/// Everything that is fixed about a rule.
#[derive(Clone, Copy, Debug)]
pub struct Info {
    /// Its stable name.
    pub name: &'static str,
    /// What it means when it is broken.
    pub severity: Severity,
    /// What must hold.
    pub says: &'static str,
    /// Where that is known from.
    pub source: &'static str,
    /// What breaking it does to readers; those that are not named do not care.
    pub harms: &'static [(Reader, Harm)],
}
