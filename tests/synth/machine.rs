//! One crashed machine: its switches, its presets, and where its memory lies.
//!
//! Knows addresses. Must not know encodings, which are its neighbours' business.
//! Goes to `fixture`, which makes it.

use std::ops::Range;

use super::elf::{Load, Style};
use super::encodings::KernelEra;
use super::kallsyms::Addresses;
use super::kinds::{Kind, ZOO};
use super::klog::Record;
use super::memmap::{MemModel, Section, State};
use super::odd::ODDITIES;
use super::pagetable::Leaf;
use super::truth::Class;

pub const MIB: u64 = 1 << 20;
pub const GIB: u64 = 1 << 30;
const KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;
const KERNEL_TEXT: u64 = 0xffff_ffff_8100_0000;
pub const IMAGE_LEN: u64 = 4 * MIB;
/// Struct pages lie from here on, 2 MiB for each section.
pub const MAPS: u64 = 80 * MIB;
/// Where the low RAM range ends: inside page 0x9f.
pub const LOW_END: u64 = 0x9_fc00;
const NOT_PRESENT: u64 = 33;
const BAD_POINTER: u64 = 34;

/// Which PT_LOADs describe the RAM.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loads {
    /// One for each range, and one more for the kernel's text.
    Usual,
    /// Ranges cut in two, both halves holding the middle.
    Overlapping,
    /// Ranges cut in two in the middle of a page.
    MidPage,
    /// From high to low addresses, with empty ones between them.
    Reversed,
    /// One for each page: more than e_phnum can count.
    PerPage,
}

