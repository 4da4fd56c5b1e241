//! ELF cores that end early, plain or compressed: what is there is right, what is not is missing and counted.
//!
//! Knows fixtures and the readers of outputs. Must not know how the product finds the end. A copy that was truncated may be
//! the only one.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::harness::{Run, filter, run, temp_dir, vdump};
use crate::read::elf::{Elf, Found};
use crate::read::kdump::{INCOMPLETE, Kdump};
use crate::refusal::{badly_failed, none_of};
use crate::synth::elf::{PHDR, Style};
use crate::synth::kernels::era;
use crate::synth::{Fixture, Machine};

const PAGE: u64 = 4096;

fn convert(options: &[&str], input: &Path, output: &Path) -> Run {
    run(vdump().args(["convert", "--force"]).args(options).arg(input).arg(output))
}

/// The pages of which the first `size` bytes of the core have every byte.
fn there(fixture: &Fixture, size: u64) -> BTreeSet<u64> {
    let has = |pfn: &u64| {
        let (from, to) = (pfn * PAGE, (pfn + 1) * PAGE);
        let cut = |(load, at): &(crate::synth::elf::Load, u64)| {
            let (start, end) = (load.paddr.max(from), (load.paddr + load.len).min(to));
            start < end && at + (end - load.paddr) > size
        };
        // The kernel's text is there twice, at the same place in memory; one of the two is enough.
        let whole = |(load, at): &(crate::synth::elf::Load, u64)| {
            load.paddr <= from && to <= load.paddr + load.len && at + (to - load.paddr) <= size
        };
        fixture.placed.loads.iter().any(whole) || !fixture.placed.loads.iter().any(cut)
    };
    fixture.truth.pfns().filter(has).collect()
}

/// Judges what `convert` and `info` make of a core with `size` bytes of the fixture's.
fn judged(label: &str, fixture: &Fixture, size: u64, input: &Path, dir: &Path) -> Vec<String> {
    let mut faults = Vec::new();
    let mut must = |holds: bool, what: String| {
        if !holds {
            faults.push(format!("{label}: {what}"));
        }
    };
    let want = there(fixture, size);
    let lost = fixture.truth.pfns().count() - want.len();
    let (kdump, elf) = (dir.join("cut.kdump"), dir.join("cut.elf"));
    let said = convert(&["--json", "--progress", "none"], input, &kdump).ok();
    convert(&["-f", "elf"], input, &elf).ok();
    let (dump, core) = (Kdump::open(&kdump), Elf::open(&elf));
    must(dump.faults().is_empty(), format!("{:?}", dump.faults()));
    must(dump.kept().into_iter().eq(want.iter().copied()), format!("{} pages, not {}", dump.kept().len(), want.len()));
    must(dump.ram().into_iter().eq(fixture.truth.pfns()), "what was lost is forgotten".into());
    for pfn in &want {
        let page = fixture.image.page(*pfn);
        must(dump.page(*pfn).as_ref() == Ok(&page), format!("page {pfn:#x} differs in kdump"));
        let right = match core.page(*pfn) {
            Found::Stored(stored) => stored == page,
            Found::Unstored => fixture.image.is_zero(*pfn),
            Found::Absent => false,
        };
        must(right, format!("page {pfn:#x} differs in ELF"));
    }
    let shown = fixture.truth.pfns().filter(|pfn| !want.contains(pfn) && core.page(*pfn) != Found::Absent);
    must(shown.count() == 0, "a lost page is shown".into());
    let report: Value = serde_json::from_str(&said.stdout).unwrap();
    must(report["pages"]["absent"] == lost, format!("{} pages absent, not {lost}", report["pages"]["absent"]));
    must(report["complete"] == false, "called complete".into());
    let marks = (dump.field("status") & INCOMPLETE, core.flags() & 1);
    must(marks == (INCOMPLETE, 1), format!("readers are not told that pages are missing: {marks:?}"));
    let words = format!("{lost} pages are lost");
    must(said.stderr.contains(&words), format!("no word of {words}: {}", said.stderr));
    let info = run(vdump().arg("info").arg(input)).ok().stdout;
    must(info.contains(&words) && info.contains(", incomplete"), format!("info is silent: {info}"));
    let out = dir.join("must-not-exist");
    let strict = convert(&["--strict"], input, &out);
    faults.extend(badly_failed(&strict, &out).into_iter().map(|fault| format!("{label} --strict: {fault}")));
    faults
}

