//! Frames that the user named one by one, whatever their class: to keep them or to leave them out.
//!
//! Knows who wins where several were named. Must not know why they were. Overrides what a block's classes say.

use vdump_filters::{DumpLevel, PageClass, PfnRange, PfnRanges, Selection};

use crate::kernel::Protected;

/// The frames. A frame in several of them is kept for its range, else for its task, else left out.
#[derive(Clone, Copy, Default, Debug)]
pub struct Picks<'a> {
    /// To keep because of their addresses.
    pub keep: Option<&'a PfnRanges>,
    /// To keep because a task has them: a bit for each frame, bit `pfn % 8` of byte `pfn / 8`.
    pub tasks: &'a [u8],
    /// To leave out.
    pub drop: Option<&'a PfnRanges>,
}

/// What came of it, in pages.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Picked {
    /// Kept for their addresses, and of a class that is dropped.
    pub kept: u64,
    /// The same for tasks.
    pub kept_for_tasks: u64,
    /// Left out for their addresses, and of a class that is kept.
    pub dropped: u64,
    /// To be left out, and kept because they are protected.
    pub protected: u64,
    /// To be kept, and left out because they cannot be read: poisoned or offline.
    pub unreadable: u64,
}

impl Picked {
    /// Adds the pages of another part.
    pub fn add(&mut self, other: &Self) {
        self.kept += other.kept;
        self.kept_for_tasks += other.kept_for_tasks;
        self.dropped += other.dropped;
        self.protected += other.protected;
        self.unreadable += other.unreadable;
    }

    /// Pages that are left out, of as many that their classes leave out.
    #[must_use]
    pub fn dropped_of(&self, by_class: u64) -> u64 {
        (by_class + self.dropped).saturating_sub(self.kept + self.kept_for_tasks)
    }
}

/// What was said about one frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Pick {
    #[default]
    None,
    Keep,
    Task,
    Drop,
    Protected,
}

impl Pick {
    /// Whether a page of `class` is left out; counts it if that is not what its class alone would say.
    pub(super) fn drops(self, class: PageClass, drop: Selection, picked: &mut Picked) -> bool {
        let by_class = drop.drops(class);
        let kept = match self {
            Self::None => return by_class,
            Self::Drop => {
                picked.dropped += u64::from(!by_class);
                return true;
            }
            // Reading these may end the capture.
            Self::Keep | Self::Task if DumpLevel::NONE.drops(class) => {
                picked.unreadable += 1;
                return true;
            }
            Self::Protected => {
                picked.protected += u64::from(!by_class);
                return by_class;
            }
            Self::Keep => &mut picked.kept,
            Self::Task => &mut picked.kept_for_tasks,
        };
        *kept += u64::from(by_class);
        false
    }
}

impl Picks<'_> {
    /// Says for each frame of `range` what was said about it; leaves `out` empty where nothing was. `range` starts at a
    /// multiple of 8.
    pub(super) fn of(&self, range: PfnRange, protected: &Protected, out: &mut Vec<Pick>) {
        out.clear();
        let mut put = |part: PfnRange, pick: Pick| {
            if out.is_empty() {
                out.resize(range.len() as usize, Pick::None);
            }
            out[(part.start - range.start) as usize..(part.end - range.start) as usize].fill(pick);
        };
        for part in self.drop.into_iter().flat_map(|drop| drop.within(range.start, range.end)) {
            put(part, Pick::Drop);
            for part in protected.certain(part) {
                put(part, Pick::Protected);
            }
        }
        let first = (range.start / 8) as usize;
        let bytes = (range.len() / 8) as usize;
        for (index, byte) in self.tasks.iter().skip(first).take(bytes).enumerate().filter(|(_, byte)| **byte != 0) {
            for bit in (0..8).filter(|bit| byte >> bit & 1 == 1) {
                let pfn = range.start + index as u64 * 8 + bit;
                put(PfnRange::new(pfn, pfn + 1), Pick::Task);
            }
        }
        for part in self.keep.into_iter().flat_map(|keep| keep.within(range.start, range.end)) {
            put(part, Pick::Keep);
        }
    }
}
