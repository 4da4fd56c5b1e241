//! Writers that are killed: what is on the disk then says what it has, to every reader.
//!
//! Knows a small library in C, made with `cc` here and now, that ends vdump at a write of its output. Must not know what that
//! write was. Fails with the first page that is shown as something else.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::disks::full_of_kernel;
use crate::harness::{Run, run, temp_dir, vdump};
use crate::judge::{PYTHON, libkdumpfile};
use crate::partials::right_or_lost;
use crate::read::elf::{Elf, Found};
use crate::read::kdump::{INCOMPLETE, Kdump};
use crate::synth::Fixture;

const PAGE: u64 = 4096;

pub fn killer(dir: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/killer.c");
    let made = dir.join("killer.so");
    run(Command::new("cc").args(["-shared", "-fPIC", "-Wall", "-Werror", "-o"]).arg(&made).arg(source)).ok();
    made
}

/// Runs `vdump filter` until its `last` write; whether it got there.
fn killed(library: &Path, last: u32, options: &[&str], fixture: &Fixture, out: &Path) -> bool {
    let mut command = vdump();
    command.env("LD_PRELOAD", library).env("KILL_AT", last.to_string());
    let run = run(command.args(["filter", "--force", "--progress", "none"]).args(options).arg(&fixture.path).arg(out));
    assert!(run.status.signal() == Some(9) || run.code() == Some(0), "{run:?}");
    run.status.signal() == Some(9)
}

/// Writes on the way: the first ones one by one, then fewer.
fn moments() -> impl Iterator<Item = u32> {
    (1..8).chain((0..).map(|step: u32| 8 + 3 * step * step))
}

/// What a partial core shows: pages with contents that are right, and kept pages that are not shown.
fn of_core(fixture: &Fixture, path: &Path) -> (usize, usize) {
    let core = Elf::open(path);
    assert_eq!(core.flags() & 1, 1, "not marked incomplete");
    let (mut right, mut missing) = (0, 0);
    for pfn in fixture.truth.kept(31) {
        match core.page(pfn) {
            Found::Absent => missing += 1,
            Found::Unstored => assert!(fixture.image.is_zero(pfn), "page {pfn:#x} is shown as zeros"),
            Found::Stored(page) => {
                assert!(page == fixture.image.page(pfn), "page {pfn:#x} differs");
                right += usize::from(!fixture.image.is_zero(pfn));
            }
        }
    }
    (right, missing)
}

/// Reads each listed page from the full core and from the dump: it is the same, or cannot be read. libkdumpfile before 0.5.5
/// shows zeros for the page in front of a segment, whoever wrote it: those are listed.
const NEVER_WRONG: &str = "
import sys, kdumpfile
full, dump = (kdumpfile.kdumpfile(name) for name in sys.argv[1:3])
pfns, fronts = ([int(pfn) for pfn in open(name)] for name in sys.argv[3:5])
fronts = set(fronts)
read = lambda core, pfn: bytes(core.read(kdumpfile.KDUMP_MACHPHYSADDR, pfn << 12, 4096))
right = 0
for pfn in pfns:
    try:
        page = read(dump, pfn)
    except (kdumpfile.exceptions.NoDataException, kdumpfile.exceptions.CorruptException):
        continue
    if page != read(full, pfn) and not (pfn in fronts and not any(page)):
        raise AssertionError(hex(pfn) + ' is shown as something else')
    right += 1
print(right)
";

fn judged(fixture: &Fixture, path: &Path, fronts: &BTreeSet<u64>, dir: &Path) {
    if !libkdumpfile() {
        return;
    }
    let list = |name: &str, pfns: &BTreeSet<u64>| {
        let path = dir.join(name);
        fs::write(&path, pfns.iter().map(|pfn| format!("{pfn}\n")).collect::<String>()).unwrap();
        path
    };
    let (pfns, fronts) = (list("pfns", &fixture.truth.kept(31)), list("fronts", fronts));
    let mut command = Command::new(PYTHON);
    run(command.args(["-c", NEVER_WRONG]).arg(&fixture.path).arg(path).arg(pfns).arg(fronts)).ok();
}

