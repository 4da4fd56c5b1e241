//! The map of physical memory that a dump holds.
//!
//! Knows how to turn overlapping segments into sorted, disjoint pieces. Must not do I/O. Goes to every later room.

use std::{ops::Range, sync::Arc};

use vdump_filters::{PfnRange, ranges::Ranges};

use super::{
    Load, Piece,
    scattered::{Cursor, Scattered},
};

/// Sorted, disjoint pieces of physical memory.
#[derive(Clone, Debug, Default)]
pub struct RamMap {
    pieces: Ranges<Piece>,
    /// Instead of pieces where there are too many of them.
    scattered: Option<Arc<Scattered>>,
}

impl RamMap {
    /// Takes a bitmap that stays where it is.
    pub(super) fn from_bitmap(scattered: Scattered) -> Self {
        Self { pieces: Ranges::default(), scattered: Some(Arc::new(scattered)) }
    }

    /// Takes pieces that are sorted and disjoint already.
    pub(super) fn from_pieces(pieces: Vec<Piece>) -> Self {
        Self { pieces: Ranges::from_sorted(pieces), scattered: None }
    }

    /// Resolves segments that may overlap (`/proc/vmcore` describes the kernel's text twice). Stored bytes win over the
    /// zero tail of another segment; among equals the first segment wins.
    #[must_use]
    pub fn from_loads(loads: &[Load]) -> Self {
        let stored = loads.iter().map(|load| Piece::with_len(load.paddr, load.filesz, Some(load.offset)));
        let mut map = Self::default();
        map.pieces.add_where_free(stored.collect());
        map.pieces.add_where_free(loads.iter().map(zero_tail).collect());
        map
    }

    /// The same for a file that has only its first `size` bytes: what is there, and what was there. Lost bytes win over zero
    /// tails, and take the rest of their page (of `page` bytes) with them: half of it would be shown as zeros.
    #[must_use]
    pub fn from_cut_loads(loads: &[Load], size: u64, page: u64) -> (Self, Self) {
        let there = |load: &Load| size.saturating_sub(load.offset).min(load.filesz);
        let mut map = Self::default();
        let stored = loads.iter().map(|load| Piece::with_len(load.paddr, there(load), Some(load.offset)));
        map.pieces.add_where_free(stored.collect());
        let rest =
            |load: &Load| Piece::with_len(load.paddr.saturating_add(there(load)), load.filesz - there(load), None);
        map.pieces.add_where_free(loads.iter().map(rest).collect());
        let lost = |piece: &&Piece| piece.offset.is_none();
        let round_up = |end: u64| end.checked_next_multiple_of(page).unwrap_or(u64::MAX);
        let whole = |piece: &Piece| piece.paddr & !(page - 1)..round_up(piece.end());
        let lost = Ranges::new(map.pieces.as_slice().iter().filter(lost).map(whole).collect());
        map.pieces.add_where_free(loads.iter().map(zero_tail).collect());
        let mut left = map.clone();
        left.take_out(&lost);
        (left, map)
    }

    /// Removes ranges; from a bitmap whole page frames.
    pub(super) fn take_out(&mut self, ranges: &Ranges<Range<u64>>) {
        if let Some(scattered) = self.scattered.as_mut().and_then(Arc::get_mut) {
            scattered.hide(ranges);
        }
        self.pieces = self.pieces.without(ranges);
    }

