//! `--keep-range` and `--drop-range`: frames by address, and how they and the tasks' frames are applied.
//!
//! Knows rounding, and the way without any knowledge of the kernel. Must not know classes. The bitmap goes to the output.

use vdump_filters::{PfnRange, PfnRanges};

use super::tasks::OfTasks;
use crate::{
    bitmap::PageBitmap,
    classify::{Picked, Picks},
    cli::{choosing::ByteRange, resolve::Job},
    kernel::Protected,
    source::Source,
};

/// Everything that was picked frame by frame.
#[derive(Default)]
pub(super) struct Chosen {
    keep: PfnRanges,
    drop: PfnRanges,
    pub(super) tasks: OfTasks,
}

impl Chosen {
    /// Rounds the job's ranges to frames: out to what is touched for those to keep, in to what is whole for those to drop.
    /// What comes to nothing is said in `warnings`.
    pub(super) fn new(job: &Job, source: &Source, page_shift: u32, tasks: OfTasks, warnings: &mut Vec<String>) -> Self {
        let mut frames = |ranges: &[ByteRange], option: &str, round: fn(ByteRange, u32) -> PfnRange| {
            let rounded = ranges.iter().map(|range| {
                let frames = round(*range, page_shift);
                let last = range.last.saturating_add(1);
                if source.existing().overlapping(range.first, last).next().is_none() {
                    warnings.push(format!("{option} {range}: the dump has no memory there"));
                } else if frames.is_empty() {
                    warnings.push(format!("{option} {range} holds no whole page"));
                }
                frames
            });
            PfnRanges::new(rounded.collect())
        };
        let keep = frames(&job.selection.keep_range, "--keep-range", ByteRange::outer);
        let drop = frames(&job.selection.drop_range, "--drop-range", ByteRange::inner);
        Self { keep, drop, tasks }
    }

    /// Whether anything was.
    pub(super) fn is_any(&self) -> bool {
        !self.keep.is_empty() || !self.drop.is_empty() || self.tasks.frames.is_some()
    }

    /// For classification.
    pub(super) fn picks(&self) -> Picks<'_> {
        Picks {
            keep: Some(&self.keep),
            tasks: self.tasks.frames.as_ref().map_or(&[], |frames| frames.as_bytes()),
            drop: Some(&self.drop),
        }
    }

    /// Clears in `kept` what is to be left out, where no page's class is known: then all that is kept is there already. The
    /// kernel image is bounded by what the dump's segments say.
    pub(super) fn without_classes(
        &self,
        source: &Source,
        page_shift: u32,
        kept: &mut PageBitmap,
        warnings: &mut Vec<String>,
    ) -> Picked {
        let mut picked = Picked::default();
        if self.drop.is_empty() {
            return picked;
        }
        let protected = Protected::by_segments(source, page_shift);
        warnings.extend(protected.limits().iter().map(|limit| format!("{limit}: --drop-range may drop some of it")));
        let protected = PfnRanges::new(protected.certain(PfnRange::new(0, u64::MAX)).collect());
        let asked = self.drop.without(&self.keep);
        let count = |kept: &PageBitmap, range: PfnRange| kept.runs_in(range).map(PfnRange::len).sum::<u64>();
        for range in asked.without(&protected).as_slice() {
            picked.dropped += count(kept, *range);
            kept.fill(*range, false);
        }
        let spared = asked.as_slice().iter().flat_map(|range| protected.within(range.start, range.end));
        picked.protected = spared.map(|range| count(kept, range)).sum();
        picked
    }
}