#[test]
fn a_plain_core_keeps_the_pages_before_its_end() {
    for style in [Style::ProcVmcore, Style::Qemu] {
        let dir = temp_dir();
        let fixture = Machine { style, ..Machine::small(era("6.12")) }.build(dir.path());
        let placed = fixture.placed.clone();
        let mut faults = Vec::new();
        let cuts = [
            placed.len - 1 - u64::from(style == Style::Qemu),
            placed.len - (8 << 20),
            placed.data_offset + (20 << 20) + 17,
        ];
        for cut in cuts.into_iter().chain([placed.data_offset + 3 * PAGE]) {
            OpenOptions::new().write(true).open(&fixture.path).unwrap().set_len(cut).unwrap();
            faults.extend(judged(&format!("{style:?} cut at {cut}"), &fixture, cut, &fixture.path, dir.path()));
        }
        none_of(&faults);
    }
}

/// The classes of what is left stand as they were: nothing is dropped that the whole core would keep.
#[test]
fn filtering_a_cut_core_drops_no_kernel_page() {
    let dir = temp_dir();
    let fixture = Machine::new(era("6.12")).build(dir.path());
    let kept = fixture.truth.kept(31);
    for part in [3, 8, 9] {
        let cut = fixture.placed.data_offset + (fixture.placed.len - fixture.placed.data_offset) / 10 * part;
        let input = dir.path().join("cut");
        fs::copy(&fixture.path, &input).unwrap();
        OpenOptions::new().write(true).open(&input).unwrap().set_len(cut).unwrap();
        let out = dir.path().join("out");
        let run = filter(&["-d", "31", "--force"], &input, &out);
        if run.code() == Some(1) && run.stderr.contains("-d 0") {
            continue;
        }
        run.ok();
        let dump = Kdump::open(&out);
        let dropped = &(&there(&fixture, cut) & &kept) - &dump.kept();
        assert!(dropped.is_empty(), "{part} tenths: {dropped:x?}");
    }
}

/// A segment that a damaged header puts past the end costs its own pages, and takes no time or memory that it claims.
#[test]
fn segments_past_the_end_are_lost_and_not_believed() {
    let dir = temp_dir();
    let fixture = Machine::small(era("6.12")).build(dir.path());
    let file = File::options().read(true).write(true).open(&fixture.path).unwrap();
    let last = fixture.placed.phoff + PHDR * (fixture.placed.phnum - 1);
    let out = dir.path().join("out");
    file.write_all_at(&(1u64 << 40).to_le_bytes(), last + 8).unwrap();
    convert(&[], &fixture.path, &out).ok();
    let (load, _) = *fixture.placed.loads.last().unwrap();
    assert!(
        Kdump::open(&out).kept().iter().all(|pfn| pfn * PAGE < load.paddr || (pfn * PAGE) >= load.paddr + load.len)
    );
    fs::remove_file(&out).unwrap();
    file.write_all_at(&[(1u64 << 50).to_le_bytes(), (1u64 << 50).to_le_bytes()].concat(), last + 32).unwrap();
    let refused = convert(&["--memory-limit", "64M"], &fixture.path, &out);
    none_of(&badly_failed(&refused, &out));
}

/// Start of each frame in the file, from the table at its end, and where the table starts.
fn frames(bytes: &[u8]) -> (Vec<(usize, usize)>, usize) {
    let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let count = word(bytes.len() - 9);
    let table = bytes.len() - 9 - count * 8;
    let (mut stored, mut plain, mut starts) = (0, 0, Vec::new());
    for frame in 0..count {
        starts.push((stored, plain));
        (stored, plain) = (stored + word(table + frame * 8), plain + word(table + frame * 8 + 4));
    }
    (starts, table - 8)
}