    /// The pieces in order of address. Some may touch the next one.
    pub fn pieces(&self) -> impl Iterator<Item = Piece> + '_ {
        self.overlapping(0, u64::MAX)
    }

    /// One past the last physical address; 0 where there is no memory.
    #[must_use]
    pub fn end(&self) -> u64 {
        match &self.scattered {
            Some(scattered) => scattered.end(),
            None => self.pieces.as_slice().last().map_or(0, Piece::end),
        }
    }

    /// One past the highest PFN with any memory.
    #[must_use]
    pub fn max_pfn(&self, page_shift: u32) -> u64 {
        self.end().checked_sub(1).map_or(0, |last| (last >> page_shift) + 1)
    }

    /// Bytes of memory that the map itself takes.
    #[must_use]
    pub fn held(&self) -> u64 {
        let pieces = self.pieces.held() as u64;
        pieces + self.scattered.as_ref().map_or(0, |scattered| scattered.held())
    }

    /// The page frames with at least one byte of memory, as merged ranges in order.
    pub fn pfn_ranges(&self, page_shift: u32) -> impl Iterator<Item = PfnRange> + '_ {
        let mut pieces = self.pieces().peekable();
        std::iter::from_fn(move || {
            let first = pieces.next()?;
            let mut range = PfnRange::new(first.paddr >> page_shift, ((first.end() - 1) >> page_shift) + 1);
            while let Some(next) = pieces.next_if(|next| next.paddr >> page_shift <= range.end) {
                range.end = range.end.max(((next.end() - 1) >> page_shift) + 1);
            }
            Some(range)
        })
    }

    /// How many page frames have at least one byte of memory.
    #[must_use]
    pub fn frames(&self, page_shift: u32) -> u64 {
        match &self.scattered {
            Some(scattered) => scattered.bytes() >> page_shift,
            None => self.pfn_ranges(page_shift).map(|range| range.end - range.start).sum(),
        }
    }

    /// The pieces that touch `paddr..end`, in order; they may reach out of it.
    pub fn overlapping(&self, paddr: u64, end: u64) -> impl Iterator<Item = Piece> + '_ {
        let (mut finder, mut at) = (self.finder(), paddr);
        std::iter::from_fn(move || {
            let piece = finder.next(at, end)?;
            at = piece.end();
            Some(piece)
        })
    }

    /// A way to look for pieces again and again, for one thread.
    #[must_use]
    pub fn finder(&self) -> Finder<'_> {
        match &self.scattered {
            Some(scattered) => Finder(Kind::Scattered(Box::new(Cursor::new(scattered)))),
            None => Finder(Kind::Pieces(self.pieces.as_slice(), 0)),
        }
    }

    /// Bytes of memory described.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let scattered = self.scattered.as_ref().map_or(0, |scattered| scattered.bytes());
        scattered + self.pieces.total()
    }
}

/// What of a segment is zeros that the file does not have.
fn zero_tail(load: &Load) -> Piece {
    let tail = load.memsz.saturating_sub(load.filesz);
    Piece::with_len(load.paddr.saturating_add(load.filesz), tail, None)
}

/// Finds pieces of a [`RamMap`]. What was found last is found again at once.
#[derive(Debug)]
pub struct Finder<'a>(Kind<'a>);

