//! Readers of what the product writes, with layouts of their own.
//!
//! Know the two output formats as their readers (crash, libkdumpfile, drgn, gdb) see them.
//! Must not know how fixtures are made. Go to the tests as pages by PFN and as lists of faults.

pub mod elf;
pub mod kdump;

pub const PAGE: usize = 4096;

fn int(bytes: &[u8], at: usize, width: usize) -> u64 {
    let mut word = [0u8; 8];
    word[..width].copy_from_slice(&bytes[at..at + width]);
    u64::from_le_bytes(word)
}

/// Notes of a core: name, type, description.
pub fn notes(mut bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
    let mut out = Vec::new();
    while bytes.len() >= 12 {
        let (namesz, descsz) = (int(bytes, 0, 4) as usize, int(bytes, 4, 4) as usize);
        let desc_at = 12 + namesz.next_multiple_of(4);
        let name = String::from_utf8_lossy(&bytes[12..12 + namesz]).trim_end_matches('\0').to_owned();
        out.push((name, int(bytes, 8, 4) as u32, bytes[desc_at..desc_at + descsz].to_vec()));
        bytes = bytes.get(desc_at + descsz.next_multiple_of(4)..).unwrap_or_default();
    }
    out
}
