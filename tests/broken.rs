//! Dumps cut at every edge of their structures, and every field of their headers set to what cannot be.
//!
//! Knows where the builders put each structure. Must not know the product's readers. What is read must be right, what is not
//! must be missing and counted, and what cannot be read at all must be refused in one line.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::harness::{Run, run, temp_dir, vdump};
use crate::read::kdump::Kdump;
use crate::refusal::{badly_failed, none_of};
use crate::synth::kdump::{Layout, Spec, Stored};
use crate::synth::odd_elf::{Byte, Notes, OddElf, Segment};
use crate::synth::spec::fill;
use crate::synth::wrap::{Codec, flatten, frames};

const EVERY: [Stored; 5] = [Stored::Raw, Stored::Zlib, Stored::Lzo, Stored::Snappy, Stored::Zstd];
const LAYOUTS: [(Layout, &str, usize); 3] =
    [(Layout::Wide, "x86_64", 464), (Layout::Packed, "i686", 452), (Layout::Padded, "armv7l", 452)];

fn kdump(layout: Layout, machine: &'static str) -> Spec {
    let mut spec = Spec { layout, machine, ..Spec::new(6, 4096, 0x500) };
    spec = spec.with_pages(3..20, &EVERY).with_pages(0x4f0..0x500, &EVERY);
    spec.excluded = (0x100..0x110).collect();
    spec
}

fn convert(bytes: &[u8], dir: &Path) -> (Run, std::path::PathBuf) {
    let (input, out) = (dir.join("broken"), dir.join("out"));
    let _ = fs::remove_file(&out);
    fs::write(&input, bytes).unwrap();
    let mut command = vdump();
    command.args(["convert", "--json", "--progress", "none", "--memory-limit", "64M"]).arg(&input).arg(&out);
    (run(&mut command), out)
}

/// The pages that a dump must give, by frame; an empty map: it must be refused.
type Pages = BTreeMap<u64, Vec<u8>>;

/// What is wrong with how a broken file of `all` frames is treated, of which `want` are whole.
fn faults_of(label: &str, bytes: &[u8], want: &Pages, lost: u64, dir: &Path) -> Vec<String> {
    let (run, out) = convert(bytes, dir);
    if want.is_empty() {
        return badly_failed(&run, &out).into_iter().map(|fault| format!("{label}: {fault}")).collect();
    }
    if run.code() != Some(0) {
        return vec![format!("{label}: {} pages are there, but {run:?}", want.len())];
    }
    let dump = Kdump::open(&out);
    let kept: BTreeSet<u64> = want.keys().copied().collect();
    let mut faults = Vec::new();
    if dump.kept() != kept {
        faults.push(format!("{label}: {:x?} too many, {:x?} missing", &dump.kept() - &kept, &kept - &dump.kept()));
    }
    let differs = |(pfn, page): &(&u64, &Vec<u8>)| dump.page(**pfn).as_ref() != Ok(*page);
    faults.extend(want.iter().filter(differs).map(|(pfn, _)| format!("{label}: page {pfn:#x} differs")));
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    let counted =
        if report["cut_short"].is_string() { &report["pages"]["absent"] } else { &report["unreadable_pages"] };
    if *counted != lost {
        faults.push(format!("{label}: {lost} pages are lost, {counted} are counted"));
    }
    faults
}

/// Each edge, and the bytes around it.
fn around(edges: impl IntoIterator<Item = usize>, len: usize) -> BTreeSet<usize> {
    edges
        .into_iter()
        .flat_map(|edge| [edge.saturating_sub(1), edge, edge + 1])
        .filter(|cut| (1..len).contains(cut))
        .collect()
}

#[test]
fn kdump_cut_at_every_edge() {
    let dir = temp_dir();
    for (layout, machine, header) in LAYOUTS {
        let spec = kdump(layout, machine);
        let (bytes, at) = spec.build();
        let word =
            |at: usize, len: usize| bytes[at..at + len].iter().rev().fold(0, |all, byte| all << 8 | usize::from(*byte));
        let desc = |n: usize| (word(at.descs + n * 24, 8), word(at.descs + n * 24 + 8, 4));
        let ends: Vec<usize> = (0..spec.pages.len()).map(|n| desc(n).0 + desc(n).1).collect();
        let edges = [8, 12, 402, header, 4096, at.notes, at.notes + 12, at.bitmap1, at.bitmap2, at.descs, at.data];
        let some = [0, 1, 5, spec.pages.len() - 1];
        let edges = edges.into_iter().chain(some.iter().flat_map(|n| [at.descs + n * 24, desc(*n).0, ends[*n]]));
        let mut faults = Vec::new();
        for cut in around(edges, bytes.len()) {
            let whole = |(n, _): &(usize, _)| cut >= at.descs && at.descs + (n + 1) * 24 <= cut && ends[*n] <= cut;
            let pages = spec.pages.iter().enumerate().filter(whole).map(|(_, (pfn, (page, _)))| (*pfn, page.clone()));
            let want: Pages = pages.collect();
            let lost = (spec.pages.len() - want.len()) as u64;
            faults.extend(faults_of(&format!("{layout:?} cut at {cut}"), &bytes[..cut], &want, lost, dir.path()));
        }
        none_of(&faults);
    }
}

