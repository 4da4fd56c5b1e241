//! Odd dumps, each a few lines of text in `tests/specs`: what is read of them, and that other readers agree.
//!
//! Knows specifications and the readers of outputs. Must not know the product's readers. libkdumpfile judges the files that
//! the builder makes, so that the builder is not the only one who believes in them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::harness::{Run, run, temp_dir, vdump};
use crate::judge::{PYTHON, libkdumpfile};
use crate::judges::installed;
use crate::read::elf::{Elf, Found};
use crate::read::kdump::Kdump;
use crate::refusal::badly_failed;
use crate::synth::spec::{Case, PIECE, Want, parse};

/// So many kinds of odd dumps there are at the least.
const AT_LEAST: usize = 30;

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/specs");
    let mut paths: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "spec"));
    paths.sort();
    let name = |path: &Path| path.file_stem().unwrap().to_string_lossy().into_owned();
    paths.iter().map(|path| parse(&name(path), &fs::read_to_string(path).unwrap())).collect()
}

fn put(case: &Case, dir: &Path) -> Vec<PathBuf> {
    let path = |(n, bytes): (usize, &Vec<u8>)| {
        let path = dir.join(format!("{}.{n}", case.name));
        fs::write(&path, bytes).unwrap();
        path
    };
    case.files.iter().enumerate().map(path).collect()
}

fn convert(inputs: &[PathBuf], options: &[&str], output: &Path) -> Run {
    run(vdump().args(["convert", "--force"]).args(options).args(inputs).arg(output))
}

/// What is wrong with how the program treats a case; empty if nothing is.
fn faults_of(case: &Case, dir: &Path) -> Vec<String> {
    let inputs = put(case, dir);
    let out = dir.join("out");
    let info = run(vdump().arg("info").args(&inputs));
    if !case.refused.is_empty() {
        return refused(case, &info, &inputs, &dir.join("must-not-exist"));
    }
    let kdump = convert(&inputs, &["--json", "--progress", "plain"], &out);
    if info.code() != Some(0) || kdump.code() != Some(0) {
        return vec![format!("info: {info:?}\nconvert: {kdump:?}")];
    }
    let mut faults = Vec::new();
    for words in case.info.iter().filter(|words| !info.stdout.contains(*words)) {
        faults.push(format!("info does not say {words:?}: {}", info.stdout));
    }
    for words in case.says.iter().filter(|words| !kdump.stderr.contains(*words)) {
        faults.push(format!("convert does not say {words:?}: {}", kdump.stderr));
    }
    let report: Value = serde_json::from_str(&kdump.stdout).unwrap();
    faults.extend(in_kdump(case, &Kdump::open(&out), &report));
    faults.extend(judged(case, "the output", &[out], dir));
    let core = dir.join("out.elf");
    let elf = convert(&inputs, &["-f", "elf"], &core);
    if elf.code() != Some(0) {
        faults.push(format!("to ELF: {elf:?}"));
        return faults;
    }
    faults.extend(in_elf(case, &Elf::open(&core)));
    // The spec's own file, as another reader sees it.
    if case.no_judge.is_none() {
        faults.extend(judged(case, "the dump itself", &inputs, dir));
    }
    faults
}

fn refused(case: &Case, info: &Run, inputs: &[PathBuf], out: &Path) -> Vec<String> {
    let mut faults = Vec::new();
    for (what, run) in [("info", info), ("convert", &convert(inputs, &[], out))] {
        faults.extend(badly_failed(run, out).into_iter().map(|fault| format!("{what}: {fault}")));
        for words in case.refused.iter().filter(|words| !run.stderr.contains(*words)) {
            faults.push(format!("{what} does not say {words:?}: {}", run.stderr));
        }
    }
    faults
}

/// The frames of which any piece is wanted so.
fn frames(case: &Case, is: impl Fn(&Want) -> bool) -> BTreeSet<u64> {
    case.wants.iter().filter(|(_, want)| is(want)).map(|(address, _)| address / case.page).collect()
}

fn in_kdump(case: &Case, dump: &Kdump, report: &Value) -> Vec<String> {
    let mut faults = dump.faults_of(&case.machine, case.page as usize);
    let kept = frames(case, |want| matches!(want, Want::Bytes(_)));
    let existing = frames(case, |want| *want != Want::Absent);
    if dump.kept() != kept || dump.ram() != existing {
        let (more, less) = (&dump.kept() - &kept, &kept - &dump.kept());
        faults.push(format!("kdump: kept {more:x?} more and {less:x?} less; existing {:x?}", &dump.ram() ^ &existing));
    }
    for (address, want) in &case.wants {
        let Want::Bytes(bytes) = want else { continue };
        let page = dump.page(address / case.page);
        let piece = page.as_ref().map(|page| &page[(address % case.page) as usize..][..PIECE as usize]);
        if piece != Ok(bytes.as_slice()) {
            faults.push(format!("kdump: {address:#x} reads as {:?}", piece.map(|piece| &piece[..16])));
        }
    }
    let lost = frames(case, |want| *want == Want::Lost);
    // What lies past the end of a cut core is absent, what cannot be read is named.
    let named: BTreeSet<u64> =
        report["read_errors"].as_array().unwrap().iter().map(|error| error["pfn"].as_u64().unwrap()).collect();
    let cut = report["cut_short"].is_string();
    if !cut && named != lost {
        faults.push(format!("lost are {lost:x?}, and the report names {named:x?}"));
    }
    if cut && report["pages"]["absent"] != lost.len() {
        faults.push(format!("lost are {lost:x?}, and the report counts {}", report["pages"]["absent"]));
    }
    faults
}

