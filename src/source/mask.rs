//! What must not reach an output: physical ranges whose bytes are overwritten on the way to it.
//!
//! Knows addresses. Must not know why they are named. Everything that is written goes through an [`OutputReader`], which has
//! no way around the [`Mask`].

use vdump_filters::ranges::{Ranges, Stretch};

use super::{PageReader, ReadError};

/// A stretch of physical memory to overwrite.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Masked {
    /// First physical address.
    pub start: u64,
    /// One past the last.
    pub end: u64,
    /// What every byte becomes.
    pub fill: u8,
}

impl Stretch for Masked {
    fn start(&self) -> u64 {
        self.start
    }

    fn end(&self) -> u64 {
        self.end
    }

    fn part(&self, start: u64, end: u64) -> Self {
        Self { start, end, fill: self.fill }
    }

    fn is_continued_by(&self, next: &Self) -> bool {
        self.fill == next.fill
    }
}

/// Sorted, disjoint stretches.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Mask {
    ranges: Ranges<Masked>,
}

impl Mask {
    /// Sorts `ranges` and takes out what overlaps: which of two fills a byte gets does not matter, but it is always the same.
    #[must_use]
    pub fn new(mut ranges: Vec<Masked>) -> Self {
        // Of two that start together the shorter one counts first, whatever order they came in.
        ranges.sort_unstable();
        Self { ranges: Ranges::new(ranges) }
    }

    /// Whether nothing is overwritten.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Its stretches in order.
    #[must_use]
    pub fn ranges(&self) -> &[Masked] {
        self.ranges.as_slice()
    }

    /// The stretches that touch `len` bytes at `paddr`.
    fn within(&self, paddr: u64, len: usize) -> impl Iterator<Item = &Masked> {
        self.ranges.overlapping(paddr, paddr.saturating_add(len as u64))
    }

    /// Whether any of `len` bytes at `paddr` is overwritten.
    #[must_use]
    pub fn touches(&self, paddr: u64, len: usize) -> bool {
        self.within(paddr, len).next().is_some()
    }

    /// Overwrites what must be in `bytes`, which were read at `paddr`.
    pub fn apply(&self, paddr: u64, bytes: &mut [u8]) {
        let end = paddr.saturating_add(bytes.len() as u64);
        for range in self.within(paddr, bytes.len()) {
            let (from, to) = (range.start.max(paddr), range.end.min(end));
            bytes[(from - paddr) as usize..(to - paddr) as usize].fill(range.fill);
        }
    }
}

/// Reads physical memory as it may be written. Not shared between threads.
#[derive(Debug)]
pub struct OutputReader<'a> {
    reader: PageReader<'a>,
    mask: &'a Mask,
    /// For what is changed.
    buffer: Vec<u8>,
}

impl<'a> OutputReader<'a> {
    pub(super) fn new(reader: PageReader<'a>, mask: &'a Mask) -> Self {
        Self { reader, mask, buffer: Vec::new() }
    }

    /// As [`PageReader::read`], with the mask over it.
    ///
    /// # Errors
    /// [`ReadError`]; nothing was read.
    pub fn read(&mut self, paddr: u64, len: usize) -> Result<&[u8], ReadError> {
        let bytes = self.reader.read(paddr, len)?;
        if !self.mask.touches(paddr, len) {
            return Ok(bytes);
        }
        self.buffer.clear();
        self.buffer.extend_from_slice(bytes);
        self.mask.apply(paddr, &mut self.buffer);
        Ok(&self.buffer)
    }

    /// As [`PageReader::is_stored`]; what the mask covers is no longer what the input has.
    #[must_use]
    pub fn is_stored(&self, paddr: u64, len: usize) -> bool {
        self.mask.touches(paddr, len) || self.reader.is_stored(paddr, len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(start: u64, end: u64, fill: u8) -> Masked {
        Masked { start, end, fill }
    }

    #[test]
    fn overlaps_are_taken_out_and_neighbours_merge() {
        let ranges = vec![
            masked(10, 20, b'X'),
            masked(5, 12, b'X'),
            masked(20, 24, b'X'),
            masked(22, 40, 0),
            masked(24, 30, b'X'),
            masked(7, 7, 0),
            masked(100, 101, b'X'),
        ];
        assert_eq!(Mask::new(ranges).ranges(), [masked(5, 24, b'X'), masked(24, 40, 0), masked(100, 101, b'X')]);
    }

    #[test]
    fn every_window_over_a_mask_is_as_the_whole() {
        let mask = Mask::new(vec![masked(3, 6, b'X'), masked(6, 8, 0), masked(12, 13, b'X'), masked(15, 99, b'X')]);
        let mut whole: Vec<u8> = (100..116).collect();
        mask.apply(0, &mut whole);
        assert_eq!(whole[..8], [100, 101, 102, b'X', b'X', b'X', 0, 0]);
        for from in 0..16usize {
            for to in from + 1..=16 {
                let mut part: Vec<u8> = (100 + from as u8..100 + to as u8).collect();
                let before = part.clone();
                mask.apply(from as u64, &mut part);
                assert_eq!(part, whole[from..to]);
                assert_eq!(mask.touches(from as u64, to - from), part != before, "{from}..{to}");
            }
        }
    }

    /// Whatever overlaps whatever: every byte that a range names is overwritten, and no other one.
    #[test]
    fn no_named_byte_stays_and_no_other_changes() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut next = |below: u64| rng.u64(..below);
        for _ in 0..500 {
            let mut named = [false; 64];
            let ranges: Vec<_> = (0..next(8))
                .map(|_| {
                    let start = next(60);
                    let end = (start + next(12)).min(64);
                    named[start as usize..end as usize].fill(true);
                    masked(start, end, if next(2) == 0 { 0 } else { b'X' })
                })
                .collect();
            let mut bytes = [1u8; 64];
            Mask::new(ranges).apply(0, &mut bytes);
            assert_eq!(bytes.map(|byte| byte != 1), named);
        }
    }
}