fn elf(class: u32, notes: Notes) -> OddElf {
    let segment =
        |paddr, len, memsz| Segment { paddr, vaddr: paddr + 0xc000_0000, bytes: fill("random", paddr, len), memsz };
    OddElf {
        class,
        big_endian: false,
        machine: if class == 64 { 62 } else { 3 },
        flags: 0,
        notes,
        info: "OSRELEASE=6.1.0-odd\nPAGESIZE=4096\n".into(),
        segments: vec![
            segment(0x1000, 0x3000, 0x3000),
            segment(0x9000, 0x2400, 0x5000),
            segment(0x20000, 0x1000, 0x1000),
        ],
        align: 16,
        xnum: false,
        headers_last: false,
    }
}

/// The pages of a core of which nothing is lost, and how many are.
fn of_elf(core: &OddElf, offsets: &[u64], size: usize) -> (Pages, u64) {
    let memory = core.memory(offsets, size as u64);
    let lost = memory.values().filter(|page| page.contains(&Byte::Lost)).count() as u64;
    let byte = |byte: &Byte| if let Byte::Stored(byte) = byte { *byte } else { 0 };
    let whole = memory.into_iter().filter(|(_, page)| !page.contains(&Byte::Lost));
    (whole.map(|(address, page)| (address / 4096, page.iter().map(byte).collect())).collect(), lost)
}

fn is_zero(pages: &Pages) -> bool {
    pages.values().flatten().all(|byte| *byte == 0)
}

#[test]
fn elf_cut_at_every_edge() {
    let dir = temp_dir();
    for (class, ehdr, phdr) in [(64, 64, 56), (32, 52, 32)] {
        for notes in [Notes::Front, Notes::Back] {
            let core = elf(class, notes);
            let (bytes, offsets) = core.build();
            let first = offsets[0] as usize;
            let ends = offsets.iter().zip(&core.segments).map(|(at, segment)| *at as usize + segment.bytes.len());
            let edges: Vec<usize> =
                [16, ehdr, ehdr + phdr, ehdr + 3 * phdr, ehdr + 4 * phdr, ehdr + 4 * phdr + 12, first]
                    .into_iter()
                    .chain(offsets.iter().map(|at| *at as usize))
                    .chain(offsets.iter().map(|at| *at as usize + 0x1000))
                    .chain(ends.clone())
                    .collect();
            let mut faults = Vec::new();
            for cut in around(edges, bytes.len()) {
                let all_headers = cut >= ehdr + 4 * phdr && notes == Notes::Front && cut >= first - 15;
                let (mut want, lost) = of_elf(&core, &offsets, cut);
                // Zeros alone are no dump; neither is one whose notes are gone.
                if !all_headers || is_zero(&want) {
                    want.clear();
                }
                let label = format!("ELF{class} {notes:?} cut at {cut}");
                faults.extend(faults_of(&label, &bytes[..cut], &want, lost, dir.path()));
            }
            none_of(&faults);
        }
    }
}

#[test]
fn layers_cut_at_every_edge() {
    const PART: usize = 5000;
    let dir = temp_dir();
    let core = elf(64, Notes::Front);
    let (plain, offsets) = core.build();
    let mut faults = Vec::new();
    let flat = flatten(&plain, PART, |index| index);
    let records = (0..=plain.len().div_ceil(PART)).map(|n| 4096 + n * (PART + 16));
    let edges = records.flat_map(|at| [at, at + 8, at + 16]).chain([16, 24, 32, flat.len() - 16, flat.len()]);
    for cut in around(edges, flat.len()) {
        faults.extend(faults_of(&format!("flattened, cut at {cut}"), &flat[..cut], &Pages::new(), 0, dir.path()));
    }
    for codec in [Codec::Zstd, Codec::Lz4] {
        // Frames that end within headers, within a segment, and at its end.
        let packed = frames(&plain, codec, 4096, Some(true));
        let count = plain.len().div_ceil(4096);
        let table = packed.len() - 9 - count * 12 - 8;
        let word = |at: usize| u32::from_le_bytes(packed[at..at + 4].try_into().unwrap()) as usize;
        let mut ends = vec![0];
        for n in 0..count {
            ends.push(ends[n] + word(table + 8 + n * 12));
        }
        let edges = ends.iter().copied().chain([table + 8, packed.len() - 9, packed.len() - 1]);
        for cut in around(edges, packed.len()) {
            let frames = ends[1..].iter().filter(|end| **end <= cut).count();
            let size = plain.len().min(frames * 4096);
            let (mut want, lost) = of_elf(&core, &offsets, size);
            if is_zero(&want) {
                want.clear();
            }
            let label = format!("{codec:?} frames, cut at {cut}");
            faults.extend(faults_of(&label, &packed[..cut], &want, lost, dir.path()));
        }
        for frame in 1..count {
            // A checksum in the table that is not that of the frame.
            let mut bad = packed.clone();
            bad[table + 8 + frame * 12 + 8] ^= 1;
            let hit = |from: u64, len: u64| from < (frame as u64 + 1) * 4096 && from + len > frame as u64 * 4096;
            let (mut want, all) = (of_elf(&core, &offsets, plain.len()).0, core.memory(&offsets, u64::MAX).len());
            want.retain(|pfn, _| {
                let mut parts = core.segments.iter().zip(&offsets).filter_map(|(segment, at)| {
                    let start = (pfn * 4096).max(segment.paddr);
                    let end = ((pfn + 1) * 4096).min(segment.paddr + segment.bytes.len() as u64);
                    (start < end).then(|| (at + start - segment.paddr, end - start))
                });
                !parts.any(|(from, len)| hit(from, len))
            });
            let lost = (all - want.len()) as u64;
            faults.extend(faults_of(&format!("{codec:?} frame {frame}'s checksum"), &bad, &want, lost, dir.path()));
        }
    }
    none_of(&faults);
}

