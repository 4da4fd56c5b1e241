//! The memory map's own memory: the frames that hold struct pages.
//!
//! Knows that they are found where the struct pages are mapped. Must not know what they say.

use super::{Found, Frames, Gap, Reach, SMALLEST_PAGE};
use crate::{kernel::crashed::Crashed, memory::MemMap};

/// The map of 64 TiB, as much memory as Linux has run on, in the smallest pages. Huge pages of hugetlb leave a map in such
/// (`hugetlb_vmemmap_optimize()`, since 5.14: f41f2ed43ca5).
const MOST_STEPS: u64 = 1 << 28;

pub(super) fn find(crashed: &Crashed<'_>, map: &MemMap, frames: &mut Frames) -> Found {
    let extents = map.extents(crashed.source.ram(), crashed.layout.page_shift);
    // As many pages as there are, and two more for each extent, which may begin and end within one.
    let pages = extents.iter().map(|(_, len)| len / SMALLEST_PAGE + 2).fold(0, u64::saturating_add);
    let mut steps = pages.min(MOST_STEPS);
    for (vaddr, len) in extents {
        // Where it is not mapped there are no struct pages: their frames are kept and counted.
        if frames.add_mapped(vaddr, len, crashed, &mut steps) == Reach::Part {
            return Err(Gap::Damaged("it has more pieces than are looked at".to_owned()));
        }
    }
    Ok(())
}
