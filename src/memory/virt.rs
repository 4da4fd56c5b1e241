//! Reading the crashed kernel's virtual memory.
//!
//! Knows that a virtual range is a chain of physical ones. Must not know what is read. Goes to `klog`, to the symbol
//! table's reader and to the memory map.

use std::{cell::RefCell, sync::Arc};

use super::tables::{Mapping, TableReader, Walk, WalkError, walk};
use crate::{
    arch::{AddressSpace, Words},
    source::{MAX_READ, Mask, PageReader, ReadError, Source},
};

/// Why virtual memory could not be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReadVirtError {
    /// The range could not be read.
    #[error("cannot read virtual address {vaddr:#x}: {cause}")]
    Unreadable {
        /// The first address that failed.
        vaddr: u64,
        /// Why, in words.
        cause: String,
    },
}

/// Reads the crashed kernel's virtual memory.
pub trait ReadVirt {
    /// Fills all of `buf` from `vaddr`, or fails.
    ///
    /// # Errors
    /// When any byte of the range cannot be translated or read.
    fn read_virt(&self, vaddr: u64, buf: &mut [u8]) -> Result<(), ReadVirtError>;

    /// How numbers lie in this memory.
    fn words(&self) -> Words;

    /// The number of `size` bytes, at most 8, at a virtual address.
    ///
    /// # Errors
    /// It cannot be read.
    fn number(&self, vaddr: u64, size: usize) -> Result<u64, ReadVirtError> {
        let mut bytes = [0; 8];
        let (bytes, _) = bytes.split_at_mut(size.min(8));
        self.read_virt(vaddr, bytes)?;
        Ok(self.words().number(bytes))
    }

    /// The `unsigned long` or pointer at a virtual address.
    ///
    /// # Errors
    /// It cannot be read.
    fn long(&self, vaddr: u64) -> Result<u64, ReadVirtError> {
        self.number(vaddr, self.words().long_size())
    }

    /// The `u32` at a virtual address.
    ///
    /// # Errors
    /// It cannot be read.
    fn u32(&self, vaddr: u64) -> Result<u32, ReadVirtError> {
        self.number(vaddr, 4).map(|number| number as u32)
    }

    /// The `int` at a virtual address.
    ///
    /// # Errors
    /// It cannot be read.
    fn int(&self, vaddr: u64) -> Result<i32, ReadVirtError> {
        self.u32(vaddr).map(u32::cast_signed)
    }
}

/// A reader for one thread, over a source's page tables.
#[derive(Debug)]
pub struct VirtReader<'a> {
    space: Arc<dyn AddressSpace>,
    /// The readers' caches change with every read; a `VirtReader` never leaves its thread while in use.
    tables: RefCell<TableReader<'a>>,
    pages: RefCell<PageReader<'a>>,
}

impl<'a> VirtReader<'a> {
    /// Makes a reader.
    #[must_use]
    pub fn new(source: &'a Source, space: &Arc<dyn AddressSpace>) -> Self {
        let tables = RefCell::new(TableReader::new(source.reader()));
        Self { space: Arc::clone(space), tables, pages: RefCell::new(source.reader()) }
    }

    /// Where the kernel's memory lies.
    #[must_use]
    pub fn space(&self) -> &Arc<dyn AddressSpace> {
        &self.space
    }

    /// Where `vaddr` lies.
    ///
    /// # Errors
    /// It is not mapped, or the tables are damaged.
    pub fn translate(&self, vaddr: u64) -> Result<Mapping, WalkError> {
        walk(&*self.space, &mut self.tables.borrow_mut(), vaddr, &mut |_| ())
    }

    /// The way from the top table to where `vaddr` lies: each entry, with the kernel's name for its table.
    ///
    /// # Errors
    /// As [`VirtReader::translate`]; the entries up to there are given.
    pub fn walk(&self, vaddr: u64) -> (Vec<(Walk, &'static str)>, Result<Mapping, WalkError>) {
        let mut steps = Vec::new();
        let mut seen = |step: Walk| steps.push((step, self.space.level_name(step.level)));
        let found = walk(&*self.space, &mut self.tables.borrow_mut(), vaddr, &mut seen);
        (steps, found)
    }

    /// Fills `out` (at most [`MAX_READ`] bytes) from a physical address.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read_phys(&self, paddr: u64, out: &mut [u8]) -> Result<(), ReadError> {
        self.pages.borrow_mut().read_whole(paddr, out.len()).map(|bytes| out.copy_from_slice(bytes))
    }

    /// The `len` bytes (at most [`MAX_READ`]) at a physical address, where the reader has them.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn phys(&mut self, paddr: u64, len: usize) -> Result<&[u8], ReadError> {
        self.pages.get_mut().read_whole(paddr, len)
    }

    /// Lays `mask` over what was read from `vaddr`.
    ///
    /// # Errors
    /// It is not mapped, or the tables are damaged.
    pub fn conceal(&self, vaddr: u64, bytes: &mut [u8], mask: &Mask) -> Result<(), WalkError> {
        let mut done = 0;
        while done < bytes.len() && !mask.is_empty() {
            let mapping = self.translate(vaddr.wrapping_add(done as u64))?;
            let len = usize::try_from(mapping.len).unwrap_or(usize::MAX).clamp(1, bytes.len() - done);
            mask.apply(mapping.paddr, &mut bytes[done..done + len]);
            done += len;
        }
        Ok(())
    }
}

impl ReadVirt for VirtReader<'_> {
    fn words(&self) -> Words {
        self.space.words()
    }

    fn read_virt(&self, vaddr: u64, buf: &mut [u8]) -> Result<(), ReadVirtError> {
        let mut done = 0;
        while done < buf.len() {
            let at = vaddr.wrapping_add(done as u64);
            let failed = |cause: String| ReadVirtError::Unreadable { vaddr: at, cause };
            let mapping = self.translate(at).map_err(|error| failed(error.to_string()))?;
            let len = (buf.len() - done).min(MAX_READ).min(usize::try_from(mapping.len).unwrap_or(MAX_READ));
            let part = &mut buf[done..done + len];
            self.read_phys(mapping.paddr, part).map_err(|error| failed(error.to_string()))?;
            done += len;
        }
        Ok(())
    }
}
