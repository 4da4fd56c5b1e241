//! Kdump-compressed input: every version, codec and block size, and files that are broken.
//!
//! Knows specifications of files. Must not know the product's reader. Judges what `filter` and `info` make of them.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::{filter, temp_dir, vdump_with};
use crate::read::elf::{Elf, Found};
use crate::read::kdump::Kdump;
use crate::refusal::{fails_well, none_of};
use crate::synth::kdump::{Spec, Stored};

const EVERY: [Stored; 5] = [Stored::Raw, Stored::Zlib, Stored::Lzo, Stored::Snappy, Stored::Zstd];

fn put(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, bytes).unwrap();
    path
}

fn typical(version: u32, block: u64) -> Spec {
    let mut spec = Spec::new(version, block, 5000).with_pages(3..40, &EVERY).with_pages(64..128, &EVERY);
    spec = spec.with_pages(4990..5000, &EVERY);
    spec.excluded = (40..64).chain(900..910).collect();
    spec
}

/// Pages of 4 KiB that differ between a specification and an ELF core made of it, and excluded ones that are there.
pub fn differing(spec: &Spec, core: &Elf) -> Vec<u64> {
    let small = spec.block / 4096;
    let mut wrong = Vec::new();
    for (pfn, (page, _)) in &spec.pages {
        for (at, part) in (pfn * small..).zip(page.chunks(4096)) {
            if core.page(at) != Found::Stored(part.to_vec()) {
                wrong.push(at);
            }
        }
    }
    wrong.extend(spec.excluded.iter().map(|pfn| pfn * small).filter(|at| core.page(*at) != Found::Absent));
    wrong
}

#[test]
fn every_version_block_size_and_codec() {
    let dir = temp_dir();
    for version in 0..=6 {
        for (block, sub_blocks) in [(4096, 1), (4096, 15), (16384, 1), (65536, 1), (65536, 2)] {
            let spec = Spec { sub_blocks, ..typical(version, block) };
            let label = format!("v{version}, blocks of {block}, sub header of {sub_blocks}");
            let path = put(dir.path(), "in", &spec.build().0);
            let out = dir.path().join("out.elf");
            // Without VMCOREINFO nothing says that this is no x86_64 of 4 KiB pages but the header.
            filter(&["-d", "0", "--force"], &path, &out).ok();
            assert_eq!(differing(&spec, &Elf::open(&out)), [0u64; 0], "{label}");
            let info: Value =
                serde_json::from_str(&vdump_with(["info", "--json"].iter().map(Path::new).chain([&*path])).ok().stdout)
                    .unwrap();
            assert_eq!(
                info["format"],
                format!("kdump-compressed v{version}, zlib and lzo and snappy and zstd"),
                "{label}"
            );
            assert_eq!(info["vmcoreinfo"], version >= 3, "{label}");
            assert_eq!(info["page_size"], block, "{label}");
            assert_eq!(info["crash_time"], 1_751_328_000, "{label}");
            let (there, gone) = (spec.pages.len() as u64 * block, spec.excluded.len() as u64 * block);
            assert_eq!(
                (&info["ram_bytes"], &info["present_bytes"], &info["absent_bytes"]),
                (&(there + gone).into(), &there.into(), &gone.into()),
                "{label}"
            );
        }
    }
}

#[test]
fn diskdumps_own_files_and_single_bitmaps() {
    let dir = temp_dir();
    let old = Spec { signature: *b"DISKDUMP", ..typical(1, 4096) };
    let single = Spec { one_plane: true, excluded: [].into(), ..typical(1, 4096) };
    let bare = Spec { sub_blocks: 0, ..typical(6, 4096) };
    for (n, spec) in [old, single, bare].into_iter().enumerate() {
        let path = put(dir.path(), "in", &spec.build().0);
        let out = dir.path().join("out.elf");
        filter(&["-d", "0", "--force"], &path, &out).ok();
        assert_eq!(differing(&spec, &Elf::open(&out)), [0u64; 0], "{n}");
    }
}

#[test]
fn the_header_goes_into_the_new_dump() {
    let dir = temp_dir();
    let spec = Spec { level: 17, ..typical(6, 4096) };
    let path = put(dir.path(), "in", &spec.build().0);
    let out = dir.path().join("out");
    let said = filter(&["-d", "0", "--json"], &path, &out).ok();
    let dump = Kdump::open(&out);
    assert!(dump.faults().is_empty(), "{:?}", dump.faults());
    assert_eq!(dump.uts(), ["Linux", "synthetic-host", "5.14.0-synthetic", "#1 SMP", "x86_64", "(none)"]);
    let fields = ["tv_sec", "phys_base", "dump_level", "nr_cpus", "max_mapnr_64"].map(|name| dump.field(name));
    assert_eq!(fields, [1_751_328_000, 0x1234_5000, 17, 2, 5000]);
    assert_eq!(dump.vmcoreinfo(), spec.info.as_bytes());
    let ram = spec.pages.keys().chain(&spec.excluded).copied().collect();
    assert_eq!(dump.ram(), ram, "what existed is forgotten");
    assert_eq!(dump.kept(), spec.pages.keys().copied().collect());
    let report: Value = serde_json::from_str(&said.stdout).unwrap();
    let (all, there, gone) = (ram.len(), spec.pages.len(), spec.excluded.len());
    for (name, pages) in [("ram", all), ("kept", there), ("dropped", 0), ("absent", gone)] {
        assert_eq!(report["pages"][name], pages, "{name}");
    }
}

