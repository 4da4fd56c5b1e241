//! The memory map's own memory: the frames that hold struct pages.
//!
//! Knows that they are found where the struct pages are mapped. Must not know what they say.

use super::{Crashed, Frames};
use crate::memory::MemMap;

pub(super) fn find(crashed: &Crashed<'_>, map: &MemMap, frames: &mut Frames) {
    for (vaddr, len) in map.extents(crashed.source.ram(), crashed.layout.page_shift) {
        // Where it is not mapped there are no struct pages: their frames are kept and counted.
        frames.add_virtual(vaddr, len, crashed);
    }
}
