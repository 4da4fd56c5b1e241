//! Knows how VMCOREINFO's sizes and offsets are checked, and how little-endian fields leave a slice.
//! Must not know what any field of the log means.
//! The checked offsets and the values go to the readers of the three log shapes.

use super::KlogError;
use crate::layout::VmcoreInfo;
use crate::memory::ReadVirt;

/// Largest structure believed; the largest real one (`struct printk_info`) has 88 bytes on v6.12.
const MAX_STRUCT: u64 = 4096;

/// The kernel's `unsigned long`, 4 or 8 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word(pub usize);

impl Word {
    /// From SIZE(atomic_long_t), which v5.10 exports together with the ring; older logs are taken as 64 bit.
    pub fn of(info: &VmcoreInfo) -> Self {
        if info.size("atomic_long_t") == Some(4) { Self(4) } else { Self(8) }
    }

    /// All bits a word of the crashed kernel can have.
    pub fn mask(self) -> u64 {
        if self.0 == 4 { u64::from(u32::MAX) } else { u64::MAX }
    }

    /// The word at `at`, `None` outside the slice.
    pub fn at(self, bytes: &[u8], at: usize) -> Option<u64> {
        if self.0 == 4 { u32_at(bytes, at).map(u64::from) } else { u64_at(bytes, at) }
    }

    /// Reads one word, such as a pointer variable.
    pub fn read(self, mem: &dyn ReadVirt, vaddr: u64, what: &'static str) -> Result<u64, KlogError> {
        let mut bytes = [0; 8];
        let (used, _) = bytes.split_at_mut(self.0.min(8));
        mem.read_virt(vaddr, used).map_err(|cause| KlogError::Read { what, cause })?;
        Ok(u64::from_le_bytes(bytes))
    }
}

/// Reads a `u32` variable.
pub(super) fn read_u32(mem: &dyn ReadVirt, vaddr: u64, what: &'static str) -> Result<u32, KlogError> {
    let mut bytes = [0; 4];
    mem.read_virt(vaddr, &mut bytes).map_err(|cause| KlogError::Read { what, cause })?;
    Ok(u32::from_le_bytes(bytes))
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array_at(bytes, at).map(u16::from_le_bytes)
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    array_at(bytes, at).map(u32::from_le_bytes)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    array_at(bytes, at).map(u64::from_le_bytes)
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
