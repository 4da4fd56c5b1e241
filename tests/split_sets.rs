//! Split sets: all parts on the command line, in any order, and sets that are none.
//!
//! Knows specifications of files. Must not know the product's reader.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Run, run, temp_dir, vdump};
use crate::judge::{PYTHON, libkdumpfile};
use crate::kdump_input::differing;
use crate::read::elf::{Elf, Found};
use crate::read::kdump::{INCOMPLETE, Kdump};
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
    let refused: [(&str, Vec<PathBuf>, &str); 8] = [
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

/// Every part that is there is read, and what the others had counts as lost, as of a file that was truncated.
#[test]
fn a_missing_part_costs_its_own_pages() {
    let dir = temp_dir();
    let spec = whole();
    let ours = put(dir.path(), "ours", spec.split(&[64, 320, 1000]));
    let shares = [0..64u64, 64..320, 320..1000];
    for there in [&[1usize, 2][..], &[2, 0], &[0, 1], &[1], &[2]] {
        let out = dir.path().join("out");
        let inputs = of(&ours, there);
        let said = filter(&inputs, &out).ok().stderr;
        let dump = Kdump::open(&out);
        let has = |pfn: &u64| there.iter().any(|part| shares[*part].contains(pfn));
        let (kept, lost): (BTreeSet<u64>, BTreeSet<u64>) = spec.pages.keys().copied().partition(|pfn| has(pfn));
        assert_eq!(dump.kept(), kept, "{there:?}");
        assert!(lost.is_subset(&dump.ram()), "{there:?}: what was lost is forgotten");
        assert!(dump.field("status") & INCOMPLETE != 0, "{there:?}: not marked as incomplete");
        assert!(said.contains(&format!("{} pages are lost", lost.len())), "{there:?}: {said}");
        let elf = dir.path().join("out.elf");
        filter(&inputs, &elf).ok();
        let core = Elf::open(&elf);
        let wrong: Vec<u64> = differing(&spec, &core).into_iter().filter(|pfn| has(pfn)).collect();
        assert_eq!(wrong, [0u64; 0], "{there:?}");
        assert!(lost.iter().all(|pfn| core.page(*pfn) == Found::Absent), "{there:?}");
        // Copied as it is stored too.
        let merged = dir.path().join("merged");
        run(vdump().args(["merge", "--force"]).args(&inputs).arg(&merged)).ok();
        assert_eq!(Kdump::open(&merged).kept(), kept, "{there:?}");
        let strict = run(vdump().args(["filter", "-d", "0", "--strict"]).args(&inputs).arg(dir.path().join("never")));
        assert!(strict.code() == Some(1) && strict.stderr.contains("part of the split dump is missing"), "{strict:?}");
        // libkdumpfile reads a part alone, and the rest of the set as it is.
        let listed: Vec<String> = kept.iter().step_by(7).map(u64::to_string).collect();
        if libkdumpfile() {
            let told = run(Command::new(PYTHON).args(["-c", JUDGE, &out.display().to_string()]).args(&listed));
            assert_eq!(told.code(), Some(0), "{there:?}: {told:?}");
        }
    }
    // What a missing part would have had nothing of is no loss: here frame 0.
    let first = put(dir.path(), "first", spec.split(&[1, 64, 320, 1000]));
    let said = filter(&of(&first, &[1, 2, 3]), &dir.path().join("out")).ok().stderr;
    assert!(!said.contains("lost"), "{said}");
}

/// libkdumpfile's own tool, and whoever makes parts one by one, gives each its own microseconds.
#[test]
fn parts_may_differ_in_their_microseconds() {
    const TV_USEC: usize = 416;
    let dir = temp_dir();
    let mut parts = whole().split(&[64, 320, 1000]);
    for (part, usec) in parts.iter_mut().zip([934_244u64, 940_378, 944_644]) {
        part[TV_USEC..TV_USEC + 8].copy_from_slice(&usec.to_le_bytes());
    }
    let ours = put(dir.path(), "ours", parts);
    let out = dir.path().join("out.elf");
    filter(&of(&ours, &[2, 0, 1]), &out).ok();
    assert_eq!(differing(&whole(), &Elf::open(&out)), [0u64; 0]);
}

/// Every listed frame of the dump can be read.
const JUDGE: &str = "
import sys, kdumpfile
core = kdumpfile.kdumpfile(sys.argv[1])
for pfn in sys.argv[2:]:
    core.read(kdumpfile.KDUMP_MACHPHYSADDR, int(pfn) * 4096, 4096)
";

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
