//! Reads ELF cores and lists which writer rules they break.
//!
//! Knows ELF as crash, gdb and libelf read it. Must not know levels or classes.

use std::path::Path;

use super::{PAGE, int};

pub const PT_LOAD: u64 = 1;
pub const PT_NOTE: u64 = 4;
const PN_XNUM: u64 = 0xffff;
/// `p_paddr` of a segment of virtual memory, as /proc/kcore has them.
const NO_PADDR: u64 = u64::MAX;

#[derive(Clone, Copy, Debug)]
pub struct Phdr {
    pub kind: u64,
    pub offset: u64,
    pub vaddr: u64,
    pub paddr: u64,
    pub filesz: u64,
    pub memsz: u64,
    pub align: u64,
}

pub struct Elf {
    pub bytes: Vec<u8>,
    pub phdrs: Vec<Phdr>,
    /// 64 or 32 bits.
    pub wide: bool,
}

/// How a page appears in an ELF core.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// In no PT_LOAD: a reader gets an error.
    Absent,
    /// In a PT_LOAD beyond its file bytes: a reader gets zeros.
    Unstored,
    Stored(Vec<u8>),
}

impl Elf {
    pub fn open(path: &Path) -> Elf {
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert_eq!(&bytes[..4], b"\x7fELF", "magic");
        assert!([1, 2].contains(&bytes[4]) && bytes[5] == 1, "class and byte order");
        let mut elf = Elf { wide: bytes[4] == 2, bytes, phdrs: Vec::new() };
        let phnum = match elf.half(44, 56) {
            PN_XNUM => int(&elf.bytes, elf.word(32, 40) as usize + if elf.wide { 44 } else { 28 }, 4),
            n => n,
        };
        let (phoff, entry, word) = (elf.word(28, 32) as usize, if elf.wide { 56 } else { 32 }, elf.width());
        let phdr = |n: u64| {
            let at = phoff + n as usize * entry;
            let field = |index: usize| int(&elf.bytes, at + if elf.wide { 8 } else { 4 } + index * word, word);
            let align = if elf.wide { field(5) } else { int(&elf.bytes, at + 28, 4) };
            let [offset, vaddr, paddr, filesz, memsz] = [0, 1, 2, 3, 4].map(field);
            Phdr { kind: int(&elf.bytes, at, 4), offset, vaddr, paddr, filesz, memsz, align }
        };
        elf.phdrs = (0..phnum).map(phdr).collect();
        elf
    }

    /// Bytes of an address.
    fn width(&self) -> usize {
        if self.wide { 8 } else { 4 }
    }

    /// A field of the file header, by its offset in a narrow and in a wide one.
    fn word(&self, narrow: usize, wide: usize) -> u64 {
        int(&self.bytes, if self.wide { wide } else { narrow }, self.width())
    }

    fn half(&self, narrow: usize, wide: usize) -> u64 {
        int(&self.bytes, if self.wide { wide } else { narrow }, 2)
    }

    /// e_flags: bit 0 says that the dump is not whole.
    pub fn flags(&self) -> u64 {
        int(&self.bytes, if self.wide { 48 } else { 36 }, 4)
    }

    /// The segments of physical memory.
    pub fn loads(&self) -> impl Iterator<Item = &Phdr> {
        self.phdrs.iter().filter(|p| p.kind == PT_LOAD && p.paddr != NO_PADDR)
    }

    /// The segments of virtual memory only.
    pub fn mapped(&self) -> impl Iterator<Item = &Phdr> {
        self.phdrs.iter().filter(|p| p.kind == PT_LOAD && p.paddr == NO_PADDR)
    }

    /// The page at a virtual address, as gdb finds it.
    pub fn virtual_page(&self, va: u64) -> Found {
        let load = self.phdrs[1..].iter().find(|p| p.vaddr <= va && va - p.vaddr < p.memsz);
        load.map_or(Found::Absent, |load| self.in_load(load, va - load.vaddr))
    }

    pub fn notes(&self) -> &[u8] {
        let note = &self.phdrs[0];
        &self.bytes[note.offset as usize..(note.offset + note.filesz) as usize]
    }

    /// How a reader finds a page. Of several PT_LOADs with it, some readers take the first and some
    /// the last: they must agree.
    pub fn page(&self, pfn: u64) -> Found {
        let pa = pfn * PAGE as u64;
        let mut found =
            self.loads().filter(|l| l.paddr <= pa && pa < l.paddr + l.memsz).map(|l| self.in_load(l, pa - l.paddr));
        let first = found.next().unwrap_or(Found::Absent);
        assert!(found.all(|other| other == first), "page {pfn:#x} depends on the PT_LOAD that a reader takes");
        first
    }

    fn in_load(&self, load: &Phdr, into: u64) -> Found {
        if into >= load.filesz {
            return Found::Unstored;
        }
        let n = PAGE.min((load.filesz - into) as usize);
        let at = (load.offset + into) as usize;
        let mut page = self.bytes[at..at + n].to_vec();
        page.resize(PAGE, 0);
        Found::Stored(page)
    }

