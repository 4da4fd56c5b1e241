//! The fuzz targets' seeds, and what fuzzing found once: every dump among them is read by the program to its end.
//!
//! Knows files and exit codes. What is right about a dump is for other tests. Fails with the file's name.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{temp_dir, vdump_with};

fn seeds() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds")
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

#[test]
fn every_target_has_seeds() {
    let targets = fs::read_to_string(seeds().parent().unwrap().join("Cargo.toml")).unwrap();
    let names: Vec<&str> = targets.split("[[bin]]").skip(1).filter_map(|bin| bin.split('"').nth(1)).collect();
    assert!(names.len() >= 10, "{names:?}");
    for name in names {
        assert!(!entries(&seeds().join(name)).is_empty(), "tests/fuzz/seeds/{name} is empty");
    }
}

#[test]
fn every_seed_is_read_to_its_end() {
    let dir = temp_dir();
    let out = dir.path().join("out");
    for seed in entries(&seeds().join("dump")) {
        let seed = seed.to_str().unwrap();
        let dry = ["filter", "--dry-run", "-d", "31", "--memory-limit", "48M", seed, "/dev/null"];
        let convert = ["convert", "--force", "--memory-limit", "48M", seed, out.to_str().unwrap()];
        for line in [&["check", seed][..], &["info", "--json", seed], &["dmesg", seed], &dry, &convert] {
            let run = vdump_with(line);
            assert!(run.code().is_some_and(|code| code <= 2), "{line:?}: {}", run.stderr);
            assert!(!run.stderr.contains("panicked"), "{line:?}: {}", run.stderr);
        }
    }
}
