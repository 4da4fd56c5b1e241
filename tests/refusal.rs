//! What a good refusal is: exit code 1, one line on stderr that says why, and no file.
//!
//! Knows runs. Must not know what was wrong with the input. Serves `faults` and `lies`.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{Run, filter};

/// Says what is wrong with how a run failed; empty if it failed well.
pub fn badly_failed(run: &Run, out: &Path) -> Vec<String> {
    let mut faults = Vec::new();
    let mut must = |holds: bool, what: &str| {
        if !holds {
            faults.push(format!("{what}: exit {:?}, stderr {:?}", run.code(), run.stderr));
        }
    };
    must(run.code() == Some(1), "exit code is not 1");
    must(run.stderr.lines().count() == 1, "not one line");
    must(run.stderr.starts_with("vdump: "), "does not start with `vdump: `");
    must(!run.stderr.contains("panicked"), "panicked");
    must(!out.exists(), "left an output");
    must(!incomplete(out).exists(), "left an -incomplete file");
    faults
}

fn incomplete(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push("-incomplete");
    name.into()
}

pub fn fails_well(label: &str, input: &Path, dir: &Path) -> Vec<String> {
    let out = dir.join("must-not-exist");
    let faults = badly_failed(&filter(&["-d", "31"], input, &out), &out);
    let _ = fs::remove_file(&out);
    let _ = fs::remove_file(incomplete(&out));
    faults.into_iter().map(|f| format!("{label}: {f}")).collect()
}

#[track_caller]
pub fn none_of(faults: &[String]) {
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}
