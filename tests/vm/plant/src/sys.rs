//! The crate's only unsafe code: mappings, and the few syscalls that std does not have.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::ptr;
use std::slice;
use std::time::Duration;

pub const PAGE: usize = 4096;
pub const HUGE: usize = 2 << 20;

/// A mapping of whole pages that is never unmapped early: it lives until it is dropped.
pub struct Mapping {
    base: *mut u8,
    len: usize,
}

impl Mapping {
    /// Private anonymous memory, not touched yet.
    pub fn anonymous(len: usize) -> io::Result<Self> {
        Self::map(len, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    }

    /// Private memory from the 2 MiB pool.
    pub fn hugetlb(len: usize) -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB;
        Self::map(len, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0)
    }

    /// A file's pages, shared with the page cache.
    pub fn shared(file: &File, len: usize) -> io::Result<Self> {
        Self::map(len, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED, file.as_raw_fd(), 0)
    }

    /// A read-only window of a file.
    pub fn window(file: &File, offset: u64, len: usize) -> io::Result<Self> {
        Self::map(len, libc::PROT_READ, libc::MAP_PRIVATE, file.as_raw_fd(), offset as i64)
    }

    fn map(len: usize, prot: i32, flags: i32, fd: i32, offset: i64) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory that Rust knows of.
        let base = unsafe { libc::mmap(ptr::null_mut(), len, prot, flags, fd, offset) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(Self { base: base.cast(), len })
    }

    pub fn address(&self) -> usize {
        self.base as usize
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the mapping is readable, `len` long, and lives as long as `self`. Files mapped here are written by
        // nobody else.
        unsafe { slice::from_raw_parts(self.base, self.len) }
    }

    /// The bytes for writing; only for the constructors that map with PROT_WRITE.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and `&mut self` makes it the only view of this process. A read-only window would
        // fault, not corrupt.
        unsafe { slice::from_raw_parts_mut(self.base, self.len) }
    }

    /// `madvise` over a part of the mapping.
    pub fn advise(&self, range: std::ops::Range<usize>, advice: i32) -> io::Result<()> {
        let part = &self.bytes()[range];
        // SAFETY: the range lies inside our mapping; the advices used keep its bytes or, for a poisoned page, raise
        // SIGBUS on access.
        check(unsafe { libc::madvise(part.as_ptr() as *mut libc::c_void, part.len(), advice) })
    }

    pub fn lock(&self) -> io::Result<()> {
        // SAFETY: locking our own mapping changes no byte of it.
        check(unsafe { libc::mlock(self.base.cast(), self.len) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: `base` and `len` come from a successful mmap and no borrow of the bytes outlives `self`.
        unsafe { libc::munmap(self.base.cast(), self.len) };
    }
}

/// Starts a thread on a part of a mapping, which stays for good. `body` never returns.
pub fn thread_on(
    mut memory: Mapping,
    part: std::ops::Range<usize>,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    extern "C" fn run(body: *mut libc::c_void) -> *mut libc::c_void {
        // SAFETY: `thread_on` made it with `Box::into_raw` and gave it to this thread alone.
        let body = unsafe { Box::from_raw(body.cast::<Box<dyn FnOnce() + Send>>()) };
        body();
        ptr::null_mut()
    }
    let body: Box<dyn FnOnce() + Send> = Box::new(body);
    let body = Box::into_raw(Box::new(body));
    let stack = &mut memory.bytes_mut()[part];
    // SAFETY: the attributes are initialised before use; the stack is ours, large enough, and forgotten below, so that nothing
    // else ever uses or frees it.
    let result = unsafe {
        let mut attributes: libc::pthread_attr_t = std::mem::zeroed();
        libc::pthread_attr_init(&mut attributes);
        libc::pthread_attr_setstack(&mut attributes, stack.as_mut_ptr().cast(), stack.len());
        let mut thread = std::mem::zeroed();
        libc::pthread_create(&mut thread, &attributes, run, body.cast())
    };
    std::mem::forget(memory);
    if result == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(result)) }
}

/// The number of the calling thread.
pub fn thread_id() -> i32 {
    // SAFETY: asks for a number only.
    unsafe { libc::gettid() }
}

/// Names the calling thread, for the kernel.
pub fn name_thread(name: &std::ffi::CStr) {
    // SAFETY: the name is a string that ends with NUL.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// All of the machine's memory, bytes.
pub fn memory_bytes() -> usize {
    // SAFETY: takes a number and gives one.
    let pages = unsafe { libc::sysconf(libc::_SC_PHYS_PAGES) };
    usize::try_from(pages).unwrap_or(0) * PAGE
}

/// What `wait4` tells of a child and of those that it has waited for.
pub struct Waited {
    pub status: ExitStatus,
    pub user: Duration,
    pub system: Duration,
    pub max_rss_kib: i64,
}

pub fn wait(pid: u32) -> io::Result<Waited> {
    let mut status = 0;
    // SAFETY: rusage is plain integers, for which all zeros is a valid value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live locals of the right type.
    check(unsafe { libc::wait4(pid as i32, &mut status, 0, &mut usage) })?;
    let time = |value: libc::timeval| Duration::new(value.tv_sec as u64, value.tv_usec as u32 * 1000);
    Ok(Waited {
        status: ExitStatus::from_raw(status),
        user: time(usage.ru_utime),
        system: time(usage.ru_stime),
        max_rss_kib: usage.ru_maxrss,
    })
}

/// Waits until all that was written is on the disks.
pub fn sync() {
    // SAFETY: takes nothing and touches no memory of ours.
    unsafe { libc::sync() };
}

/// Runs `child` in a forked process and waits for it, however it ends (a poisoned page may kill it).
pub fn in_child(child: impl FnOnce()) -> io::Result<ExitStatus> {
    // SAFETY: called while this process has one thread only, so the child may allocate and use std freely.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            child();
            // SAFETY: ends the child at once, without running the parent's destructors.
            unsafe { libc::_exit(0) }
        }
        pid => Ok(wait(pid as u32)?.status),
    }
}

fn check(result: i32) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
