//! x86_64 page tables, 4 and 5 levels.
//!
//! Knows the entry format (Intel SDM volume 3, 4.5). Must not know anything else. Used through [`Arch`].

use super::{Arch, Mapping, TableReader, WalkError};
use crate::layout::PagingLayout;

const PRESENT: u64 = 1;
/// In a level 2 or 3 entry: this is the page, not another table.
const PAGE_SIZE: u64 = 1 << 7;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
const LARGEST_PAGE_LEVEL: u32 = 3;

#[derive(Debug)]
pub(super) struct X86_64 {
    pub(super) paging: PagingLayout,
}

impl Arch for X86_64 {
    fn translate(&self, tables: &mut TableReader<'_>, vaddr: u64) -> Result<Mapping, WalkError> {
        let address = ADDRESS & !self.paging.encryption_mask;
        let mut table = self.paging.root & address;
        for level in (1..=self.paging.levels).rev() {
            let shift = 12 + 9 * (level - 1);
            let index = (vaddr >> shift & 0x1ff) as usize;
            let entry = tables.entry(level, table, index)?;
            if entry & PRESENT == 0 {
                return Err(WalkError::NotMapped(level));
            }
            let large = level > 1 && entry & PAGE_SIZE != 0;
            if large && level > LARGEST_PAGE_LEVEL {
                return Err(WalkError::Broken(level, entry));
            }
            if large || level == 1 {
                let size = 1u64 << shift;
                let within = vaddr & (size - 1);
                return Ok(Mapping { paddr: (entry & address & !(size - 1)) | within, len: size - within });
            }
            table = entry & address;
        }
        Err(WalkError::NotMapped(0))
    }
}
