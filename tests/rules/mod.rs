//! `vdump check`: every rule of the formats is broken by some dump here, and by no sound one.
//!
//! Knows dumps as bytes. Must not share code with the product. Readers judge what is said of readers.

mod corpus;
mod damage;
mod elf;
mod kdump;
mod layers;
mod readers;
mod sound;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::{Run, run, temp_dir, vdump};
use corpus::{Broken, corpus};

/// Runs `vdump check --json`; `None` where it only says an error.
pub fn checked(paths: &[PathBuf]) -> (Run, Option<Value>) {
    let run = run(vdump().args(["check", "--json", "--progress", "none", "-j", "2"]).args(paths));
    assert!(matches!(run.code(), Some(0 | 1)) && !run.stderr.contains("panicked"), "{paths:?}: {run:?}");
    let said: Option<Value> = serde_json::from_str(&run.stdout).ok();
    let report = said.filter(|said| said["error"].is_null());
    if let Some(report) = &report {
        assert_eq!(report["whole"], run.code() == Some(0), "{paths:?}");
    }
    (run, report)
}

pub fn put(dir: &Path, files: &[Vec<u8>]) -> Vec<PathBuf> {
    let path = |(n, bytes): (usize, &Vec<u8>)| {
        let path = dir.join(format!("dump.{}", n + 1));
        fs::write(&path, bytes).unwrap();
        path
    };
    files.iter().enumerate().map(path).collect()
}

pub fn names(report: &Value, status: &str) -> BTreeSet<String> {
    let rules = report["rules"].as_array().unwrap().iter().filter(|rule| rule["status"] == status);
    rules.map(|rule| rule["name"].as_str().unwrap().to_owned()).collect()
}

/// What is broken, and whether it should be.
fn fault(broken: &Broken, report: Option<&Value>) -> Option<String> {
    let Some(report) = report else { return Some(format!("{}: no report", broken.label)) };
    let got = names(report, "broken");
    let want: BTreeSet<String> = broken.rules.iter().map(|rule| (*rule).to_owned()).collect();
    (got != want).then(|| format!("{}: {got:?}, not {want:?}", broken.label))
}

#[test]
fn each_broken_dump_breaks_its_rules_and_no_other() {
    let dir = temp_dir();
    let mut faults = Vec::new();
    for broken in corpus() {
        let paths = put(dir.path(), &broken.files);
        faults.extend(fault(&broken, checked(&paths).1.as_ref()));
    }
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn no_rule_is_dead() {
    let dir = temp_dir();
    let paths = put(dir.path(), &[kdump::plain().build().0]);
    let report = checked(&paths).1.unwrap();
    let all: BTreeSet<&str> = report["rules"].as_array().unwrap().iter().map(|r| r["name"].as_str().unwrap()).collect();
    let broken: BTreeSet<&str> = corpus().iter().flat_map(|broken| broken.rules.clone()).collect();
    assert_eq!(all, broken);
}

#[test]
fn the_running_kernel_is_no_dump() {
    let refused = run(vdump().args(["check", "/proc/self/../kcore"]));
    if Path::new("/proc/kcore").exists() {
        assert_eq!(refused.code(), Some(2), "{refused:?}");
        assert!(refused.stderr.contains("the kernel that runs here") && refused.stderr.contains("vdump info"));
    } else {
        assert_eq!(refused.code(), Some(1), "{refused:?}");
    }
}

/// What is not compared is not known to be wrong.
#[test]
fn not_compared_is_not_damaged() {
    let dir = temp_dir();
    let paths = put(dir.path(), &[elf::same_memory(400)]);
    let report = checked(&paths).1.unwrap();
    let rule = report["rules"].as_array().unwrap().iter().find(|rule| rule["name"] == "elf-load-overlap").unwrap();
    assert_eq!((&rule["status"], &rule["count"]), (&"not-checked".into(), &0.into()), "{rule}");
    assert!(rule["not_checked"].as_str().unwrap().starts_with("from address 0x"), "{rule}");
    assert_eq!((&report["whole"], names(&report, "broken").len()), (&true.into(), 0), "{report}");
    let said = run(vdump().args(["check", "--progress", "none"]).args(&paths)).ok().stdout;
    assert!(said.contains("elf-load-overlap: not checked everywhere") && said.contains("whole;"), "{said}");
    // Few of them are compared, and a difference is found.
    let few = put(dir.path(), &[elf::same_memory(4)]);
    assert!(names(&checked(&few).1.unwrap(), "ok").contains("elf-load-overlap"));
}

#[test]
fn a_place_says_where() {
    let dir = temp_dir();
    let mut spec = kdump::plain();
    let lost: Vec<u64> = spec.pages.keys().copied().take(20).collect();
    for pfn in &lost {
        spec.pages.get_mut(pfn).unwrap().1 = crate::synth::kdump::Stored::Lost;
    }
    let (bytes, areas) = spec.build();
    let paths = put(dir.path(), &[bytes]);
    let report = checked(&paths).1.unwrap();
    let rules = report["rules"].as_array().unwrap();
    let rule = rules.iter().find(|rule| rule["name"] == "kdump-desc-lost").unwrap();
    assert_eq!((&rule["count"], &rule["severity"]), (&20.into(), &"error".into()));
    let places: Vec<(u64, u64)> = rule["places"]
        .as_array()
        .unwrap()
        .iter()
        .map(|place| (place["pfn"].as_u64().unwrap(), place["offset"].as_u64().unwrap()))
        .collect();
    let want: Vec<(u64, u64)> =
        lost.iter().zip(0..).take(8).map(|(pfn, n)| (*pfn, areas.descs as u64 + n * 24)).collect();
    assert_eq!(places, want);
    let said = run(vdump().args(["check", "--progress", "none"]).args(&paths));
    assert!(said.stdout.contains("kdump-desc-lost") && said.stdout.contains("and 17 more"), "{}", said.stdout);
    assert!(said.stdout.lines().last().unwrap().starts_with("verdict   damaged: 1 rule broken"), "{}", said.stdout);
}
