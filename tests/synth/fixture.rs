//! Makes a machine's memory, part by part, and writes it to disk.
//!
//! Knows the order of the parts. Must not know encodings, which are its neighbours' business.
//! Goes to the tests as a `Fixture`: a file, and the truth about it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::elf::{self, Placed};
use super::image::{Image, PAGE};
use super::kallsyms;
use super::kinds::Kind;
use super::klog;
use super::machine::{GIB, IMAGE_LEN, MAPS, MIB, Machine};
use super::memmap::{MemMap, MemModel, State};
use super::pagetable::{Leaf, PageTables};
use super::structpage::{Encoder, Page};
use super::truth::{Class, Truth};
use super::vmcoreinfo::{self, Facts, Pairs};

const TOP_PGT_AT: u64 = 2 * MIB;
const UTS_AT: u64 = 2 * MIB + 64 * 1024;
const KALLSYMS_AT: u64 = MIB + 4096;
/// Tables and arrays of the kernel are allocated from here.
const POOL: Range<u64> = 28 * MIB..33 * MIB;
pub const CRASH_TIME: u64 = 1_751_328_000;

pub struct Fixture {
    pub path: PathBuf,
    pub truth: Truth,
    pub image: Image,
    pub placed: Placed,
    pub uts: [String; 6],
    pub info: String,
    pub cpus: usize,
    /// As VMCOREINFO says it: the difference of physical and virtual offsets.
    pub phys_base: u64,
    /// The struct page of every page of RAM.
    pub struct_pages: BTreeMap<u64, Page>,
    /// How many of the last log records the buffer still holds.
    pub log_kept: usize,
}

impl Fixture {
    /// Where the file holds the byte at this physical address.
    pub fn offset_of(&self, pa: u64) -> u64 {
        let load = self.placed.loads.iter().rev().find(|(l, _)| (l.paddr..l.paddr + l.len).contains(&pa));
        let (load, offset) = load.unwrap_or_else(|| panic!("{pa:#x} is in no PT_LOAD"));
        offset + pa - load.paddr
    }
}

impl Machine {
    pub fn build(&self, dir: &Path) -> Fixture {
        let mut image = Image::default();
        let ram = self.ram_bytes().iter().map(|r| r.start / PAGE..r.end.div_ceil(PAGE)).collect();
        let mut truth = Truth { ram, classes: BTreeMap::new() };
        let mut map = MemMap {
            era: self.era,
            model: self.model,
            section_bits: self.section_bits(),
            physmem_bits: self.physmem_bits(),
            sections: self.sections(),
            vmemmap: self.vmemmap + if self.leaf == Leaf::G1 { MAPS } else { 0 },
            page_offset: self.page_offset,
            pages: BTreeMap::new(),
            folded: Vec::new(),
        };
        let used = Encoder::new(self.era).bytes;
        map.pages.extend(truth.pfns().map(|pfn| (pfn, used)));
        self.settle(&mut map, &mut truth, &mut image);
        self.mark_unmapped(&map, &mut truth, &mut image);
        self.plant(&mut map, &mut truth, &mut image);
        self.fill_partial_pages(&mut image);

        let mut pool = POOL.start;
        let mut run = |len: u64| {
            let at = pool;
            pool += len.next_multiple_of(PAGE);
            assert!(pool <= POOL.end, "the fixture's kernel pool is too small");
            at
        };
        let mut pointers = map.write_sections(&mut image, &mut run);
        if let Some((how, symbols)) = &self.symbols {
            let (pa, va) = (self.image_pa + KALLSYMS_AT, self.image_va() + KALLSYMS_AT);
            pointers.extend(kallsyms::write(*how, symbols, self.image_va(), &mut image, pa, va));
        }
        let mut log_kept = 0;
        if !self.log.is_empty() {
            let (keys, kept) = klog::write(self.era, &self.log, &mut image, self.page_offset, &mut run);
            pointers.extend(keys);
            log_kept = kept;
        }
        let mut tables = PageTables::new(self.image_pa + TOP_PGT_AT, self.levels, self.sme_mask);
        let mut page = || run(PAGE);
        tables.map(self.page_offset, 0, 8 * GIB, Leaf::G1, &mut page);
        tables.map(self.image_va(), self.image_pa, IMAGE_LEN, Leaf::M2, &mut page);
        map.write(&mut image, &mut tables, self.leaf, &mut page);
        self.maps.iter().for_each(|(va, pa, len, leaf)| tables.map(*va, *pa, *len, *leaf, &mut page));
        self.entries.iter().for_each(|(va, level, entry)| tables.set(*va, *level, *entry, &mut page));
        tables.write(&mut image);
        let uts = self.write_uts(&mut image);
        self.pokes.iter().for_each(|(pa, word)| image.poke_u64(*pa, *word));

        let info = self.info(pointers);
        let path = dir.join("vmcore");
        let placed = elf::write(&path, self.style, &self.note_segments(&info), &self.pt_loads(), &image);
        let info = String::from_utf8(info).unwrap();
        Fixture {
            path,
            truth,
            image,
            placed,
            uts,
            info,
            cpus: self.cpus,
            phys_base: self.phys_base(),
            struct_pages: map.pages,
            log_kept,
        }
    }

