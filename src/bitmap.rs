//! One bit for each page frame, in the order in which dump files store it.
//!
//! Knows bits and runs. Must not know what a bit stands for. Goes to `plan`, and as it is into the output.

use std::path::PathBuf;

use bitvec::prelude::{BitSlice, Lsb0};
use vdump_filters::PfnRange;

use crate::{
    error::{Error, Result},
    report::human_bytes,
    sys::map::Spool,
};

/// Bits of part of a [`PageBitmap`].
pub type Bits = BitSlice<u8, Lsb0>;

/// A bitmap of bits; bit `pfn % 8` of byte `pfn / 8`, as in kdump files.
#[derive(Debug)]
pub struct PageBitmap {
    store: Store,
    len: u64,
}

#[derive(Debug)]
enum Store {
    Memory(Vec<u8>),
    File(Spool),
}

/// Where a run keeps its bitmaps.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Bitmaps {
    /// In memory.
    #[default]
    Memory,
    /// In files without a name in this folder, mapped: for machines whose bitmaps would not fit the memory limit.
    Folder(PathBuf),
}

impl Bitmaps {
    /// A bitmap for frames `0..max_pfn`, all clear.
    ///
    /// # Errors
    /// The folder's file system has no room for it, or cannot hold it.
    pub fn bitmap(&self, max_pfn: u64) -> Result<PageBitmap> {
        let Self::Folder(folder) = self else {
            return Ok(PageBitmap::new(max_pfn));
        };
        let bytes = PageBitmap::bytes_for(max_pfn).max(1);
        let spool = Spool::create(folder, bytes).map_err(|error| {
            Error::output(folder, "keep a page bitmap in", &error)
                .next_step(format!("give --memory-limit {} more, or another output folder", human_bytes(bytes)))
        })?;
        Ok(PageBitmap { store: Store::File(spool), len: max_pfn })
    }
}

impl PageBitmap {
    /// All clear, for frames `0..max_pfn`. Takes `max_pfn / 8` bytes of memory: the caller checks the budget first.
    #[must_use]
    pub fn new(max_pfn: u64) -> Self {
        Self { store: Store::Memory(vec![0; Self::bytes_for(max_pfn) as usize]), len: max_pfn }
    }

    /// Bytes that a bitmap for `max_pfn` frames takes: whole words, so that runs can be found 64 frames at a time.
    #[must_use]
    pub fn bytes_for(max_pfn: u64) -> u64 {
        max_pfn.div_ceil(64) * 8
    }

    /// Number of frames.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there are no frames at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Sets or clears a range; what lies past the end is ignored.
    pub fn fill(&mut self, range: PfnRange, value: bool) {
        let (start, end) = (range.start.min(self.len) as usize, range.end.min(self.len) as usize);
        if start < end {
            Bits::from_slice_mut(self.as_bytes_mut())[start..end].fill(value);
        }
    }

    /// One bit; `false` past the end.
    #[must_use]
    pub fn get(&self, pfn: u64) -> bool {
        pfn < self.len && Bits::from_slice(self.as_bytes()).get(pfn as usize).is_some_and(|bit| *bit)
    }

    /// Bits set.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.words().map(|word| u64::from(word.count_ones())).sum()
    }

    /// The bitmap as bytes, at least `max_pfn / 8` of them; the bits past the end are zero.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        let bytes: &[u8] = match &self.store {
            Store::Memory(bytes) => bytes,
            Store::File(spool) => spool,
        };
        &bytes[..Self::bytes_for(self.len) as usize]
    }

    /// The bitmap's bytes, to be cut into parts for parallel work. Bits past the end must stay clear.
    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        let len = Self::bytes_for(self.len) as usize;
        let bytes: &mut [u8] = match &mut self.store {
            Store::Memory(bytes) => bytes,
            Store::File(spool) => spool,
        };
        &mut bytes[..len]
    }

    /// Clears in `self` what is set in `other`.
    pub fn subtract(&mut self, other: &Self) {
        for (own, theirs) in self.as_bytes_mut().iter_mut().zip(other.as_bytes()) {
            *own &= !theirs;
        }
    }

    /// The bitmap as words of 64 frames.
    pub fn words(&self) -> impl Iterator<Item = u64> + '_ {
        self.as_bytes().as_chunks::<8>().0.iter().map(|chunk| u64::from_le_bytes(*chunk))
    }

    /// The runs of set bits, in order.
    #[must_use]
    pub fn runs(&self) -> Runs<'_> {
        self.runs_in(PfnRange::new(0, self.len))
    }

    /// The runs of set bits within `range`, cut at its ends. Looks no further than the range.
    #[must_use]
    pub fn runs_in(&self, range: PfnRange) -> Runs<'_> {
        Runs { words: self.as_bytes().as_chunks::<8>().0, at: range.start, end: range.end.min(self.len) }
    }
}

