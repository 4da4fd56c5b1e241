//! Room on the output's device.
//!
//! Knows statvfs and fallocate. Must not know formats. Used by the sinks.

use std::{fs::File, io};

/// Free bytes for us on the device that holds `file`; `None` where it does not say.
#[must_use]
pub fn free(file: &File) -> Option<u64> {
    let stat = rustix::fs::fstatvfs(file).ok()?;
    stat.f_bavail.checked_mul(stat.f_frsize).filter(|_| stat.f_blocks != 0)
}

/// Reserves `start..start + len` of `file`, so that later writes there cannot run out of space.
///
/// # Errors
/// No space. A file system that cannot reserve is not an error: writes there report it themselves.
pub fn reserve(file: &File, start: u64, len: u64) -> io::Result<()> {
    use rustix::io::Errno;
    match rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), start, len) {
        Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::FBIG)) => Err(error.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}
