//! Segments for memory as the kernel mapped it: modules, vmalloc's area, the memory map and what else page tables show.
//!
//! Knows which kept frames a mapping shows and where the plan put them. Must not know page tables. Goes into the ELF plan.
//!
//! Such a segment shares the data of its frames' physical segment, so no byte is stored twice, and has no physical address:
//! with one, readers that know physical memory only would find the same frames several times, and makedumpfile would take
//! the segment for the direct mapping. drgn knows that notation from `/proc/kcore`; to gdb only virtual addresses count.
//! What was dropped is in no segment: a mapping shows its own data, zeros that are known to be zeros, or nothing.

use vdump_filters::PfnRange;

use super::segments::{ElfPlan, Mapped};
use crate::{
    bitmap::PageBitmap,
    format::elf::{Load, NO_PADDR},
    memory::{Leaf, Visit, Walked},
    source::{self, RamMap},
};

/// Collects the segments of mapped memory.
pub struct MappedLoads<'a> {
    plan: &'a ElfPlan,
    kept: &'a PageBitmap,
    existing: &'a RamMap,
    page_shift: u32,
    /// Virtual memory that other segments show: first and last addresses, sorted, disjoint.
    covered: Vec<(u64, u64)>,
    most: usize,
    loads: Vec<Load>,
    /// Bytes shown, absent and left out.
    shown: u64,
    absent: u64,
    left_out: u64,
}

impl<'a> MappedLoads<'a> {
    /// More would make readers slow: crash and gdb go through all of them.
    pub const MOST: u64 = 256 << 10;
    /// Memory that each takes until the headers are written, bytes: here with room to grow, in the plan, and encoded.
    pub const BYTES: u64 = 3 * size_of::<Load>() as u64 + 56;

    /// Prepares for at most `most` segments that show frames of `kept` where `plan` has put them. What lies in `recorded` is
    /// shown already.
    #[must_use]
    pub fn new(
        plan: &'a ElfPlan,
        kept: &'a PageBitmap,
        existing: &'a RamMap,
        recorded: &[source::Load],
        page_shift: u32,
        most: u64,
    ) -> Self {
        let most = most.min(Self::MOST) as usize;
        let covered = covered(recorded, page_shift);
        let (shown, absent, left_out) = (0, 0, 0);
        Self { plan, kept, existing, page_shift, covered, most, loads: Vec::new(), shown, absent, left_out }
    }

    /// The segments, with file offsets of the plan as it is, and what they came to.
    #[must_use]
    pub fn finish(self, walked: Walked) -> (Vec<Load>, Mapped) {
        let pages = |bytes: u64| bytes.div_ceil(1 << self.page_shift);
        let mapped = Mapped {
            segments: self.loads.len() as u64,
            pages: pages(self.shown),
            absent: pages(self.absent),
            left_out: pages(self.left_out),
            walked,
        };
        (self.loads, mapped)
    }

    /// The part of the mapped range that is kept.
    fn show(&mut self, leaf: Leaf) {
        let Some(end) = leaf.paddr.checked_add(leaf.len) else {
            return;
        };
        let shift = self.page_shift;
        let exists: u64 = self
            .existing
            .overlapping(leaf.paddr, end)
            .map(|piece| piece.end().min(end) - piece.paddr.max(leaf.paddr))
            .sum();
        let mut kept_bytes = 0;
        let frames = PfnRange::new(leaf.paddr >> shift, ((end - 1) >> shift) + 1);
        let kept = self.kept;
        for run in kept.runs_in(frames) {
            let (from, to) = ((run.start << shift).max(leaf.paddr), (run.end << shift).min(end));
            kept_bytes += to - from;
            self.run(leaf.vaddr + (from - leaf.paddr), from, to);
        }
        self.absent += exists.saturating_sub(kept_bytes);
    }

    /// A run of kept memory, from physical address `from` to `to`, cut where the file's data is.
    fn run(&mut self, vaddr: u64, from: u64, to: u64) {
        let (plan, shift) = (self.plan, self.page_shift);
        let first = plan.extents.partition_point(|extent| extent.range.end << shift <= from);
        for extent in plan.extents[first..].iter().take_while(|extent| extent.range.start << shift < to) {
            let start = extent.range.start << shift;
            let stored_end = start + (extent.stored << shift);
            let (here, end) = (from.max(start), to.min(extent.range.end << shift));
            let data_end = end.min(stored_end);
            if here < data_end {
                self.push(vaddr + (here - from), Some(extent.offset + (here - start)), data_end - here);
            }
            let zeros = here.max(stored_end);
            if zeros < end {
                self.push(vaddr + (zeros - from), None, end - zeros);
            }
        }
    }

