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
