//! kdump-compressed dumps that break one rule each, and split sets that are none.

use std::collections::BTreeSet;

use super::corpus::{Broken, broken};
use crate::synth::elf::{Note, note_bytes};
use crate::synth::kdump::{Areas, Spec, Stored};

/// What every reader wants to be told.
pub const INFO: &str = "OSRELEASE=5.14.0-synthetic\nPAGESIZE=4096\nSYMBOL(swapper_pg_dir)=ffffffff82610000\n\
    NUMBER(phys_base)=0\nNUMBER(pgtable_l5_enabled)=0\nKERNELOFFSET=0\nNUMBER(KERNEL_IMAGE_SIZE)=1073741824\n\
    SYMBOL(init_uts_ns)=ffffffff82613240\n";

const WAYS: [Stored; 5] = [Stored::Raw, Stored::Zlib, Stored::Lzo, Stored::Snappy, Stored::Zstd];

/// One that breaks no rule.
pub fn plain() -> Spec {
    let mut spec = Spec::new(6, 4096, 5000).with_pages(3..40, &WAYS).with_pages(64..128, &WAYS);
    spec = spec.with_pages(4990..5000, &WAYS);
    spec.excluded = (40..64).chain(900..910).collect();
    spec.info = INFO.to_owned();
    spec
}

fn with(change: impl FnOnce(&mut Spec)) -> Vec<u8> {
    let mut spec = plain();
    change(&mut spec);
    spec.build().0
}

/// The file with something written over it.
fn patched(at: impl FnOnce(&Areas) -> usize, bytes: &[u8]) -> Vec<u8> {
    let (mut file, areas) = plain().build();
    let at = at(&areas);
    file[at..at + bytes.len()].copy_from_slice(bytes);
    file
}

fn header(at: usize, value: u32) -> Vec<u8> {
    patched(|_| at, &value.to_le_bytes())
}

fn sub_header(at: usize, value: u64) -> Vec<u8> {
    patched(|_| 4096 + at, &value.to_le_bytes())
}

/// The file with one way to store a page changed.
fn page(way: Stored) -> Vec<u8> {
    with(|spec| spec.pages.get_mut(&7).unwrap().1 = way)
}

/// The file with a field of the seventh descriptor changed.
fn desc(at: usize, bytes: &[u8]) -> Vec<u8> {
    patched(|areas| areas.descs + 7 * 24 + at, bytes)
}

fn cut(at: impl FnOnce(&Areas) -> usize) -> Vec<u8> {
    let (mut file, areas) = plain().build();
    file.truncate(at(&areas));
    file
}

fn without(line: &str) -> Vec<u8> {
    with(|spec| spec.info = INFO.lines().filter(|l| !l.starts_with(line)).map(|l| format!("{l}\n")).collect())
}

/// One register set, without contents.
fn register_sets(count: usize) -> Vec<u8> {
    note_bytes(&Note { name: "CORE", kind: 1, desc: vec![0; 336] }).repeat(count)
}

fn truncated_notes() -> Vec<u8> {
    let (file, areas) = plain().build();
    let size = u64::from_le_bytes(file[4096 + 56..4096 + 64].try_into().unwrap());
    // Something behind the last note, inside the area.
    let mut file = file;
    let at = areas.notes + size as usize;
    file[at..at + 16].copy_from_slice(&[0x11; 16]);
    file[4096 + 56..4096 + 64].copy_from_slice(&(size + 16).to_le_bytes());
    file
}

fn odd_bitmaps() -> Vec<u8> {
    // The second bitmap starts at half of the odd number: in the middle of a block.
    let spec = plain();
    let (file, areas) = spec.build();
    let mut out = file[..areas.bitmap1].to_vec();
    out.extend(&file[areas.bitmap1..areas.bitmap1 + 4096]);
    out.extend([0; 2048]);
    out.extend(&file[areas.bitmap2..areas.bitmap2 + 4096]);
    out.extend([0; 2048]);
    let moved = (out.len() - areas.descs) as u64;
    for desc in file[areas.descs..areas.descs + 24 * spec.pages.len()].chunks(24) {
        let offset = u64::from_le_bytes(desc[..8].try_into().unwrap()) + moved;
        out.extend(offset.to_le_bytes());
        out.extend(&desc[8..]);
    }
    out.extend(&file[areas.descs + 24 * spec.pages.len()..]);
    out[436..440].copy_from_slice(&3u32.to_le_bytes());
    out
}