#[test]
fn a_bad_page_costs_itself_only() {
    let dir = temp_dir();
    let bad = [Stored::Lost, Stored::Outside, Stored::TooLarge, Stored::Unknown, Stored::Broken];
    let mut spec = Spec { status: 8, ..typical(6, 4096) };
    spec = spec.with_pages(10..30, &[bad, EVERY].concat());
    let path = put(dir.path(), "in", &spec.build().0);
    let out = dir.path().join("out");
    let run = filter(&["-d", "0"], &path, &out).ok();
    for cause in
        ["incomplete", "leads to byte 1099511627776", "claims 4097 bytes", "0x40 name no known codec", "zlib data"]
    {
        assert!(run.stderr.contains(cause), "{cause}: {}", run.stderr);
    }
    let dump = Kdump::open(&out);
    for (pfn, (page, way)) in &spec.pages {
        let expected =
            if bad.contains(way) { Err("lost: descriptor without data".to_owned()) } else { Ok(page.clone()) };
        assert_eq!(dump.page(*pfn), expected, "{pfn:#x} {way:?}");
    }
    assert!(vdump_with(["info".as_ref(), path.as_os_str()]).ok().stdout.contains("incomplete"));
}

#[test]
fn cut_short_at_every_edge() {
    let dir = temp_dir();
    let spec = typical(6, 4096);
    let (bytes, at) = spec.build();
    let edges =
        [9, 463, 464, 4096, 4199, at.notes, at.notes + 50, at.bitmap1, at.bitmap1 + 1, at.bitmap2, at.descs - 1];
    let refused = edges.iter().flat_map(|edge| {
        let path = put(dir.path(), "cut", &bytes[..*edge]);
        fails_well(&format!("cut to {edge}"), &path, dir.path())
    });
    none_of(&refused.collect::<Vec<_>>());
    let half = spec.pages.len() / 2;
    let last = bytes.len() - 1;
    for (edge, lost) in
        [(at.descs + 24 * half, true), (at.descs + 24 * half + 23, true), (at.data + 30_000, true), (last, true)]
    {
        let path = put(dir.path(), "cut", &bytes[..edge]);
        let out = dir.path().join("out");
        let run = filter(&["-d", "0", "--force", "--json"], &path, &out);
        if edge < at.data {
            // The data lies behind the descriptors: there is none.
            assert_eq!(run.code(), Some(1), "{edge}: {}", run.stderr);
            continue;
        }
        let report: Value = serde_json::from_str(&run.ok().stdout).unwrap();
        let dump = Kdump::open(&out);
        assert_eq!(report["unreadable_pages"].as_u64().unwrap() > 0, lost, "{edge}");
        assert_eq!(report["unreadable_pages"], spec.pages.len() - dump.kept().len(), "{edge}");
        assert!(dump.kept().iter().all(|pfn| dump.page(*pfn).as_ref() == Ok(&spec.pages[pfn].0)), "{edge}");
    }
}

#[test]
fn headers_that_lie() {
    let dir = temp_dir();
    let spec = typical(6, 4096);
    let (bytes, at) = spec.build();
    let with = |changes: &[(usize, &[u8])]| {
        let mut bytes = bytes.clone();
        for (at, what) in changes {
            bytes[*at..*at + what.len()].copy_from_slice(what);
        }
        bytes
    };
    let max = u64::MAX.to_le_bytes();
    let ones = u32::MAX.to_le_bytes();
    let empty = vec![0; at.descs - at.bitmap2];
    let lies: [(&str, Vec<u8>); 12] = [
        ("version 7", with(&[(8, &[7])])),
        ("big-endian", with(&[(8, &6u32.to_be_bytes()), (428, &4096u32.to_be_bytes())])),
        ("32-bit", with(&[(428, &[0, 0]), (416, &4096u32.to_le_bytes())])),
        ("block size 5000", with(&[(428, &5000u32.to_le_bytes())])),
        ("block size 0", with(&[(428, &[0; 4])])),
        ("sub header of everything", with(&[(432, &ones)])),
        ("bitmaps of everything", with(&[(436, &ones)])),
        ("no bitmap", with(&[(436, &[0; 4])])),
        ("frames without end", with(&[(4096 + 96, &max)])),
        ("notes without end", with(&[(4096 + 56, &max)])),
        ("notes past the end", with(&[(4096 + 48, &max)])),
        ("no page", with(&[(at.bitmap2, &empty)])),
    ];
    let faults = lies.iter().flat_map(|(label, bytes)| {
        let path = put(dir.path(), "lie", bytes);
        fails_well(label, &path, dir.path())
    });
    none_of(&faults.collect::<Vec<_>>());
}
