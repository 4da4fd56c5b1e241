//! Dumps cut at every edge, bytes turned over at random, and files that are no dumps: a report or a refusal, never a panic.
//!
//! Knows where structures end. Must not know what a cut breaks: that it is said is enough.

use std::fs;
use std::path::{Path, PathBuf};

use super::layers::{END, flattened, seekable, stream};
use super::{checked, elf, kdump, put};
use crate::harness::{run, temp_dir, vdump};

/// Where the seek table starts.
fn table_of(packed: &[u8]) -> usize {
    let frames = u32::from_le_bytes(packed[packed.len() - 9..packed.len() - 5].try_into().unwrap());
    packed.len() - 17 - 12 * frames as usize
}

/// Every format, with the places where something in it ends.
fn formats() -> Vec<(&'static str, Vec<u8>, Vec<usize>)> {
    let (dump, areas) = kdump::plain().build();
    let core = elf::plain().build();
    let edges = vec![8, 12, 402, 464, 4096, 4200, areas.notes, areas.bitmap1, areas.bitmap2, areas.descs, areas.data];
    let (flat, packed) = (stream(&flattened(&dump), &END), seekable(&core));
    let whole = zstd::encode_all(&core[..], 3).unwrap();
    let table = table_of(&packed);
    vec![
        ("kdump", dump, edges),
        ("ELF", core, vec![5, 16, 52, 64, 120, 176, 232, 0x1000, 0x1100, 0x4000, 0x8000]),
        ("flattened", flat.clone(), vec![12, 16, 32, 4096, 4104, 4112, flat.len() - 16, flat.len() - 8]),
        ("seekable", packed.clone(), vec![5, table, table + 8, table + 20, packed.len() - 9, packed.len() - 4]),
        ("zstd", whole.clone(), vec![5, 9, whole.len() - 4]),
    ]
}

#[test]
fn cut_dumps_are_never_whole() {
    let dir = temp_dir();
    for (label, bytes, edges) in formats() {
        let spread = (1..24).map(|n| bytes.len() * n / 24);
        let cuts = edges.into_iter().flat_map(|at| [at - 1, at, at + 1]).chain(spread).chain([bytes.len() - 1]);
        for cut in cuts.filter(|cut| (4..bytes.len()).contains(cut)) {
            let paths = put(dir.path(), &[bytes[..cut].to_vec()]);
            let (run, report) = checked(&paths);
            // Without its table, or a part of it, a compressed dump has all its data still.
            let only_table = label == "seekable" && cut >= table_of(&bytes);
            assert!(only_table || run.code() == Some(1), "{label} cut at {cut}: {run:?}");
            assert!(report.is_some() || run.stderr.lines().count() == 1, "{label} cut at {cut}: {run:?}");
        }
    }
}

#[test]
fn no_damage_makes_it_panic() {
    let dir = temp_dir();
    let mut rng = fastrand::Rng::with_seed(1);
    for (_, bytes, edges) in formats() {
        for _ in 0..40 {
            let mut bad = bytes.clone();
            for _ in 0..4 {
                // Mostly in headers, where it matters.
                let near = edges[rng.usize(..edges.len())] + rng.usize(..200);
                let at = if rng.u8(..4) == 0 { rng.usize(..bad.len()) } else { near.min(bad.len() - 1) };
                bad[at] = rng.u8(..);
            }
            checked(&put(dir.path(), &[bad]));
        }
    }
}

fn refused(path: &Path, says: &str) {
    let run = run(vdump().args(["check", "--progress", "none"]).arg(path));
    assert_eq!((run.code(), run.stdout.as_str()), (Some(1), ""), "{run:?}");
    assert!(run.stderr.lines().count() == 1 && run.stderr.contains(says), "{says}: {run:?}");
}

#[test]
fn what_is_no_dump_is_refused() {
    let dir = temp_dir();
    let at = |name: &str| -> PathBuf { dir.path().join(name) };
    fs::write(at("empty"), "").unwrap();
    fs::write(at("text"), "no dump at all\n".repeat(1000)).unwrap();
    fs::write(at("text.zst"), zstd::encode_all(&b"no dump at all"[..], 1).unwrap()).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, at("fifo"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    refused(&at("empty"), "empty");
    refused(dir.path(), "directory");
    refused(&at("text"), "neither an ELF core");
    refused(&at("text.zst"), "no dump inside");
    refused(&at("fifo"), "pipe");
    refused(&at("missing"), "No such file");
}

#[test]
fn any_number_of_threads_finds_the_same() {
    let dir = temp_dir();
    for broken in super::corpus::corpus().into_iter().filter(|broken| broken.label.starts_with("kdump: ")) {
        let paths = put(dir.path(), &broken.files);
        let one = |threads: &str| run(vdump().args(["check", "--json", "-j", threads]).args(&paths)).stdout;
        assert_eq!(one("1"), one("7"), "{}", broken.label);
    }
}
