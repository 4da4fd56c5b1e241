//! Dumps that break no rule, from every writer.
//!
//! Knows writers. Must not know rules: none may be broken.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::layers::{END, flattened, seekable, stream};
use super::{checked, elf, kdump, names, put};
use crate::harness::{filter, run, temp_dir, vdump};
use crate::judge::undisputed;
use crate::judges::installed;
use crate::synth::core::Core;
use crate::synth::kdump::Spec;

/// By name: files that are whole dumps.
pub fn synthetic() -> Vec<(String, Vec<Vec<u8>>)> {
    let mut all = Vec::new();
    for version in 3..=6 {
        all.push((format!("kdump v{version}"), vec![Spec { version, ..kdump::plain() }.build().0]));
    }
    let large = Spec { block: 65536, ..kdump::plain() };
    let mut wide = Spec { pages: Default::default(), ..large }.with_pages(1..9, &[crate::synth::kdump::Stored::Zstd]);
    wide.info = wide.info.replace("PAGESIZE=4096", "PAGESIZE=65536");
    all.push(("kdump of 64 KiB pages".to_owned(), vec![wide.build().0]));
    all.push((
        "kdump with its bitmaps at 64 KiB".to_owned(),
        vec![Spec { sub_blocks: 15, ..kdump::plain() }.build().0],
    ));
    all.push(("split kdump".to_owned(), kdump::parts(&[64, 128, 5000])));
    all.push(("split kdump out of order".to_owned(), kdump::parts(&[64, 128, 5000]).into_iter().rev().collect()));
    let (dump, core) = (kdump::plain().build().0, elf::plain().build());
    all.push(("ELF64".to_owned(), vec![core.clone()]));
    all.push(("ELF32".to_owned(), vec![Core::narrow(elf::notes()).build()]));
    all.push(("flattened kdump".to_owned(), vec![stream(&flattened(&dump), &END)]));
    all.push(("flattened ELF".to_owned(), vec![stream(&flattened(&core), &END)]));
    all.push(("seekable ELF".to_owned(), vec![seekable(&core)]));
    all.push(("seekable kdump".to_owned(), vec![seekable(&dump)]));
    let pack = |bytes: &[u8]| zstd::encode_all(bytes, 3).unwrap();
    all.push(("kdump in zstd".to_owned(), vec![pack(&dump)]));
    all.push(("flattened ELF in zstd".to_owned(), vec![pack(&stream(&flattened(&core), &END))]));
    all.push(("seekable flattened kdump".to_owned(), vec![seekable(&stream(&flattened(&dump), &END))]));
    all.push(("flattened seekable ELF".to_owned(), vec![stream(&flattened(&seekable(&core)), &END)]));
    all
}

fn sound(label: &str, paths: &[PathBuf]) -> Option<String> {
    let Some(report) = checked(paths).1 else { return Some(format!("{label}: no report")) };
    let broken = names(&report, "broken");
    (!broken.is_empty() || report["whole"] != true).then(|| format!("{label}: {broken:?}"))
}

#[test]
fn sound_dumps_break_no_rule() {
    let dir = temp_dir();
    let all = synthetic();
    let faults: Vec<String> = all.iter().filter_map(|(label, files)| sound(label, &put(dir.path(), files))).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

fn to_pipe(options: &[&str], input: &Path, output: &Path) {
    let mut command = vdump();
    command.arg("filter").args(["--progress", "none"]).args(options).arg(input).arg("-");
    let done = command.stdout(fs::File::create(output).unwrap()).stderr(Stdio::piped()).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn what_vdump_writes_breaks_no_rule() {
    let dir = temp_dir();
    let fixture = undisputed("6.12").build(dir.path());
    let out = dir.path().join("out");
    let mut faults: Vec<String> = sound("vmcore", std::slice::from_ref(&fixture.path)).into_iter().collect();
    let kdump = ["none", "zlib", "lzo", "snappy", "zstd"].map(|codec| ("kdump", codec));
    let elf = ["none", "zstd", "lz4"].map(|codec| ("elf", codec));
    for (format, codec) in kdump.into_iter().chain(elf) {
        for level in ["1", "31"] {
            let options = ["-f", format, "-c", codec, "-d", level];
            filter(&[&options[..], &["--force"]].concat(), &fixture.path, &out).ok();
            faults.extend(sound(&format!("{format} {codec} -d {level}"), std::slice::from_ref(&out)));
        }
        to_pipe(&["-f", format, "-c", codec], &fixture.path, &out);
        faults.extend(sound(&format!("{format} {codec} in a pipe"), std::slice::from_ref(&out)));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// makedumpfile gives a segment that it drops wholly the offset 0, also the first one; then crash 8.0.2 does not open its
/// ELF dump ("cannot realloc resized ELF header buffer"). Real kernels' first segment is the kernel image.
const THEIR_FAULT: &str = "elf-first-offset";
/// It also writes program headers into its stream again, once they are known.
const WRITTEN_AGAIN: &str = "flattened-once";

#[test]
fn what_makedumpfile_writes_breaks_no_rule() {
    if !installed("makedumpfile") {
        return;
    }
    let dir = temp_dir();
    let fixture = undisputed("6.1").build(dir.path());
    let mut faults = Vec::new();
    for options in [&["-c"][..], &["-l"], &["-d", "0"], &["-E"]] {
        let (file, flat) = (dir.path().join("theirs"), dir.path().join("flat"));
        run(Command::new("makedumpfile").args(["-f", "-d", "31"]).args(options).arg(&fixture.path).arg(&file)).ok();
        let mut command = Command::new("makedumpfile");
        command.args(["-F", "-d", "31"]).args(options).arg(&fixture.path).stdin(Stdio::null()).stderr(Stdio::null());
        assert!(command.stdout(fs::File::create(&flat).unwrap()).status().unwrap().success());
        for path in [file, flat] {
            let report = checked(std::slice::from_ref(&path)).1.unwrap();
            let mut broken = names(&report, "broken");
            broken.remove(THEIR_FAULT);
            if options == ["-E"] {
                broken.remove(WRITTEN_AGAIN);
            }
            if !broken.is_empty() || report["whole"] != true {
                faults.push(format!("{options:?} {}: {broken:?}", path.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
