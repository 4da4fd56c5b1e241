//! Whether an outside judge is installed, and what happens to a test whose judge is not.
//!
//! `tests/run` sets `VDUMP_REQUIRE_JUDGES`: then a missing judge fails the test. Without it (a plain `cargo test` on a
//! machine that lacks some tool) the test ends early, and says why in the file that `VDUMP_SKIPPED` names, if any.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

/// Whether the shell finds `program`. A judge that is required and missing fails the test.
pub fn installed(program: &str) -> bool {
    succeeds("sh", &["-c", &format!("command -v {program}")]) || missing(&format!("{program} is not installed"))
}

/// Whether Python's `interpreter` has `module`, which Debian ships as `package`.
#[allow(dead_code, reason = "the purgatory's tests have no judge in Python")]
pub fn python_has(interpreter: &str, module: &str, package: &str) -> bool {
    succeeds(interpreter, &["-c", &format!("import {module}")]) || missing(&format!("{package} is not installed"))
}

/// Whether this user may make mount namespaces, which tests with full and failing disks need.
#[allow(dead_code, reason = "the purgatory's tests mount nothing")]
pub fn mount_namespaces() -> bool {
    succeeds("unshare", &["-rm", "sh", "-c", "mount -t tmpfs none /mnt"]) || missing("no mount namespaces here")
}

/// The lab's Python, which has drgn (`tests/vm/lab.py judges` makes it).
#[allow(dead_code, reason = "the purgatory's tests have no judge in Python")]
pub fn drgn() -> Option<PathBuf> {
    let lab = std::env::var_os("VDUMP_LAB").map(PathBuf::from);
    let lab = lab.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/vdump-lab")));
    let python = lab.unwrap_or_default().join("venv/bin/python");
    let there = succeeds(&python, &["-c", "import drgn"]) || missing("drgn is not installed: tests/vm/lab.py judges");
    there.then_some(python)
}

/// A judge is missing: fails where judges are required, else the caller ends its test.
pub fn missing(reason: &str) -> bool {
    assert!(std::env::var_os("VDUMP_REQUIRE_JUDGES").is_none(), "{reason}, and VDUMP_REQUIRE_JUDGES is set");
    skip(reason);
    false
}

/// Counts the running test as skipped, for a reason that no installation cures.
pub fn skip(reason: &str) {
    let test = thread::current().name().unwrap_or("a test").to_owned();
    eprintln!("{test}: skipped: {reason}");
    if let Some(list) = std::env::var_os("VDUMP_SKIPPED") {
        let mut list = OpenOptions::new().append(true).create(true).open(list).unwrap();
        writeln!(list, "{test}: {reason}").unwrap();
    }
}

fn succeeds(program: impl AsRef<OsStr>, args: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
