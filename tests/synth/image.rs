//! The physical memory of a fixture: written bytes, patterned pages, and zeros for the rest.
//!
//! Knows bytes at physical addresses. Must not know what they mean.
//! Goes to `elf`, which lays the pages out in a file, and to the tests, which compare contents.

use std::collections::BTreeMap;

pub const PAGE: u64 = 4096;

/// Upper half of the tag that every patterned page repeats; the lower half is its PFN.
pub const TAG: u32 = 0x7d76_6467;
const TAG_EVERY: usize = 512;

/// What a patterned page holds, chosen by its PFN so that contents need not be stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fill {
    Zero,
    /// Tagged and compressible.
    Text,
    /// Tagged and not compressible.
    Noise,
    /// Zero but for the last byte.
    LastByte,
}

fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

pub fn fill_of(pfn: u64) -> Fill {
    match mix(pfn) % 8 {
        0 | 1 => Fill::Zero,
        2..=4 => Fill::Text,
        5 | 6 => Fill::Noise,
        _ => Fill::LastByte,
    }
}

fn tag(pfn: u64) -> [u8; 8] {
    (u64::from(TAG) << 32 | pfn).to_le_bytes()
}

pub fn pattern(pfn: u64) -> Vec<u8> {
    let mut page = vec![0u8; PAGE as usize];
    match fill_of(pfn) {
        Fill::Zero => return page,
        Fill::LastByte => page[PAGE as usize - 1] = 0x80 | pfn as u8,
        Fill::Text => {
            for (i, byte) in page.iter_mut().enumerate() {
                *byte = b"the quick brown fox jumps over the lazy dog "[(i + pfn as usize) % 44];
            }
        }
        Fill::Noise => {
            let mut state = pfn << 20;
            for word in page.chunks_exact_mut(8) {
                state += 1;
                word.copy_from_slice(&mix(state).to_le_bytes());
            }
        }
    }
    if matches!(fill_of(pfn), Fill::Text | Fill::Noise) {
        for block in page.chunks_exact_mut(TAG_EVERY) {
            block[..8].copy_from_slice(&tag(pfn));
        }
    }
    page
}

/// PFNs whose tag occurs anywhere in these bytes, at any alignment.
pub fn tagged_pfns(bytes: &[u8]) -> Vec<u64> {
    let magic = TAG.to_le_bytes();
    let mut found = Vec::new();
    let mut at = 4;
    while at + 4 <= bytes.len() {
        if bytes[at] == magic[0] && bytes[at..at + 4] == magic {
            let low: [u8; 4] = bytes[at - 4..at].try_into().unwrap();
            found.push(u64::from(u32::from_le_bytes(low)));
            at += TAG_EVERY - 8;
        }
        at += 1;
    }
    found
}

#[derive(Clone, Debug, Default)]
pub struct Image {
    written: BTreeMap<u64, Vec<u8>>,
    patterned: BTreeMap<u64, ()>,
}

impl Image {
    /// Writes bytes at a physical address; a page that is written to is no longer patterned.
    pub fn poke(&mut self, mut pa: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let at = (pa % PAGE) as usize;
            let n = bytes.len().min(PAGE as usize - at);
            let page = self.written.entry(pa / PAGE).or_insert_with(|| vec![0; PAGE as usize]);
            page[at..at + n].copy_from_slice(&bytes[..n]);
            pa += n as u64;
            bytes = &bytes[n..];
        }
    }

    pub fn poke_u64(&mut self, pa: u64, value: u64) {
        self.poke(pa, &value.to_le_bytes());
    }

    /// Gives a page the contents that its PFN stands for.
    pub fn paint(&mut self, pfn: u64) {
        if fill_of(pfn) != Fill::Zero {
            self.patterned.insert(pfn, ());
        }
    }

    pub fn page(&self, pfn: u64) -> Vec<u8> {
        if let Some(page) = self.written.get(&pfn) {
            return page.clone();
        }
        if self.patterned.contains_key(&pfn) { pattern(pfn) } else { vec![0; PAGE as usize] }
    }

    pub fn is_zero(&self, pfn: u64) -> bool {
        match self.written.get(&pfn) {
            Some(page) => page.iter().all(|b| *b == 0),
            None => !self.patterned.contains_key(&pfn),
        }
    }

    /// PFNs from `start` to `end` that may hold something else than zeros, in order.
    pub fn touched(&self, start: u64, end: u64) -> Vec<u64> {
        let mut pfns: Vec<u64> = self.written.range(start..end).map(|(p, _)| *p).collect();
        pfns.extend(self.patterned.range(start..end).map(|(p, ())| *p).filter(|p| !self.written.contains_key(p)));
        pfns.sort_unstable();
        pfns
    }
}
