//! Which memory a dump has: ranges of addresses, and page frames. Nothing is read for it, and nothing is held.

use std::ops::Range;

use crate::source::{Finder, RamMap};

/// A page frame that the dump has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Page {
    /// Its number: the physical address by the page size.
    pub pfn: u64,
    /// What the dump has of it.
    pub state: PageState,
}

/// What a dump has of a page frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum PageState {
    /// Its contents are in the file; they may be zeros.
    Stored,
    /// The dump says that all of it is zeros, and stores none. An ELF core says the same of pages that its writer excluded inside a
    /// segment.
    Zero,
    /// The dump has a part of the page: firmware may end a range of memory in the middle of one. [`Reader::page`](crate::Reader::page)
    /// fails; [`Dump::ranges`](crate::Dump::ranges) says what there is.
    Partial,
}

/// The memory in `map`, joined where pieces touch.
pub(super) fn ranges(map: &RamMap) -> impl Iterator<Item = Range<u64>> + '_ {
    let mut pieces = map.pieces().peekable();
    std::iter::from_fn(move || {
        let first = pieces.next()?;
        let mut range = first.paddr..first.end();
        while let Some(next) = pieces.next_if(|next| next.paddr <= range.end) {
            range.end = range.end.max(next.end());
        }
        Some(range)
    })
}

/// The page frames with memory in `map`.
pub(super) fn pages(map: &RamMap, page_shift: u32) -> impl Iterator<Item = Page> + '_ {
    let mut finder = map.finder();
    let frames = map.pfn_ranges(page_shift).flat_map(|range| range.start..range.end);
    frames.map(move |pfn| {
        let start = pfn << page_shift;
        Page { pfn, state: state(&mut finder, start, start.saturating_add(1 << page_shift)) }
    })
}

fn state(finder: &mut Finder<'_>, start: u64, end: u64) -> PageState {
    let (mut at, mut stored) = (start, false);
    while let Some(piece) = finder.next(at, end) {
        if piece.paddr > at {
            return PageState::Partial;
        }
        stored |= piece.offset.is_some();
        at = piece.end();
    }
    match stored {
        _ if at < end => PageState::Partial,
        true => PageState::Stored,
        false => PageState::Zero,
    }
}
