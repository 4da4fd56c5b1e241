//! x86_64 page tables, 4 and 5 levels, with 4K, 2M and 1G leaves.
//!
//! Knows entries and levels. Must not know what is mapped.
//! Goes into the image as plain bytes.

use std::collections::BTreeMap;

use super::image::{Image, PAGE};

const PRESENT_RW_ACCESSED: u64 = 0x23;
const DIRTY: u64 = 0x40;
const LARGE: u64 = 0x80;
const GLOBAL: u64 = 0x100;
/// In a large entry bit 12 is the PAT bit, no part of the address.
const PAT_LARGE: u64 = 1 << 12;
const NO_EXECUTE: u64 = 1 << 63;
/// Software bits that kernels do set (58) and a protection key (59 to 62).
const SOFTWARE: u64 = 1 << 58 | 0b0101 << 59;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Leaf {
    K4,
    M2,
    G1,
}

impl Leaf {
    pub fn size(self) -> u64 {
        match self {
            Leaf::K4 => PAGE,
            Leaf::M2 => 2 << 20,
            Leaf::G1 => 1 << 30,
        }
    }

    /// The level whose entries are such leaves: 1 is the lowest table.
    fn level(self) -> u32 {
        match self {
            Leaf::K4 => 1,
            Leaf::M2 => 2,
            Leaf::G1 => 3,
        }
    }
}

pub struct PageTables {
    root: u64,
    levels: u32,
    sme_mask: u64,
    tables: BTreeMap<u64, Vec<u64>>,
}

fn index(va: u64, level: u32) -> usize {
    (va >> (12 + 9 * (level - 1)) & 0x1ff) as usize
}

impl PageTables {
    pub fn new(root: u64, levels: u32, sme_mask: u64) -> PageTables {
        PageTables { root, levels, sme_mask, tables: BTreeMap::from([(root, vec![0; 512])]) }
    }

    /// Maps `len` bytes at `va` to `pa` with leaves of one size; `alloc` gives a free page.
    pub fn map(&mut self, va: u64, pa: u64, len: u64, leaf: Leaf, alloc: &mut dyn FnMut() -> u64) {
        assert!(va.is_multiple_of(leaf.size()) && pa.is_multiple_of(leaf.size()), "misaligned map {va:#x} -> {pa:#x}");
        let mut done = 0;
        while done < len {
            self.map_one(va + done, pa + done, leaf, alloc);
            done += leaf.size();
        }
    }

    fn map_one(&mut self, va: u64, pa: u64, leaf: Leaf, alloc: &mut dyn FnMut() -> u64) {
        let large = if leaf == Leaf::K4 { 0 } else { LARGE | PAT_LARGE };
        let bits = PRESENT_RW_ACCESSED | DIRTY | GLOBAL | NO_EXECUTE | SOFTWARE | large | self.sme_mask;
        self.set(va, leaf.level(), pa | bits, alloc);
    }

    /// Puts an entry of any kind into the table of `level` that maps `va`.
    pub fn set(&mut self, va: u64, level: u32, entry: u64, alloc: &mut dyn FnMut() -> u64) {
        let lowest = level;
        let mut table = self.root;
        for level in (lowest + 1..=self.levels).rev() {
            let slot = index(va, level);
            let mut entry = self.tables[&table][slot];
            if entry == 0 {
                let page = alloc();
                self.tables.insert(page, vec![0; 512]);
                entry = page | PRESENT_RW_ACCESSED | DIRTY | self.sme_mask;
                self.tables.get_mut(&table).unwrap()[slot] = entry;
            }
            table = entry & 0x000f_ffff_ffff_f000 & !self.sme_mask;
        }
        self.tables.get_mut(&table).unwrap()[index(va, lowest)] = entry;
    }

    pub fn write(&self, image: &mut Image) {
        for (pa, table) in &self.tables {
            let bytes: Vec<u8> = table.iter().flat_map(|e| e.to_le_bytes()).collect();
            image.poke(*pa, &bytes);
        }
    }
}
