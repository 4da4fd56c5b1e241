//! What the program headers of an ELF core in the making promise.
//!
//! Each load has its place in the table from the start, with its addresses and its offset. Its sizes grow with the data that
//! is on the disk, so that no reader ever takes a page that was not written for one of zeros, whenever the writer ends.

use super::publish::Lead;
use crate::{
    format::elf::{Class, Load, encode_loads},
    plan::{ElfPlan, Extent},
};

/// So many loads are encoded at a time: there may be very many, and little memory.
const PIECE: usize = 1024;
/// What is smaller and lies inside one of these reaches the disk whole or not at all.
const SECTOR: u64 = 512;

/// Data of one extent that is not shown, because a page of it is lost.
#[derive(Clone, Copy, Debug)]
struct Gap {
    /// File offset of the first lost page.
    start: u64,
    /// Where the extent's data ends.
    end: u64,
    /// Lost pages in it.
    lost: u64,
    /// Pages of zeros that follow in memory alone.
    tail: u64,
}

/// How far the headers may go.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// File offsets up to which data was shown by the last two steps, the latest one last.
    steps: (u64, u64),
    gaps: Vec<Gap>,
}

impl Shown {
    /// A page of `extent` at file offset `at` could not be read: the file cannot say so in the middle of a segment, so what
    /// follows it there is not shown. Pages come in order.
    pub(super) fn lose(&mut self, extent: &Extent, at: u64, page_shift: u32) {
        let end = extent.offset + (extent.stored << page_shift);
        match self.gaps.last_mut() {
            Some(gap) if gap.end == end => gap.lost += 1,
            _ => self.gaps.push(Gap { start: at, end, lost: 1, tail: extent.range.len() - extent.stored }),
        }
    }

    /// Whether any page is lost.
    pub(super) fn has_gaps(&self) -> bool {
        !self.gaps.is_empty()
    }

    /// Pages that are not shown though they could be read.
    pub(super) fn hidden(&self, page_shift: u32) -> u64 {
        self.gaps.iter().map(|gap| ((gap.end - gap.start) >> page_shift) - gap.lost + gap.tail).sum()
    }

    /// The table of loads as it is when all data up to `end` is there, piece by piece.
    pub(super) fn table(&self, plan: &ElfPlan, end: u64) -> impl Iterator<Item = Lead> {
        plan.loads.chunks(PIECE).enumerate().map(move |(piece, loads)| {
            let shown = loads.iter().map(|load| {
                let (filesz, memsz) = self.sizes(load, end);
                Load { filesz, memsz, ..*load }
            });
            Lead { offset: plan.class.load_at(piece * PIECE), bytes: encode_loads(plan.class, shown) }
        })
    }

    /// What to write once the data up to file offset `end` is on the disk; nothing if no load changes.
    pub(super) fn advance(&mut self, plan: &ElfPlan, end: u64) -> Vec<Lead> {
        let (before, now) = (self.steps, (self.steps.1, end));
        self.steps = now;
        let piece = |(piece, loads): (usize, &[Load])| {
            let at = |index: usize| piece * PIECE + index;
            let on_disk = |index: usize, steps| self.on_disk(plan.class, at(index), &loads[index], steps);
            let changed = |index: &usize| on_disk(*index, before) != on_disk(*index, now);
            let first = (0..loads.len()).find(changed)?;
            let last = (first..loads.len()).rfind(changed)?;
            let bytes = encode_loads(plan.class, (first..last + 1).map(|index| on_disk(index, now)));
            Some(Lead { offset: plan.class.load_at(at(first)), bytes })
        };
        plan.loads.chunks(PIECE).enumerate().filter_map(piece).collect()
    }

    /// A load as the table has it after these steps. Its two sizes must not reach the disk at different times, or readers
    /// would see zeros between them: where they lie in two sectors, `p_memsz` comes a step after `p_filesz`, and only when
    /// all data is there.
    fn on_disk(&self, class: Class, index: usize, load: &Load, (before, now): (u64, u64)) -> Load {
        let (filesz, memsz) = self.sizes(load, now);
        let (first, _, end) = class.sizes_at();
        let at = class.load_at(index) + first;
        let whole = (load.filesz, load.memsz);
        let (filesz, memsz) = if at / SECTOR == (at + (end - first) - 1) / SECTOR || self.sizes(load, before) == whole {
            (filesz, memsz)
        } else if (filesz, memsz) == whole {
            (filesz, if filesz == 0 { memsz } else { 0 })
        } else {
            (0, 0)
        };
        Load { filesz, memsz, ..*load }
    }

