//! Split sets: all parts on the command line, in any order, and sets that are none.
//!
//! Knows specifications of files. Must not know the product's reader.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{Run, run, temp_dir, vdump};
use crate::kdump_input::differing;
use crate::read::elf::Elf;
use crate::synth::kdump::{Spec, Stored};

fn whole() -> Spec {
    let mut spec = Spec::new(6, 4096, 1000).with_pages(1..300, &[Stored::Zlib, Stored::Raw, Stored::Zstd]);
    spec = spec.with_pages(640..700, &[Stored::Lzo]).with_pages(998..1000, &[Stored::Raw]);
    spec.excluded = (300..640).collect();
    spec
}

fn put(dir: &Path, name: &str, parts: Vec<Vec<u8>>) -> Vec<PathBuf> {
    let path = |(n, bytes): (usize, Vec<u8>)| {
        let path = dir.join(format!("{name}.{}", n + 1));
        fs::write(&path, bytes).unwrap();
        path
    };
    parts.into_iter().enumerate().map(path).collect()
}

fn of(paths: &[PathBuf], order: &[usize]) -> Vec<PathBuf> {
    order.iter().map(|n| paths[*n].clone()).collect()
}

fn filter(inputs: &[PathBuf], output: &Path) -> Run {
    run(vdump().args(["filter", "-d", "0", "--force"]).args(inputs).arg(output))
}

#[test]
fn the_parts_are_one_dump_in_any_order() {
    let dir = temp_dir();
    let out = dir.path().join("out.elf");
    for version in [2, 5, 6] {
        let spec = Spec { version, ..whole() };
        // A border inside a run of pages, one in a hole, and a part without a page.
        let paths = put(dir.path(), "part", spec.split(&[64, 320, 384, 1000]));
        for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]] {
            let inputs = of(&paths, &order);
            filter(&inputs, &out).ok();
            assert_eq!(differing(&spec, &Elf::open(&out)), [0u64; 0], "v{version} {order:?}");
        }
        let said = run(vdump().arg("info").args(&paths)).ok().stdout;
        assert!(said.contains(&format!("v{version}")) && said.contains("split into 4 parts"), "{said}");
    }
}

#[test]
fn a_set_that_is_none_is_refused_by_name() {
    let dir = temp_dir();
    let out = dir.path().join("out");
    let ours = put(dir.path(), "ours", whole().split(&[64, 320, 1000]));
    let other = Spec { tv_sec: 7, ..whole() };
    let theirs = put(dir.path(), "theirs", other.split(&[64, 320, 1000]));
    let mut elsewhere = whole();
    elsewhere.excluded.remove(&301);
    let elsewhere = put(dir.path(), "elsewhere", elsewhere.split(&[64, 320, 1000]));
    let wider = put(dir.path(), "wider", whole().split(&[64, 384, 1000]));
    let alone = put(dir.path(), "alone", vec![whole().build().0]);
    let text = dir.path().join("text");
    fs::write(&text, "no dump at all").unwrap();
    let mut backwards = whole().split(&[64, 320, 1000]);
    backwards[1][4096 + 80..4096 + 88].copy_from_slice(&900u64.to_le_bytes());
    let backwards = put(dir.path(), "backwards", backwards);
    let refused: [(&str, Vec<PathBuf>, &str); 12] = [
        ("the first is missing", of(&ours, &[1, 2]), "ours.2"),
        ("the middle is missing", of(&ours, &[2, 0]), "ours.3"),
        ("the last is missing", of(&ours, &[0, 1]), "ours.2"),
        ("one part alone", of(&ours, &[1]), "ours.2"),
        ("one twice", of(&ours, &[0, 1, 1, 2]), "ours.2"),
        ("one of another crash", [of(&ours, &[0, 2]), of(&theirs, &[1])].concat(), "theirs.2"),
        ("the first of another crash", [of(&theirs, &[0]), of(&ours, &[1, 2])].concat(), "theirs.1"),
        ("one with another bitmap", [of(&ours, &[0, 2]), of(&elsewhere, &[1])].concat(), "elsewhere.2"),
        ("one that overlaps", [of(&ours, &[0, 2]), of(&wider, &[1])].concat(), "wider.2"),
        ("one that runs backwards", [of(&ours, &[0, 2]), of(&backwards, &[1])].concat(), "backwards.2"),
        ("a whole dump among parts", [of(&ours, &[0, 1, 2]), alone].concat(), "alone.1"),
        ("text among parts", [of(&ours, &[0, 1, 2]), vec![text]].concat(), "text"),
    ];
    for (label, inputs, named) in refused {
        let run = filter(&inputs, &out);
        assert!(matches!(run.code(), Some(1 | 2)), "{label}: {run:?}");
        assert!(run.stderr.lines().count() == 1 && run.stderr.contains(named), "{label}: {}", run.stderr);
        assert!(!out.exists(), "{label}");
    }
}

#[test]
fn no_part_is_ever_the_output() {
    let dir = temp_dir();
    let ours = put(dir.path(), "ours", whole().split(&[64, 1000]));
    let before = fs::read(&ours[1]).unwrap();
    let run = filter(&of(&ours, &[0, 1]), &ours[1]);
    assert!(matches!(run.code(), Some(1 | 2)), "{run:?}");
    assert!(fs::read(&ours[1]).unwrap() == before, "a part was destroyed");
}

/// A dry run needs no output, and may be given one.
#[test]
fn a_dry_run_knows_parts_from_an_output() {
    let dir = temp_dir();
    let ours = put(dir.path(), "ours", whole().split(&[64, 1000]));
    for output in [None, Some(dir.path().join("not-there.elf"))] {
        let all: Vec<PathBuf> = ours.iter().cloned().chain(output.clone()).collect();
        let said = run(vdump().args(["filter", "--dry-run", "-d", "0", "--json"]).args(&all)).ok().stdout;
        let expected = if output.is_some() { "\"format\": \"elf\"" } else { "\"format\": \"kdump\"" };
        assert!(said.contains(expected), "{said}");
        assert!(output.is_none_or(|path| !path.exists()));
    }
}
