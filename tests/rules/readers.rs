//! Readers themselves say whether they open what `vdump check` says they open.
//!
//! Knows how to ask crash, gdb, libkdumpfile and drgn. Must not know rules. (makedumpfile wants a whole kernel: the tests
//! on real ones ask it.)

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::corpus::corpus;
use super::{checked, put, sound};
use crate::harness::{Run, run, temp_dir};
use crate::judge::{PYTHON, libkdumpfile};
use crate::judges::{drgn, installed};

/// Opens a dump, says so, reads each page that it finds, and says how many it could not.
const LIBKDUMPFILE: &str = "
import sys, kdumpfile
core = kdumpfile.kdumpfile(sys.argv[1])
size = core.attr['arch.page_size']
bits = core.attr['file.pagemap'].get_bits(0, core.attr['max_pfn'] - 1)
print('opened', flush=True)
bad = 0
for pfn in (at * 8 + bit for at, byte in enumerate(bits) for bit in range(8) if byte >> bit & 1):
    try:
        core.read(kdumpfile.KDUMP_MACHPHYSADDR, pfn * size, size)
    except Exception:
        bad += 1
print(bad)
";

/// The same; which pages are there it does not tell.
const DRGN: &str = "
import sys, drgn
core = drgn.Program()
core.set_core_dump(sys.argv[1])
print('opened')
";

/// libkdumpfile before this one knows no flattened files.
const FLATTENED: &str = "0.5.3";

#[derive(Debug)]
struct Seen {
    opened: bool,
    bad: Option<u64>,
}

fn seen(run: &Run) -> Seen {
    let mut lines = run.stdout.lines();
    let opened = lines.next() == Some("opened");
    // One that dies of a page has at least that one missing.
    Seen { opened, bad: lines.next().map_or(Some(1), |line| line.parse().ok()) }
}

fn gdb(path: &Path) -> Seen {
    let mut command = Command::new("gdb");
    command.args(["-batch", "-nx", "-ex"]).arg(format!("core-file {}", path.display())).args(["-ex", "info files"]);
    let run = run(command.stdin(Stdio::null()));
    let refused = run.stderr.contains("is not a core dump") || run.stdout.contains("is not a core dump");
    Seen { opened: !refused, bad: None }
}

fn python(interpreter: &Path, program: &str, path: &Path) -> Seen {
    seen(&run(Command::new(interpreter).args(["-c", program]).arg(path).stdin(Stdio::null())))
}

/// What is wrong with a prediction.
fn wrong(prediction: &Value, seen: &Seen) -> bool {
    match prediction["opens"].as_str().unwrap() {
        "yes" => !seen.opened || seen.bad.is_some_and(|bad| bad > 0),
        "partly" => !seen.opened,
        _ => seen.opened,
    }
}

/// Where drgn does otherwise than the rule says: a mark that is cut short counts as whole, and what this builder leaves
/// behind the shorter sub header of version 4 is taken for fields.
const KNOWN: [(&str, &str); 2] = [("flattened: half an end mark", "drgn"), ("kdump v4", "drgn")];

#[test]
fn predictions_hold() {
    let (with_gdb, with_library, drgn) = (installed("gdb"), libkdumpfile(), drgn());
    let crash = installed("crash");
    let dir = temp_dir();
    let mut faults = Vec::new();
    let all = sound::synthetic().into_iter().chain(corpus().into_iter().map(|broken| (broken.label, broken.files)));
    for (label, files) in all.filter(|(_, files)| files.len() == 1) {
        let paths = put(dir.path(), &files);
        let report = checked(&paths).1.unwrap();
        for prediction in report["readers"].as_array().unwrap() {
            let flattened = prediction["since"].as_str().is_some_and(|since| since >= FLATTENED);
            let reader = prediction["reader"].as_str().unwrap();
            let seen = match reader {
                "gdb" if with_gdb => gdb(&paths[0]),
                "libkdumpfile" if with_library && !flattened => python(Path::new(PYTHON), LIBKDUMPFILE, &paths[0]),
                "drgn" => match &drgn {
                    Some(interpreter) => Seen { bad: None, ..python(interpreter, DRGN, &paths[0]) },
                    None => continue,
                },
                _ => continue,
            };
            if wrong(prediction, &seen) && !KNOWN.contains(&(label.as_str(), reader)) {
                faults.push(format!("{label}: {prediction} but {seen:?}"));
            }
        }
        // crash shows a release without a kernel's symbols, if it opens the dump of a machine like ours.
        if crash && report["readers"][0]["opens"] == "yes" && !label.contains("ELF32") {
            let run = run(Command::new("crash").arg("--osrelease").args(&paths).stdin(Stdio::null()));
            let known = ["notes-vmcoreinfo", "vmcoreinfo-osrelease"];
            let told = !super::names(&report, "broken").iter().any(|rule| known.contains(&rule.as_str()));
            if told && run.stdout.lines().last() != Some("5.14.0-synthetic") {
                faults.push(format!("{label}: crash does not open it: {run:?}"));
            }
        }
    }
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}
