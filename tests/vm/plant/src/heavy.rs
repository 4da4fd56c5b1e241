//! Makes the memory of a busy server: inodes in the slab (a million in 6.5 GiB), page cache, anonymous memory, huge pages. For
//! measuring, not for judging: nothing is reported, and sizes are shares of the machine's memory.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;

use crate::sys::{self, HUGE, Mapping, PAGE};

/// An inode with its dentry and its name takes 1 KiB of slab: a sixth of all memory.
const MEMORY_PER_INODE: usize = 6400;
/// Inodes of one folder.
const FOLDER: usize = 10_000;
/// Shares of all memory, in percent; what the inodes leave of the rest stays free.
const SMALL_PAGES: usize = 18;
const TRANSPARENT: usize = 8;
const POOL: usize = 4;
const CACHE: usize = 16;
const SHARED: usize = 4;

/// Fills memory. `disk` is a folder on the disk, `tmpfs` one in memory without a limit on inodes. Sleeps then.
pub fn run(disk: &Path, tmpfs: &Path) -> io::Result<()> {
    let (memory, text) = (sys::memory_bytes(), text());
    let share = |percent: usize| memory / 100 * percent / HUGE * HUGE;
    // The pool first: it needs memory in large pieces.
    fs::write("/proc/sys/vm/nr_hugepages", (share(POOL) / HUGE).to_string())?;
    let mut kept = vec![filled(Mapping::hugetlb(share(POOL))?, &text, 1)];
    let transparent = Mapping::anonymous(share(TRANSPARENT))?;
    transparent.advise(0..share(TRANSPARENT), libc::MADV_HUGEPAGE)?;
    kept.push(filled(transparent, &text, 2));
    let small = Mapping::anonymous(share(SMALL_PAGES))?;
    small.advise(0..share(SMALL_PAGES), libc::MADV_NOHUGEPAGE)?;
    kept.push(filled(small, &text, 3));
    write_log(&disk.join("log"), share(CACHE), &text, 4)?;
    write_log(&tmpfs.join("shared"), share(SHARED), &text, 5)?;
    inodes(tmpfs, memory / MEMORY_PER_INODE)?;
    // What is clean can be dropped and what is dirty cannot: both are there after this.
    File::open(disk.join("log"))?.sync_all()?;
    dirty(&disk.join("log"))?;
    File::create("/tmp/planted")?;
    loop {
        // `kept` stays mapped.
        thread::park();
    }
}

/// A third of the pages text, a third noise, a third untouched or zero, in runs of different lengths, as in heaps.
fn filled(mut mapping: Mapping, text: &[u8], seed: u64) -> Mapping {
    let mut chance = Chance(seed);
    let (mut left, mut kind) = (0, 0);
    for page in mapping.bytes_mut().chunks_exact_mut(PAGE) {
        if left == 0 {
            (left, kind) = (1 + chance.below(64), chance.below(3));
        }
        left -= 1;
        match kind {
            0 => page.copy_from_slice(part(text, &mut chance)),
            1 => page.chunks_exact_mut(8).for_each(|word| word.copy_from_slice(&chance.next().to_le_bytes())),
            _ => page[0] = 0,
        }
    }
    mapping
}

/// Two megabytes of lines as a web server's log has them.
fn text() -> Vec<u8> {
    const PATHS: [&str; 6] = ["/", "/index.html", "/api/v2/orders", "/static/app.js", "/login", "/images/logo.svg"];
    const STATES: [u16; 5] = [200, 200, 304, 404, 500];
    let mut chance = Chance(7);
    let mut text = String::new();
    while text.len() < 2 << 20 {
        let (path, state) = (PATHS[chance.below(6)], STATES[chance.below(5)]);
        let (a, b, second, size) = (chance.below(256), chance.below(256), chance.below(86_400), chance.below(60_000));
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        text += &format!("10.17.{a}.{b} - - [21/Nov/2025:{hour:02}:{minute:02}:{second:02} +0000] ");
        text += &format!("\"GET {path} HTTP/1.1\" {state} {size}\n");
    }
    text.into_bytes()
}

/// A page of it from anywhere.
fn part<'a>(text: &'a [u8], chance: &mut Chance) -> &'a [u8] {
    let start = chance.below(text.len() - PAGE);
    &text[start..start + PAGE]
}

fn write_log(path: &Path, bytes: usize, text: &[u8], seed: u64) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    let mut chance = Chance(seed);
    for _ in 0..bytes / PAGE {
        out.write_all(part(text, &mut chance))?;
    }
    out.flush()
}

/// Every hundredth page of the file is written once more and waits for the disk.
fn dirty(path: &Path) -> io::Result<()> {
    let file = File::options().write(true).open(path)?;
    let pages = file.metadata()?.len() / PAGE as u64;
    (0..pages).step_by(100).try_for_each(|page| file.write_all_at(b"dirty", page * PAGE as u64))
}

/// Inodes, dentries and names; some are removed again, so that slabs have free objects too.
fn inodes(tmpfs: &Path, count: usize) -> io::Result<()> {
    let mut chance = Chance(6);
    for first in (0..count).step_by(FOLDER) {
        let folder = tmpfs.join(format!("folder-{first:07}"));
        fs::create_dir(&folder)?;
        for number in first..count.min(first + FOLDER) {
            let name = format!("file-{number:07}.{:08x}", chance.next() as u32);
            File::create(folder.join(&name))?;
            if chance.below(20) == 0 {
                fs::remove_file(folder.join(&name))?;
            }
        }
    }
    Ok(())
}

/// A repeatable source of numbers (xorshift64*).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        ((self.next() >> 32) as usize * end) >> 32
    }
}
