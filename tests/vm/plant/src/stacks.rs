//! Stacks that hold a known pattern: that of the program's first thread, and one inside a transparent huge page.
//!
//! `tests/vm/test_keep_task.py` reads the list that is written here: name, thread number, address and length of the pattern.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use crate::plant::pattern;
use crate::sys::{self, HUGE, Mapping};

/// Bytes of the pattern on a stack: several pages, whatever lies around it.
const LEN: usize = 64 << 10;
const LIST: &str = "stacks";

/// Starts a thread whose stack, a huge page where the kernel has such, was full of a pattern before; returns when the list has it.
pub fn start(dir: &Path) -> io::Result<()> {
    let mut memory = Mapping::anonymous(2 * HUGE)?;
    if let Err(error) = memory.advise(0..2 * HUGE, libc::MADV_HUGEPAGE) {
        eprintln!("vdump-plant: the stack lies in small pages: {error}");
    }
    // Whoever is beside it with the same advice would become one mapping with it.
    memory.advise(0..2 * HUGE, libc::MADV_DONTFORK)?;
    let aligned = memory.address().next_multiple_of(HUGE) - memory.address();
    pattern(memory.bytes_mut(), "stack-huge");
    fs::write(dir.join(LIST), format!("below {} {:x} {:x}\n", 0, memory.address() + aligned, HUGE / 2))?;
    let (sender, receiver) = mpsc::channel();
    let dir = dir.to_owned();
    sys::thread_on(memory, aligned..aligned + HUGE, move || {
        sys::name_thread(c"stack-huge");
        sleep_on_pattern("stack-huge", dir, move || {
            // The other end waits for it.
            let _ = sender.send(());
        })
    })?;
    receiver.recv().map_err(io::Error::other)
}

/// Fills some of the stack, lists it, calls `ready`, and never returns.
pub fn sleep_on_pattern(name: &str, dir: PathBuf, ready: impl FnOnce()) -> ! {
    let mut local = [0; LEN];
    pattern(&mut local, name);
    let local = black_box(&local);
    let line = format!("{name} {} {:x} {LEN:x}\n", sys::thread_id(), local.as_ptr() as usize);
    let file = File::options().append(true).open(dir.join(LIST));
    if let Err(error) = file.and_then(|mut file| file.write_all(line.as_bytes()).and_then(|()| file.sync_all())) {
        eprintln!("vdump-plant: cannot list the stack of {name}: {error}");
    }
    ready();
    loop {
        thread::park();
        black_box(local);
    }
}