pub fn corpus() -> Vec<Broken> {
    let one = |label: &str, rules: &[&'static str], file: Vec<u8>| broken(label, rules, vec![file]);
    let mut all = vec![
        one("header cut", &["kdump-header"], cut(|_| 463)),
        one("signature only", &["kdump-header"], cut(|_| 8)),
        one("version 7", &["kdump-version"], header(8, 7)),
        one("blocks of 2 KiB", &["kdump-block-size"], header(428, 2048)),
        one("blocks of 5000 bytes", &["kdump-block-size"], header(428, 5000)),
        one("4096 microseconds", &["kdump-time-usec"], with_time(4096, 1)),
        one("65536 microseconds", &["kdump-time-usec"], with_time(65536, 1)),
        one("a release that is no text", &["kdump-utsname"], patched(|_| 12 + 2 * 65, b"\x01\xff")),
        one("no system name", &["kdump-uts-given"], patched(|_| 12, b"\0")),
        one("no release", &["kdump-uts-given"], patched(|_| 12 + 2 * 65, b"\0")),
        one("no node name", &["kdump-utsname"], patched(|_| 12 + 65, b"\0")),
        one("another machine", &["kdump-machine"], with(|spec| spec.machine = "pdp11")),
        one("no CPUs", &["kdump-cpus"], header(460, 0)),
        one("no frames", &["kdump-frames", "kdump-frames-agree"], sub_header(96, 1 << 60)),
        one("fields that differ", &["kdump-frames-agree"], header(440, 4999)),
        one("small bitmaps", &["kdump-bitmap-size", "kdump-frames-agree"], sub_header(96, 5_000_000)),
        one(
            "one bitmap",
            &["kdump-two-bitmaps"],
            with(|spec| {
                spec.one_plane = true;
                spec.excluded.clear();
            }),
        ),
        one("three blocks of bitmaps", &["kdump-bitmap-even"], odd_bitmaps()),
        one("cut in the bitmaps", &["kdump-bitmap-in-file"], cut(|areas| areas.bitmap2 + 4095)),
        one(
            "bitmaps on arm64",
            &["kdump-bitmap-offset", "kdump-file-length"],
            with(|spec| {
                spec.machine = "aarch64";
                spec.pages.clear();
                *spec = spec.clone().with_pages(3..5, &[Stored::Zlib]);
            }),
        ),
        one("bits past the last frame", &["kdump-bitmap-tail"], patched(|areas| areas.bitmap1 + 625, &[4])),
        one("dumped, does not exist", &["kdump-dumped-exist"], patched(|areas| areas.bitmap1 + 8, &[0xfe])),
        one("no page", &["kdump-pages"], with(|spec| spec.pages.clear())),
        one("incomplete", &["kdump-complete"], with(|spec| spec.status = 9)),
        one("without struct pages", &["kdump-vmemmap"], with(|spec| spec.status = 0x11)),
        one(
            "cut in the sub header",
            &["kdump-bitmap-in-file", "kdump-sub-header", "notes-vmcoreinfo"],
            cut(|_| 4200 - 1),
        ),
        one("erased symbols past the end", &["kdump-eraseinfo"], {
            let (mut file, _) = plain().build();
            file[4096 + 64..4096 + 72].copy_from_slice(&(1u64 << 40).to_le_bytes());
            file[4096 + 72..4096 + 80].copy_from_slice(&9u64.to_le_bytes());
            file
        }),
        one("VMCOREINFO elsewhere", &["kdump-vmcoreinfo"], sub_header(32, 4096)),
        one("notes past the end", &["notes-in-file", "notes-vmcoreinfo"], sub_header(48, 1 << 40)),
        one("notes that are none", &["notes-whole"], truncated_notes()),
        one("too many register sets", &["notes-cpus"], with(|spec| spec.notes = register_sets(8193))),
        one("no VMCOREINFO", &["notes-vmcoreinfo"], with(|spec| spec.info.clear())),
        one("no release", &["vmcoreinfo-osrelease"], without("OSRELEASE")),
        one("no page size", &["vmcoreinfo-pagesize"], without("PAGESIZE")),
        one(
            "an odd page size",
            &["vmcoreinfo-pagesize-power"],
            with(|spec| spec.info = INFO.replace("=4096", "=4097")),
        ),
        one("no page table", &["vmcoreinfo-swapper-pg-dir"], without("SYMBOL(swapper_pg_dir)")),
        one(
            "cut in the descriptors",
            &["kdump-descs-in-file", "kdump-desc-in-file"],
            cut(|areas| areas.descs + 24 * 3 + 5),
        ),
        one("cut in the data", &["kdump-desc-in-file"], cut(|areas| areas.data + 20_000)),
        one("a lost page", &["kdump-desc-lost"], page(Stored::Lost)),
        one("data past the end", &["kdump-desc-in-file"], page(Stored::Outside)),
        one("data in the bitmaps", &["kdump-desc-apart"], raw_at(0x2000)),
        one("too large", &["kdump-desc-size"], page(Stored::TooLarge)),
        one("no data", &["kdump-desc-size"], desc(8, &[0; 4])),
        one("unknown flags", &["kdump-desc-flags"], page(Stored::Unknown)),
        one("two codecs", &["kdump-desc-flags"], desc(12, &[5])),
        one("a short raw page", &["kdump-desc-raw-size"], {
            let mut file = desc(8, &100u32.to_le_bytes());
            let at = plain().build().1.descs + 7 * 24 + 12;
            file[at] = 0;
            file
        }),
        one("a broken page", &["kdump-page-decodes"], page(Stored::Broken)),
    ];
    all.iter_mut().for_each(|broken| broken.label.insert_str(0, "kdump: "));
    all
}

/// The file with the seventh page a raw one, at this offset.
fn raw_at(offset: u64) -> Vec<u8> {
    let desc = [&offset.to_le_bytes()[..], &4096u32.to_le_bytes(), &[0; 4]].concat();
    patched(|areas| areas.descs + 7 * 24, &desc)
}

fn with_time(micros: u64, status: u32) -> Vec<u8> {
    let mut file = with(|spec| spec.status = status);
    file[416..424].copy_from_slice(&micros.to_le_bytes());
    file
}

pub fn parts(ends: &[u64]) -> Vec<Vec<u8>> {
    plain().split(ends)
}

pub fn sets() -> Vec<Broken> {
    let ours = || parts(&[64, 128, 5000]);
    let keep = |keep: &[usize]| keep.iter().map(|n| ours()[*n].clone()).collect::<Vec<_>>();
    let swap = |n: usize, file: Vec<u8>| {
        let mut files = ours();
        files[n] = file;
        files
    };
    let another = || Spec { tv_sec: 7, ..plain() }.split(&[64, 128, 5000]).swap_remove(1);
    let mut elsewhere = plain();
    elsewhere.excluded.remove(&40);
    let elsewhere = elsewhere.split(&[64, 128, 5000]).swap_remove(1);
    let mut backwards = ours();
    backwards[1][4096 + 80..4096 + 88].copy_from_slice(&900u64.to_le_bytes());
    // Dumped frames lie between its end and its start.
    let mut far = ours();
    far[0][4096 + 80..4096 + 88].copy_from_slice(&100u64.to_le_bytes());
    let mut moved = ours();
    let notes = u64::from_le_bytes(moved[2][4096 + 48..4096 + 56].try_into().unwrap());
    let size = u64::from_le_bytes(moved[2][4096 + 56..4096 + 64].try_into().unwrap()) as usize;
    let area = moved[2][notes as usize..notes as usize + size].to_vec();
    moved[2][notes as usize..notes as usize + size].fill(0);
    moved[2][notes as usize + 16..notes as usize + 16 + size].copy_from_slice(&area);
    for (at, add) in [(48, 16u64), (32, 16)] {
        let field = 4096 + at..4096 + at + 8;
        let value = u64::from_le_bytes(moved[2][field.clone()].try_into().unwrap()) + add;
        moved[2][field].copy_from_slice(&value.to_le_bytes());
    }
    // crash counts 32 frames in front of the second part, where there are none 4096 frames on.
    let mut odd = Spec { max_mapnr: 9000, ..plain() };
    odd = odd.with_pages(128..200, &[Stored::Zlib]);
    let unaligned = odd.split(&[96, 9000]);
    let mut all = vec![
        broken("the first is missing", &["split-covers"], keep(&[1, 2])),
        broken("the middle is missing", &["split-covers"], keep(&[2, 0])),
        broken("the last is missing", &["split-covers"], keep(&[0, 1])),
        broken("one part alone", &["split-covers"], keep(&[1])),
        broken("one twice", &["split-overlap"], keep(&[0, 1, 1, 2])),
        broken("another crash", &["split-headers"], swap(1, another())),
        broken("another bitmap", &["split-bitmaps"], swap(1, elsewhere)),
        broken("one that overlaps", &["split-overlap"], swap(1, parts(&[64, 192, 5000]).swap_remove(1))),
        broken("one that runs backwards", &["kdump-range", "split-covers", "split-overlap"], backwards),
        broken("pages backwards", &["kdump-range", "split-covers", "split-overlap"], far),
        broken("a whole dump among parts", &["split-part"], [ours(), vec![plain().build().0]].concat()),
        broken("other notes", &["split-notes"], moved),
        broken("an odd start", &["split-start"], unaligned),
    ];
    all.iter_mut().for_each(|broken| broken.label.insert_str(0, "split: "));
    let labels: BTreeSet<String> = all.iter().map(|broken| broken.label.clone()).collect();
    assert_eq!(labels.len(), all.len());
    all
}
