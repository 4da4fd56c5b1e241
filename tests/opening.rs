//! Inputs that claim much before a page is read: opening them takes little memory and time, and what memory cannot bear is refused with
//! the number that would do.
//!
//! Memory is limited by `ulimit -v`, which no program gets around: what was held before was several times as much.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use crate::bounds::claiming_bytes;
use crate::disks::limited;
use crate::harness::{Run, run, temp_dir, vdump};
use crate::read::kdump::Kdump;
use crate::synth::kdump::{Spec, Stored};

const PAGE: usize = 4096;
/// Addresses in KiB: 192 MiB.
const ADDRESSES: &str = "ulimit -v 196608";

fn within<'a>(limits: &str, args: &[&'a str], inputs: &[&'a Path]) -> Run {
    let inputs = inputs.iter().map(|path| path.to_str().unwrap());
    run(&mut limited(limits, args.iter().copied().chain(inputs)))
}

/// What frame `pfn` holds: one of a few hundred pages.
fn text(pfn: u64) -> Vec<u8> {
    let line = format!("{:#x} is one of many; ", pfn % 251);
    line.as_bytes().iter().copied().cycle().take(PAGE).collect()
}

/// Frames of a scattered dump, those of it that are dumped, and those that exist.
const FRAMES: u64 = 200_000;
const DUMPED: fn(u64) -> bool = |pfn| pfn % 2 == 0 && !(60_000..140_000).contains(&pfn);
const EXISTS: fn(u64) -> bool = |pfn| DUMPED(pfn) || pfn % 5 == 1;

/// A dump of which every other frame is left out: more runs of frames than are held as such.
fn scattered(path: &Path) {
    let (mut bytes, areas) = Spec::new(6, PAGE as u64, FRAMES).with_pages(0..1, &[Stored::Raw]).build();
    bytes.truncate(areas.descs);
    let mut set = |plane: usize, pfn: u64| bytes[plane + pfn as usize / 8] |= 1 << (pfn % 8);
    for pfn in 0..FRAMES {
        if EXISTS(pfn) {
            set(areas.bitmap1, pfn);
        }
        if DUMPED(pfn) {
            set(areas.bitmap2, pfn);
        }
    }
    let dumped: Vec<u64> = (0..FRAMES).filter(|pfn| DUMPED(*pfn)).collect();
    let data = (areas.descs + 24 * dumped.len()).next_multiple_of(PAGE);
    for pfn in &dumped {
        bytes.extend((data as u64 + pfn % 251 * PAGE as u64).to_le_bytes());
        bytes.extend((PAGE as u32).to_le_bytes());
        bytes.extend([0; 12]);
    }
    bytes.resize(data, 0);
    (0..251).for_each(|pfn| bytes.extend(text(pfn)));
    fs::write(path, bytes).unwrap();
}

#[test]
fn scattered_pages_are_all_found() {
    let dir = temp_dir();
    let (input, out) = (dir.path().join("in"), dir.path().join("out"));
    scattered(&input);
    let info = run(vdump().arg("info").arg(&input)).ok().stdout;
    assert!(info.contains("more ranges") && info.lines().count() < 100, "{info}");
    for command in ["convert", "merge"] {
        run(vdump().args([command, "--force", "--progress", "none", "--memory-limit", "24M"]).arg(&input).arg(&out))
            .ok();
        let dump = Kdump::open(&out);
        assert!(dump.kept().into_iter().eq((0..FRAMES).filter(|pfn| DUMPED(*pfn))), "{command}");
        assert!(dump.ram().into_iter().eq((0..FRAMES).filter(|pfn| EXISTS(*pfn))), "{command}");
        for pfn in (0..FRAMES).filter(|pfn| DUMPED(*pfn)).step_by(397) {
            assert!(dump.page(pfn).unwrap() == text(pfn), "{command}: {pfn:#x}");
        }
    }
    let parts: Vec<_> = (1..=3).map(|part| dir.path().join(format!("part-{part}"))).collect();
    run(vdump().args(["convert", "--split", "3"]).arg(&input).arg(dir.path().join("part"))).ok();
    run(vdump().args(["convert", "--force"]).args(&parts).arg(&out)).ok();
    let dump = Kdump::open(&out);
    for pfn in (0..FRAMES).filter(|pfn| DUMPED(*pfn)).step_by(397) {
        assert!(dump.page(pfn).unwrap() == text(pfn), "in parts: {pfn:#x}");
    }
}