    /// `p_filesz` and `p_memsz` when all data up to `end` is there.
    fn sizes(&self, load: &Load, end: u64) -> (u64, u64) {
        let load_end = load.offset + load.filesz;
        let mut there = end.clamp(load.offset, load_end) - load.offset;
        let next = self.gaps.partition_point(|gap| gap.end <= load.offset);
        if let Some(gap) = self.gaps.get(next).filter(|gap| gap.start < load_end) {
            there = there.min(gap.start.saturating_sub(load.offset));
        }
        if there == load.filesz { (load.filesz, load.memsz) } else { (there, there) }
    }
}

#[cfg(test)]
mod tests {
    use vdump_filters::PfnRange;

    use super::*;

    /// Sixty loads of ten pages of data and two of zeros, each beginning a page after the other's end.
    fn plan(class: Class) -> ElfPlan {
        let (mut loads, mut extents) = (Vec::new(), Vec::new());
        for index in 0..60u64 {
            let (paddr, offset) = ((index * 13) << 12, 0x2000 + ((index * 10) << 12));
            loads.push(Load { paddr, vaddr: paddr, offset, filesz: 10 << 12, memsz: 12 << 12 });
            extents.push(Extent { range: PfnRange::new(index * 13, index * 13 + 12), stored: 10, offset });
        }
        let size = 0x2000 + (600 << 12);
        ElfPlan { class, loads, extents, notes: 0, size, gap_pages: 0, mapped: None }
    }

    /// The sizes in a table, and whether each entry's two lie in one sector.
    fn sizes(class: Class, table: &[u8]) -> Vec<(u64, u64)> {
        let (filesz, memsz, end) = class.sizes_at();
        let width = (end - memsz) as usize;
        let number = |at: u64| {
            let mut bytes = [0; 8];
            bytes[..width].copy_from_slice(&table[at as usize..at as usize + width]);
            u64::from_le_bytes(bytes)
        };
        (0..60).map(|index| class.load_at(index)).map(|at| (number(at + filesz), number(at + memsz))).collect()
    }

    /// Every state that a disk may have after a power cut: sectors of the table in any two neighbouring versions.
    #[test]
    fn no_version_of_the_table_promises_what_is_not_there() {
        for class in [Class::Elf64, Class::Elf32] {
            let (plan, mut shown) = (plan(class), Shown::default());
            let front = class.load_at(60) as usize;
            let mut table = vec![0; front];
            let mut end = 0x2000;
            while end < plan.size + (6 << 12) {
                let before = table.clone();
                for lead in shown.advance(&plan, end.min(plan.size)) {
                    table[lead.offset as usize..lead.offset as usize + lead.bytes.len()].copy_from_slice(&lead.bytes);
                }
                for torn in (0..front).step_by(SECTOR as usize).flat_map(|at| [(at, true), (at, false)]) {
                    let (at, old_first) = torn;
                    let (first, second) = if old_first { (&before, &table) } else { (&table, &before) };
                    let mixed = [&first[..at], &second[at..]].concat();
                    for (load, (filesz, memsz)) in plan.loads.iter().zip(sizes(class, &mixed)) {
                        let there = end.clamp(load.offset, load.offset + load.filesz) - load.offset;
                        let shown = filesz.min(memsz);
                        assert!(shown <= there, "{load:x?}: {shown:#x} bytes shown, {there:#x} there");
                        let zeros = memsz > filesz;
                        assert!(!zeros || filesz == load.filesz, "{load:x?}: zeros behind {filesz:#x} bytes");
                    }
                }
                end += 3 << 12;
            }
            let whole: Vec<_> = plan.loads.iter().map(|load| (load.filesz, load.memsz)).collect();
            assert_eq!(sizes(class, &table), whole, "{class:?}");
        }
    }

    #[test]
    fn nothing_is_shown_from_a_lost_page_to_its_extents_end() {
        let plan = plan(Class::Elf64);
        let mut shown = Shown::default();
        for page in [3, 5] {
            shown.lose(&plan.extents[7], plan.extents[7].offset + (page << 12), 12);
        }
        let mut table = vec![0; Class::Elf64.load_at(60) as usize];
        for lead in shown.table(&plan, plan.size) {
            table[lead.offset as usize..lead.offset as usize + lead.bytes.len()].copy_from_slice(&lead.bytes);
        }
        let sizes = sizes(Class::Elf64, &table);
        let whole = |index: usize| (plan.loads[index].filesz, plan.loads[index].memsz);
        assert_eq!((sizes[6], sizes[7], sizes[8]), (whole(6), (3 << 12, 3 << 12), whole(8)));
        assert_eq!(shown.hidden(12), 5 + 2);
    }
}