/// The runs of set bits in a part of a bitmap, counted from its start. The part's length is a multiple of 8 bytes.
#[must_use]
pub fn runs_of(part: &[u8]) -> Runs<'_> {
    let words = part.as_chunks::<8>().0;
    Runs { words, at: 0, end: words.len() as u64 * 64 }
}

/// Iterator over runs of set bits.
#[derive(Clone, Debug)]
pub struct Runs<'a> {
    words: &'a [[u8; 8]],
    at: u64,
    end: u64,
}

impl Runs<'_> {
    /// The next position from `at` on whose bit is `value`; the end if there is none.
    fn seek(&self, value: bool) -> u64 {
        let mut index = (self.at / 64) as usize;
        let mut mask = u64::MAX << (self.at % 64);
        while (index as u64) < self.end.div_ceil(64)
            && let Some(word) = self.words.get(index)
        {
            let word = u64::from_le_bytes(*word);
            let hits = if value { word } else { !word } & mask;
            if hits != 0 {
                return self.end.min(index as u64 * 64 + u64::from(hits.trailing_zeros()));
            }
            (index, mask) = (index + 1, u64::MAX);
        }
        self.end
    }
}

impl Iterator for Runs<'_> {
    type Item = PfnRange;

    fn next(&mut self) -> Option<PfnRange> {
        self.at = self.at.min(self.end);
        let start = self.seek(true);
        if start >= self.end {
            self.at = self.end;
            return None;
        }
        self.at = start;
        self.at = self.seek(false);
        Some(PfnRange::new(start, self.at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(len: u64, ranges: &[(u64, u64)]) -> PageBitmap {
        let mut bitmap = PageBitmap::new(len);
        for (start, end) in ranges {
            bitmap.fill(PfnRange::new(*start, *end), true);
        }
        bitmap
    }

    #[test]
    fn runs_are_what_was_filled() {
        for ranges in [&[(0, 1), (5, 200), (255, 256)][..], &[(0, 256)], &[], &[(63, 65)], &[(64, 128), (130, 131)]] {
            let bitmap = with(256, ranges);
            let found: Vec<_> = bitmap.runs().map(|run| (run.start, run.end)).collect();
            assert_eq!(found, ranges);
            assert_eq!(bitmap.count(), ranges.iter().map(|(start, end)| end - start).sum::<u64>());
        }
    }

    #[test]
    fn bits_lie_as_readers_expect() {
        assert_eq!(with(20, &[(0, 1), (9, 10), (19, 20)]).as_bytes()[..3], [1, 2, 8]);
    }

    #[test]
    fn nothing_is_set_past_the_end() {
        let bitmap = with(70, &[(60, 1000)]);
        assert_eq!(bitmap.count(), 10);
        assert!(!bitmap.get(70));
        assert_eq!(bitmap.runs().last(), Some(PfnRange::new(60, 70)));
    }

    #[test]
    fn runs_in_a_range_are_cut_at_its_ends() {
        let bitmap = with(1000, &[(0, 100), (120, 130), (200, 300)]);
        for (start, end, expected) in [
            (50, 250, &[(50, 100), (120, 130), (200, 250)][..]),
            (100, 120, &[]),
            (125, 126, &[(125, 126)]),
            (300, 2000, &[]),
            (2000, 3000, &[]),
        ] {
            let found: Vec<_> = bitmap.runs_in(PfnRange::new(start, end)).map(|run| (run.start, run.end)).collect();
            assert_eq!(found, expected, "{start}..{end}");
        }
    }

    #[test]
    fn subtract_clears() {
        let mut bitmap = with(128, &[(0, 128)]);
        bitmap.subtract(&with(128, &[(10, 20)]));
        assert_eq!(bitmap.runs().collect::<Vec<_>>(), [PfnRange::new(0, 10), PfnRange::new(20, 128)]);
    }
}
