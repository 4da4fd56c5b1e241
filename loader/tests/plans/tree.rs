//! Recorded machines: a text file becomes a folder with /proc and /sys in it.
//!
//! Knows the sections of the files in `trees/`, which `tests/vm/lab.py record` writes. Shares no code with the loader.

use std::{fs, path::Path};

use tempfile::TempDir;

/// Unpacks `trees/NAME.tree`.
pub fn tree(name: &str) -> TempDir {
    unpack(&text(name))
}

/// The text of `trees/NAME.tree`.
pub fn text(name: &str) -> String {
    // The workspace's tests unpack the same trees.
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let trees = [package.join("tests/trees"), package.join("loader/tests/trees")];
    let trees = trees.into_iter().find(|trees| trees.is_dir()).expect("the loader's trees");
    let path = trees.join(format!("{name}.tree"));
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub fn unpack(text: &str) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for section in text.split("\n== ").skip(1) {
        let (name, body) = section.split_once('\n').unwrap();
        match name {
            "firmware-map" => firmware_map(root.path(), body),
            "efi-map" => efi_map(root.path(), body),
            "boot-params" => write(root.path(), "sys/kernel/boot_params/data", &boot_params(body)),
            "kcore" => write(root.path(), "proc/kcore", &kcore(body)),
            file => write(root.path(), file, body.as_bytes()),
        }
    }
    root
}

pub fn write(root: &Path, name: &str, bytes: &[u8]) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn firmware_map(root: &Path, body: &str) {
    for (number, line) in body.lines().filter(|line| !line.is_empty()).enumerate() {
        let (range, kind) = line.split_once(" : ").unwrap();
        let (start, end) = range.split_once('-').unwrap();
        for (file, value) in [("start", format!("0x{start}")), ("end", format!("0x{end}")), ("type", kind.to_owned())] {
            write(root, &format!("sys/firmware/memmap/{number}/{file}"), format!("{value}\n").as_bytes());
        }
    }
}

fn efi_map(root: &Path, body: &str) {
    for line in body.lines().filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split(' ').collect();
        for (file, word) in ["type", "phys_addr", "virt_addr", "num_pages", "attribute"].iter().zip(&words[1..]) {
            // As the kernel prints them: numbers of pages and types in decimal or hexadecimal, addresses with 0x.
            write(root, &format!("sys/firmware/efi/runtime-map/{}/{file}", words[0]), format!("0x{word}\n").as_bytes());
        }
    }
}

/// Lines of an offset and bytes.
fn boot_params(body: &str) -> Vec<u8> {
    let mut params = vec![0; 4096];
    for line in body.lines().filter(|line| !line.is_empty()) {
        let (at, bytes) = line.split_once(' ').unwrap();
        let at = usize::from_str_radix(at, 16).unwrap();
        for (index, byte) in bytes.split(' ').enumerate() {
            params[at + index] = u8::from_str_radix(byte, 16).unwrap();
        }
    }
    params
}

/// An ELF core's headers: lines of virtual address, physical address, size; lines with `=` are VMCOREINFO's.
fn kcore(body: &str) -> Vec<u8> {
    let (notes, mappings): (Vec<&str>, Vec<&str>) =
        body.lines().filter(|line| !line.is_empty()).partition(|line| line.contains('='));
    let note = vmcoreinfo(&notes.join("\n"));
    let count = mappings.len() + 1;
    let mut core = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    core.extend([4, 0, 62, 0, 1, 0, 0, 0]);
    [0u64, 64, 0].iter().for_each(|word| core.extend(word.to_le_bytes()));
    core.extend([0, 0, 0, 0, 64, 0, 56, 0]);
    core.extend((count as u16).to_le_bytes());
    core.extend([0; 6]);
    let mut header = |kind: u8, words: [u64; 6]| {
        core.extend([kind, 0, 0, 0, 7, 0, 0, 0]);
        words.iter().for_each(|word| core.extend(word.to_le_bytes()));
    };
    header(4, [64 + count as u64 * 56, 0, 0, note.len() as u64, 0, 0]);
    for line in mappings {
        let words: Vec<u64> = line.split(' ').map(|word| u64::from_str_radix(word, 16).unwrap()).collect();
        // The offset in the file does not matter.
        header(1, [0x1000, words[0], words[1], words[2], words[2], 4096]);
    }
    core.extend(note);
    core
}

/// A note of type 0 with `text`.
fn vmcoreinfo(text: &str) -> Vec<u8> {
    let mut note = Vec::new();
    [11, text.len() as u32, 0].iter().for_each(|word| note.extend(word.to_le_bytes()));
    note.extend(b"VMCOREINFO\0\0");
    note.extend(text.as_bytes());
    note.resize(note.len().next_multiple_of(4), 0);
    note
}