/// What `convert` makes of a partial, and what `info` and `check` say of it.
fn not_laundered(fixture: &Fixture, partial: &Path, dir: &Path) -> usize {
    let out = dir.join("converted");
    let said = |command: &str, more: &[&Path]| -> Run { run(vdump().arg(command).arg(partial).args(more)) };
    let info = said("info", &[]).ok();
    assert!(info.stdout.contains("incomplete"), "{}", info.stdout);
    assert_eq!(said("check", &[]).code(), Some(1), "check calls it whole");
    let converted = run(vdump().args(["convert", "--force", "-f", "kdump"]).arg(partial).arg(&out)).ok();
    assert!(converted.stderr.contains("incomplete"), "{}", converted.stderr);
    let dump = Kdump::open(&out);
    assert_eq!(dump.field("status") & INCOMPLETE, INCOMPLETE, "not marked incomplete");
    let kept = dump.kept();
    assert!(kept.is_subset(&fixture.truth.kept(31)), "pages from nowhere");
    for pfn in &kept {
        assert!(dump.page(*pfn) == Ok(fixture.image.page(*pfn)), "page {pfn:#x} is laundered");
    }
    kept.len()
}

#[test]
fn a_killed_elf_writer_leaves_no_page_that_was_not_written() {
    let dir = temp_dir();
    let (library, fixture) = (killer(dir.path()), full_of_kernel(dir.path()));
    let (mut seen, mut partial) = (0, 0);
    for last in moments() {
        let room = temp_dir();
        let out = room.path().join("out.elf");
        if !killed(&library, last, &["-f", "elf", "-j", "2"], &fixture, &out) {
            break;
        }
        seen += 1;
        let left = room.path().join("out.elf-incomplete");
        let bytes = fs::read(&left).unwrap();
        if !bytes.starts_with(b"\x7fELF") {
            // Nobody takes zeros for a dump.
            assert!(bytes.iter().take(64).all(|byte| *byte == 0));
            continue;
        }
        let (right, missing) = of_core(&fixture, &left);
        let fronts = Elf::open(&left).loads().map(|load| (load.paddr / PAGE).saturating_sub(1)).collect();
        if right > 0 && missing > 0 {
            judged(&fixture, &left, &fronts, room.path());
            let kept = not_laundered(&fixture, &left, room.path());
            assert!(kept >= right, "{kept} of {right} pages are read again");
            partial += 1;
        }
    }
    assert!(seen > 8 && partial > 2, "killed {seen} times, {partial} times with some pages");
}

#[test]
fn a_killed_kdump_writer_leaves_no_page_that_was_not_written() {
    let dir = temp_dir();
    let (library, fixture) = (killer(dir.path()), full_of_kernel(dir.path()));
    for codec in ["none", "zstd"] {
        let (mut seen, mut partial) = (0, 0);
        for last in moments() {
            let room = temp_dir();
            let out = room.path().join("out");
            if !killed(&library, last, &["-c", codec, "-j", "2"], &fixture, &out) {
                break;
            }
            seen += 1;
            let left = room.path().join("out-incomplete");
            let bytes = fs::read(&left).unwrap();
            // Until the bitmaps are there nobody opens it, or it has no page.
            if !bytes.starts_with(b"KDUMP") || Kdump::open(&left).kept().is_empty() {
                continue;
            }
            let (right, lost) = right_or_lost(&fixture, &left);
            judged(&fixture, &left, &BTreeSet::new(), room.path());
            if right > 0 && lost > 0 {
                not_laundered(&fixture, &left, room.path());
                partial += 1;
            }
        }
        assert!(seen > 8 && partial > 2, "{codec}: killed {seen} times, {partial} times with some pages");
    }
}

/// Frames without their table are walked from one to the next, and the core in them ends where they do.
#[test]
fn a_killed_writer_of_frames_leaves_a_core_that_ends_early() {
    let dir = temp_dir();
    let (library, fixture) = (killer(dir.path()), full_of_kernel(dir.path()));
    let mut partial = 0;
    for last in moments() {
        let room = temp_dir();
        let out = room.path().join("out.elf.zst");
        if !killed(&library, last, &["-j", "2"], &fixture, &out) {
            break;
        }
        let left = room.path().join("out.elf.zst-incomplete");
        if fs::metadata(&left).is_ok_and(|meta| meta.len() > 0) && run(vdump().arg("info").arg(&left)).code() == Some(0)
        {
            not_laundered(&fixture, &left, room.path());
            partial += 1;
        }
    }
    assert!(partial > 2, "{partial} times with some pages");
}
