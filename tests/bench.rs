//! `vdump bench`: what it predicts is what a dump becomes, and it leaves nothing behind.
//!
//! Knows the report's words. Must not ask how fast anything is. Fails when a stage is missing or a size is wrong.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::harness::{Run, filter, run, temp_dir, vdump};
use crate::synth::Machine;
use crate::synth::kernels::era;

fn bench(options: &[&str], input: &Path) -> Run {
    // However slow the machine is, all of the sample is compressed once.
    run(vdump().args(["bench", "--progress", "none", "--seconds", "60"]).args(options).arg(input))
}

fn report(options: &[&str], input: &Path) -> Value {
    serde_json::from_str(&bench(&[&["--json"], options].concat(), input).ok().stdout).unwrap()
}

fn number(value: &Value, key: &str) -> f64 {
    value[key].as_f64().unwrap_or_else(|| panic!("no number {key} in {value}"))
}

#[test]
fn sizes_are_those_that_dumps_have() {
    let dir = temp_dir();
    let fixture = Machine::new(era("6.12")).build(dir.path());
    for level in ["31", "1"] {
        let report = report(&["-d", level, "-c", "none,lzo,zlib,zstd", "-j", "2"], &fixture.path);
        let predictions = report["predictions"].as_array().unwrap();
        assert_eq!(predictions.len(), 5, "four codecs on pages and one on frames");
        for made in predictions {
            let (format, codec) = (made["format"].as_str().unwrap(), made["codec"].as_str().unwrap());
            let out = dir.path().join("dump");
            filter(&["--force", "-d", level, "-f", format, "-c", codec], &fixture.path, &out).ok();
            let size = fs::metadata(&out).unwrap().len() as f64;
            // Of an ELF core's headers it knows nothing.
            let off = (number(made, "bytes") - size).abs();
            assert!(off < size * 0.05 + 64e3, "{format} {codec} at level {level}: {made} and {size}");
            assert!(number(made, "seconds") > 0.0);
        }
    }
}

#[test]
fn every_stage_is_measured_and_nothing_stays() {
    let dir = temp_dir();
    let fixture = Machine::small(era("6.12")).build(dir.path());
    let folder = dir.path().join("folder");
    fs::create_dir(&folder).unwrap();
    let report = report(&["-c", "snappy,zstd,lz4", "-o", folder.to_str().unwrap(), "--ram", "1T"], &fixture.path);
    let stages = report["stages"].as_array().unwrap();
    let names: Vec<_> = stages.iter().map(|stage| stage["stage"].as_str().unwrap()).collect();
    let expected = [
        "struct pages",
        "read kept pages",
        "zero test",
        "zero test, zeros",
        "snappy, pages",
        "zstd, pages",
        "zstd:3, frames",
        "lz4, frames",
        "write",
    ];
    assert_eq!(names, expected);
    assert!(stages.iter().all(|stage| number(stage, "all") > 0.0), "{report}");
    assert_eq!(number(&report["predictions"][0]["machine"], "ram_bytes"), (1u64 << 40) as f64);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "the file that was written is still there");
}

#[test]
fn people_get_a_table() {
    let dir = temp_dir();
    let fixture = Machine::small(era("6.12")).build(dir.path());
    let table = bench(&["-c", "lzo"], &fixture.path).ok().stdout;
    for words in ["kept at level 31", "\nstruct pages ", "\nlzo, pages ", "\nkdump, lzo ", "give --output DIR"] {
        assert!(table.contains(words), "{words}: {table}");
    }
}

#[test]
fn what_cannot_be_measured_is_said() {
    let dir = temp_dir();
    let mut machine = Machine::small(era("6.12"));
    let fixture = machine.build(dir.path());
    for (options, says) in [
        (&["--memory-limit", "1M"][..], "--memory-limit"),
        (&["-o", "/nowhere/at/all"], "cannot create /nowhere/at/all"),
        (&["-c", "gzip"], "not a codec"),
    ] {
        let run = bench(options, &fixture.path);
        assert!(!run.status.success() && run.stderr.contains(says), "{options:?}: {}", run.stderr);
    }
    // Without knowledge of the kernel only what needs none can be measured.
    machine.info = [("SIZE(page)".into(), None)].into();
    let fixture = machine.build(dir.path());
    let refused = bench(&["-c", "none"], &fixture.path);
    assert_eq!(refused.code(), Some(1), "{}", refused.stderr);
    let report = report(&["-c", "none", "-d", "1"], &fixture.path);
    assert_eq!(report["stages"][0]["stage"], "read kept pages");
}
