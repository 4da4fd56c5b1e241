//! x86_64 page tables, 4 and 5 levels.
//!
//! Knows the entry format (Intel SDM volume 3, 4.5). Must not know anything else. Used through [`Arch`].

use std::ops::RangeInclusive;

use super::{Arch, Entry, Mapping, TABLE_ENTRIES, TableReader, Walk, WalkError};
use crate::layout::PagingLayout;

const PRESENT: u64 = 1;
/// In a level 2 or 3 entry: this is the page, not another table.
const PAGE_SIZE: u64 = 1 << 7;
/// In an entry that is not present: a page that nobody may use, for example while the balancing of NUMA nodes looks who does
/// (arch/x86/include/asm/pgtable_types.h, `_PAGE_PROTNONE`). Swapped pages have neither this bit nor the one above
/// (arch/x86/include/asm/pgtable_64.h).
const PROT_NONE: u64 = 1 << 8;
/// The highest bit of an address. In an entry that is not present it means that the address is inverted (6b28baca9b1f, 4.19).
const INVERTED: u64 = 1 << 51;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const LARGEST_PAGE_LEVEL: u32 = 3;

/// Where the kernel's half begins with 4 and with 5 levels (Documentation/arch/x86/x86_64/mm.rst, as all that follows).
const KERNEL_HALF: [u64; 2] = [0xffff_8000_0000_0000, 0xff00_0000_0000_0000];
/// The kernel's image, modules and fixed mappings, up to the unused last 2 MiB. What lies below, down to the `cpu_entry_area`,
/// says nothing new: stacks for returns to 16-bit code (one page, mapped many thousand times) and the firmware's own memory.
const IMAGE_TO_FIXMAP: RangeInclusive<u64> = 0xffff_ffff_8000_0000..=0xffff_ffff_ffdf_ffff;
const CPU_ENTRY_AREA: RangeInclusive<u64> = 0xffff_fe00_0000_0000..=0xffff_fe7f_ffff_ffff;

/// The registers at the top of a task's kernel stack (arch/x86/include/asm/ptrace.h, `struct pt_regs`): 21 words, of which the
/// last five are ip, cs, flags, sp and ss. Kernels with FRED leave two words above (`TOP_OF_KERNEL_STACK_PADDING`, 6.9).
const REGS: usize = 21 * 8;
const PADDINGS: [usize; 2] = [0, 16];
/// Flags: bit 1 is always set, and user mode runs with interrupts on.
const USER_FLAGS: u64 = 1 << 1 | 1 << 9;

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

    fn user_entry(&self, level: u32, entry: u64) -> Entry {
        let there = entry & PROT_NONE != 0 || level > 1 && level <= LARGEST_PAGE_LEVEL && entry & PAGE_SIZE != 0;
        match entry {
            0 => Entry::Absent,
            _ if entry & PRESENT != 0 => self.entry(level, entry),
            _ if there => {
                let address = if entry & INVERTED != 0 { !entry } else { entry };
                let address = address & ADDRESS & !self.paging.encryption_mask;
                Entry::Page(address & !((1 << self.shift(level)) - 1))
            }
            // What is swapped out is a page, or a huge one of level 2.
            _ if level <= 2 => Entry::Elsewhere,
            _ => Entry::Broken,
        }
    }

    fn user_part(&self) -> RangeInclusive<u64> {
        0..=(1 << (self.shift(self.paging.levels + 1) - 1)) - 1
    }

    fn user_stack(&self, top: &[u8]) -> Option<u64> {
        PADDINGS.into_iter().find_map(|padding| {
            let end = top.len().checked_sub(padding)?;
            let regs = top.get(end.checked_sub(REGS)?..end)?;
            let (words, _) = regs.as_chunks::<8>();
            let [ip, cs, flags, sp, ss] = *words.last_chunk::<5>()?;
            let [ip, cs, flags, sp, ss] = [ip, cs, flags, sp, ss].map(u64::from_le_bytes);
            let is_user = |selector: u64| selector & 3 == 3;
            let part = self.user_part();
            let sound = is_user(cs) && is_user(ss) && flags & USER_FLAGS == USER_FLAGS && flags >> 32 == 0;
            (sound && part.contains(&ip) && part.contains(&sp) && sp != 0).then_some(sp)
        })
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
                Entry::Absent | Entry::Elsewhere => return Err(WalkError::NotMapped(level)),
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

#[cfg(test)]
mod tests {
    use object::elf::EM_X86_64;

    use super::*;

    fn arch(levels: u32) -> X86_64 {
        X86_64 { paging: PagingLayout { machine: EM_X86_64, root: 0, levels, encryption_mask: 0, phys_base: 0 } }
    }

    #[test]
    fn registers_of_user_mode_are_told_from_others() {
        let top = |words: [u64; 5], padding: usize| {
            let bytes = words.iter().flat_map(|word| word.to_le_bytes());
            [vec![0; 256 - 40 - padding], bytes.collect(), vec![0; padding]].concat()
        };
        let sp = 0x7fff_1234_5678;
        let user = [0x40_1000, 0x33, 0x246, sp, 0x2b];
        assert_eq!(arch(4).user_stack(&top(user, 0)), Some(sp));
        assert_eq!(arch(4).user_stack(&top(user, 16)), Some(sp), "with FRED");
        let high = [0x40_1000, 0x33, 0x246, 1 << 50, 0x2b];
        assert_eq!((arch(4).user_stack(&top(high, 0)), arch(5).user_stack(&top(high, 0))), (None, Some(1 << 50)));
        for (index, value) in [(0, u64::MAX), (1, 0x10), (2, 0), (3, u64::MAX - 7), (3, 0), (4, 0x18)] {
            let mut other = user;
            other[index] = value;
            assert_eq!(arch(4).user_stack(&top(other, 0)), None, "{index}");
        }
        assert_eq!(arch(4).user_stack(&[0; 100]), None);
    }

    #[test]
    fn pages_that_nobody_may_use_are_there() {
        let arch = arch(4);
        assert_eq!(arch.user_entry(1, 0x5000 | PROT_NONE), Entry::Page(0x5000), "before the addresses were inverted");
        assert_eq!(arch.user_entry(1, !0x5000 & ADDRESS | PROT_NONE), Entry::Page(0x5000));
        assert_eq!(arch.user_entry(2, 0x40_0000 | PAGE_SIZE), Entry::Page(0x40_0000), "while it is split");
        assert_eq!(arch.user_entry(1, 0x1234_5600), Entry::Elsewhere);
        assert_eq!((arch.user_entry(1, 0), arch.user_entry(4, 0x1234_5600)), (Entry::Absent, Entry::Broken));
        assert_eq!(arch.user_entry(1, 0x5067), Entry::Page(0x5000));
    }
}
