//! The memory map's own memory: the frames that hold struct pages.
//!
//! Knows that they are found where the struct pages of the dump's memory are mapped. Must not know what they say.

use super::{Crashed, Frames};
use crate::memory::MemMap;

pub(super) fn find(crashed: &Crashed<'_>, map: &MemMap, frames: &mut Frames) {
    let size = crashed.layout.page.size as u64;
    for ram in crashed.source.ram().pfn_ranges(crashed.layout.page_shift) {
        for (part, place) in map.parts(ram) {
            if let Ok(vaddr) = place {
                // Where it is not mapped there are no struct pages: their frames are kept and counted.
                frames.add_virtual(vaddr, part.len().saturating_mul(size), crashed);
            }
        }
    }
}
