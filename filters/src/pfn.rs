//! Page frame numbers.
//!
//! Knows the arithmetic between PFNs and physical addresses. Must not know page contents. Used by every room.

use std::fmt;

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

/// Page frames as sorted ranges that neither meet nor touch.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct PfnRanges(Vec<PfnRange>);

impl PfnRanges {
    /// Joins ranges in any order, which may overlap.
    #[must_use]
    pub fn new(mut ranges: Vec<PfnRange>) -> Self {
        ranges.sort_unstable();
        let mut joined: Vec<PfnRange> = Vec::with_capacity(ranges.len());
        for range in ranges.into_iter().filter(|range| !range.is_empty()) {
            match joined.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => joined.push(range),
            }
        }
        Self(joined)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The ranges in order.
    #[must_use]
    pub fn as_slice(&self) -> &[PfnRange] {
        &self.0
    }

    /// The parts of them that lie in `range`, in order.
    pub fn within(&self, range: PfnRange) -> impl Iterator<Item = PfnRange> + '_ {
        let first = self.0.partition_point(|own| own.end <= range.start);
        self.0[first..].iter().take_while(move |own| own.start < range.end).map(move |own| own.intersect(range))
    }

    /// What is left without the frames of `other`.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let mut left = Vec::new();
        for own in &self.0 {
            let mut at = own.start;
            for hole in other.within(*own) {
                left.push(PfnRange::new(at, hole.start));
                at = hole.end;
            }
            left.push(PfnRange::new(at, own.end));
        }
        Self::new(left)
    }
}

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
        let within: Vec<_> = all.within(PfnRange::new(3, 45)).collect();
        assert_eq!(within, [PfnRange::new(3, 5), PfnRange::new(10, 31), PfnRange::new(40, 45)]);
        assert_eq!(all.within(PfnRange::new(31, 40)).count(), 0);
    }

    #[test]
    fn what_is_taken_out_is_gone_and_nothing_else() {
        let all = ranges(&[(0, 10), (20, 30)]);
        assert_eq!(all.without(&ranges(&[(5, 22), (25, 26), (29, 99)])), ranges(&[(0, 5), (22, 25), (26, 29)]));
        assert_eq!(all.without(&ranges(&[])), all);
        assert!(all.without(&ranges(&[(0, u64::MAX)])).is_empty());
    }
}
