//! A small machine's dump with some of its memory changed: struct pages, page tables, the log, symbols, types, tasks.
//!
//! The input is a list of changes, each 13 bytes: which of the pages that hold anything (2), where in it (2), how many bytes
//! (1), which bytes (8).
#![no_main]

mod common;
#[path = "../../synth/mod.rs"]
#[allow(dead_code, unused_imports, reason = "tests use the rest")]
mod synth;

use std::{fs::File, os::unix::fs::FileExt as _, path::PathBuf, sync::LazyLock};

use libfuzzer_sys::fuzz_target;
use synth::{Machine, kernels::era};

const PAGE: usize = 4096;
const CHANGE: usize = 13;

struct Base {
    path: PathBuf,
    file: File,
    /// Offsets of pages that hold anything, and what.
    pages: Vec<(u64, Vec<u8>)>,
}

static BASE: LazyLock<Base> = LazyLock::new(|| {
    let dir = common::path("machine");
    std::fs::create_dir_all(&dir).expect("a folder");
    let path = Machine::small(era("6.12")).build(&dir).path;
    let file = File::options().read(true).write(true).open(&path).expect("the machine's dump");
    let len = file.metadata().expect("its length").len();
    let mut pages = Vec::new();
    for at in (0..len).step_by(PAGE) {
        let mut page = vec![0; PAGE.min((len - at) as usize)];
        file.read_exact_at(&mut page, at).expect("its bytes");
        // Pages of one byte are what processes and files have.
        if page.iter().any(|byte| *byte != page[0]) {
            pages.push((at, page));
        }
    }
    Base { path, file, pages }
});

fuzz_target!(|data: &[u8]| {
    let Base { path, file, pages } = &*BASE;
    let changes = data.as_chunks::<CHANGE>().0;
    for change in changes {
        let (at, page) = &pages[usize::from(u16::from_le_bytes([change[0], change[1]])) % pages.len()];
        let within = usize::from(u16::from_le_bytes([change[2], change[3]])) % page.len();
        let len = (usize::from(change[4]) % 8 + 1).min(page.len() - within);
        file.write_all_at(&change[5..5 + len], at + within as u64).expect("a change");
    }
    let path = path.to_str().expect("a plain name");
    let filter = ["filter", "--dry-run", "-d", "31", "-j", "1", "--memory-limit", "64M", "--progress", "none"];
    common::vdump(&[&filter[..], &[path, "/dev/null"]].concat());
    common::vdump(&[&filter[..], &["--keep-task", "panic", "-f", "elf", "--virtual", path, "/dev/null"]].concat());
    common::vdump(&["dmesg", path]);
    common::vdump(&["explain", "--pfn", "0x2100", "--vaddr", "0xffffffff81000000", path]);
    for change in changes {
        let (at, page) = &pages[usize::from(u16::from_le_bytes([change[0], change[1]])) % pages.len()];
        file.write_all_at(page, *at).expect("what was there");
    }
});
