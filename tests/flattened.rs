//! Flattened dumps, as they come out of a pipe: read here, and written.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::harness::{filter, run, temp_dir, vdump};
use crate::judges::installed;
use crate::read::kdump::Kdump;
use crate::refusal::{fails_well, none_of};
use crate::synth::kernels::era;
use crate::synth::wrap::{flat_header, flatten, record};
use crate::synth::{Fixture, Machine};

fn small(dir: &Path) -> Fixture {
    Machine::small(era("6.1")).build(dir)
}

fn core(fixture: &Fixture, dir: &Path) -> (PathBuf, Vec<u8>) {
    let path = dir.join("core.elf");
    filter(&["-d", "1", "--force"], &fixture.path, &path).ok();
    let bytes = fs::read(&path).unwrap();
    (path, bytes)
}

#[test]
fn an_elf_core_in_records_reads_as_the_core() {
    let dir = temp_dir();
    let fixture = small(dir.path());
    let (path, core) = core(&fixture, dir.path());
    let expected = dir.path().join("expected");
    filter(&["-d", "31"], &path, &expected).ok();
    let flat = dir.path().join("flat");
    let out = dir.path().join("out");
    let count = |part: usize| core.len().div_ceil(part);
    for (part, backwards) in [(1 << 20, false), (5000, true)] {
        let order = |index| if backwards { count(part) - 1 - index } else { index };
        fs::write(&flat, flatten(&core, part, order)).unwrap();
        filter(&["-d", "31", "--force"], &flat, &out).ok();
        assert!(fs::read(&out).unwrap() == fs::read(&expected).unwrap(), "records of {part} bytes");
    }
    let shown = run(vdump().arg("info").arg(&flat)).ok().stdout;
    assert!(shown.contains("flattened"), "{shown}");
    // A saved stream is often compressed.
    let packed = dir.path().join("flat.zst");
    fs::write(&packed, zstd::encode_all(fs::File::open(&flat).unwrap(), 1).unwrap()).unwrap();
    filter(&["-d", "31", "--force"], &packed, &out).ok();
    assert!(fs::read(&out).unwrap() == fs::read(&expected).unwrap(), "inside zstd");
}

#[test]
fn what_makedumpfile_flattens_reads_as_the_core() {
    if !installed("makedumpfile") {
        return;
    }
    let dir = temp_dir();
    let fixture = small(dir.path());
    let flat = dir.path().join("flat");
    let mut command = Command::new("makedumpfile");
    command.args(["-E", "-F", "-d", "0"]).arg(&fixture.path).stdout(fs::File::create(&flat).unwrap());
    let done = command.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let rearranged = dir.path().join("rearranged");
    let mut back = Command::new("makedumpfile");
    run(back.arg("-R").arg(&rearranged).stdin(fs::File::open(&flat).unwrap())).ok();
    let outputs = [flat, rearranged].map(|input| {
        let out = dir.path().join("out");
        filter(&["-d", "0", "-f", "elf", "--force"], &input, &out).ok();
        fs::read(&out).unwrap()
    });
    assert!(outputs[0] == outputs[1], "another core than makedumpfile -R makes");
}

#[test]
fn broken_streams_are_refused() {
    let dir = temp_dir();
    let fixture = small(dir.path());
    let (_, core) = core(&fixture, dir.path());
    let whole = flatten(&core, 1 << 20, |index| index);
    let flat = dir.path().join("flat");
    let mut faults = Vec::new();
    for cut in [12, 16, 4095, 4096, 4111, 4112, 5000, 4112 + (1 << 20), whole.len() - 16, whole.len() - 1] {
        fs::write(&flat, &whole[..cut]).unwrap();
        faults.extend(fails_well(&format!("cut at {cut}"), &flat, dir.path()));
    }
    let without_end = &whole[..whole.len() - 16];
    let mut other_version = whole.clone();
    other_version[31] = 2;
    for (what, bytes) in [
        ("a header that a later record overwrites", [without_end, &record(0, 4), b"1234", &record(-1, -1)].concat()),
        ("an empty record", [without_end, &record(1 << 40, 0), &record(-1, -1)].concat()),
        ("a negative offset", [without_end, &record(-5, 4), b"1234", &record(-1, -1)].concat()),
        ("a huge record", [without_end, &record(1 << 40, i64::MAX), &record(-1, -1)].concat()),
        ("half an end mark", [without_end, &record(-1, 0)].concat()),
        ("another version", other_version),
        ("no records", [flat_header(), record(-1, -1)].concat()),
        (
            "itself in itself",
            flatten(
                &flatten(&flatten(&flatten(&core, 1 << 20, |n| n), 1 << 20, |n| n), 1 << 20, |n| n),
                1 << 20,
                |n| n,
            ),
        ),
    ] {
        fs::write(&flat, bytes).unwrap();
        faults.extend(fails_well(what, &flat, dir.path()));
    }
    none_of(&faults);
    fs::write(&flat, without_end).unwrap();
    let said = filter(&[], &flat, &dir.path().join("none")).stderr;
    assert!(said.contains("makedumpfile") && said.contains("without the mark"), "{said}");
}

