//! Fills free memory with zeros once. The boot loader's copy of the kernel and read files linger in free pages, where
//! they cost a sample megabytes that nobody looks at.

use std::fs;
use std::io;

use crate::sys::{Mapping, PAGE};

/// Left free, so that the machine goes on: the kernel's own reserve and the shell need some.
const LEAVE_KIB: usize = 6 << 10;

pub fn run() -> io::Result<()> {
    fs::write("/proc/sys/vm/drop_caches", "3")?;
    // Lets user memory use the lowest zone as well; the boot loader's leftovers lie there.
    fs::write("/proc/sys/vm/lowmem_reserve_ratio", "0 0 0 0 0")?;
    let free = free_kib()?.saturating_sub(LEAVE_KIB) << 10;
    let mut memory = Mapping::anonymous(free.max(PAGE))?;
    // The kernel zeroes a page when it hands it out: a touch is enough.
    for page in memory.bytes_mut().chunks_exact_mut(PAGE) {
        page[0] = 0;
    }
    Ok(())
}

fn free_kib() -> io::Result<usize> {
    let text = fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemFree:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok())
        .ok_or_else(|| io::Error::other("no MemFree in /proc/meminfo"))
}