/// 2^25 frames, of which every other one exists, in 8 MB of bitmaps: 32 bytes for each made a gigabyte.
#[test]
fn bitmaps_of_many_runs_take_little_memory() {
    let dir = temp_dir();
    let input = dir.path().join("in");
    let (mut bytes, areas) = Spec::new(6, PAGE as u64, 1 << 25).with_pages(0..1, &[Stored::Raw]).build();
    bytes[areas.bitmap1..areas.descs].fill(0x55);
    fs::write(&input, bytes).unwrap();
    let info = within(ADDRESSES, &["info"], &[&input]).ok().stdout;
    assert!(info.contains("and 16777152 more ranges"), "{info}");
    let json = within(ADDRESSES, &["info", "--json"], &[&input]).ok().stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["ram_ranges"], 16_777_216);
    assert_eq!(json["ram"].as_array().unwrap().len(), 4096);
}

fn record(offset: u64, data: &[u8]) -> Vec<u8> {
    [&offset.to_be_bytes(), &(data.len() as u64).to_be_bytes(), data].concat()
}

fn stream(records: &[Vec<u8>]) -> Vec<u8> {
    let mut start = [&b"makedumpfile\0\0\0\0"[..], &1u64.to_be_bytes(), &1u64.to_be_bytes()].concat();
    start.resize(4096, 0);
    [&[start], records, &[vec![0xff; 16]]].concat().concat()
}

/// A few KiB claim bitmaps of terabytes: they are not gone through byte by byte.
#[test]
fn bitmaps_that_nobody_wrote_are_not_read() {
    let dir = temp_dir();
    let (input, out) = (dir.path().join("in"), dir.path().join("out"));
    let (small, areas) = Spec::new(6, PAGE as u64, 64).with_pages(0..9, &[Stored::Raw]).build();
    for (frames, says) in [(1u64 << 46, "claims 0x400000000000 page frames"), (1 << 39, "no page was dumped")] {
        let mut front = small[..areas.bitmap1].to_vec();
        // The number of blocks and of frames, and the number of frames in 64 bits.
        let blocks = u32::try_from(frames / 8 / PAGE as u64 * 2).unwrap_or(u32::MAX);
        front[424 + 12..][..4].copy_from_slice(&blocks.to_le_bytes());
        front[424 + 16..][..4].copy_from_slice(&u32::MAX.to_le_bytes());
        front[PAGE + 96..][..8].copy_from_slice(&frames.to_le_bytes());
        fs::write(&input, stream(&[record(0, &front), record(1 << 60, b"end")])).unwrap();
        for command in [&["info"][..], &["convert", "--force", "--progress", "none"]] {
            let inputs: &[&Path] = if command.len() > 1 { &[&input, &out] } else { &[&input] };
            let run = within(ADDRESSES, command, inputs);
            assert!(run.code() == Some(1) && run.stderr.contains(says), "{command:?} {frames:#x}: {run:?}");
        }
    }
}

#[test]
fn a_record_that_belongs_nowhere_makes_no_file_of_exbibytes() {
    let dir = temp_dir();
    let (input, out) = (dir.path().join("in"), dir.path().join("out"));
    let dump = Spec::new(6, PAGE as u64, 64).with_pages(0..9, &[Stored::Raw]).build().0;
    for (what, records) in [
        ("alone", vec![record(4 << 60, b"x")]),
        ("behind a dump of 64 frames", vec![record(0, &dump), record(4 << 30, b"x")]),
        ("before it", vec![record(4 << 30, b"x"), record(0, &dump)]),
    ] {
        fs::write(&input, stream(&records)).unwrap();
        let run = run(vdump().args(["merge", "-"]).arg(&out).stdin(File::open(&input).unwrap()));
        assert!(run.code() == Some(1) && run.stderr.contains("bytes at most"), "{what}: {run:?}");
        let left = dir.path().join("out-incomplete");
        assert!(fs::metadata(&left).map_or(0, |meta| meta.len()) <= 5 << 30, "{what}");
        let _ = fs::remove_file(left);
    }
}

