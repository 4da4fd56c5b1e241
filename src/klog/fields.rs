//! Knows how VMCOREINFO's sizes and offsets are checked, and how the log's variables are read.
//! Must not know what any field of the log means.
//! The checked offsets and the values go to the readers of the three log shapes.

use super::KlogError;
use crate::{arch::Words, layout::VmcoreInfo, memory::ReadVirt};

/// Largest structure believed; the largest real one (`struct printk_info`) has 88 bytes on v6.12.
const MAX_STRUCT: u64 = 4096;

/// How the log's numbers lie in memory: from SIZE(atomic_long_t), which v5.10 exports together with the ring, their width may be
/// less than the machine's.
pub(super) fn words(info: &VmcoreInfo, mem: &dyn ReadVirt) -> Words {
    let words = mem.words();
    if info.size("atomic_long_t") == Some(4) { words.narrow() } else { words }
}

/// Reads a pointer variable.
pub(super) fn read_pointer(
    info: &VmcoreInfo,
    mem: &dyn ReadVirt,
    vaddr: u64,
    what: &'static str,
) -> Result<u64, KlogError> {
    let size = words(info, mem).long_size();
    mem.number(vaddr, size).map_err(|cause| KlogError::Read { what, cause })
}

/// Reads a `u32` variable.
pub(super) fn read_u32(mem: &dyn ReadVirt, vaddr: u64, what: &'static str) -> Result<u32, KlogError> {
    mem.u32(vaddr).map_err(|cause| KlogError::Read { what, cause })
}

/// Takes keys out of VMCOREINFO and remembers all that are missing or impossible, so that one error names them all.
pub(super) struct Keys<'a> {
    info: &'a VmcoreInfo,
    bad: Vec<String>,
}

impl<'a> Keys<'a> {
    pub fn new(info: &'a VmcoreInfo) -> Self {
        Self { info, bad: Vec::new() }
    }

    /// The address of a variable; 0 when missing.
    pub fn symbol(&mut self, name: &str) -> u64 {
        self.info.symbol(name).unwrap_or_else(|| self.miss(format!("SYMBOL({name})")))
    }

    /// The size of a structure, 1 to 4096 bytes; 0 when missing.
    pub fn size(&mut self, name: &str) -> usize {
        match self.info.size(name) {
            Some(size @ 1..=MAX_STRUCT) => size as usize,
            _ => self.miss(format!("SIZE({name})")),
        }
    }

    /// The offset of a field of `width` bytes that must lie within `size`; 0 when it does not.
    pub fn offset(&mut self, name: &str, width: usize, size: usize) -> usize {
        match self.optional_offset(name, width, size) {
            Some(at) => at,
            None => self.miss(format!("OFFSET({name})")),
        }
    }

    /// As [`Keys::offset`], for a field that some kernels do not have.
    pub fn optional_offset(&self, name: &str, width: usize, size: usize) -> Option<usize> {
        let at = usize::try_from(self.info.offset(name)?).ok()?;
        at.checked_add(width).filter(|&end| end <= size).map(|_| at)
    }

    fn miss<T: Default>(&mut self, key: String) -> T {
        self.bad.push(key);
        T::default()
    }

    /// Ends the taking.
    pub fn done(self) -> Result<(), KlogError> {
        if self.bad.is_empty() { Ok(()) } else { Err(KlogError::Layout { keys: self.bad }) }
    }
}
