//! How the crashed kernel finds a page's `struct page`: sections, or one flat array.
//!
//! Knows the keys of the memory models. Must not read memory. Goes to `memory`.

use super::{Resolver, missing};
use crate::{
    arch::AddressSpace,
    error::{Error, Result},
};

/// The memory model.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MemMapLayout {
    /// SPARSEMEM: memory in sections, each with its own part of the map.
    Sparse(SparseLayout),
    /// FLATMEM: one array from PFN 0 on.
    Flat {
        /// Virtual address of the `mem_map` pointer.
        mem_map: u64,
    },
}

/// SPARSEMEM's numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SparseLayout {
    /// Virtual address of the section table, or of the table of pointers to its parts.
    pub table: u64,
    /// Whether `table` holds pointers (SPARSEMEM_EXTREME).
    pub extreme: bool,
    /// Elements of `table`.
    pub table_len: u64,
    /// Sections in each part that a pointer of `table` leads to; 1 without SPARSEMEM_EXTREME.
    pub sections_per_root: u64,
    /// `sizeof(struct mem_section)`, bytes.
    pub section_size: u64,
    /// Offset of `section_mem_map` in it.
    pub map_offset: u64,
    /// Log2 of a section's pages.
    pub pfn_shift: u32,
}

impl MemMapLayout {
    pub(super) fn resolve(resolver: &mut Resolver<'_>, page_shift: u32, space: &dyn AddressSpace) -> Result<Self> {
        if let Some(table) = resolver.first("mem_section", &["SYMBOL(mem_section)"]) {
            return SparseLayout::resolve(resolver, table.cast_unsigned(), page_shift, space).map(Self::Sparse);
        }
        let keys = ["SYMBOL(mem_section)", "SYMBOL(mem_map)"];
        resolver
            .first("mem_map", &["SYMBOL(mem_map)"])
            .map(|mem_map| Self::Flat { mem_map: mem_map.cast_unsigned() })
            .ok_or_else(|| missing(&keys))
    }
}

impl SparseLayout {
    fn resolve(resolver: &mut Resolver<'_>, table: u64, page_shift: u32, space: &dyn AddressSpace) -> Result<Self> {
        let page_size = 1u64 << page_shift;
        let table_len = resolver.required("mem_section length", &["LENGTH(mem_section)"])?;
        let section_size = resolver.required("mem_section size", &["SIZE(mem_section)"])?;
        let offset = resolver.required("section_mem_map offset", &["OFFSET(mem_section.section_mem_map)"])?;
        let bits = resolver.or_usual("SECTION_SIZE_BITS", "NUMBER(SECTION_SIZE_BITS)", space.section_size_bits());
        let max_bits = resolver.or_usual("MAX_PHYSMEM_BITS", "NUMBER(MAX_PHYSMEM_BITS)", space.physical_bits());
        let bad = |what: &str| Error::input(format!("VMCOREINFO's {what} cannot be")).because("the note is damaged");
        let page_shift = i64::from(page_shift);
        if !(24..=40).contains(&bits) || !(bits..=56).contains(&max_bits) {
            return Err(bad("SECTION_SIZE_BITS or MAX_PHYSMEM_BITS"));
        }
        let long = space.words().long_size() as i64;
        if !(long..=4096).contains(&section_size) || !(0..=section_size - long).contains(&offset) || table_len <= 0 {
            return Err(bad("description of mem_section"));
        }
        let (section_size, table_len) = (section_size.cast_unsigned(), table_len.cast_unsigned());
        let per_root = page_size / section_size;
        let sections = 1u64 << (max_bits - bits);
        // A static table has one element for each section, the extreme one a pointer for each page of sections.
        let extreme = table_len != sections && table_len == sections.div_ceil(per_root);
        if !extreme && table_len != sections {
            return Err(bad("LENGTH(mem_section)").because(format!(
                "{table_len} fits neither {sections} sections nor {} roots",
                sections.div_ceil(per_root)
            )));
        }
        Ok(Self {
            table,
            extreme,
            table_len,
            sections_per_root: if extreme { per_root } else { 1 },
            section_size,
            map_offset: offset.cast_unsigned(),
            pfn_shift: (bits - page_shift) as u32,
        })
    }
}
