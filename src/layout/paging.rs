//! The crashed kernel's page tables: where they start and how deep they are.
//!
//! Knows the keys of each architecture. Must not walk anything. Goes to `memory`.

use object::elf::{EM_X86_64, Machine};

use super::{Origin, Resolver, missing};
use crate::{
    error::{Error, Result},
    format::elf::family,
    source::Source,
};

/// Start of the kernel's text mapping on x86_64 (`__START_KERNEL_map`, arch/x86/include/asm/page_64_types.h): virtual
/// minus this plus `phys_base` is physical for everything in the kernel image.
const START_KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;

/// How to translate kernel virtual addresses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PagingLayout {
    /// `e_machine` of the dump; picks the architecture.
    pub machine: Machine,
    /// Physical address of the top-level table.
    pub root: u64,
    /// 4 or 5.
    pub levels: u32,
    /// Address bits in page table entries that mean "encrypted" (AMD SME); 0 without it.
    pub encryption_mask: u64,
    /// Physical minus link address of the kernel image, modulo 2^64.
    pub phys_base: u64,
}

impl PagingLayout {
    /// Whether a virtual address lies in the window that maps the kernel image.
    #[must_use]
    pub fn is_image(&self, vaddr: u64) -> bool {
        vaddr >= START_KERNEL_MAP
    }

    /// The same where nothing else is known of the dump's kernel.
    #[must_use]
    pub fn is_text(machine: Machine, vaddr: u64) -> bool {
        machine == EM_X86_64 && vaddr >= START_KERNEL_MAP
    }

    /// The physical address of something in the kernel image.
    #[must_use]
    pub fn image_paddr(&self, vaddr: u64) -> u64 {
        vaddr.wrapping_sub(START_KERNEL_MAP).wrapping_add(self.phys_base)
    }

    /// The virtual address of something in the kernel image.
    #[must_use]
    pub fn image_vaddr(&self, paddr: u64) -> u64 {
        paddr.wrapping_sub(self.phys_base).wrapping_add(START_KERNEL_MAP)
    }

    pub(super) fn resolve(resolver: &mut Resolver<'_>, source: &Source) -> Result<Self> {
        let machine = source.machine();
        if machine != EM_X86_64 {
            return Err(Error::input(format!("cannot walk the page tables of {}", family(machine)))
                .because("only x86_64 kernels are known"));
        }
        if source.is_of_xen() {
            return Err(Error::input("cannot tell what the pages of this dump were used for")
                .because("it is of a machine under Xen: dom0's kernel numbers its page frames in its own way"));
        }
        let phys_base = phys_base(resolver, source)
            .ok_or_else(|| missing(&["NUMBER(phys_base)"]).because("no segment maps the kernel's text either"))?;
        let tables = ["SYMBOL(init_top_pgt)", "SYMBOL(init_level4_pgt)", "SYMBOL(swapper_pg_dir)"];
        let table = resolver.required("top page table", &tables)?.cast_unsigned();
        let root = table.wrapping_sub(START_KERNEL_MAP).wrapping_add(phys_base);
        let five = resolver.first("5-level paging", &["NUMBER(pgtable_l5_enabled)"]);
        if five.is_none() {
            resolver.note("5-level paging", 0, Origin::Default("kernels that have it say so (4.17)"));
        }
        let levels = if five.is_some_and(|on| on != 0) { 5 } else { 4 };
        let encryption_mask = resolver.first("SME mask", &["NUMBER(sme_mask)"]).unwrap_or(0).cast_unsigned();
        Ok(Self { machine, root, levels, encryption_mask, phys_base })
    }
}

/// `NUMBER(phys_base)` (since 4.10), else what the dump's writer noted, else read off the segment that maps the kernel's
/// text.
fn phys_base(resolver: &mut Resolver<'_>, source: &Source) -> Option<u64> {
    if let Some(base) = resolver.first("phys_base", &["NUMBER(phys_base)"]) {
        return Some(base.cast_unsigned());
    }
    if let Some(base) = source.recorded().and_then(|recorded| recorded.phys_base) {
        resolver.note_address("phys_base", base, Origin::KdumpHeader);
        return Some(base);
    }
    let text = source.loads().iter().find(|load| load.vaddr >= START_KERNEL_MAP)?;
    let base = text.paddr.wrapping_sub(text.vaddr.wrapping_sub(START_KERNEL_MAP));
    resolver.note_address("phys_base", base, Origin::Segment);
    Some(base)
}
