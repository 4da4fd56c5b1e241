//! Filtering what was filtered before: whole machines that come as kdump-compressed dumps, ours and makedumpfile's.
//!
//! Knows fixtures, and other people's writer. Must not know the product's reader.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::check;
use crate::harness::{filter, run, temp_dir, vdump};
use crate::judge::undisputed;
use crate::judges::installed;
use crate::read::kdump::Kdump;
use crate::synth::kdump::{Spec, Stored};
use crate::synth::kernels::era;
use crate::synth::{CRASH_TIME, Fixture, Machine};

const WAYS: [Stored; 5] = [Stored::Zlib, Stored::Raw, Stored::Lzo, Stored::Zstd, Stored::Snappy];

/// The fixture's memory as another program could have saved it, without the pages that `level` drops.
fn saved(fixture: &Fixture, version: u32, level: u8) -> Spec {
    let mut spec = Spec::new(version, 4096, fixture.truth.max_pfn());
    let kept = fixture.truth.kept(level);
    let page = |(pfn, way): (u64, &Stored)| (pfn, (fixture.image.page(pfn), *way));
    spec.pages = kept.iter().copied().zip(WAYS.iter().cycle()).map(page).collect();
    spec.excluded = fixture.truth.pfns().filter(|pfn| !kept.contains(pfn)).collect();
    spec.level = level.into();
    spec.info = fixture.info.clone();
    spec.notes = fixture.placed.notes.clone();
    spec.phys_base = fixture.phys_base;
    spec.tv_sec = CRASH_TIME;
    spec
}

#[test]
fn a_machine_in_a_kdump_is_filtered_like_one_in_a_core() {
    let dir = temp_dir();
    let fixture = Machine::small(era("6.12")).build(dir.path());
    for (before, after) in [(0u8, 31u8), (8, 31), (16, 18), (31, 31), (0, 1)] {
        let mut spec = saved(&fixture, 6, before);
        // The notes have VMCOREINFO already.
        spec.info.clear();
        spec.version = 6;
        let (mut bytes, at) = spec.build();
        notes_of_all(&mut bytes, at.notes, &fixture.placed.notes);
        let (input, out) = (dir.path().join("in"), dir.path().join("out"));
        fs::write(&input, bytes).unwrap();
        let run = filter(&["-d", &after.to_string(), "--force", "--json"], &input, &out).ok();
        let level = before | after;
        check::sound(&format!("-d {before}, then -d {after}"), &check::kdump(&fixture, level, &out));
        let report: Value = serde_json::from_str(&run.stdout).unwrap();
        let count = |name: &str| report["pages"][name].as_u64().unwrap();
        assert_eq!(count("absent"), fixture.truth.dropped(before).len() as u64);
        assert_eq!(count("ram"), fixture.truth.pfns().count() as u64);
        assert_eq!(count("ram"), count("kept") + count("dropped") + count("absent"));
        assert!(check::class_row(&report, "doubtful").is_null(), "{report}");
    }
}

/// Puts the notes between sub header and bitmaps, where there is room for them.
fn notes_of_all(bytes: &mut [u8], at: usize, notes: &[u8]) {
    assert!(notes.len() <= 4096 - 104);
    bytes[at..at + notes.len()].copy_from_slice(notes);
    bytes[4096 + 48..4096 + 56].copy_from_slice(&(at as u64).to_le_bytes());
    bytes[4096 + 56..4096 + 64].copy_from_slice(&(notes.len() as u64).to_le_bytes());
}

/// Version 3 knows VMCOREINFO and no notes.
#[test]
fn vmcoreinfo_alone_is_enough() {
    let dir = temp_dir();
    let fixture = Machine::small(era("6.12")).build(dir.path());
    let (input, out) = (dir.path().join("in"), dir.path().join("out"));
    fs::write(&input, saved(&fixture, 3, 8).build().0).unwrap();
    filter(&["-d", "31"], &input, &out).ok();
    let dump = Kdump::open(&out);
    assert_eq!(dump.kept(), fixture.truth.kept(31));
    assert_eq!(dump.vmcoreinfo(), fixture.info.as_bytes());
    assert_eq!(dump.uts(), fixture.uts);
}

/// Nothing is left to drop, and nothing else may change.
#[test]
fn filtering_again_gives_the_same_bytes() {
    let dir = temp_dir();
    let fixture = Machine::new(era("6.12")).build(dir.path());
    for options in [["-d", "31", "-c", "zstd"], ["-d", "31", "-c", "lzo"], ["-d", "17", "-c", "zlib"]] {
        let (first, second) = (dir.path().join("first"), dir.path().join("second"));
        let options = [&options[..], &["--force"]].concat();
        filter(&options, &fixture.path, &first).ok();
        filter(&options, &first, &second).ok();
        assert!(fs::read(&first).unwrap() == fs::read(&second).unwrap(), "{options:?}");
    }
}

fn makedumpfile(options: &[&str], input: &Path, outputs: &[PathBuf]) {
    run(Command::new("makedumpfile").args(options).arg(input).args(outputs)).ok();
}

/// Every page of their dump, and no other, is in ours with the same bytes.
fn same_pages(label: &str, fixture: &Fixture, theirs: &BTreeSet<u64>, inputs: &[PathBuf], out: &Path) {
    run(vdump().args(["filter", "-d", "0", "-c", "none", "--force"]).args(inputs).arg(out)).ok();
    let ours = Kdump::open(out);
    // Poisoned and offline pages leave at every level.
    let kept: BTreeSet<u64> = theirs.intersection(&fixture.truth.kept(0)).copied().collect();
    assert_eq!(ours.kept(), kept, "{label}");
    let wrong: Vec<_> = kept.iter().filter(|pfn| ours.page(**pfn) != Ok(fixture.image.page(**pfn))).collect();
    assert!(wrong.is_empty() && !kept.is_empty(), "{label}: {} pages differ", wrong.len());
}

#[test]
fn makedumpfiles_dumps_are_read_page_for_page() {
    if !installed("makedumpfile") {
        return;
    }
    let dir = temp_dir();
    let fixture = undisputed("6.12").build(dir.path());
    let out = dir.path().join("out");
    for options in [["-c", "-d", "31"], ["-l", "-d", "31"], ["-p", "-d", "0"], ["-c", "-d", "0"]] {
        let label = options.join(" ");
        let whole = dir.path().join("whole");
        makedumpfile(&[&options[..], &["-f"]].concat(), &fixture.path, std::slice::from_ref(&whole));
        let kept = Kdump::open(&whole).kept();
        same_pages(&label, &fixture, &kept, std::slice::from_ref(&whole), &out);
        let parts = ["c", "a", "b"].map(|name| dir.path().join(name));
        let split = ["-f", "--split", "--splitblock-size", "16"];
        makedumpfile(&[&options[..], &split].concat(), &fixture.path, &parts);
        same_pages(&format!("{label} --split"), &fixture, &kept, &parts, &out);
        let reversed: Vec<PathBuf> = parts.iter().rev().cloned().collect();
        same_pages(&format!("{label} --split, reversed"), &fixture, &kept, &reversed, &out);
    }
}
