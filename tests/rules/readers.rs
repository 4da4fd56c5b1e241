//! Readers themselves say whether they open what `vdump check` says they open.
//!
//! Knows how to ask crash, gdb, libkdumpfile and drgn. Must not know rules. (makedumpfile wants a whole kernel: it judges the
//! real one.)

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use super::corpus::corpus;
use super::{checked, put, sound};
use crate::harness::{Run, run, temp_dir, vdump};
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
        // Nobody says anything.
        "unknown" => false,
        _ => seen.opened,
    }
}

/// Where drgn does otherwise than the rule says: a mark that is truncated counts as whole, and what this builder leaves
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

/// The version in `program -v`'s first line, as numbers.
fn version(program: &str) -> Vec<u32> {
    let said = Command::new(program).arg("-v").output().map(|done| done.stdout).unwrap_or_default();
    let said = String::from_utf8_lossy(&said).into_owned();
    let word = said.split(|c: char| c.is_whitespace() || c == ',').find(|word| word.contains('.')).unwrap_or_default();
    numbers(word)
}

fn numbers(version: &str) -> Vec<u32> {
    version.split('.').map_while(|number| number.parse().ok()).collect()
}

/// The repository's own dump, as an ELF core, as QEMU would lay that out, and as kdump: a reader that is promised to open one does,
/// and one that is said to refuse it refuses.
#[test]
fn predictions_hold_for_a_real_kernel() {
    let dir = temp_dir();
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vmcore-6.12.zst");
    let names = ["core", "qemu", "kdump", "no-names"].map(|name| dir.path().join(name));
    let [core, qemu, kdump, no_names] = &names;
    run(vdump().args(["convert", "-f", "elf", "-c", "none", "--progress", "none"]).args([&packed, core])).ok();
    run(vdump().args(["convert", "-c", "zlib", "--progress", "none"]).args([core, kdump])).ok();
    let mut bytes = fs::read(core).unwrap();
    let table = 64..64 + 56 * usize::from(u16::from_le_bytes(bytes[56..58].try_into().unwrap()));
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
    // The notes, which follow the headers, make room for them.
    let (notes, moved) = (word(table.start + 8)..word(table.start + 8) + word(table.start + 32), 1024);
    bytes.copy_within(notes, moved);
    bytes[table.start + 8..table.start + 16].copy_from_slice(&(moved as u64).to_le_bytes());
    bytes.copy_within(table, 192);
    bytes[32] = 192;
    fs::write(qemu, bytes).unwrap();
    let mut bytes = fs::read(kdump).unwrap();
    // QEMU fills in the machine alone.
    bytes[12..12 + 4 * 65].fill(0);
    fs::write(no_names, bytes).unwrap();
    let (with_library, drgn) = (libkdumpfile(), drgn());
    let opens = |reader: &str, path: &Path| -> Option<bool> {
        match reader {
            "gdb" if installed("gdb") => Some(gdb(path).opened),
            "libkdumpfile" if with_library => Some(python(Path::new(PYTHON), LIBKDUMPFILE, path).opened),
            "drgn" => drgn.as_deref().map(|interpreter| python(interpreter, DRGN, path).opened),
            "makedumpfile" if installed("makedumpfile") => {
                let out = dir.path().join("judged");
                let done = run(Command::new("makedumpfile").args(["-l", "-d", "1"]).arg(path).arg(&out));
                let _ = fs::remove_file(out);
                Some(done.code() == Some(0))
            }
            _ => None,
        }
    };
    let mut faults = Vec::new();
    for path in &names {
        let report = checked(std::slice::from_ref(path)).1.unwrap();
        for prediction in report["readers"].as_array().unwrap() {
            let (reader, said) = (prediction["reader"].as_str().unwrap(), prediction["opens"].as_str().unwrap());
            let Some(opened) = opens(reader, path) else { continue };
            let newer = prediction["since"]
                .as_str()
                .is_some_and(|since| reader == "makedumpfile" && numbers(since) > version("makedumpfile"));
            let wrong = match said {
                "yes" | "partly" => !opened && !newer,
                "no" => opened,
                _ => false,
            };
            if wrong {
                faults.push(format!("{}: {prediction}, but opened: {opened}", path.display()));
            }
        }
        let said = |reader: &str| {
            let found = report["readers"].as_array().unwrap().iter().find(|line| line["reader"] == reader);
            found.unwrap()["opens"].clone()
        };
        let wanted = [("makedumpfile", path != qemu), ("drgn", path != no_names)];
        assert!(wanted.iter().all(|(reader, opens)| (said(reader) == "yes") == *opens), "{}: {report}", path.display());
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
