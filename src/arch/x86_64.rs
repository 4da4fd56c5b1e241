//! x86_64: page tables of 4 and 5 levels (Intel SDM volume 3, 4.5), and what its kernels put where.

use std::{ops::RangeInclusive, sync::Arc};

use object::elf::{EM_X86_64, Machine};

use super::{AddressSpace, Arch, Bounds, Entry, Told, Usual, Words};
use crate::error::Result;

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

/// Start of the kernel's text mapping (`__START_KERNEL_map`, arch/x86/include/asm/page_64_types.h): virtual minus this plus
/// `phys_base` is physical for everything in the kernel image.
const START_KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;
/// Where modules end: at the fixed mappings.
const MODULES_END: u64 = 0xffff_ffff_feff_ffff;

/// x86_64, whatever kernel runs on it.
#[derive(Debug)]
pub(super) struct X86_64;

impl Arch for X86_64 {
    fn machine(&self) -> Machine {
        EM_X86_64
    }

    fn address_space(&self, told: &mut dyn Told) -> Result<Arc<dyn AddressSpace>> {
        let phys_base = phys_base(told)
            .ok_or_else(|| told.missing(&["NUMBER(phys_base)"]).because("no segment maps the kernel's text either"))?;
        let tables = ["SYMBOL(init_top_pgt)", "SYMBOL(init_level4_pgt)", "SYMBOL(swapper_pg_dir)"];
        let table = told.required("top page table", &tables)?.cast_unsigned();
        let root = table.wrapping_sub(START_KERNEL_MAP).wrapping_add(phys_base);
        let five = told.first(FIVE_LEVELS, &["NUMBER(pgtable_l5_enabled)"]);
        if five.is_none() {
            told.assume(FIVE_LEVELS, Usual { value: 0, why: "kernels that have it say so (4.17)" });
        }
        let levels = if five.is_some_and(|on| on != 0) { 5 } else { 4 };
        let encryption_mask = told.first("SME mask", &["NUMBER(sme_mask)"]).unwrap_or(0).cast_unsigned();
        Ok(Arc::new(Space { root, levels, encryption_mask, phys_base }))
    }

    fn is_image(&self, vaddr: u64) -> bool {
        vaddr >= START_KERNEL_MAP
    }

    fn most_cpus(&self) -> u64 {
        8192
    }

    /// Without KASAN and with it (arch/x86/include/asm/page_64_types.h, since 3.15: 6538b8ea886e; before, stacks were smaller).
    fn stack_sizes(&self) -> &'static [u64] {
        &[16 << 10, 32 << 10]
    }

    fn free_orders(&self) -> Usual {
        // MAX_ORDER of every kernel for the machine (include/linux/mmzone.h).
        Usual { value: 11, why: "the kernel's default" }
    }

    /// What lies between them (arch/x86/kernel/vmlinux.lds.S) is the init range and the gaps around the read-only data, which the
    /// kernel frees for ordinary use.
    fn image_parts(&self) -> &'static [(&'static str, Bounds)] {
        &[
            ("kernel text", ("_text", "_etext")),
            ("kernel rodata", ("__start_rodata", "__end_rodata")),
            ("kernel data", ("_sdata", "__init_begin")),
            ("kernel bss", ("__bss_start", "__bss_stop")),
        ]
    }

    /// The rest of the bss's last 2 MiB, freed too unless memory is encrypted (`mem_encrypt_free_decrypted_mem`, arch/x86).
    fn freed_in_image(&self) -> Option<Bounds> {
        Some(("__start_bss_decrypted_unused", "__end_bss_decrypted"))
    }

    /// Since 4.8, where it is not fixed (`CONFIG_RANDOMIZE_MEMORY`).
    fn direct_mapping(&self) -> Option<&'static str> {
        Some("page_offset_base")
    }

    fn variables(&self) -> &'static [&'static str] {
        &["vmalloc_base", "vmemmap_base"]
    }
}

/// What the fact is called in reports.
const FIVE_LEVELS: &str = "5-level paging";

/// `NUMBER(phys_base)` (since 4.10), else what the dump's writer noted, else read off the segment that maps the kernel's
/// text.
fn phys_base(told: &mut dyn Told) -> Option<u64> {
    if let Some(base) = told.first("phys_base", &["NUMBER(phys_base)"]) {
        return Some(base.cast_unsigned());
    }
    let in_text = |vaddr: u64, paddr: u64| {
        X86_64.is_image(vaddr).then(|| paddr.wrapping_sub(vaddr.wrapping_sub(START_KERNEL_MAP)))
    };
    told.recorded_phys_base().or_else(|| told.by_segment("phys_base", &in_text))
}

/// Whether VMCOREINFO is of a 64-bit kernel: only that has symbols above 4 GiB, with eight digits more than a 32-bit address
/// has.
pub(super) fn is_of(vmcoreinfo: &[u8]) -> bool {
    const HIGH_SYMBOL: &[u8] = b"SYMBOL(swapper_pg_dir)=ffffffff";
    let at = vmcoreinfo.windows(HIGH_SYMBOL.len()).position(|window| window == HIGH_SYMBOL);
    at.and_then(|at| vmcoreinfo.get(at + HIGH_SYMBOL.len())).is_some_and(u8::is_ascii_hexdigit)
}

/// One kernel's memory.
#[derive(Clone, Debug)]
struct Space {
    /// Physical address of the top table.
    root: u64,
    /// 4 or 5.
    levels: u32,
    /// Address bits in page table entries that mean "encrypted" (AMD SME); 0 without it.
    encryption_mask: u64,
    /// Physical minus link address of the kernel image, modulo 2^64.
    phys_base: u64,
}