#[derive(Debug)]
enum Kind<'a> {
    /// And the index of the piece that was found last.
    Pieces(&'a [Piece], usize),
    Scattered(Box<Cursor<'a>>),
}

impl Finder<'_> {
    /// The first piece that touches `paddr..end`; it may reach out of it.
    pub fn next(&mut self, paddr: u64, end: u64) -> Option<Piece> {
        if paddr >= end {
            return None;
        }
        let (pieces, last) = match &mut self.0 {
            Kind::Scattered(cursor) => return cursor.next(paddr, end),
            Kind::Pieces(pieces, last) => (pieces, last),
        };
        // Mostly it is the same again, or the next one.
        let is_first = |index: usize| {
            let ends_after = |index: usize| pieces.get(index).is_none_or(|piece| piece.end() > paddr);
            ends_after(index) && index.checked_sub(1).is_none_or(|before| !ends_after(before))
        };
        *last = match *last {
            index if is_first(index) => index,
            index if is_first(index + 1) => index + 1,
            _ => pieces.partition_point(|piece| piece.end() <= paddr),
        };
        pieces.get(*last).copied().filter(|piece| piece.paddr < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(paddr: u64, offset: u64, filesz: u64, memsz: u64) -> Load {
        Load { paddr, vaddr: 0, offset, filesz, memsz }
    }

    fn flat(map: &RamMap) -> Vec<(u64, u64, Option<u64>)> {
        map.pieces().map(|piece| (piece.paddr, piece.len, piece.offset)).collect()
    }

    #[test]
    fn overlaps_are_resolved_once() {
        let map = RamMap::from_loads(&[load(0x2000, 0x9000, 0x1000, 0x1000), load(0, 0x1000, 0x5000, 0x5000)]);
        assert_eq!(flat(&map), [(0, 0x5000, Some(0x1000))]);
        let map = RamMap::from_loads(&[load(0, 0x1000, 0x2000, 0x2000), load(0x1000, 0x8000, 0x2000, 0x2000)]);
        assert_eq!(flat(&map), [(0, 0x2000, Some(0x1000)), (0x2000, 0x1000, Some(0x9000))]);
    }

    #[test]
    fn stored_bytes_win_over_zero_tails() {
        let map = RamMap::from_loads(&[load(0, 0x1000, 0x1000, 0x5000), load(0x2000, 0x4000, 0x1000, 0x1000)]);
        assert_eq!(
            flat(&map),
            [(0, 0x1000, Some(0x1000)), (0x1000, 0x1000, None), (0x2000, 0x1000, Some(0x4000)), (0x3000, 0x2000, None)]
        );
    }

    #[test]
    fn partial_pages_count_and_neighbours_merge() {
        let map = RamMap::from_loads(&[
            load(0x1000, 0, 0x9ec00, 0x9ec00),
            load(0x9fc00, 0, 0x100, 0x100),
            load(0x10_0000, 0, 0x1000, 0x1000),
        ]);
        let ranges: Vec<_> = map.pfn_ranges(12).collect();
        assert_eq!(ranges, [PfnRange::new(1, 0xa0), PfnRange::new(0x100, 0x101)]);
        assert_eq!(map.max_pfn(12), 0x101);
    }

    #[test]
    fn a_cut_file_loses_whole_pages() {
        // The second segment's file bytes end in its second page; the third is gone, the fourth is zeros over the third.
        let loads = [
            load(0, 0x1000, 0x1800, 0x1800),
            load(0x1800, 0x2800, 0x2800, 0x3800),
            load(0x8000, 0x9000, 0x1000, 0x2000),
            load(0x8000, 0, 0, 0x3000),
        ];
        let (left, all) = RamMap::from_cut_loads(&loads, 0x4400, 0x1000);
        assert_eq!(
            flat(&left),
            [(0, 0x1800, Some(0x1000)), (0x1800, 0x1800, Some(0x2800)), (0x4000, 0x1000, None), (0x9000, 0x2000, None)]
        );
        assert_eq!(all.bytes(), 0x5000 + 0x3000);
        assert_eq!(flat(&RamMap::from_cut_loads(&loads, u64::MAX, 0x1000).0), flat(&RamMap::from_loads(&loads)));
    }

    #[test]
    fn pieces_are_found_from_anywhere() {
        let map = RamMap::from_loads(&[
            load(0x1000, 0, 0x1000, 0x1000),
            load(0x4000, 0, 0x2000, 0x2000),
            load(0x6000, 9, 1, 1),
        ]);
        let all: Vec<_> = map.pieces().collect();
        let mut finder = map.finder();
        for paddr in (0..0x7000).step_by(0x800).chain((0..0x7000).rev().step_by(0x800)).chain([0x6000, 0, u64::MAX - 9])
        {
            let end = paddr.saturating_add(0x900);
            let expected = all.iter().find(|piece| piece.end() > paddr && piece.paddr < end).copied();
            assert_eq!(finder.next(paddr, end), expected, "{paddr:#x}");
        }
    }

    #[test]
    fn empty_segments_are_nothing() {
        assert_eq!(RamMap::from_loads(&[load(5, 5, 0, 0)]).pieces().count(), 0);
        assert_eq!(RamMap::default().max_pfn(12), 0);
    }
}
