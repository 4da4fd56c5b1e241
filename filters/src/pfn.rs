//! Page frame numbers.
//!
//! Knows the arithmetic between PFNs and physical addresses. Must not know page contents. Used by every room.

use std::fmt;

use crate::ranges::{Ranges, Stretch};

/// A page frame number: a physical address divided by the page size of the crashed kernel.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Pfn(pub u64);

impl Pfn {
    /// The frame that holds the physical address `paddr`, for pages of `1 << page_shift` bytes.
    #[must_use]
    pub fn containing(paddr: u64, page_shift: u32) -> Self {
        Self(paddr >> page_shift)
    }

    /// The physical address of the frame's first byte; saturates rather than wrapping for an impossible PFN.
    #[must_use]
    pub fn paddr(self, page_shift: u32) -> u64 {
        self.0.saturating_mul(1 << page_shift)
    }
}

impl fmt::Display for Pfn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A half-open range of page frames, `start..end`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct PfnRange {
    /// First frame of the range.
    pub start: u64,
    /// One past the last frame.
    pub end: u64,
}

impl PfnRange {
    /// Makes `start..end`; an inverted pair gives an empty range at `start`.
    #[must_use]
    pub fn new(start: u64, end: u64) -> Self {
        Self { start, end: end.max(start) }
    }

    /// Number of frames.
    #[must_use]
    pub fn len(self) -> u64 {
        self.end - self.start
    }

    /// Whether the range holds no frame.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// The frames in both ranges; empty where they do not meet.
    #[must_use]
    pub fn intersect(self, other: Self) -> Self {
        Self::new(self.start.max(other.start), self.end.min(other.end))
    }

    /// Whether `pfn` lies in the range.
    #[must_use]
    pub fn contains(self, pfn: u64) -> bool {
        (self.start..self.end).contains(&pfn)
    }
}

impl Stretch for PfnRange {
    fn start(&self) -> u64 {
        self.start
    }

    fn end(&self) -> u64 {
        self.end
    }

    fn part(&self, start: u64, end: u64) -> Self {
        Self { start, end }
    }
}

/// Page frames as sorted ranges that neither meet nor touch.
pub type PfnRanges = Ranges<PfnRange>;

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(pairs: &[(u64, u64)]) -> PfnRanges {
        PfnRanges::new(pairs.iter().map(|(start, end)| PfnRange::new(*start, *end)).collect())
    }

    #[test]
    fn ranges_are_joined_and_cut() {
        let all = ranges(&[(10, 20), (0, 5), (15, 30), (40, 50), (30, 31), (7, 7)]);
        assert_eq!(all, ranges(&[(0, 5), (10, 31), (40, 50)]));
        let within: Vec<_> = all.within(3, 45).collect();
        assert_eq!(within, [PfnRange::new(3, 5), PfnRange::new(10, 31), PfnRange::new(40, 45)]);
        assert_eq!(all.within(31, 40).count(), 0);
    }

    #[test]
    fn what_is_taken_out_is_gone_and_nothing_else() {
        let all = ranges(&[(0, 10), (20, 30)]);
        assert_eq!(all.without(&ranges(&[(5, 22), (25, 26), (29, 99)])), ranges(&[(0, 5), (22, 25), (26, 29)]));
        assert_eq!(all.without(&ranges(&[])), all);
        assert!(all.without(&ranges(&[(0, u64::MAX)])).is_empty());
    }
}
