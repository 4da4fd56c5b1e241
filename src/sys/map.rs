//! Mapped files: read-only windows into `/proc/vmcore`, and memory that lies in a file of ours.
//!
//! Knows mmap. Must not know what the bytes mean. Used by the ELF source and the bitmaps.

#![allow(unsafe_code, reason = "mmap is unsafe by nature; see the SAFETY comment")]

use std::{
    fs::File,
    io,
    ops::{Deref, DerefMut},
    os::unix::fs::FileExt as _,
    path::Path,
};

use memmap2::{Mmap, MmapMut, MmapOptions};
use rustix::io::Errno;

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

/// Memory in a file without a name: the system may write it out and take it back, where ordinary memory would be full.
#[derive(Debug)]
pub struct Spool {
    map: MmapMut,
}

impl Spool {
    /// Makes `len` bytes of zeros in `folder`. All of them have a place on the device from the start, so that storing to them
    /// cannot run out of space; a device that then fails ends the process with a message (`report_bus_errors`).
    ///
    /// # Errors
    /// The folder's file system is memory itself, has no room, or does not allow it.
    pub fn create(folder: &Path, len: u64) -> io::Result<Self> {
        let file = tempfile::tempfile_in(folder)?;
        if lives_in_memory(&file) {
            return Err(io::Error::other("its file system is in memory"));
        }
        match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, len) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => fill(&file, len)?,
            Err(error) => return Err(error.into()),
        }
        report_bus_errors();
        let len = usize::try_from(len).map_err(io::Error::other)?;
        // SAFETY: the file has no name and this is its only descriptor, so that nobody else writes to it or cuts it.
        let map = unsafe { MmapOptions::new().len(len).map_mut(&file)? };
        Ok(Self { map })
    }
}

impl Deref for Spool {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}

impl DerefMut for Spool {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.map
    }
}

fn lives_in_memory(file: &File) -> bool {
    const TMPFS_MAGIC: u64 = 0x0102_1994;
    const RAMFS_MAGIC: u64 = 0x8584_58f6;
    rustix::fs::fstatfs(file).is_ok_and(|stat| [TMPFS_MAGIC, RAMFS_MAGIC].contains(&(stat.f_type as u64)))
}

fn fill(file: &File, len: u64) -> io::Result<()> {
    let zeros = [0; 64 << 10];
    let mut at = 0;
    while at < len {
        let part = zeros.len().min((len - at) as usize);
        file.write_all_at(&zeros[..part], at)?;
        at += part as u64;
    }
    Ok(())
}

/// From here on a page of a mapping that the device cannot give or take ends the process with words, not with a core file.
fn report_bus_errors() {
    extern "C" fn say(_: libc::c_int) {
        const TEXT: &[u8] =
            b"vdump: input/output error in mapped memory: the device that holds the output, or /proc/vmcore, \
            failed; give --memory-limit a larger value to keep the bitmaps in memory\n";
        // SAFETY: write and _exit may be called in a signal handler; the text is constant.
        unsafe {
            let _ = libc::write(2, TEXT.as_ptr().cast(), TEXT.len());
            libc::_exit(1);
        }
    }
    // SAFETY: the handler calls nothing but what may be called in one.
    unsafe { libc::signal(libc::SIGBUS, say as *const () as libc::sighandler_t) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spool_is_zeros_and_leaves_no_name() {
        let folder = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        match Spool::create(folder.path(), 100_000) {
            Ok(mut spool) => {
                assert!(spool.len() == 100_000 && spool.iter().all(|byte| *byte == 0));
                spool[99_999] = 7;
                assert_eq!(spool[99_999], 7);
            }
            // A checkout in memory.
            Err(error) => assert!(error.to_string().contains("memory"), "{error}"),
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(Spool::create(&folder.path().join("missing"), 1).is_err());
        assert!(Spool::create(Path::new("/dev/shm"), 4096).is_err());
    }
}
