//! The system calls: load and unload by segments and by file, and the reboot into what is loaded.
//!
//! Knows the kernel's interface (include/uapi/linux/kexec.h) and nothing else. The only unsafe code of the crate.

#![allow(unsafe_code)]

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use crate::range::Range;

/// For a crash.
pub const ON_CRASH: u64 = 1;
/// The kernel may rewrite the core headers (6.5 and later).
pub const UPDATE_ELFCOREHDR: u64 = 4;
/// More messages in the kernel's log (6.7 and later; by file 8, by segments 16).
pub const DEBUG: u64 = 0x10;

/// By file: unload.
const FILE_UNLOAD: u64 = 1;
/// By file: for a crash.
const FILE_ON_CRASH: u64 = 2;
/// By file: there is no initrd.
const FILE_NO_INITRD: u64 = 4;
/// By file: more messages.
const FILE_DEBUG: u64 = 8;

/// The architecture of this program, in the flags' upper half (KEXEC_ARCH_X86_64, KEXEC_ARCH_AARCH64).
const ARCH: u64 = if cfg!(target_arch = "aarch64") { 183 << 16 } else { 62 << 16 };

/// `struct kexec_segment`.
#[repr(C)]
#[derive(Debug)]
struct RawSegment {
    buffer: *const u8,
    buffer_size: usize,
    memory: usize,
    memory_size: usize,
}

/// A segment to load.
#[derive(Clone, Copy, Debug)]
pub struct Piece<'a> {
    /// What goes to the front of it.
    pub data: &'a [u8],
    /// Where; whole pages.
    pub range: Range,
}

fn outcome(result: libc::c_long) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Signals that would end the process, held back until this is dropped.
#[derive(Debug)]
pub struct HeldSignals(libc::sigset_t);

/// Holds back what a user or the system sends to end a process; it is delivered afterwards.
pub fn hold_signals() -> Option<HeldSignals> {
    // SAFETY: a signal set is plain data, filled in by the first call; all pointers are to live values of the right type.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP, libc::SIGQUIT, libc::SIGPIPE, libc::SIGTSTP] {
            libc::sigaddset(&raw mut set, signal);
        }
        let mut before = std::mem::zeroed();
        (libc::pthread_sigmask(libc::SIG_BLOCK, &raw const set, &raw mut before) == 0).then_some(HeldSignals(before))
    }
}

impl Drop for HeldSignals {
    fn drop(&mut self) {
        // SAFETY: the set is the one that the system gave.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, std::ptr::null_mut()) };
    }
}

/// `kexec_load`.
///
/// # Errors
/// What the kernel says.
pub fn load_segments(entry: u64, pieces: &[Piece<'_>], flags: u64) -> io::Result<()> {
    let raw: Vec<RawSegment> = pieces
        .iter()
        .map(|piece| RawSegment {
            buffer: piece.data.as_ptr(),
            buffer_size: piece.data.len(),
            memory: piece.range.start as usize,
            memory_size: piece.range.len() as usize,
        })
        .collect();
    // SAFETY: `raw` holds `raw.len()` segments, each of whose buffers is a live slice of the length given with it; the
    // kernel only reads them, and only during the call.
    outcome(unsafe { libc::syscall(libc::SYS_kexec_load, entry, raw.len(), raw.as_ptr(), flags | ARCH) })
}

/// `kexec_load` without segments: unload.
///
/// # Errors
/// What the kernel says.
pub fn unload_segments(panic: bool) -> io::Result<()> {
    load_segments(0, &[], if panic { ON_CRASH } else { 0 })
}

/// `kexec_file_load`.
///
/// # Errors
/// What the kernel says.
pub fn load_file(
    kernel: BorrowedFd<'_>,
    initrd: Option<BorrowedFd<'_>>,
    command_line: &std::ffi::CStr,
    panic: bool,
    debug: bool,
) -> io::Result<()> {
    let mut flags = if panic { FILE_ON_CRASH } else { 0 };
    flags |= if initrd.is_none() { FILE_NO_INITRD } else { 0 };
    flags |= if debug { FILE_DEBUG } else { 0 };
    let line = command_line.to_bytes_with_nul();
    let initrd = initrd.map_or(-1, |initrd| initrd.as_raw_fd());
    // SAFETY: `line` is a live buffer of the length given, its NUL included; the kernel only reads it. Descriptors are
    // numbers to the kernel.
    outcome(unsafe {
        libc::syscall(libc::SYS_kexec_file_load, kernel.as_raw_fd(), initrd, line.len(), line.as_ptr(), flags)
    })
}

/// `kexec_file_load` without files: unload.
///
/// # Errors
/// What the kernel says.
pub fn unload_file(panic: bool) -> io::Result<()> {
    let flags = FILE_UNLOAD | if panic { FILE_ON_CRASH } else { 0 };
    // SAFETY: with KEXEC_FILE_UNLOAD the kernel looks at no other argument.
    outcome(unsafe { libc::syscall(libc::SYS_kexec_file_load, -1, -1, 0usize, std::ptr::null::<u8>(), flags) })
}

/// Starts the loaded kernel. Returns only when that failed.
///
/// # Errors
/// What the kernel says.
pub fn reboot_into_loaded() -> io::Result<()> {
    Ok(rustix::system::reboot(rustix::system::RebootCommand::Kexec)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_held_signal_comes_later() {
        use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
        static CAME: AtomicBool = AtomicBool::new(false);
        extern "C" fn note(_: libc::c_int) {
            CAME.store(true, SeqCst);
        }
        // SAFETY: the handler only stores to an atomic; the signal goes to this thread.
        unsafe { libc::signal(libc::SIGHUP, note as *const () as libc::sighandler_t) };
        let held = hold_signals().unwrap();
        // SAFETY: as above.
        unsafe { libc::raise(libc::SIGHUP) };
        assert!(!CAME.load(SeqCst));
        drop(held);
        assert!(CAME.load(SeqCst));
    }
}
