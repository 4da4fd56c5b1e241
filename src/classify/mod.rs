//! From struct pages to the class of every frame, in parallel, and to the bitmap of frames to keep.
//!
//! Knows how compound pages and free blocks spread over many frames. Must not know files or outputs. The bitmap and the
//! counts go to `plan` and to the report.

mod audit;
mod block;
mod memo;
mod parse;
mod picks;
mod trace;

use std::sync::Mutex;

use rayon::prelude::{IndexedParallelIterator as _, ParallelIterator as _, ParallelSlice as _, ParallelSliceMut as _};
use vdump_filters::{Doubt, PageClass, PfnRange, Selection};

use crate::{
    kernel::{FreePcp, Part, Protected},
    layout::KernelLayout,
    memory::{MemMap, StructPages, VirtReader},
    report::Progress,
    source::Source,
};

pub use audit::{Check, Verdict, audit};
use block::Block;
pub(crate) use block::head_of;
pub use trace::{Spoken, Step, Trace};

pub use picks::{Picked, Picks};

/// Frames classified at a time: 512 KiB of struct pages, which fits a core's second-level cache.
pub const BLOCK_PAGES: u64 = 8192;

/// Pages by class, and the doubts one by one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Counts {
    /// Pages of each class, by [`PageClass::index`].
    pub classes: [u64; PageClass::COUNT],
    /// Pages of each doubt, by [`Doubt::index`].
    pub doubts: [u64; Doubt::ALL.len()],
    /// What was decided otherwise than by class.
    pub picked: Picked,
    /// Pages of what is protected, by [`Part::index`].
    pub parts: [u64; Part::COUNT],
    /// Those of them whose struct pages say otherwise, by the class that these amount to.
    pub misfits: [[u64; PageClass::COUNT]; Part::COUNT],
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            classes: [0; PageClass::COUNT],
            doubts: [0; Doubt::ALL.len()],
            picked: Picked::default(),
            parts: [0; Part::COUNT],
            misfits: [[0; PageClass::COUNT]; Part::COUNT],
        }
    }
}

impl Counts {
    /// Counts `pages` of one class.
    pub fn add(&mut self, class: PageClass, pages: u64) {
        self.classes[class.index()] += pages;
        if let PageClass::Doubtful(doubt) = class {
            self.doubts[doubt.index()] += pages;
        }
    }

    /// Pages of one class.
    #[must_use]
    pub fn of(&self, class: PageClass) -> u64 {
        self.classes[class.index()]
    }

    /// Pages of all classes.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.classes.iter().sum()
    }

    /// Both together.
    #[must_use]
    pub fn merge(mut self, other: &Self) -> Self {
        add(&mut self.classes, &other.classes);
        add(&mut self.doubts, &other.doubts);
        add(&mut self.parts, &other.parts);
        for (own, theirs) in self.misfits.iter_mut().zip(&other.misfits) {
            add(own, theirs);
        }
        self.picked.add(&other.picked);
        self
    }
}

fn add(own: &mut [u64], theirs: &[u64]) {
    for (own, theirs) in own.iter_mut().zip(theirs) {
        *own += theirs;
    }
}

/// What classification needs to know.
#[derive(Debug)]
pub struct Classifier<'a> {
    /// The dump.
    pub source: &'a Source,
    /// Its kernel's layout.
    pub layout: &'a KernelLayout,
    /// Where the struct pages are.
    pub map: &'a MemMap,
    /// What must never be dropped.
    pub protected: &'a Protected,
    /// What is free though no struct page says so.
    pub free_pcp: &'a FreePcp,
    /// What to drop.
    pub drop: Selection,
    /// What to keep and to drop whatever its class.
    pub picks: Picks<'a>,
}

impl Classifier<'_> {
    /// Clears in `kept` (a bit for each frame, at first all of RAM) the frames to drop. Runs on the current rayon pool; `progress` counts
    /// frames. Stops early, with partial counts, when the progress says that the user wants to.
    #[must_use]
    pub fn run(&self, kept: &mut [u8], progress: &Progress) -> Counts {
        kept.par_chunks_mut(BLOCK_PAGES as usize / 8)
            .enumerate()
            .map_init(
                || self.block(),
                |block, (index, bits)| {
                    let start = index as u64 * BLOCK_PAGES;
                    let mut counts = Counts::default();
                    if let Some(block) = block
                        && !progress.stopped()
                    {
                        let range = PfnRange::new(start, start + bits.len() as u64 * 8);
                        block.classify(range, bits, self.drop, &mut counts);
                        progress.add(counts.total());
                    }
                    counts
                },
            )
            .reduce(Counts::default, |sum, counts| sum.merge(&counts))
    }

    /// Counts the frames whose bits are set in `frames`, for each of `parts` (sorted, disjoint) on its own. Drops nothing. Runs on the current
    /// rayon pool; stops early, with partial counts, when the progress says that the user wants to.
    #[must_use]
    pub fn survey(&self, frames: &[u8], parts: &[PfnRange], progress: &Progress) -> Vec<Counts> {
        let all = Mutex::new(vec![Counts::default(); parts.len()]);
        let survey = |block: &mut Option<Block<'_>>, (index, bits): (usize, &[u8])| {
            let Some(block) = block.as_mut().filter(|_| !progress.stopped()) else { return };
            let start = index as u64 * BLOCK_PAGES;
            let counted = block.survey(PfnRange::new(start, start + bits.len() as u64 * 8), bits, parts);
            progress.add(bits.iter().map(|byte| u64::from(byte.count_ones())).sum());
            if let Ok(mut all) = all.lock() {
                for (part, counts) in counted {
                    all[part] = std::mem::take(&mut all[part]).merge(&counts);
                }
            }
        };
        frames.par_chunks(BLOCK_PAGES as usize / 8).enumerate().for_each_init(|| self.block(), survey);
        all.into_inner().unwrap_or_default()
    }

    /// The class of one frame, and why: the very decision of [`Classifier::run`]. `None` only for an architecture that the layout
    /// would have refused already.
    #[must_use]
    pub fn trace(&self, pfn: u64) -> Option<Trace> {
        // The block that the frame lies in. The last one is shorter: bitmaps of frames have whole words.
        let end = self.source.existing().max_pfn(self.layout.page_shift).next_multiple_of(64);
        let start = pfn - pfn % BLOCK_PAGES;
        let range = PfnRange::new(start, end.clamp(start, start.saturating_add(BLOCK_PAGES)));
        Some(self.block()?.trace(range, pfn))
    }

    /// One thread's workspace; `None` only for an architecture that the layout would have refused already.
    fn block(&self) -> Option<Block<'_>> {
        let virt = VirtReader::new(self.source, &self.layout.space);
        let pages = StructPages::new(virt, self.map, self.source.existing(), self.layout);
        Some(Block::new(pages, &self.layout.page, (self.protected, self.free_pcp), self.picks))
    }
}
