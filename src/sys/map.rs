//! Read-only windows into a file.
//!
//! Knows mmap. Must not know what the bytes mean. Used by the ELF source for `/proc/vmcore`.

#![allow(unsafe_code, reason = "mmap is unsafe by nature; see the SAFETY comment")]

use std::{fs::File, io, ops::Deref};

use memmap2::{Mmap, MmapOptions};

/// A mapped part of a file whose contents cannot change or shrink under us.
#[derive(Debug)]
pub struct Window {
    map: Mmap,
    start: u64,
}

impl Window {
    /// Maps `len` bytes from `start` (a multiple of the host's page size).
    ///
    /// Only for files for which [`is_proc_file`] holds. A regular file must be read instead: there an I/O error, or another process
    /// that truncates the file, would arrive as SIGBUS and kill us, where a read gives an error that costs one page.
    ///
    /// # Errors
    /// What mmap says; the caller falls back to reads.
    pub fn of_proc_file(file: &File, start: u64, len: usize) -> io::Result<Self> {
        // SAFETY: the caller passes a file of procfs: /proc/vmcore, whose size is fixed when the capture kernel boots
        // and whose pages belong to the crashed kernel, which no longer runs. Nobody writes to them or takes them away,
        // so the slice stays valid and constant for the life of the mapping.
        let map = unsafe { MmapOptions::new().offset(start).len(len).map_copy_read_only(file)? };
        Ok(Self { map, start })
    }

    /// The mapped bytes from file offset `offset` on, if all `len` of them are in the window.
    #[must_use]
    pub fn get(&self, offset: u64, len: usize) -> Option<&[u8]> {
        let from = usize::try_from(offset.checked_sub(self.start)?).ok()?;
        self.map.deref().get(from..from.checked_add(len)?)
    }
}

/// Whether `file` lives in procfs (`PROC_SUPER_MAGIC`, include/uapi/linux/magic.h).
#[must_use]
pub fn is_proc_file(file: &File) -> bool {
    const PROC_SUPER_MAGIC: u64 = 0x9fa0;
    rustix::fs::fstatfs(file).is_ok_and(|stat| stat.f_type as u64 == PROC_SUPER_MAGIC)
}