    /// Lengthens the last segment, or begins another. Without an offset the bytes are zeros.
    fn push(&mut self, vaddr: u64, offset: Option<u64>, len: u64) {
        let full = self.loads.len() >= self.most;
        let last = self.loads.last_mut().filter(|last| last.vaddr + last.memsz == vaddr);
        match (last, offset) {
            (Some(last), None) => last.memsz += len,
            (Some(last), Some(offset)) if last.filesz == last.memsz && last.offset + last.filesz == offset => {
                last.filesz += len;
                last.memsz += len;
            }
            _ if full => {
                self.left_out += len;
                return;
            }
            _ => {
                // Without data the offset only has to be one that exists.
                let somewhere = self.plan.extents.first().map_or(self.plan.size, |extent| extent.offset);
                let (filesz, offset) = (if offset.is_some() { len } else { 0 }, offset.unwrap_or(somewhere));
                self.loads.push(Load { paddr: NO_PADDR, vaddr, offset, filesz, memsz: len });
            }
        }
        self.shown += len;
    }

    /// The first range of `covered` that does not end before `first`.
    fn covering(&self, first: u64) -> Option<(u64, u64)> {
        self.covered.get(self.covered.partition_point(|range| range.1 < first)).copied()
    }
}

impl Visit for MappedLoads<'_> {
    fn wants(&self, first: u64, last: u64) -> bool {
        !self.covering(first).is_some_and(|(start, end)| start <= first && last <= end)
    }

    fn visit(&mut self, leaf: Leaf) {
        let last = leaf.vaddr + (leaf.len - 1);
        let mut at = leaf.vaddr;
        loop {
            let (start, end) = self.covering(at).filter(|(start, _)| *start <= last).unwrap_or((u64::MAX, u64::MAX));
            if at < start {
                let len = start.min(last + 1) - at;
                self.show(Leaf { vaddr: at, paddr: leaf.paddr + (at - leaf.vaddr), len });
            }
            match end.checked_add(1) {
                Some(next) if next <= last => at = next,
                _ => return,
            }
        }
    }
}