/// Runs `vdump filter OPTIONS INPUT -` into a file.
fn piped(options: &[&str], input: &Path, out: &Path) {
    let mut command = vdump();
    command.arg("filter").args(options).arg(input).arg("-").stdout(fs::File::create(out).unwrap());
    let done = command.output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// Offsets and data of all records, in the order in which they come.
fn records(flat: &[u8]) -> Vec<(usize, &[u8])> {
    assert_eq!(&flat[..4096], flat_header());
    let mut records = Vec::new();
    let mut at = 4096;
    loop {
        let word = |at: usize| i64::from_be_bytes(flat[at..at + 8].try_into().unwrap());
        let (offset, len) = (word(at), word(at + 8));
        at += 16;
        if (offset, len) == (-1, -1) {
            assert_eq!(at, flat.len(), "something after the end mark");
            return records;
        }
        records.push((offset as usize, &flat[at..at + len as usize]));
        at += len as usize;
    }
}

#[test]
fn a_kdump_file_in_a_pipe_is_the_file() {
    let dir = temp_dir();
    let fixture = Machine::new(era("6.12")).build(dir.path());
    for options in [["-d", "31", "-c", "zstd", "-j", "1"], ["-d", "1", "-c", "none", "-j", "3"]] {
        let (file, flat) = (dir.path().join("file"), dir.path().join("flat"));
        filter(&[&options[..], &["--force"]].concat(), &fixture.path, &file).ok();
        piped(&options, &fixture.path, &flat);
        let (expected, flat) = (fs::read(&file).unwrap(), fs::read(&flat).unwrap());
        let records = records(&flat);
        let mut plain = vec![0; expected.len()];
        for (offset, data) in &records {
            plain[*offset..offset + data.len()].copy_from_slice(data);
        }
        assert!(plain == expected, "{options:?}: another file");
        // What crash and libkdumpfile ask of the records.
        let (last, others) = records.split_last().unwrap();
        assert!(others.windows(2).all(|pair| pair[0].0 < pair[1].0) && last.0 == others[0].1.len());
        assert!(others[1..others.len() - 1].iter().all(|(_, data)| data.len() >= 1 << 20), "small records");
        let mut sorted = records.clone();
        sorted.sort_unstable_by_key(|(offset, _)| *offset);
        let end = sorted.iter().fold(0, |at, (offset, data)| {
            assert_eq!(*offset, at, "a gap or an overlap");
            at + data.len()
        });
        assert!(end == expected.len() && end >= 64 << 10);
    }
}

#[test]
fn makedumpfile_makes_the_file_of_it() {
    if !installed("makedumpfile") {
        return;
    }
    let dir = temp_dir();
    let fixture = small(dir.path());
    let (file, flat, back) = (dir.path().join("file"), dir.path().join("flat"), dir.path().join("back"));
    filter(&[], &fixture.path, &file).ok();
    piped(&[], &fixture.path, &flat);
    let mut command = Command::new("makedumpfile");
    run(command.arg("-R").arg(&back).stdin(fs::File::open(&flat).unwrap())).ok();
    assert!(fs::read(&back).unwrap() == fs::read(&file).unwrap());
}

#[test]
fn an_elf_core_in_a_pipe_is_the_file() {
    let dir = temp_dir();
    let fixture = small(dir.path());
    for codec in ["none", "zstd", "lz4"] {
        let options = ["-f", "elf", "-c", codec, "-d", "1"];
        let (file, pipe) = (dir.path().join("file"), dir.path().join("pipe"));
        filter(&[&options[..], &["--force"]].concat(), &fixture.path, &file).ok();
        piped(&options, &fixture.path, &pipe);
        assert!(fs::read(&file).unwrap() == fs::read(&pipe).unwrap(), "{codec}");
    }
}

#[test]
fn a_page_that_cannot_be_read_is_an_error_in_the_flattened_dump() {
    let dir = temp_dir();
    let fixture = small(dir.path());
    let packed = dir.path().join("packed.zst");
    filter(&["-d", "0"], &fixture.path, &packed).ok();
    let mut bytes = fs::read(&packed).unwrap();
    let end = bytes.len();
    let frames = u32::from_le_bytes(bytes[end - 9..end - 5].try_into().unwrap()) as usize;
    bytes[end - 9 - frames * 8 - 9] ^= 1;
    fs::write(&packed, &bytes).unwrap();
    let (flat, plain) = (dir.path().join("flat"), dir.path().join("plain"));
    piped(&["-d", "0"], &packed, &flat);
    let flat = fs::read(&flat).unwrap();
    let mut file = Vec::new();
    for (offset, data) in records(&flat) {
        file.resize(file.len().max(offset + data.len()), 0);
        file[offset..offset + data.len()].copy_from_slice(data);
    }
    fs::write(&plain, file).unwrap();
    let dump = Kdump::open(&plain);
    let (mut lost, mut right) = (0, 0);
    for pfn in fixture.truth.kept(0) {
        match dump.page(pfn) {
            Ok(page) => right += usize::from(page == fixture.image.page(pfn)),
            Err(why) => lost += usize::from(why.starts_with("lost")),
        }
    }
    assert!((1..=256).contains(&lost), "{lost} pages");
    assert_eq!(lost + right, fixture.truth.kept(0).len());
}

#[test]
fn a_reader_that_ends_early_and_a_report_in_the_dump_are_errors() {
    let dir = temp_dir();
    let fixture = small(dir.path());
    let mut command = vdump();
    command.args(["filter", "--progress", "none", "-d", "0", "-c", "none"]).arg(&fixture.path).arg("-");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let done = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{said}");
    assert!(said.lines().count() == 1 && said.contains("Broken pipe"), "{said}");
    let refused = run(vdump().args(["filter", "--json"]).arg(&fixture.path).arg("-"));
    assert_eq!((refused.code(), refused.stdout.as_str()), (Some(2), ""), "{}", refused.stderr);
    assert!(!Path::new("-").exists());
}