/// A table of 2^25 frames that are all nothing, in a file with holes for it.
#[test]
fn a_seek_table_of_nothing_takes_no_memory() {
    let dir = temp_dir();
    let input = dir.path().join("in.zst");
    let (frames, file) = (1u32 << 25, File::create(&input).unwrap());
    let packed = zstd::encode_all(&b"no dump at all"[..], 1).unwrap();
    let start = packed.len() as u64;
    file.write_all_at(&packed, 0).unwrap();
    let head = [0x184D_2A5Eu32.to_le_bytes(), (frames * 8 + 9).to_le_bytes()].concat();
    file.write_all_at(&head, start).unwrap();
    file.write_all_at(&(packed.len() as u32).to_le_bytes(), start + 8).unwrap();
    let foot = [&frames.to_le_bytes()[..], &[0], &0x8F92_EAB1u32.to_le_bytes()].concat();
    file.write_all_at(&foot, start + 8 + u64::from(frames) * 8).unwrap();
    let run = within(ADDRESSES, &["info"], &[&input]);
    assert!(run.code() == Some(1) && run.stderr.contains("no dump inside"), "{run:?}");
    let run = within(ADDRESSES, &["check"], &[&input]);
    assert!(run.code() == Some(1) && run.stderr.contains("not enough memory to check"), "{run:?}");
}

/// A window is memory that a frame asks for. Header, then a block of repeated bytes, so that zstd must have it.
fn with_window(log: u8) -> Vec<u8> {
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, (log - 10) << 3];
    let content = b"\x7fELF\x02\x01\x01";
    frame.extend(&((content.len() as u32) << 3 | 1).to_le_bytes()[..3]);
    frame.extend(content);
    frame
}

#[test]
fn a_window_counts_as_memory() {
    let dir = temp_dir();
    let (input, out) = (dir.path().join("in.zst"), dir.path().join("out"));
    fs::write(&input, with_window(27)).unwrap();
    let convert = |limit| run(vdump().args(["convert", "--memory-limit", limit]).arg(&input).arg(&out));
    let run = convert("16M");
    assert!(run.code() == Some(1) && run.stderr.contains("--memory-limit 133M"), "{run:?}");
    assert!(run.stderr.contains("window has 128.0 MiB") && run.stderr.contains("zstd -d"), "{run:?}");
    // With as much it is decompressed, and there is no dump in it.
    let run = convert("133M");
    assert!(run.code() == Some(1) && !run.stderr.contains("memory"), "{run:?}");
    // What is called damaged is copied again, to no avail.
    let run = within("ulimit -v 65536", &["info"], &[&input]);
    assert!(run.code() == Some(1) && run.stderr.contains("not enough memory"), "{run:?}");
    assert!(!run.stderr.contains("damaged"), "{run:?}");
    // A small frame first does not hide a larger one.
    let second = [with_window(20), with_window(27)].concat();
    fs::write(&input, second).unwrap();
    let run = convert("16M");
    assert!(run.code() == Some(1) && run.stderr.contains("not enough memory to decompress"), "{run:?}");
}

/// A segment that claims nearly all addresses: there is an answer all the same.
#[test]
fn memory_that_is_only_claimed_is_explained_soon() {
    let dir = temp_dir();
    for claimed in [1 << 43, 1 << 51, u64::MAX - (1 << 40)] {
        let fixture = claiming_bytes(dir.path(), &[], claimed);
        let run = within(ADDRESSES, &["explain", "--pfn", "0x100"], &[&fixture.path]);
        assert!(matches!(run.code(), Some(0 | 1)) && !run.stderr.contains("panicked"), "{claimed:#x}: {run:?}");
        assert!(run.code() == Some(1) || run.stdout.contains("page frame 0x100"), "{claimed:#x}: {run:?}");
    }
}