impl AddressSpace for Space {
    fn arch(&self) -> &'static dyn Arch {
        &X86_64
    }

    fn words(&self) -> Words {
        Words::LE64
    }

    fn top(&self) -> (u64, u32) {
        (self.root & ADDRESS & !self.encryption_mask, self.levels)
    }

    fn entries(&self, _level: u32) -> u64 {
        512
    }

    fn shift(&self, level: u32) -> u32 {
        12 + 9 * (level - 1)
    }

    fn entry(&self, level: u32, entry: u64) -> Entry {
        let address = entry & ADDRESS & !self.encryption_mask;
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
                let address = address & ADDRESS & !self.encryption_mask;
                Entry::Page(address & !((1 << self.shift(level)) - 1))
            }
            // What is swapped out is a page, or a huge one of level 2.
            _ if level <= 2 => Entry::Elsewhere,
            _ => Entry::Broken,
        }
    }

    fn user_part(&self) -> RangeInclusive<u64> {
        0..=(1 << (self.shift(self.levels + 1) - 1)) - 1
    }

    fn user_stack(&self, top: &[u8]) -> Option<u64> {
        PADDINGS.into_iter().find_map(|padding| {
            let end = top.len().checked_sub(padding)?;
            let regs = top.get(end.checked_sub(REGS)?..end)?;
            let (words, _) = regs.as_chunks::<8>();
            let [ip, cs, flags, sp, ss] = words.last_chunk::<5>()?.map(|word| self.words().u64(word));
            let is_user = |selector: u64| selector & 3 == 3;
            let part = self.user_part();
            let sound = is_user(cs) && is_user(ss) && flags & USER_FLAGS == USER_FLAGS && flags >> 32 == 0;
            (sound && part.contains(&ip) && part.contains(&sp) && sp != 0).then_some(sp)
        })
    }

    /// Below the `cpu_entry_area` lie the direct mapping, vmalloc's area, the memory map, and what KASAN has, in this order
    /// wherever KASLR puts them: the bases need not be known.
    fn kernel_parts(&self) -> Vec<RangeInclusive<u64>> {
        let start = KERNEL_HALF[usize::from(self.levels > 4)];
        vec![IMAGE_TO_FIXMAP, CPU_ENTRY_AREA, start..=CPU_ENTRY_AREA.start() - 1]
    }

    fn level_name(&self, level: u32) -> &'static str {
        match (level, self.levels) {
            (1, _) => "PTE",
            (2, _) => "PMD",
            (3, _) => "PUD",
            (4, 5) => "P4D",
            _ => "PGD",
        }
    }

    fn of_process(&self, root: u64) -> Arc<dyn AddressSpace> {
        Arc::new(Self { root, ..self.clone() })
    }

    /// vmalloc's area ends below the memory map (Documentation/arch/x86/x86_64/mm.rst), and that of modules below the fixed
    /// mappings.
    fn page_areas(
        &self,
        number: &dyn Fn(&str) -> Option<u64>,
        symbol: &dyn Fn(&str) -> Option<u64>,
        variable: &dyn Fn(&str) -> Option<u64>,
    ) -> Vec<RangeInclusive<u64>> {
        let start = number("VMALLOC_START").or_else(|| variable("vmalloc_base"));
        let end = symbol("vmemmap").or_else(|| variable("vmemmap_base"));
        let vmalloc = start.zip(end).filter(|(start, end)| self.is_kernel(*start) && start < end);
        let image = number("KERNEL_IMAGE_SIZE").filter(|size| (1 << 29..=1 << 30).contains(size));
        let modules = image.map(|size| START_KERNEL_MAP + size..=MODULES_END);
        vmalloc.map(|(start, end)| start..=end - 1).into_iter().chain(modules).collect()
    }

    fn is_kernel(&self, vaddr: u64) -> bool {
        vaddr >> 63 == 1
    }

    fn image_paddr(&self, vaddr: u64) -> u64 {
        vaddr.wrapping_sub(START_KERNEL_MAP).wrapping_add(self.phys_base)
    }

    fn image_vaddr(&self, paddr: u64) -> u64 {
        paddr.wrapping_sub(self.phys_base).wrapping_add(START_KERNEL_MAP)
    }

    fn is_encrypted(&self) -> bool {
        self.encryption_mask != 0
    }

    fn phys_base(&self) -> u64 {
        self.phys_base
    }

    /// With 4 levels since d52888aa2753 (4.20) and before, with 5 levels likewise (arch/x86/include/asm/page_64_types.h).
    fn direct_mapping_starts(&self) -> &'static [u64] {
        &[0xffff_8880_0000_0000, 0xffff_8800_0000_0000, 0xff11_0000_0000_0000, 0xff10_0000_0000_0000]
    }

    // Exported since 5.13 (4f5aecdff25f) and 5.8 (1d50e5d0c505); they never changed before (arch/x86/include/asm/sparsemem.h).
    fn section_size_bits(&self) -> Usual {
        Usual { value: 27, why: "x86_64's constant" }
    }

    fn physical_bits(&self) -> Usual {
        Usual { value: if self.levels == 5 { 52 } else { 46 }, why: "x86_64's constant for this paging depth" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arch(levels: u32) -> Space {
        Space { root: 0, levels, encryption_mask: 0, phys_base: 0 }
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
