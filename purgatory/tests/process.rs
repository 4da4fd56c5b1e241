//! The blob's check, called in this process over this process's own buffers.
//!
//! Knows public test vectors and how to damage memory. Must not need any privilege.

use std::io::Write;
use std::process::{Command, Stdio};

use vdump_purgatory::{Backup, Handover, Image, OnMismatch, Region, blob, sha256_of_segment};

use crate::sys;

/// FIPS 180-4 and NIST's SHAVS examples: message, digest.
const VECTORS: [(&[u8], &str); 5] = [
    (b"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
    (b"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
    (
        b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
    ),
    (
        b"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
        "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1",
    ),
    (&[0xbd], "68325720aabd7c82f30f554b313d0570c95accbb7dc4b5aae11204c08ffe732b"),
];
/// A million times `a`, from the same paper.
const MILLION: &str = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";

fn digest(hex: &str) -> [u8; 32] {
    let byte = |at: usize| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap();
    std::array::from_fn(byte)
}

/// What coreutils say.
fn sha256sum(data: &[u8]) -> [u8; 32] {
    let mut run = Command::new("sha256sum").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    run.stdin.take().unwrap().write_all(data).unwrap();
    let output = run.wait_with_output().unwrap();
    digest(std::str::from_utf8(&output.stdout[..64]).unwrap())
}

fn region(name: &str, memory: &[u8], sha256: [u8; 32]) -> Region {
    Region { name: name.to_owned(), start: memory.as_ptr() as u64, len: memory.len() as u64, sha256 }
}

/// A handover whose kernel is the first byte of the first region that has one.
fn handover(regions: Vec<Region>) -> Handover {
    let kernel = regions.iter().find(|region| region.len > 0).map_or(0, |region| region.start);
    Handover {
        kernel_entry: kernel,
        boot_params: kernel,
        regions,
        backup: None,
        serial: None,
        debug_port: false,
        on_mismatch: OnMismatch::Hang,
    }
}

/// Whether the blob's other digest can run here.
fn sha_extensions() -> bool {
    let has = std::arch::is_x86_feature_detected!("sha") && std::arch::is_x86_feature_detected!("sse4.1");
    if !has {
        eprintln!("this processor has no SHA extensions: not judged");
    }
    has
}

/// The names that the check finds damaged.
fn damaged(handover: &Handover) -> Vec<&str> {
    let found = sys::check(&handover.image_for(false).unwrap(), 0);
    if sha_extensions() {
        assert_eq!(sys::check(&handover.image_for(true).unwrap(), 0), found, "with the SHA extensions");
    }
    let named = handover.regions.iter().enumerate().filter(|(at, _)| found >> at & 1 != 0);
    let names: Vec<&str> = named.map(|(_, region)| region.name.as_str()).collect();
    assert_eq!(found.count_ones() as usize, names.len(), "{found:#x}");
    names
}

/// Bytes that look random and are the same in every run.
pub fn noise(len: usize, mut seed: u64) -> Vec<u8> {
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

#[test]
fn public_vectors_are_intact_and_nothing_else_is() {
    let million = vec![b'a'; 1_000_000];
    let mut vectors: Vec<(&[u8], [u8; 32])> = VECTORS.iter().map(|(text, hex)| (*text, digest(hex))).collect();
    vectors.push((&million, digest(MILLION)));
    let page = vec![1_u8; 1];
    for (text, sha256) in vectors {
        // The kernel's own page keeps an empty vector company.
        let kernel = region("kernel", &page, sha256_of_segment(&page, 1));
        assert_eq!(damaged(&handover(vec![kernel.clone(), region("vector", text, sha256)])), [""; 0]);
        for bit in [0, 100, 255] {
            let mut wrong = sha256;
            wrong[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(damaged(&handover(vec![kernel.clone(), region("vector", text, wrong)])), ["vector"]);
        }
        assert_eq!(sha256_of_segment(text, text.len() as u64), sha256);
    }
}

#[test]
fn every_length_around_a_block_and_every_alignment() {
    let memory = noise(1024, 1);
    for len in (1..200).chain([447, 448, 511, 512]) {
        let at = len % 13;
        let slice = &memory[at..at + len];
        assert_eq!(damaged(&handover(vec![region("one", slice, sha256sum(slice))])), [""; 0], "{len} bytes");
    }
}

#[test]
fn the_zero_fill_counts() {
    let data = noise(5000, 2);
    let mut memory = data.clone();
    memory.resize(3 * 4096, 0);
    let sha256 = sha256_of_segment(&data, memory.len() as u64);
    assert_eq!(sha256, sha256sum(&memory));
    assert_eq!(damaged(&handover(vec![region("params", &memory, sha256)])), [""; 0]);
    // What the dead kernel scribbled behind the data is damage as well.
    memory[3 * 4096 - 1] = 1;
    assert_eq!(damaged(&handover(vec![region("params", &memory, sha256)])), ["params"]);
}

/// As many regions as there can be, at odd addresses, with an empty one among them.
fn sixteen() -> (Vec<Vec<u8>>, Vec<Region>) {
    let mut memory: Vec<Vec<u8>> = (0..16).map(|n| noise(1 + 977 * n, n as u64)).collect();
    memory[7] = Vec::new();
    let regions = (0..16).map(|n| region(&format!("segment {n}"), &memory[n], sha256sum(&memory[n]))).collect();
    (memory, regions)
}

#[test]
fn one_flipped_bit_names_its_segment_and_no_other() {
    let (mut memory, regions) = sixteen();
    let handover = handover(regions);
    assert_eq!(damaged(&handover), [""; 0]);
    for n in (0..16).filter(|n| *n != 7) {
        for at in [0, memory[n].len() / 2, memory[n].len() - 1] {
            memory[n][at] ^= 1 << (n % 8);
            assert_eq!(damaged(&handover), [format!("segment {n}")], "byte {at}");
            memory[n][at] ^= 1 << (n % 8);
        }
    }
    memory[3][5] ^= 1;
    memory[15][0] ^= 0x80;
    assert_eq!(damaged(&handover), ["segment 3", "segment 15"]);
}

#[test]
fn it_runs_at_any_page() {
    let (_memory, regions) = sixteen();
    let image = handover(regions).image().unwrap();
    assert_eq!(image.align, 4096);
    assert_eq!(image.mem_size % image.align, 0);
    for pages in [0, 1, 2, 7, 255, 256, 4097] {
        assert_eq!(sys::check(&image, pages), 0, "{pages} pages into the mapping");
    }
}

#[test]
fn a_damaged_blob_does_not_believe_its_table() {
    let (_memory, regions) = sixteen();
    let image = handover(regions).image().unwrap();
    // Anywhere in the table, its digest included, and in constants: code might do anything.
    let table = blob::PARAMS as usize..image.bytes.len();
    for at in table.step_by(61) {
        let mut bytes = image.bytes.clone();
        bytes[at] ^= 0x10;
        let wrong = Image { bytes, ..image.clone() };
        let in_console = (48..56).contains(&(at - blob::PARAMS as usize));
        assert!(in_console || sys::check(&wrong, 0) == 1 << 31, "byte {at:#x}");
    }
}

#[test]
fn the_backup_is_copied_when_all_is_well_and_only_then() {
    let mut segment = noise(4096, 3);
    let source = noise(10_001, 4);
    let mut destination = vec![0_u8; 10_003];
    let mut handover = handover(vec![region("kernel", &segment, sha256sum(&segment))]);
    let to = destination.as_mut_ptr() as u64 + 1;
    let backup = Backup { source: source.as_ptr() as u64, destination: to, len: source.len() as u64 };
    handover.backup = Some(backup);
    segment[9] ^= 1;
    assert_eq!(damaged(&handover), ["kernel"]);
    assert!(std::hint::black_box(&destination).iter().all(|byte| *byte == 0));
    segment[9] ^= 1;
    assert_eq!(damaged(&handover), [""; 0]);
    let copied = std::hint::black_box(&destination);
    assert_eq!(copied[1..10_002], source);
    assert_eq!((copied[0], copied[10_002]), (0, 0));
}
