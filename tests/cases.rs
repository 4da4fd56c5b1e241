//! Small files that once went wrong, as they were found.
//!
//! Knows what each is. Fails with what was said.

use std::path::{Path, PathBuf};

use crate::disks::names;
use crate::harness::{Run, temp_dir, vdump_with};
use crate::read::kdump::Kdump;

fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/cases").join(name)
}

fn vdump(words: &[&str], inputs: &[&Path]) -> Run {
    vdump_with(words.iter().map(|word| Path::new(*word)).chain(inputs.iter().copied()))
}

/// A segment claims almost 2^64 bytes: what explains a page must not go through them.
#[test]
fn a_segment_without_end_is_explained() {
    let run = vdump(&["explain", "--pfn", "0x100"], &[&case("explain-hang.elf.zst")]).ok();
    assert!(run.stdout.contains("no: the file is truncated, at byte 400000 of 184004608"), "{}", run.stdout);
    // What is there is true all the same.
    let info = vdump(&["info"], &[&case("explain-hang.elf.zst")]).ok();
    assert!(info.stdout.contains("6.12.117+deb12-cloud-amd64"), "{}", info.stdout);
}

#[test]
fn a_dump_without_a_readable_page_makes_no_dump() {
    let dir = temp_dir();
    for format in ["elf", "kdump"] {
        let out = dir.path().join("out");
        let run = vdump(&["convert", "-f", format], &[&case("all-pages-lost.kdump"), &out]);
        assert_eq!(run.code(), Some(1), "{}", run.stderr);
        assert!(run.stderr.contains("the descriptor at byte 16384 claims"), "{}", run.stderr);
        assert!(!run.stderr.contains("device"), "it is the file that is damaged: {}", run.stderr);
        assert_eq!(names(dir.path()), [""; 0]);
    }
}

/// Six pages in three files, and the first file begins at page frame 1: each page that any of the files has is read.
#[test]
fn a_set_that_does_not_begin_at_frame_0_is_read() {
    let dir = temp_dir();
    let parts = ["1", "2", "3"].map(|part| case(&format!("diskdump-split.dump.{part}")));
    let out = dir.path().join("out");
    let mut found = Vec::new();
    let sets = [&parts[..], &parts[..1], &parts[1..2], &parts[2..], &parts[1..]];
    for set in sets {
        let mut paths: Vec<&Path> = set.iter().map(PathBuf::as_path).collect();
        paths.extend([Path::new("-o"), &out]);
        let run = vdump(&["convert", "--force"], &paths).ok();
        assert!(run.stderr.contains("a part of the split dump is missing"), "{}", run.stderr);
        let strict = vdump(&["convert", "--force", "--strict"], &paths);
        assert_eq!(strict.code(), Some(1), "{}", strict.stderr);
        let kdump = Kdump::open(&out);
        found.push((0..6).filter(|pfn| kdump.page(*pfn).is_ok()).count());
    }
    assert_eq!(found[0], found[1..4].iter().sum::<usize>(), "{found:?}");
    assert_eq!(found, [4, found[1], found[2], found[3], found[2] + found[3]]);
}