#[derive(Clone, Debug)]
pub struct Machine {
    pub era: &'static KernelEra,
    pub levels: u32,
    pub kaslr_offset: u64,
    pub image_pa: u64,
    pub page_offset: u64,
    pub vmemmap: u64,
    pub sme_mask: u64,
    pub model: MemModel,
    pub leaf: Leaf,
    pub style: Style,
    pub loads: Loads,
    pub zoo: Vec<(Kind, usize)>,
    /// RAM ranges above the low one, in bytes, with the arenas for the zoo.
    pub ram: Vec<Range<u64>>,
    pub arenas: Vec<Range<u64>>,
    /// Keys to put into VMCOREINFO, or with None to leave out.
    pub info: Vec<(String, Option<String>)>,
    pub vmcoreinfo: bool,
    /// NUL bytes behind VMCOREINFO's text, inside its note.
    pub info_padding: usize,
    /// CPUs that saved their registers.
    pub cpus: usize,
    /// Whether sections 33 and 34 are broken, if there is RAM in them.
    pub broken_sections: bool,
    pub odd_notes: bool,
    /// The note that only /proc/kcore has: the memory was copied while the kernel ran.
    pub running: bool,
    pub note_segments: usize,
    /// Zero bytes after the last note of each PT_NOTE but the last.
    pub note_padding: usize,
    /// PT_LOADs besides those for the RAM: more views of it.
    pub views: Vec<Load>,
    /// Pages at chosen places, and what they are to count as.
    pub planted: Vec<(u64, Kind, Class)>,
    /// More mappings: virtual and physical address, length, and the size of their pages.
    pub maps: Vec<(u64, u64, u64, Leaf)>,
    /// Page table entries as they are: an address, a level (1 is the lowest), and the entry.
    pub entries: Vec<(u64, u32, u64)>,
    /// Words to write at physical addresses, after all else.
    pub pokes: Vec<(u64, u64)>,
    /// Symbols of the kernel image by offset, and how the kernel's own table stores them.
    pub symbols: Option<(Addresses, Vec<(u64, &'static str)>)>,
    /// What the kernel has logged; without any there is no log buffer either.
    pub log: Vec<Record>,
    /// Leaves the zoo's pages zero.
    pub unpainted: bool,
}

impl Machine {
    /// An ordinary machine of this era: 4 levels, no KASLR, vmemmap in 2 MiB pages, the whole zoo.
    pub fn new(era: &'static KernelEra) -> Machine {
        Machine {
            era,
            levels: 4,
            kaslr_offset: 0,
            image_pa: 16 * MIB,
            page_offset: 0xffff_8880_0000_0000,
            vmemmap: 0xffff_ea00_0000_0000,
            sme_mask: 0,
            model: MemModel::Vmemmap,
            leaf: Leaf::M2,
            style: Style::ProcVmcore,
            loads: Loads::Usual,
            zoo: [&ZOO[..], &ODDITIES].concat(),
            ram: vec![
                MIB..64 * MIB,
                80 * MIB..160 * MIB,
                4 * GIB..4 * GIB + 32 * MIB,
                // In section 33 and in section 34.
                4 * GIB + 128 * MIB..4 * GIB + 129 * MIB,
                4 * GIB + 256 * MIB..4 * GIB + 257 * MIB,
            ],
            arenas: vec![33 * MIB..64 * MIB, 100 * MIB..128 * MIB, 4 * GIB..4 * GIB + 32 * MIB],
            info: Vec::new(),
            vmcoreinfo: true,
            info_padding: 0,
            cpus: 2,
            broken_sections: true,
            odd_notes: false,
            running: false,
            note_segments: 1,
            note_padding: 0,
            views: Vec::new(),
            planted: Vec::new(),
            maps: Vec::new(),
            entries: Vec::new(),
            pokes: Vec::new(),
            symbols: None,
            log: Vec::new(),
            unpainted: false,
        }
    }

    pub fn five_levels(mut self) -> Machine {
        self.levels = 5;
        self.page_offset = 0xff11_0000_0000_0000;
        self.vmemmap = 0xffd4_0000_0000_0000;
        self
    }

    /// Randomised bases, and a kernel whose physical and virtual offsets differ (phys_base < 0).
    pub fn kaslr(mut self) -> Machine {
        self.kaslr_offset = 0x1a00_0000;
        self.page_offset += 0x0000_1c36_4000_0000;
        self.vmemmap += 0x0000_08a5_8000_0000;
        self
    }

    /// A machine of 64 MiB with few pages, for tests that need many fixtures or little time.
    pub fn small(era: &'static KernelEra) -> Machine {
        let few = [
            (Kind::Slab, 2),
            (Kind::Buddy(3), 2),
            (Kind::Anon, 9),
            (Kind::CacheClean, 9),
            (Kind::CachePrivate, 3),
            (Kind::Huge2M, 1),
        ];
        let mut machine = Machine::new(era);
        machine.zoo = few.to_vec();
        machine.ram = vec![MIB..64 * MIB, 80 * MIB..88 * MIB];
        machine.arenas = vec![33 * MIB..64 * MIB];
        machine
    }

    /// A PT_LOAD for each page, and enough pages.
    pub fn with_many_loads(mut self) -> Machine {
        self.loads = Loads::PerPage;
        self.ram[2].end = 4 * GIB + 128 * MIB;
        self
    }

    pub fn section_bits(&self) -> u32 {
        27
    }

    pub fn physmem_bits(&self) -> u32 {
        match (self.model, self.levels) {
            // A flat array of sections for 46 bits would be 8 MiB long.
            (MemModel::Plain, _) => 40,
            (_, 5) => 52,
            _ => 46,
        }
    }

    /// Sections that have RAM.
    pub fn sections(&self) -> Vec<Section> {
        let per = 1u64 << self.section_bits();
        let mut numbers: Vec<u64> = self.ram.iter().flat_map(|r| r.start / per..r.end.div_ceil(per)).collect();
        numbers.dedup();
        let state = |nr| match nr {
            NOT_PRESENT if self.broken_sections => State::NotPresent,
            BAD_POINTER if self.broken_sections => State::BadPointer,
            _ => State::Present,
        };
        // One 1 GiB mapping of the maps needs each at its section's distance; otherwise they lie in a row.
        let place = |n: u64, nr: u64| MAPS + if self.leaf == Leaf::G1 { nr } else { n } * 2 * MIB;
        (0..).zip(numbers).map(|(n, nr)| Section { nr, state: state(nr), map_pa: place(n, nr) }).collect()
    }

    pub fn ram_bytes(&self) -> Vec<Range<u64>> {
        let mut ram = vec![0x1000..LOW_END];
        ram.extend(self.ram.iter().cloned());
        ram
    }

    pub fn phys_base(&self) -> u64 {
        self.image_pa.wrapping_sub(self.image_va() - KERNEL_MAP)
    }

    pub fn image_va(&self) -> u64 {
        KERNEL_TEXT + self.kaslr_offset
    }
}