/// A descriptor that is wrong in one way, and the words that say so.
#[test]
fn descriptors_that_lie_cost_their_own_page() {
    let dir = temp_dir();
    let (mut faults, spec) = (Vec::new(), kdump(Layout::Wide, "x86_64"));
    let (bytes, at) = spec.build();
    let size = bytes.len() as u64;
    // Page 3 is raw, page 4 zlib, 5 lzo, 6 snappy, 7 zstd.
    let lies: [(u64, usize, Vec<u8>, &str); 13] = [
        (3, 0, u64::MAX.to_le_bytes().into(), "leads to byte"),
        (3, 0, (u64::MAX - 4095).to_le_bytes().into(), "leads to byte"),
        (3, 0, (size - 4095).to_le_bytes().into(), "but the file has"),
        (3, 0, vec![0; 8], "was lost when the dump was written"),
        (3, 8, 0u32.to_le_bytes().into(), "claims 0 bytes"),
        (3, 8, 4095u32.to_le_bytes().into(), "4095 bytes instead of 4096"),
        (4, 8, u32::MAX.to_le_bytes().into(), "claims 4294967295 bytes"),
        (4, 8, 1u32.to_le_bytes().into(), "zlib"),
        (5, 8, 3u32.to_le_bytes().into(), "lzo"),
        (6, 8, 2u32.to_le_bytes().into(), "snappy"),
        (7, 8, 9u32.to_le_bytes().into(), "zstd"),
        (4, 12, 0x8u32.to_le_bytes().into(), "0x8 name no known codec"),
        (4, 12, 3u32.to_le_bytes().into(), "0x3 name no known codec"),
    ];
    for (pfn, field, value, words) in lies {
        let mut bad = bytes.clone();
        let desc = at.descs + (pfn as usize - 3) * 24 + field;
        bad[desc..desc + value.len()].copy_from_slice(&value);
        let want: Pages =
            spec.pages.iter().filter(|(of, _)| **of != pfn).map(|(pfn, (page, _))| (*pfn, page.clone())).collect();
        let label = format!("page {pfn}, field at {field}, {words:?}");
        faults.extend(faults_of(&label, &bad, &want, 1, dir.path()));
        let said = convert(&bad, dir.path()).0.stderr;
        if !said.contains(words) || !said.contains(&format!("{pfn:#x}")) {
            faults.push(format!("{label}: {said}"));
        }
    }
    none_of(&faults);
}

/// Any field of any header may hold anything: then a refusal, or a dump of pages that are right.
#[test]
fn fields_of_every_layout_full_of_lies() {
    let dir = temp_dir();
    let mut faults = Vec::new();
    for (layout, machine, header) in LAYOUTS {
        let spec = kdump(layout, machine);
        let (bytes, at) = spec.build();
        let known: BTreeSet<&[u8]> = spec.pages.values().map(|(page, _)| page.as_slice()).collect();
        let fields = (8..12).chain(400..header).chain(4096..at.notes).step_by(4);
        for field in fields {
            let old = u32::from_le_bytes(bytes[field..field + 4].try_into().unwrap());
            for value in [0, u32::MAX, 0x8000_0000, 4096, old.wrapping_add(1), old.swap_bytes()] {
                let mut bad = bytes.clone();
                bad[field..field + 4].copy_from_slice(&value.to_le_bytes());
                let (run, out) = convert(&bad, dir.path());
                let label = format!("{layout:?} {field}: {value:#x}");
                if run.code() != Some(0) {
                    faults.extend(badly_failed(&run, &out).into_iter().map(|fault| format!("{label}: {fault}")));
                    continue;
                }
                let dump = Kdump::open(&out);
                let strange = |pfn: &u64| !known.contains(dump.page(*pfn).unwrap_or_default().as_slice());
                // A page of zeros may come of bitmaps or sizes that lead elsewhere, but no page may be made up.
                let made_up: Vec<u64> = dump.kept().into_iter().filter(strange).collect();
                if !made_up.is_empty() {
                    faults.push(format!("{label}: {made_up:x?} are no pages of the dump"));
                }
            }
        }
    }
    none_of(&faults);
}
