//! The kernel's own symbol table, compressed as scripts/kallsyms.c compresses it.
//!
//! Knows tokens, names and the three ways to store addresses. Must not know what symbols bound.
//! Goes into the image; the symbols that lead to it go to `vmcoreinfo`.

use super::image::Image;
use super::vmcoreinfo::{Pairs, symbol};

/// How addresses are stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Addresses {
    /// Positive is absolute (per-cpu), negative is below the base: x86_64 until 6.14.
    AbsolutePercpu,
    /// Unsigned distance from the base.
    Relative,
    /// Distance from the table's own entry, no base at all: 7.0 and later.
    PlaceRelative,
}

/// Strings that stand for one byte each; every other byte stands for itself.
const TOKENS: [(u8, &str); 5] = [(1, "__"), (2, "start"), (3, "_end"), (4, "init_"), (5, "Tke")];
/// Symbols before and after those asked for, as there are in a kernel.
const OTHERS: [(u64, &str); 2] = [(0x1000, "asm_exc_page_fault"), (0x3_0100, "__x64_sys_kexec_load")];

/// Splits a name into token bytes, longest tokens first wherever they fit.
fn compress(name: &str) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), name);
    while let Some(first) = rest.bytes().next() {
        let token = TOKENS.iter().find(|(_, text)| rest.starts_with(text));
        let (byte, len) = token.map_or((first, 1), |(byte, text)| (*byte, text.len()));
        out.push(byte);
        rest = &rest[len..];
    }
    out
}

fn token_table() -> (Vec<u8>, Vec<u8>) {
    let (mut table, mut index) = (Vec::new(), Vec::new());
    for byte in 0..=255u8 {
        index.extend((table.len() as u16).to_le_bytes());
        let token = TOKENS.iter().find(|(b, _)| *b == byte).map(|(_, text)| text.as_bytes().to_vec());
        table.extend(token.unwrap_or_else(|| if byte.is_ascii_graphic() { vec![byte] } else { vec![] }));
        table.push(0);
    }
    (table, index)
}

/// Writes the tables from `pa` on, which the kernel sees at `va`; returns the keys that lead there.
/// Symbols are given by their offset from `base`.
pub fn write(how: Addresses, symbols: &[(u64, &str)], base: u64, image: &mut Image, pa: u64, va: u64) -> Pairs {
    let mut sorted: Vec<(u64, &str)> = symbols.iter().chain(&OTHERS).copied().collect();
    sorted.sort_by_key(|s| s.0);
    // A name so long that its length takes two bytes.
    let long = "very_long_name_".repeat(12);
    sorted.insert(1, (sorted[0].0 + 8, &long));

    let mut names = Vec::new();
    for (_, name) in &sorted {
        let packed = compress(&format!("T{name}"));
        match packed.len() {
            n @ 0..=0x7f => names.push(n as u8),
            n => names.extend([n as u8 | 0x80, (n >> 7) as u8]),
        }
        names.extend(packed);
    }
    let (table, index) = token_table();
    let count = (sorted.len() as u32).to_le_bytes().to_vec();
    let mut parts = vec![("names", names), ("num_syms", count), ("token_table", table), ("token_index", index)];
    let mut at = 0u64;
    let mut keys = Pairs::new();
    let mut place = |name: &str, bytes: &[u8], image: &mut Image| {
        let here = at;
        image.poke(pa + here, bytes);
        keys.push(symbol(&format!("kallsyms_{name}"), va + here));
        at = (here + bytes.len() as u64).next_multiple_of(8);
        here
    };
    for (name, bytes) in parts.drain(..) {
        place(name, &bytes, image);
    }
    if how != Addresses::PlaceRelative {
        place("relative_base", &base.to_le_bytes(), image);
    }
    let offsets_at = place("offsets", &vec![0; sorted.len() * 4], image);
    for (n, (offset, _)) in (0u64..).zip(&sorted) {
        let place = offsets_at + n * 4;
        let stored = match how {
            Addresses::AbsolutePercpu => -1 - *offset as i64,
            Addresses::Relative => *offset as i64,
            Addresses::PlaceRelative => (base + offset).wrapping_sub(va + place) as i64,
        };
        image.poke(pa + place, &(stored as i32).to_le_bytes());
    }
    keys
}
