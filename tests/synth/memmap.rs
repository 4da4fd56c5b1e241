//! The memory map of a synthetic kernel: where struct pages lie, and the tables that lead to them.
//!
//! Knows SPARSEMEM (extreme and plain, with and without vmemmap), FLATMEM and folded hugetlb maps.
//! Must not know what pages mean.
//! Goes into the image; the symbols that lead to it go to `vmcoreinfo`.

use std::collections::BTreeMap;

use super::encodings::{Hvo, KernelEra};
use super::image::{Image, PAGE};
use super::pagetable::{Leaf, PageTables};
use super::structpage::{Compound, Encoder, Page, STRUCT_PAGE};
use super::vmcoreinfo::{Pairs, length, symbol};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MemModel {
    /// SPARSEMEM_EXTREME with SPARSEMEM_VMEMMAP: every distribution's kernel.
    Vmemmap,
    /// SPARSEMEM_EXTREME, each section's map in the direct map.
    Extreme,
    /// One flat array of sections.
    Plain,
    Flat,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum State {
    Present,
    /// The present bit is clear; what is left of the word is an early node number.
    NotPresent,
    /// Present, but its pointer leads nowhere.
    BadPointer,
}

#[derive(Clone, Copy, Debug)]
pub struct Section {
    pub nr: u64,
    pub state: State,
    /// Physical address of its struct pages.
    pub map_pa: u64,
}

pub struct MemMap<'e> {
    pub era: &'e KernelEra,
    pub model: MemModel,
    pub section_bits: u32,
    pub physmem_bits: u32,
    pub sections: Vec<Section>,
    pub vmemmap: u64,
    pub page_offset: u64,
    pub pages: BTreeMap<u64, Page>,
    /// Heads of hugetlb pages whose struct pages are folded.
    pub folded: Vec<u64>,
}

const BAD_MAP: u64 = 0xffff_b0de_ad00_0000;
/// Bytes that no struct page starts with: what a freed vmemmap page may hold.
const JUNK: u8 = 0x5a;
/// vmemmap pages that describe one 2 MiB page.
const VMEMMAP_PAGES_2M: u64 = 512 * STRUCT_PAGE / PAGE;

