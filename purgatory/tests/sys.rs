//! The tests' only unsafe: maps the blob where it can run, and calls it.
//!
//! Knows memory mappings. Must not know what is verified. Its result goes to `process`.
#![allow(unsafe_code)]

use std::ffi::c_void;

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};
use vdump_purgatory::{Image, blob};

/// Pages of a process's own, readable, writable and executable, at an address that the system chose.
struct Pages {
    at: *mut c_void,
    len: usize,
}

impl Pages {
    fn new(len: usize) -> Self {
        let rwx = ProtFlags::READ | ProtFlags::WRITE | ProtFlags::EXEC;
        // SAFETY: no address is asked for, so no mapping is replaced.
        let at = unsafe { mmap_anonymous(std::ptr::null_mut(), len, rwx, MapFlags::PRIVATE) };
        Self { at: at.unwrap(), len }
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: mapped in `new`, and nobody kept a reference.
        unsafe { munmap(self.at, self.len).unwrap() }
    }
}

/// Runs the blob's check `pages` pages into a fresh mapping. No console may be asked for: ports are the kernel's.
pub fn check(image: &Image, pages: usize) -> u32 {
    let offset = pages * image.align as usize;
    let memory = Pages::new(offset + image.mem_size as usize);
    // SAFETY: `offset` is inside the mapping, and the image fits behind it; the function is what build.rs says it is.
    unsafe {
        let base = memory.at.cast::<u8>().add(offset);
        base.copy_from_nonoverlapping(image.bytes.as_ptr(), image.bytes.len());
        let main: extern "C" fn(*const u8, *const u8) -> u32 = std::mem::transmute(base.add(blob::MAIN as usize));
        main(base, base.add(blob::PARAMS as usize))
    }
}
