//! The C library's heap, told to give back what is freed.
//!
//! Knows glibc's settings; other C libraries are left as they are. Must not know dumps. Called once, before threads start.

#![allow(unsafe_code, reason = "mallopt is a C function; see the SAFETY comment")]

/// Blocks of this size and larger are mapped one by one, so that they go back when they are freed. By itself glibc raises the
/// bound with each such block up to 32 MiB, and keeps what was freed: 3 MB of an ordinary run, 10 MB of a vmlinux, 15 MB where
/// the input is in compressed frames.
#[cfg(target_env = "gnu")]
const LARGE: libc::c_int = 512 << 10;

/// Makes the heap keep little. Where the address space is limited all threads share one heap: glibc would ask for 128 MiB of
/// addresses for each thread's own, and where it gets none ask again with each allocation.
pub fn keep_little() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt stores numbers in the allocator's settings, under its own lock.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        if super::host::address_space().is_some() {
            libc::mallopt(libc::M_ARENA_MAX, 1);
        }
    }
}
