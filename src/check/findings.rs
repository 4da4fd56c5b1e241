//! What was found broken, and where: one value that every part of a check adds to.

use serde::Serialize;

use super::rules::{COUNT, Rule};

/// Where a rule is broken.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct Place {
    /// Number of the input on the command line, from 0.
    pub input: usize,
    /// Byte in the file, or in what was inside its outer layers.
    pub offset: Option<u64>,
    /// Page frame.
    pub pfn: Option<u64>,
    /// What was found there.
    pub found: String,
}

impl Place {
    /// Somewhere in an input.
    pub(super) fn of(input: usize, found: impl Into<String>) -> Self {
        Self { input, offset: None, pfn: None, found: found.into() }
    }

    /// At a byte of it.
    pub(super) fn at(mut self, offset: u64) -> Self {
        self.offset = Some(offset);
        self
    }

    /// In a page frame.
    pub(super) fn pfn(mut self, pfn: u64) -> Self {
        self.pfn = Some(pfn);
        self
    }
}

/// Places that are kept of each rule: enough to find the pattern.
const KEPT: usize = 8;

/// What is known of one rule.
#[derive(Clone, Debug, Default)]
pub struct Finding {
    /// Whether there was anything to check.
    pub applies: bool,
    /// How often it is broken.
    pub count: u64,
    /// The first of the places, sorted.
    pub places: Vec<Place>,
    /// What was not checked, and why; `None`: everything was.
    pub not_checked: Option<String>,
}

/// What was found so far, by rule.
#[derive(Clone, Debug)]
pub struct Findings {
    all: Vec<Finding>,
}

impl Default for Findings {
    fn default() -> Self {
        Self { all: vec![Finding::default(); COUNT] }
    }
}

impl Findings {
    /// What is known of a rule.
    #[must_use]
    pub fn of(&self, rule: Rule) -> &Finding {
        // There is one for each.
        static NONE: Finding = Finding { applies: false, count: 0, places: Vec::new(), not_checked: None };
        self.all.get(rule as usize).unwrap_or(&NONE)
    }

    /// Whether a rule is broken.
    #[must_use]
    pub fn is_broken(&self, rule: Rule) -> bool {
        self.of(rule).count > 0
    }

    /// There was something to check the rule on.
    pub(super) fn looked(&mut self, rule: Rule) {
        if let Some(finding) = self.all.get_mut(rule as usize) {
            finding.applies = true;
        }
    }

    /// The rule is broken here.
    pub(super) fn broken(&mut self, rule: Rule, place: Place) {
        let Some(finding) = self.all.get_mut(rule as usize) else { return };
        finding.applies = true;
        finding.count += 1;
        let at = finding.places.partition_point(|other| *other <= place);
        if at < KEPT {
            finding.places.insert(at, place);
            finding.places.truncate(KEPT);
        }
    }

    /// The rule was looked at, and holds or not; gives `holds` back.
    pub(super) fn must(&mut self, rule: Rule, holds: bool, place: impl FnOnce() -> Place) -> bool {
        if holds {
            self.looked(rule);
        } else {
            self.broken(rule, place());
        }
        holds
    }

    /// A part of the dump was not checked; the first cause is kept.
    pub(super) fn not_checked(&mut self, rule: Rule, cause: String) {
        if let Some(finding) = self.all.get_mut(rule as usize) {
            finding.applies = true;
            finding.not_checked.get_or_insert(cause);
        }
    }

    /// Adds what another thread found. The result does not depend on the order.
    pub(super) fn merge(&mut self, other: Self) {
        for (mine, theirs) in self.all.iter_mut().zip(other.all) {
            mine.applies |= theirs.applies;
            mine.count += theirs.count;
            mine.places.extend(theirs.places);
            mine.places.sort_unstable();
            mine.places.truncate(KEPT);
            mine.not_checked = mine.not_checked.take().or(theirs.not_checked);
        }
    }
}
