//! Cutting the kept frames into batches.
//!
//! Knows runs and counts. Must not know formats. Each batch is one unit of parallel work, committed in order.

use vdump_filters::PfnRange;

use crate::bitmap::{PageBitmap, Runs};

/// Some kept frames, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    /// The frames, as runs.
    pub extents: Vec<PfnRange>,
}

/// Iterator over batches of at most a given number of frames.
#[derive(Debug)]
pub struct Batches<'a> {
    runs: Runs<'a>,
    rest: Option<PfnRange>,
    max_pages: u64,
}

impl<'a> Batches<'a> {
    /// Cuts the set bits of `kept` into batches of at most `max_pages` frames.
    #[must_use]
    pub fn new(kept: &'a PageBitmap, max_pages: u64) -> Self {
        Self::within(kept, PfnRange::new(0, kept.len()), max_pages)
    }

    /// The same for the frames in `range` alone.
    #[must_use]
    pub fn within(kept: &'a PageBitmap, range: PfnRange, max_pages: u64) -> Self {
        Self { runs: kept.runs_in(range), rest: None, max_pages: max_pages.max(1) }
    }
}

impl Iterator for Batches<'_> {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        let mut extents = Vec::new();
        let mut room = self.max_pages;
        while room > 0 {
            let Some(run) = self.rest.take().or_else(|| self.runs.next()) else {
                break;
            };
            let taken = PfnRange::new(run.start, run.end.min(run.start + room));
            room -= taken.len();
            if taken.end < run.end {
                self.rest = Some(PfnRange::new(taken.end, run.end));
            }
            extents.push(taken);
        }
        (!extents.is_empty()).then_some(Batch { extents })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kept_frame_comes_once_and_in_order() {
        let mut kept = PageBitmap::new(1000);
        for (start, end) in [(0, 7), (9, 10), (64, 300), (999, 1000)] {
            kept.fill(PfnRange::new(start, end), true);
        }
        for max in [1, 5, 64, 10_000] {
            let batches: Vec<_> = Batches::new(&kept, max).collect();
            let frames: Vec<u64> =
                batches.iter().flat_map(|batch| &batch.extents).flat_map(|run| run.start..run.end).collect();
            let expected: Vec<u64> = (0..1000).filter(|pfn| kept.get(*pfn)).collect();
            assert_eq!(frames, expected);
            for batch in &batches {
                assert!(batch.extents.iter().map(|run| run.len()).sum::<u64>() <= max);
            }
        }
    }
}