#[test]
fn compressed_cores_without_their_table_are_read_frame_by_frame() {
    let dir = temp_dir();
    // What cannot be dropped: the plain core of this is as the fixture's own, but for the holes.
    let fixture = Machine::small(era("6.12")).build(dir.path());
    for (codec, name) in [("zstd", "packed.elf.zst"), ("lz4", "packed.elf.lz4")] {
        let packed = dir.path().join(name);
        convert(&[], &fixture.path, &packed).ok();
        let bytes = fs::read(&packed).unwrap();
        let (starts, end) = frames(&bytes);
        let plain = dir.path().join("plain");
        fs::write(&plain, unpacked(codec, &packed)).unwrap();
        assert!(starts.len() > 2, "{} frames", starts.len());
        let (last, middle) = (starts[starts.len() - 1], starts[starts.len() / 2]);
        for (label, cut, left) in [
            ("without a table", end, None),
            ("in the table", bytes.len() - 5, None),
            ("in the last frame", end - 1, Some(last.1)),
            ("before the last frame", last.0, Some(last.1)),
            ("in the middle of a frame's header", middle.0 + 5, Some(middle.1)),
            ("in a frame", middle.0 + 40, Some(middle.1)),
        ] {
            fs::write(&packed, &bytes[..cut]).unwrap();
            let out = [dir.path().join("of-packed"), dir.path().join("of-plain")];
            // Nothing may be unpacked beside it.
            let mut command = vdump();
            command.env("TMPDIR", dir.path().join("nowhere")).args(["convert", "--force", "-c", "zlib"]);
            let said = run(command.arg(&packed).arg(&out[0])).ok();
            let size = left.map_or(starts.last().unwrap().1 as u64 * 2, |left| left as u64);
            let model = dir.path().join("model");
            fs::copy(&plain, &model).unwrap();
            if left.is_some() {
                OpenOptions::new().write(true).open(&model).unwrap().set_len(size).unwrap();
            }
            convert(&["-c", "zlib"], &model, &out[1]).ok();
            assert!(fs::read(&out[0]).unwrap() == fs::read(&out[1]).unwrap(), "{codec} cut {label}: another dump");
            assert_eq!(said.stderr.contains("pages are lost"), left.is_some(), "{codec} cut {label}: {}", said.stderr);
            let info = run(vdump().arg("info").arg(&packed)).ok().stdout;
            assert!(info.contains(&format!("{codec} frames without a seek table")), "{info}");
        }
    }
}

fn unpacked(program: &str, packed: &Path) -> Vec<u8> {
    let done = Command::new(program).args(["-d", "-c"]).arg(packed).output().unwrap();
    assert!(done.status.success(), "{program}: {}", String::from_utf8_lossy(&done.stderr));
    done.stdout
}

/// What a full device leaves of a compressed core has a table, and segments that reach past its end.
#[test]
fn what_a_full_device_left_is_read() {
    let dir = temp_dir();
    let fixture = Machine::new(era("6.12")).build(dir.path());
    for name in ["out.elf.zst", "out.elf.lz4"] {
        let (whole, cut) = (dir.path().join("whole.elf"), dir.path().join(name));
        convert(&["-f", "elf"], &fixture.path, &whole).ok();
        convert(&[], &fixture.path, &cut).ok();
        let half = (fs::metadata(&cut).unwrap().len() / 2 / 1024).to_string();
        fs::remove_file(&cut).unwrap();
        let program = vdump().get_program().to_owned();
        let mut limited = Command::new("bash");
        limited.args(["-c", "ulimit -f \"$0\"; exec \"$@\"", &half]).arg(program).arg("convert");
        assert_eq!(run(limited.arg(&fixture.path).arg(&cut)).code(), Some(1));
        let left = dir.path().join(format!("{name}-incomplete"));
        let out = dir.path().join("out");
        let said = convert(&["--json"], &left, &out).ok();
        let dump = Kdump::open(&out);
        let wrong = dump.kept().into_iter().find(|pfn| dump.page(*pfn) != Ok(fixture.image.page(*pfn)));
        assert_eq!(wrong, None, "{name}: a page differs");
        let report: Value = serde_json::from_str(&said.stdout).unwrap();
        let absent = report["pages"]["absent"].as_u64().unwrap();
        assert!(absent > 0 && !dump.kept().is_empty(), "{name}: {absent} absent");
        assert_eq!(dump.kept().len() as u64 + absent, fixture.truth.pfns().count() as u64, "{name}");
    }
}