/// What the segments show: whole pages, merged.
fn covered(recorded: &[source::Load], page_shift: u32) -> Vec<(u64, u64)> {
    let page = 1u64 << page_shift;
    let range = |load: &source::Load| {
        let last = load.vaddr.checked_add(load.memsz.checked_sub(1)?)?;
        Some((load.vaddr & !(page - 1), last | (page - 1)))
    };
    let mut ranges: Vec<(u64, u64)> = recorded.iter().filter_map(range).collect();
    ranges.sort_unstable();
    ranges.dedup_by(|next, last| {
        let touches = next.0 <= last.1.saturating_add(1);
        if touches {
            last.1 = last.1.max(next.1);
        }
        touches
    });
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::elf::Class;

    const VMALLOC: u64 = 0xffff_c900_0000_0000;
    const DIRECT: u64 = 0xffff_8880_0000_0000;
    const PAGE: u64 = 4096;

    fn bitmap(ranges: &[(u64, u64)]) -> PageBitmap {
        let mut bitmap = PageBitmap::new(1000);
        ranges.iter().for_each(|(start, end)| bitmap.fill(PfnRange::new(*start, *end), true));
        bitmap
    }

    /// Maps frames at pages counted from `VMALLOC`; gives page, pages of data, pages in all, and the first frame's place.
    fn shown(kept: &[(u64, u64)], zero: &[(u64, u64)], maps: &[(u64, u64, u64)], most: u64) -> (Vec<[u64; 4]>, Mapped) {
        let recorded = [source::Load { paddr: 0, vaddr: DIRECT, offset: 0, filesz: 1000 * PAGE, memsz: 1000 * PAGE }];
        let (kept, zero, ram) = (bitmap(kept), bitmap(zero), RamMap::from_loads(&recorded));
        let mut plan = ElfPlan::make(&kept, &zero, &recorded, 100, 12, Class::Elf64).unwrap();
        let mut loads = MappedLoads::new(&plan, &kept, &ram, &recorded, 12, most);
        for (page, pfn, pages) in maps {
            let leaf = Leaf { vaddr: VMALLOC + page * PAGE, paddr: pfn * PAGE, len: pages * PAGE };
            assert!(loads.wants(leaf.vaddr, leaf.vaddr + leaf.len - 1));
            loads.visit(leaf);
        }
        let (loads, mapped) = loads.finish(Walked::default());
        plan.add_mapped(loads, 100).unwrap();
        let of_data = |offset: u64| (0..1000).find(|pfn| plan.offset_of(*pfn, 12) == Some(offset)).unwrap_or(0);
        let ours = plan.loads.iter().filter(|load| load.paddr == NO_PADDR);
        let shape = ours
            .map(|load| [(load.vaddr - VMALLOC) / PAGE, load.filesz / PAGE, load.memsz / PAGE, of_data(load.offset)]);
        (shape.collect(), mapped)
    }

    #[test]
    fn neighbours_in_both_spaces_share_a_segment() {
        let (loads, mapped) = shown(&[(10, 100)], &[], &[(0, 20, 1), (1, 21, 4), (5, 50, 1), (7, 51, 1)], 100);
        assert_eq!(loads, [[0, 5, 5, 20], [5, 1, 1, 50], [7, 1, 1, 51]]);
        assert_eq!((mapped.segments, mapped.pages, mapped.absent, mapped.left_out), (3, 7, 0, 0));
    }

    #[test]
    fn dropped_pages_are_in_no_segment_even_where_a_segment_runs_over_them() {
        let (loads, mapped) = shown(&[(10, 20), (21, 30)], &[], &[(0, 15, 10), (20, 2000, 5)], 100);
        assert_eq!(loads, [[0, 5, 5, 15], [6, 4, 4, 21]]);
        // What lies beyond the machine's memory is no loss.
        assert_eq!((mapped.pages, mapped.absent), (9, 1));
    }

    #[test]
    fn known_zeros_are_tails() {
        let (loads, _) = shown(&[(10, 100)], &[(40, 100)], &[(0, 38, 4), (4, 60, 2), (6, 39, 1), (8, 70, 1)], 100);
        assert_eq!(loads[..2], [[0, 2, 6, 38], [6, 1, 1, 39]]);
        assert_eq!(loads[2][..3], [8, 0, 1]);
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let maps: Vec<_> = (0..50).map(|page| (page * 2, 10 + page, 1)).collect();
        let (loads, mapped) = shown(&[(10, 100)], &[], &maps, 8);
        assert_eq!((loads.len(), mapped.pages, mapped.left_out), (8, 8, 42));
    }

    #[test]
    fn nothing_is_shown_twice() {
        let load = |vaddr, memsz| source::Load { paddr: 0, vaddr, offset: 0, filesz: memsz, memsz };
        let recorded =
            [load(VMALLOC + 2 * PAGE, PAGE), load(VMALLOC + 5 * PAGE + 1, 1), load(VMALLOC + 3 * PAGE, PAGE)];
        let (kept, ram) = (bitmap(&[(0, 100)]), RamMap::from_loads(&[load(DIRECT, 100 * PAGE)]));
        let plan = ElfPlan::make(&kept, &bitmap(&[]), &[load(DIRECT, 100 * PAGE)], 100, 12, Class::Elf64).unwrap();
        let mut loads = MappedLoads::new(&plan, &kept, &ram, &recorded, 12, 100);
        assert!(!loads.wants(VMALLOC + 2 * PAGE, VMALLOC + 4 * PAGE - 1));
        assert!(loads.wants(VMALLOC + 2 * PAGE, VMALLOC + 4 * PAGE));
        loads.visit(Leaf { vaddr: VMALLOC, paddr: 0, len: 8 * PAGE });
        let shown: Vec<_> = loads
            .finish(Walked::default())
            .0
            .iter()
            .map(|load| (load.vaddr - VMALLOC) / PAGE..(load.vaddr + load.memsz - VMALLOC) / PAGE)
            .collect();
        assert_eq!(shown, [0..2, 4..5, 6..8]);
    }
}
