//! Devices that fail: a page that cannot be read costs itself, a dump that does not reach the disk is not called whole.
//!
//! Knows a small library in C, made with `cc` here and now, that lets system calls of vdump fail. Must not know which calls
//! vdump makes for what. Fails with what else was lost.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::check;
use crate::harness::{Run, run, temp_dir, vdump};
use crate::partials::{right_or_lost, right_up_to_a_cut};
use crate::read::elf::{Elf, Found};
use crate::refusal::{badly_failed, none_of};
use crate::synth::image::{Fill, fill_of};
use crate::synth::kernels::era;
use crate::synth::kinds::Kind;
use crate::synth::machine::MAPS;
use crate::synth::structpage::STRUCT_PAGE;
use crate::synth::truth::Class;
use crate::synth::{Fixture, Machine};

const PAGE: u64 = 4096;
/// Struct pages in one page, and so the frames that a bad one costs.
const FRAMES: u64 = PAGE / STRUCT_PAGE;
const FORMATS: [&str; 2] = ["kdump", "elf"];

/// The arena holds this one kind from here on.
const FIRST: u64 = (33 << 20) / PAGE;

fn full_of(kind: Kind, dir: &Path) -> Fixture {
    let mut machine = Machine::small(era("6.12"));
    machine.zoo = vec![(kind, 400)];
    machine.build(dir)
}

pub fn library(dir: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bad_device.c");
    let made = dir.join("bad_device.so");
    run(Command::new("cc").args(["-shared", "-fPIC", "-Wall", "-Werror", "-o"]).arg(&made).arg(source)).ok();
    made
}

/// Runs `vdump filter` with a library that the variables tell what is to fail.
pub fn filter_on(library: &Path, variables: &[(&str, String)], options: &[&str], input: &Path, out: &Path) -> Run {
    let mut command = vdump();
    command.env("LD_PRELOAD", library).envs(variables.iter().map(|(key, value)| (key, value)));
    run(command.args(["filter", "--json", "--progress", "none"]).args(options).arg(input).arg(out))
}

/// Makes the bytes of one page of memory unreadable.
fn bad_page(fixture: &Fixture, pfn: u64) -> [(&'static str, String); 3] {
    let Range { start, end } = fixture.offset_of(pfn * PAGE)..fixture.offset_of(pfn * PAGE) + PAGE;
    let path = fixture.path.to_str().unwrap().to_owned();
    [("BAD_FILE", path), ("BAD_FROM", start.to_string()), ("BAD_TO", end.to_string())]
}

/// Everything must be as the truth says, with this page as the one read error.
fn only_lost(fixture: &Fixture, bad: u64, level: u8, format: &str, run: &Run, out: &Path) -> Vec<String> {
    if run.code() != Some(0) {
        return vec![format!("exit {:?}: {}", run.code(), run.stderr)];
    }
    let mut faults = check::report(fixture, level, &run.stdout);
    let report: Value = serde_json::from_str(&run.stdout).unwrap_or_default();
    let pfns: Vec<Option<u64>> =
        report["read_errors"].as_array().into_iter().flatten().map(|error| error["pfn"].as_u64()).collect();
    if pfns != [Some(bad)] || !run.stderr.contains(&format!("{bad:#x}")) {
        faults.push(format!("not page {bad:#x} alone is reported: {pfns:x?}, {}", run.stderr));
    }
    if format == "elf" {
        faults.extend(check::elf(fixture, level, out));
        faults.extend((Elf::open(out).page(bad) != Found::Absent).then(|| "a PT_LOAD shows the lost page".into()));
    } else {
        faults.extend(check::kdump(fixture, level, out));
    }
    faults.into_iter().map(|fault| format!("{format} -d {level}: {fault}")).collect()
}

fn each_format_and_level(library: &Path, fixture: &Fixture, bad: u64, out: &Path) -> Vec<String> {
    let variables = bad_page(fixture, bad);
    let judge = |format: &str, level: u8| {
        let options = ["-f", format, "-d", &level.to_string(), "--force"];
        let run = filter_on(library, &variables, &options, &fixture.path, out);
        only_lost(fixture, bad, level, format, &run, out)
    };
    FORMATS.into_iter().flat_map(|format| [0, 1, 31].map(|level| judge(format, level))).flatten().collect()
}

#[test]
fn a_page_that_cannot_be_read_costs_itself() {
    let dir = temp_dir();
    let library = library(dir.path());
    let mut fixture = full_of(Kind::Kernel, dir.path());
    // In the middle of what one read takes, with contents that zeros would differ from.
    let bad = (FIRST + 100..).find(|pfn| fill_of(*pfn) == Fill::Text).unwrap();
    fixture.truth.classes.insert(bad, Class::Unreadable);
    none_of(&each_format_and_level(&library, &fixture, bad, &dir.path().join("out")));
}

#[test]
fn a_bad_page_of_struct_pages_costs_its_frames_only() {
    let dir = temp_dir();
    let library = library(dir.path());
    let mut fixture = full_of(Kind::Anon, dir.path());
    let first = (FIRST + 100).next_multiple_of(FRAMES);
    let bad = (MAPS + first * STRUCT_PAGE) / PAGE;
    fixture.truth.classes.extend((first..first + FRAMES).map(|pfn| (pfn, Class::Unmapped)));
    fixture.truth.classes.insert(bad, Class::Unreadable);
    let out = dir.path().join("out");
    none_of(&each_format_and_level(&library, &fixture, bad, &out));
    // Who asks for all or nothing gets nothing.
    std::fs::remove_file(&out).unwrap();
    let strict = filter_on(&library, &bad_page(&fixture, bad), &["--strict"], &fixture.path, &out);
    none_of(&badly_failed(&strict, &out));
}

#[test]
fn a_dump_that_does_not_reach_the_disk_keeps_its_working_name() {
    let dir = temp_dir();
    let library = library(dir.path());
    let fixture = full_of(Kind::Kernel, dir.path());
    let full = fixture.truth.kept(31).into_iter().filter(|pfn| !fixture.image.is_zero(*pfn)).count();
    for format in FORMATS {
        let out = dir.path().join(format);
        let left = dir.path().join(format!("{format}-incomplete"));
        let run = filter_on(&library, &[("BAD_SYNC", "1".into())], &["-f", format], &fixture.path, &out);
        assert_eq!(run.code(), Some(1), "{format}: {run:?}");
        assert!(!out.exists() && left.exists(), "{format}: {run:?}");
        assert!(run.stderr.contains("Input/output error"), "{format}: {run:?}");
        assert!(run.stderr.contains(left.to_str().unwrap()), "{format}: does not say what is left: {run:?}");
        // All of it is there: only its name and its mark say that it may not be on the disk.
        match format {
            "elf" => assert_eq!(right_up_to_a_cut(&fixture, &left).0, full),
            _ => assert_eq!(right_or_lost(&fixture, &left).1, 0),
        }
    }
}