impl MemMap<'_> {
    pub fn pages_per_section(&self) -> u64 {
        1 << (self.section_bits - 12)
    }

    fn section_of(&self, pfn: u64) -> Option<&Section> {
        self.sections.iter().find(|s| s.nr == pfn / self.pages_per_section())
    }

    /// The address by which the kernel knows this page's struct page.
    pub fn va_of(&self, pfn: u64) -> u64 {
        match self.model {
            MemModel::Vmemmap => self.vmemmap + pfn * STRUCT_PAGE,
            _ => self.page_offset + self.pa_of(pfn),
        }
    }

    fn pa_of(&self, pfn: u64) -> u64 {
        let section = self.section_of(pfn).unwrap_or_else(|| panic!("pfn {pfn:#x} is in no section"));
        section.map_pa + pfn % self.pages_per_section() * STRUCT_PAGE
    }

    pub fn write(&self, image: &mut Image, tables: &mut PageTables, leaf: Leaf, alloc: &mut dyn FnMut() -> u64) {
        let present = self.sections.iter().filter(|s| s.state == State::Present);
        for section in present {
            let first = section.nr * self.pages_per_section();
            let idle = Encoder::new(self.era).flag(self.era.bits.reserved).bytes;
            let bytes: Vec<u8> = (first..first + self.pages_per_section())
                .flat_map(|pfn| self.pages.get(&pfn).copied().unwrap_or(idle))
                .collect();
            image.poke(section.map_pa, &bytes);
            if self.model == MemModel::Vmemmap {
                self.map_section(section, bytes.len() as u64, tables, leaf, alloc);
            }
        }
        for head in &self.folded {
            self.fold(*head, image, tables, alloc);
        }
    }

    fn map_section(&self, s: &Section, len: u64, tables: &mut PageTables, leaf: Leaf, alloc: &mut dyn FnMut() -> u64) {
        let va = self.va_of(s.nr * self.pages_per_section());
        let has_folded = self.folded.iter().any(|pfn| pfn / self.pages_per_section() == s.nr);
        match leaf {
            Leaf::G1 => tables.map(va & !(leaf.size() - 1), s.map_pa & !(leaf.size() - 1), 1, leaf, alloc),
            Leaf::M2 if !has_folded && len.is_multiple_of(leaf.size()) => tables.map(va, s.map_pa, len, leaf, alloc),
            _ => tables.map(va, s.map_pa, len, Leaf::K4, alloc),
        }
    }

    /// Does to the struct pages of one 2 MiB hugetlb page what the kernel's vmemmap optimisation does.
    fn fold(&self, head: u64, image: &mut Image, tables: &mut PageTables, alloc: &mut dyn FnMut() -> u64) {
        let (va, pa) = (self.va_of(head), self.pa_of(head));
        let (kept, target) = match self.era.hvo {
            Hvo::None => return,
            Hvo::TwoPages => (2, pa + PAGE),
            Hvo::FakeHeads => (1, pa),
            Hvo::SharedTails => (1, self.shared_tails(head, image, alloc)),
        };
        for n in kept..VMEMMAP_PAGES_2M {
            tables.map(va + n * PAGE, target, PAGE, Leaf::K4, alloc);
            image.poke(pa + n * PAGE, &[JUNK; PAGE as usize]);
        }
    }

    fn shared_tails(&self, head: u64, image: &mut Image, alloc: &mut dyn FnMut() -> u64) -> u64 {
        let page = alloc();
        let tail = Encoder::new(self.era).tail(Compound::Hugetlb, 2, 9, self.va_of(head)).bytes;
        image.poke(page, &tail.repeat((PAGE / STRUCT_PAGE) as usize));
        page
    }

    /// What the kernel stores in a section's word.
    fn encoded(&self, section: &Section) -> u64 {
        let first = section.nr * self.pages_per_section();
        match section.state {
            State::Present => (self.va_of(first) - first * STRUCT_PAGE) | self.era.section_flags,
            State::NotPresent => 1 << 6,
            State::BadPointer => BAD_MAP | self.era.section_flags,
        }
    }

    /// Writes the tables of sections (or the flat map's pointer) and returns the keys that name them.
    /// `run` gives that many bytes of contiguous free memory.
    pub fn write_sections(&self, image: &mut Image, run: &mut dyn FnMut(u64) -> u64) -> Pairs {
        if self.model == MemModel::Flat {
            let node = run(PAGE);
            let map = self.page_offset + self.sections[0].map_pa;
            image.poke_u64(node + FLAT_POINTER, map);
            for (at, value) in [(NODE_MEM_MAP, map + STRUCT_PAGE), (NODE_START, 1), (NODE_SPANNED, self.span() - 1)] {
                image.poke_u64(node + at, value);
            }
            return vec![
                symbol("mem_map", self.page_offset + node + FLAT_POINTER),
                symbol("contig_page_data", self.page_offset + node),
                ("OFFSET(pglist_data.node_mem_map)".into(), NODE_MEM_MAP.to_string()),
                ("OFFSET(pglist_data.node_start_pfn)".into(), NODE_START.to_string()),
                ("OFFSET(pglist_data.node_spanned_pages)".into(), NODE_SPANNED.to_string()),
            ];
        }
        let size = self.era.section_size;
        let count = 1u64 << (self.physmem_bits - self.section_bits);
        let (table, entries) = if self.model == MemModel::Plain {
            let table = run(count * size);
            self.sections.iter().for_each(|s| image.poke_u64(table + s.nr * size, self.encoded(s)));
            (table, count)
        } else {
            let per_root = PAGE / size;
            let roots = count.div_ceil(per_root);
            let table = run(roots * 8);
            let mut made = BTreeMap::new();
            for s in &self.sections {
                let root = *made.entry(s.nr / per_root).or_insert_with(|| run(PAGE));
                image.poke_u64(table + s.nr / per_root * 8, self.page_offset + root);
                image.poke_u64(root + s.nr % per_root * size, self.encoded(s));
            }
            (table, roots)
        };
        let mut pairs = vec![
            symbol("mem_section", self.page_offset + table),
            length("mem_section", entries),
            ("SIZE(mem_section)".into(), size.to_string()),
            ("OFFSET(mem_section.section_mem_map)".into(), "0".into()),
        ];
        // Before the kernel exported them, readers knew 27 and 46 (or 52) by heart.
        if self.era.sparse_bits || (self.section_bits, self.physmem_bits) != (27, 46) {
            pairs.push(("NUMBER(SECTION_SIZE_BITS)".into(), self.section_bits.to_string()));
            pairs.push(("NUMBER(MAX_PHYSMEM_BITS)".into(), self.physmem_bits.to_string()));
        }
        pairs
    }

    fn span(&self) -> u64 {
        self.sections.iter().map(|s| (s.nr + 1) * self.pages_per_section()).max().unwrap_or(0)
    }
}

const FLAT_POINTER: u64 = 0x800;
const NODE_MEM_MAP: u64 = 0x18;
const NODE_START: u64 = 0x28;
const NODE_SPANNED: u64 = 0x38;
