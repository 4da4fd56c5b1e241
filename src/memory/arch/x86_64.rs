//! x86_64 page tables, 4 and 5 levels.
//!
//! Knows the entry format (Intel SDM volume 3, 4.5). Must not know anything else. Used through [`Arch`].

use std::ops::RangeInclusive;

use super::{Arch, Entry, Mapping, TABLE_ENTRIES, TableReader, Walk, WalkError};
use crate::layout::PagingLayout;

const PRESENT: u64 = 1;
/// In a level 2 or 3 entry: this is the page, not another table.
const PAGE_SIZE: u64 = 1 << 7;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const LARGEST_PAGE_LEVEL: u32 = 3;

/// Where the kernel's half begins with 4 and with 5 levels (Documentation/arch/x86/x86_64/mm.rst, as all that follows).
const KERNEL_HALF: [u64; 2] = [0xffff_8000_0000_0000, 0xff00_0000_0000_0000];
/// The kernel's image, modules and fixed mappings, up to the unused last 2 MiB. What lies below, down to the `cpu_entry_area`,
/// says nothing new: stacks for returns to 16-bit code (one page, mapped many thousand times) and the firmware's own memory.
const IMAGE_TO_FIXMAP: RangeInclusive<u64> = 0xffff_ffff_8000_0000..=0xffff_ffff_ffdf_ffff;
const CPU_ENTRY_AREA: RangeInclusive<u64> = 0xffff_fe00_0000_0000..=0xffff_fe7f_ffff_ffff;

#[derive(Debug)]
pub(super) struct X86_64 {
    pub(super) paging: PagingLayout,
}

impl Arch for X86_64 {
    fn top(&self) -> (u64, u32) {
        (self.paging.root & ADDRESS & !self.paging.encryption_mask, self.paging.levels)
    }

    fn shift(&self, level: u32) -> u32 {
        12 + 9 * (level - 1)
    }

    fn entry(&self, level: u32, entry: u64) -> Entry {
        let address = entry & ADDRESS & !self.paging.encryption_mask;
        let large = level > 1 && entry & PAGE_SIZE != 0;
        match entry & PRESENT != 0 {
            false => Entry::Absent,
            true if large && level > LARGEST_PAGE_LEVEL => Entry::Broken,
            true if large || level == 1 => Entry::Page(address & !((1 << self.shift(level)) - 1)),
            true => Entry::Table(address),
        }
    }

    /// Below the `cpu_entry_area` lie the direct mapping, vmalloc's area, the memory map, and what KASAN has, in this order
    /// wherever KASLR puts them: the bases need not be known.
    fn kernel_parts(&self) -> Vec<RangeInclusive<u64>> {
        let start = KERNEL_HALF[usize::from(self.paging.levels > 4)];
        vec![IMAGE_TO_FIXMAP, CPU_ENTRY_AREA, start..=CPU_ENTRY_AREA.start() - 1]
    }

    fn level_name(&self, level: u32) -> &'static str {
        match (level, self.paging.levels) {
            (1, _) => "PTE",
            (2, _) => "PMD",
            (3, _) => "PUD",
            (4, 5) => "P4D",
            _ => "PGD",
        }
    }

    fn walk(&self, tables: &mut TableReader<'_>, vaddr: u64, seen: &mut dyn FnMut(Walk)) -> Result<Mapping, WalkError> {
        let (mut table, top) = self.top();
        for level in (1..=top).rev() {
            let size = 1u64 << self.shift(level);
            let index = vaddr / size % TABLE_ENTRIES;
            let entry = tables.entry(level, table, index)?;
            seen(Walk { level, table, index, entry, covers: size });
            match self.entry(level, entry) {
                Entry::Absent => return Err(WalkError::NotMapped(level)),
                Entry::Broken => return Err(WalkError::Broken(level, entry)),
                Entry::Page(paddr) => {
                    let within = vaddr & (size - 1);
                    return Ok(Mapping { paddr: paddr | within, len: size - within });
                }
                Entry::Table(next) => table = next,
            }
        }
        Err(WalkError::NotMapped(0))
    }
}
