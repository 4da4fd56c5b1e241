//! Ranges of physical addresses, and the few operations that placement needs on them.
//!
//! Knows numbers. Must not know what lies at an address. Every other module speaks in these.

use std::fmt;

use serde::{Deserialize, Serialize};
use vdump_filters::ranges::{self, Ranges, Stretch};

/// Bytes of a page: all that the loader places is for architectures and kernels with pages of 4 KiB.
pub const PAGE: u64 = 4096;

/// Bytes from `start` up to, not including, `end`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Range {
    /// First byte.
    pub start: u64,
    /// First byte behind it.
    pub end: u64,
}

impl Range {
    /// From `start` up to, not including, `end`; empty if `end` is not above.
    #[must_use]
    pub fn new(start: u64, end: u64) -> Self {
        Self { start, end: end.max(start) }
    }

    /// `len` bytes at `start`, cut at the end of the address space.
    #[must_use]
    pub fn with_len(start: u64, len: u64) -> Self {
        Self { start, end: start.saturating_add(len) }
    }

    /// Bytes in it.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.end - self.start
    }

    /// Whether it has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.end == self.start
    }

    /// Whether all of `other` lies in it.
    #[must_use]
    pub fn contains(&self, other: &Range) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// Whether they share a byte.
    #[must_use]
    pub fn overlaps(&self, other: &Range) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// What both have.
    #[must_use]
    pub fn common(&self, other: &Range) -> Option<Range> {
        let common = Range { start: self.start.max(other.start), end: self.end.min(other.end) };
        (common.start < common.end).then_some(common)
    }
}

impl fmt::Display for Range {
    /// As /proc/iomem shows it: the last byte, not the one behind it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}-{:#x}", self.start, self.end.saturating_sub(1).max(self.start))
    }
}

impl Stretch for Range {
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

/// Sorted, joined where they touch, without empty ones.
#[must_use]
pub fn merged(ranges: Vec<Range>) -> Vec<Range> {
    Ranges::new(ranges).into_vec()
}

/// What of `from` is in none of `holes`. Keeps the order of `from`.
#[must_use]
pub fn subtract(from: &[Range], holes: &[Range]) -> Vec<Range> {
    ranges::without(from, &Ranges::new(holes.to_vec()))
}

/// The sum of their sizes in bytes.
#[must_use]
pub fn total(ranges: &[Range]) -> u64 {
    ranges.iter().fold(0, |sum, range| sum.saturating_add(range.len()))
}

/// `value` rounded up to a multiple of `align`, a power of two.
#[must_use]
pub fn align_up(value: u64, align: u64) -> Option<u64> {
    let mask = align.max(1) - 1;
    value.checked_add(mask).map(|sum| sum & !mask)
}

/// `value` rounded down to a multiple of `align`, a power of two.
#[must_use]
pub fn align_down(value: u64, align: u64) -> u64 {
    value & !(align.max(1) - 1)
}

/// A size as a person reads it: bytes, KiB, or MiB with one decimal.
#[must_use]
pub fn human(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} bytes"),
        1024..0x10_0000 => format!("{} KiB", bytes.div_ceil(1024)),
        _ => format!("{}.{} MiB", bytes >> 20, ((bytes & 0xf_ffff) * 10) >> 20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(pairs: &[(u64, u64)]) -> Vec<Range> {
        pairs.iter().map(|(start, end)| Range::new(*start, *end)).collect()
    }

    #[test]
    fn holes_split_ranges() {
        let from = ranges(&[(0, 10), (20, 30), (40, 50)]);
        assert_eq!(subtract(&from, &ranges(&[(3, 5), (4, 6), (8, 22), (40, 50)])), ranges(&[(0, 3), (6, 8), (22, 30)]));
        assert_eq!(subtract(&from, &[]), from);
        assert_eq!(subtract(&from, &ranges(&[(0, 100)])), []);
    }

    #[test]
    fn touching_ranges_join() {
        assert_eq!(merged(ranges(&[(5, 7), (0, 5), (9, 9), (10, 11), (6, 8)])), ranges(&[(0, 8), (10, 11)]));
    }

    #[test]
    fn sizes_read_well() {
        assert_eq!(human(17), "17 bytes");
        assert_eq!(human(4096), "4 KiB");
        assert_eq!(human((37 << 20) + (1 << 19)), "37.5 MiB");
    }
}