fn in_elf(case: &Case, core: &Elf) -> Vec<String> {
    let mut faults = core.faults();
    faults.retain(|fault| fault != "not an x86_64 core" || case.machine == "x86_64");
    let narrow = ["i386", "i686"].contains(&case.machine.as_str()) || case.machine.starts_with("arm");
    let fits = case.wants.iter().all(|(address, want)| *address < 1 << 32 || *want == Want::Absent);
    if core.wide == (narrow && fits) {
        faults.push(format!("ELF: {} bits", if core.wide { 64 } else { 32 }));
    }
    for (address, want) in &case.wants {
        let right = match (want, core.page(address / PIECE)) {
            (Want::Bytes(bytes), Found::Stored(page)) => page == *bytes,
            (Want::Bytes(bytes), Found::Unstored) => bytes.iter().all(|byte| *byte == 0),
            (Want::Bytes(_), Found::Absent) => false,
            (_, found) => found == Found::Absent,
        };
        if !right {
            faults.push(format!("ELF: {address:#x} is not as it should be"));
        }
    }
    faults
}

/// Reads the listed pieces: `ADDRESS HEX` must be these bytes, `ADDRESS -` must fail, `ADDRESS ?` may fail or be zeros.
const READ: &str = "
import sys, kdumpfile
core = kdumpfile.kdumpfile(sys.argv[2])
refusals = (kdumpfile.exceptions.NoDataException, kdumpfile.exceptions.CorruptException)
wrong = 0
for line in open(sys.argv[1]):
    address, want = line.split()
    try:
        got = core.read(kdumpfile.KDUMP_MACHPHYSADDR, int(address), 4096).hex()
    except refusals:
        got = '-'
    zeros = set(got) == {'0'}
    if got != want and not (want == '?' and (got == '-' or zeros)):
        wrong += 1
        print(hex(int(address)), 'is', got[:32], 'and should be', want[:32])
sys.exit(wrong > 0)
";

fn judged(case: &Case, what: &str, files: &[PathBuf], dir: &Path) -> Vec<String> {
    if !libkdumpfile() {
        return Vec::new();
    }
    // It opens one file; makedumpfile makes one of several.
    let joined = dir.join("joined");
    if files.len() > 1 {
        let _ = fs::remove_file(&joined);
        if !installed("makedumpfile") {
            return Vec::new();
        }
        let said = run(Command::new("makedumpfile").arg("--reassemble").args(files).arg(&joined));
        if said.code() != Some(0) {
            return vec![format!("makedumpfile --reassemble: {said:?}")];
        }
    }
    let file = if files.len() > 1 { &joined } else { &files[0] };
    let elf = case.is_elf && what != "the output";
    let line = |(address, want): (&u64, &Want)| match want {
        // In ELF it takes the zeros after a segment's bytes for something that is missing, and the page below a segment
        // for zeros.
        Want::Bytes(bytes) if elf && bytes.iter().all(|byte| *byte == 0) => format!("{address} ?\n"),
        Want::Bytes(bytes) => {
            let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{address} {hex}\n")
        }
        _ if elf => format!("{address} ?\n"),
        _ => format!("{address} -\n"),
    };
    let list = dir.join("list");
    fs::write(&list, case.wants.iter().map(line).collect::<String>()).unwrap();
    let said = run(Command::new(PYTHON).args(["-c", READ]).arg(&list).arg(file));
    match said.code() {
        Some(0) => Vec::new(),
        _ => vec![format!("libkdumpfile on {what}: {}{}", said.stdout, said.stderr)],
    }
}

#[test]
fn every_odd_dump_is_read_as_its_specification_says() {
    let cases = cases();
    let mut faults: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    let mut ran = 0;
    for case in &cases {
        let dir = temp_dir();
        if let Some(kept) = std::env::var_os("VDUMP_SPECS_TO") {
            put(case, Path::new(&kept));
        }
        let found = faults_of(case, dir.path());
        if !found.is_empty() {
            faults.insert(&case.name, found);
        }
        ran += 1;
    }
    let shown =
        |(name, found): (&&str, &Vec<String>)| format!("{name}:\n  {}\n", found[..found.len().min(6)].join("\n  "));
    assert!(faults.is_empty(), "{} of {}\n{}", faults.len(), cases.len(), faults.iter().map(shown).collect::<String>());
    assert!(ran == cases.len() && ran >= AT_LEAST, "only {ran} specifications");
}

/// A specification that expects nothing proves nothing.
#[test]
fn every_specification_says_what_it_expects() {
    for case in cases() {
        let says = !case.refused.is_empty() || (case.listed.len() >= 2 && !case.info.is_empty());
        assert!(says, "{}: list at least two addresses and a word of `info`, or the refusal", case.name);
    }
}
