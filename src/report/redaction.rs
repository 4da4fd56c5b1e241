//! What rules overwrote, in the report.
//!
//! Knows what is worth saying about it. Must not show a byte of what was there.

use std::fmt;

use serde::Serialize;

use crate::error::printable;

/// One place of a rule.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct RedactedAt {
    /// Where the kernel saw it, in hexadecimal: JSON's numbers do not reach so far.
    pub vaddr: String,
    /// Where its first byte lies in physical memory, in hexadecimal.
    pub paddr: String,
    /// Its length, bytes.
    pub bytes: u64,
}

/// What became of one rule.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct RuleLine {
    /// Its line in the file, counted from 1.
    pub line: usize,
    /// Its words.
    pub rule: String,
    /// Objects that it named.
    pub places: u64,
    /// Bytes overwritten in pages of the dump.
    pub bytes: u64,
    /// Those pages.
    pub pages: u64,
    /// Bytes that it named in pages that are left out anyway.
    pub dropped_bytes: u64,
    /// Bytes that it named and the input does not have.
    pub absent_bytes: u64,
    /// The first few places.
    pub at: Vec<RedactedAt>,
}

/// What a rule could not follow.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct UnfollowedLine {
    /// The rule's line in the file, counted from 1.
    pub line: usize,
    /// How often.
    pub count: u64,
    /// The first causes.
    pub causes: Vec<String>,
}

/// What all rules came to.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct RedactionLine {
    /// The file of rules.
    pub file: String,
    /// Bytes overwritten, each counted once.
    pub bytes: u64,
    /// Pages in which they lie.
    pub pages: u64,
    /// Something could not be followed: what it leads to may still be in the dump.
    pub incomplete: bool,
    /// The rules that overwrite something, in the order of the file.
    pub rules: Vec<RuleLine>,
    /// What could not be followed.
    pub unfollowed: Vec<UnfollowedLine>,
}

/// As many rules as a console can bear.
const LISTED: usize = 10;

/// A number of things in words.
fn counted(number: u64, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

impl RedactionLine {
    /// What was overwritten, or would be.
    pub(super) fn show(&self, f: &mut fmt::Formatter<'_>, dry_run: bool) -> fmt::Result {
        let (doing, pages) = (if dry_run { "would overwrite" } else { "overwritten" }, counted(self.pages, "page"));
        writeln!(f, "{doing} {} bytes in {pages}, by the rules in {}", self.bytes, printable(&self.file))?;
        for RuleLine { line, rule, places, bytes, at, .. } in self.rules.iter().take(LISTED) {
            write!(f, "  line {line}: {}: {bytes} bytes in {}", printable(rule), counted(*places, "place"))?;
            match at.first() {
                Some(first) => writeln!(f, ", first at {}", first.vaddr)?,
                None => writeln!(f)?,
            }
        }
        match self.rules.len().checked_sub(LISTED) {
            Some(more @ 1..) => writeln!(f, "  and {more} more rules; --json lists all"),
            _ => Ok(()),
        }
    }
}