    /// What readers of this format would refuse or misread; empty if the file is sound.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        let mut must = |holds: bool, what: &str| {
            if !holds {
                faults.push(what.to_owned());
            }
        };
        must(self.half(16, 16) == 4 && self.half(18, 18) == 62, "not an x86_64 core");
        must(self.word(28, 32) <= 192, "program headers start beyond what crash reads");
        let incomplete = self.flags() & 1 == 1;
        must(self.word(24, 24) == 0 || incomplete, "an entry point in a whole core");
        must(self.phdrs.len() >= 2, "fewer than two program headers");
        must(self.phdrs[0].kind == PT_NOTE, "the first program header is no PT_NOTE");
        must(self.phdrs[1..].iter().all(|p| p.kind == PT_LOAD), "something else than PT_LOAD after the notes");
        must([0, 4].contains(&self.phdrs[0].align), "PT_NOTE with an alignment that libelf takes for 8-byte notes");
        // Of a dump that ended early, those whose data did not come.
        let loads: Vec<&Phdr> = self.loads().filter(|load| load.memsz > 0 || !incomplete).collect();
        must(!loads.is_empty(), "no PT_LOAD with memory");
        let Some(first) = loads.first() else { return faults };
        must(first.align == 0 || !first.offset.is_multiple_of(PAGE as u64), "crash would take the file for a netdump");
        must(first.offset != 0, "the first PT_LOAD has offset 0");
        let lowest = loads.iter().map(|l| l.offset).min().unwrap_or(0);
        must(self.phdrs[0].offset + self.phdrs[0].filesz <= lowest, "notes after data");
        for load in &loads {
            must(load.filesz <= load.memsz, &format!("{load:x?}: filesz above memsz"));
            must(
                load.filesz == 0 || load.offset + load.filesz <= self.bytes.len() as u64,
                &format!("{load:x?}: outside the file"),
            );
            let page = PAGE as u64;
            must(
                load.paddr.is_multiple_of(page) && load.vaddr.is_multiple_of(page),
                &format!("{load:x?}: address not page-aligned"),
            );
            must(load.memsz > 0, &format!("{load:x?}: empty"));
        }
        // The same memory or the same file bytes twice (a view for the kernel's text) must be the same.
        let page_at = |l: &Phdr| l.offset.wrapping_sub(l.paddr);
        let mut sorted = loads.clone();
        sorted.sort_by_key(|l| l.paddr);
        for pair in sorted.windows(2) {
            let apart = pair[0].paddr + pair[0].memsz <= pair[1].paddr;
            let unstored = pair[0].paddr + pair[0].filesz <= pair[1].paddr && pair[1].filesz == 0;
            let same = page_at(pair[0]) == page_at(pair[1]);
            must(apart || same || unstored, &format!("{:x?} contradicts {:x?}", pair[0], pair[1]));
        }
        sorted.sort_by_key(|l| l.offset);
        for pair in sorted.windows(2) {
            let apart = pair[0].offset + pair[0].filesz <= pair[1].offset;
            must(apart || page_at(pair[0]) == page_at(pair[1]), "one file byte is two places in memory");
        }
        self.faults_of_mapped().into_iter().for_each(|fault| must(false, &fault));
        if self.half(44, 56) == PN_XNUM {
            let shoff = self.word(32, 40) as usize;
            must(self.wide, "PN_XNUM in a 32-bit core, which crash does not read");
            must(self.half(48, 60) == 1 && self.half(46, 58) == 64, "PN_XNUM without exactly one section header");
            must(int(&self.bytes, shoff + 44, 4) == self.phdrs.len() as u64, "PN_XNUM: sh_info is not the count");
        } else {
            must((self.phdrs.len() as u64) < PN_XNUM, "too many program headers for e_phnum");
        }
        faults
    }

    /// Virtual memory is shown once, by whole pages, behind all physical segments, from file bytes that those show too.
    fn faults_of_mapped(&self) -> Vec<String> {
        let (page, mut faults) = (PAGE as u64, Vec::new());
        let first = self.phdrs.iter().position(|p| p.paddr == NO_PADDR).unwrap_or(self.phdrs.len());
        if self.phdrs[first..].iter().any(|p| p.paddr != NO_PADDR) {
            faults.push("a physical segment behind virtual ones".into());
        }
        let mut bytes: Vec<(u64, u64)> = self.loads().map(|l| (l.offset, l.offset + l.filesz)).collect();
        bytes.sort_unstable();
        for load in self.mapped() {
            let aligned = [load.vaddr, load.offset, load.memsz, load.filesz].iter().all(|n| n.is_multiple_of(page));
            if !aligned || load.memsz == 0 || load.filesz > load.memsz {
                faults.push(format!("{load:x?}: not whole pages"));
            }
            let mut at = load.offset;
            for (start, end) in &bytes {
                at = if *start <= at { at.max(*end) } else { at };
            }
            if load.offset < bytes[0].0 || at < load.offset + load.filesz {
                faults.push(format!("{load:x?}: data of its own"));
            }
        }
        if self.mapped().next().is_some() {
            let mut sorted: Vec<&Phdr> = self.phdrs[1..].iter().collect();
            sorted.sort_by_key(|l| l.vaddr);
            for pair in sorted.windows(2) {
                if pair[0].vaddr + pair[0].memsz > pair[1].vaddr {
                    faults.push(format!("{:x?} and {:x?} show the same addresses", pair[0], pair[1]));
                }
            }
        }
        faults
    }
}