    /// Finds a place for every member of the zoo, by turns in each arena.
    fn settle(&self, map: &mut MemMap<'_>, truth: &mut Truth, image: &mut Image) {
        let mut next: Vec<u64> = self.arenas.iter().map(|a| a.start / PAGE).collect();
        let members = self.zoo.iter().filter(|(k, _)| self.lives_here(*k)).flat_map(|(k, n)| vec![*k; *n]);
        for (turn, kind) in members.enumerate() {
            let pages = 1u64 << kind.order();
            let arena = (0..next.len())
                .map(|n| (n + turn) % next.len())
                .find(|a| next[*a].next_multiple_of(pages) + pages <= self.arenas[*a].end / PAGE)
                .unwrap_or_else(|| panic!("no room for {kind:?}"));
            let pfn = next[arena].next_multiple_of(pages);
            next[arena] = pfn + pages;
            let described = kind.describe(self.era, pfn, &|p| map.va_of(p));
            assert_eq!(described.len() as u64, pages, "{kind:?}");
            for (at, (bytes, class)) in (pfn..).zip(described) {
                map.pages.insert(at, bytes);
                truth.classes.insert(at, class);
                if !self.unpainted {
                    image.paint(at);
                }
            }
            if kind == Kind::Huge2MFolded {
                map.folded.push(pfn);
            }
        }
    }

    fn lives_here(&self, kind: Kind) -> bool {
        let foldable = self.model == MemModel::Vmemmap && self.leaf != Leaf::G1;
        kind.exists(self.era) && (kind != Kind::Huge2MFolded || foldable)
    }

    /// Puts the planted pages where they are wanted.
    fn plant(&self, map: &mut MemMap<'_>, truth: &mut Truth, image: &mut Image) {
        for (pfn, kind, class) in &self.planted {
            let described = kind.describe(self.era, *pfn, &|p| map.va_of(p));
            for (at, (bytes, _)) in (*pfn..).zip(described) {
                map.pages.insert(at, bytes);
                truth.classes.insert(at, *class);
                image.paint(at);
            }
        }
    }

    /// Ranges may begin and end inside a page: that part of it holds text, the rest reads as zeros.
    fn fill_partial_pages(&self, image: &mut Image) {
        const TEXT: &str = "memory ends or begins in the middle of this page; ";
        let text = TEXT.repeat(100);
        for Range { start, end } in self.ram_bytes() {
            if start % PAGE != 0 {
                image.poke(start, &text.as_bytes()[..(PAGE - start % PAGE) as usize]);
            }
            if end % PAGE != 0 {
                image.poke(end / PAGE * PAGE, &text.as_bytes()[..(end % PAGE) as usize]);
            }
        }
    }

    /// RAM in sections without a usable map is kept, whatever it holds.
    fn mark_unmapped(&self, map: &MemMap<'_>, truth: &mut Truth, image: &mut Image) {
        for section in map.sections.iter().filter(|s| s.state != State::Present) {
            let first = section.nr * map.pages_per_section();
            let ram: Vec<u64> = (first..first + map.pages_per_section()).filter(|pfn| truth.is_ram(*pfn)).collect();
            for pfn in ram {
                truth.classes.insert(pfn, Class::Unmapped);
                image.paint(pfn);
            }
        }
    }

    fn write_uts(&self, image: &mut Image) -> [String; 6] {
        let fields = ["Linux", "crashed-host", self.era.release, "#1 SMP PREEMPT_DYNAMIC", "x86_64", "(none)"];
        for (n, field) in (0u64..).zip(fields) {
            image.poke(self.image_pa + UTS_AT + 4 + n * 65, field.as_bytes());
        }
        fields.map(String::from)
    }

    fn info(&self, pointers: Pairs) -> Vec<u8> {
        let facts = Facts {
            crash_time: CRASH_TIME,
            phys_base: self.phys_base() as i64,
            kaslr_offset: self.kaslr_offset,
            levels: self.levels,
            sme_mask: self.sme_mask,
            top_pgt: self.image_va() + TOP_PGT_AT,
            stext: self.image_va(),
            init_uts_ns: self.image_va() + UTS_AT,
            pointers,
        };
        let mut pairs = vmcoreinfo::pairs(self.era, &facts);
        for (key, value) in &self.info {
            pairs.retain(|(k, _)| k != key);
            pairs.extend(value.clone().map(|v| (key.clone(), v)));
        }
        vmcoreinfo::text(&pairs)
    }
}
