//! ELF cores of 64 and 32 bits.
//!
//! Knows headers as they are, and what readers demand of them. Must not know the memory in them. The segments' data is
//! read once, by all threads.

mod loads;

use super::{
    Check, Findings,
    facts::{ElfFacts, Facts},
    findings::Place,
    layers::Opened,
    notes,
    rules::Rule,
};
use crate::{
    error::{Error, Result},
    format::note::{self, VMCOREINFO},
    source::{Layer, store::read_all},
};

const CORE: u16 = 4;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const XNUM: u64 = 0xffff;
/// crash looks for program headers in the first 304 bytes, of which two must fit.
const LAST_PHOFF: u64 = 192;
/// Bounds what a hostile file makes us hold.
const MOST_PHDRS: u64 = 1 << 20;
/// More make readers slow.
const MOST_LOADS: usize = 8192;
/// i386, PowerPC, PowerPC64, S390, ARM, x86_64, IA-64, AArch64, MIPS, SPARC64, RISC-V, LoongArch.
const MACHINES: [u16; 12] = [3, 20, 21, 22, 40, 62, 50, 183, 8, 43, 243, 258];

/// A program header.
#[derive(Clone, Copy, Debug)]
struct Phdr {
    kind: u32,
    offset: u64,
    vaddr: u64,
    paddr: u64,
    filesz: u64,
    memsz: u64,
    align: u64,
    /// Its own place in the file.
    at: u64,
}

/// Field offsets and sizes of a class.
struct Class {
    wide: bool,
    ehdr: u64,
    phdr: u64,
    shdr: u64,
}

impl Class {
    fn half(bytes: &[u8], at: usize) -> u16 {
        bytes.get(at..at + 2).and_then(|raw| raw.try_into().ok()).map_or(0, u16::from_le_bytes)
    }

    fn word(bytes: &[u8], at: usize) -> u32 {
        bytes.get(at..at + 4).and_then(|raw| raw.try_into().ok()).map_or(0, u32::from_le_bytes)
    }

    /// A field as wide as an address.
    fn address(&self, bytes: &[u8], at: usize) -> u64 {
        let low = u64::from(Self::word(bytes, at));
        if self.wide { low | u64::from(Self::word(bytes, at + 4)) << 32 } else { low }
    }

    fn phdr(&self, bytes: &[u8], at: u64) -> Phdr {
        let field = |index: usize| self.address(bytes, if self.wide { 8 + index * 8 } else { 4 + index * 4 });
        let align = if self.wide { field(5) } else { Self::word(bytes, 28).into() };
        let [offset, vaddr, paddr, filesz, memsz] = [0, 1, 2, 3, 4].map(field);
        Phdr { kind: Self::word(bytes, 0), offset, vaddr, paddr, filesz, memsz, align, at }
    }

    /// No physical address.
    fn none(&self) -> u64 {
        if self.wide { u64::MAX } else { u32::MAX.into() }
    }
}

/// Checks the core in `opened`. Gives the number of pages that were read.
pub(super) fn check(check: &Check<'_>, opened: &Opened, findings: &mut Findings, facts: &mut Facts) -> Result<u64> {
    let core = Core { opened };
    let Some((class, phdrs)) = core.headers(findings, facts)? else { return Ok(0) };
    core.kinds(&phdrs, findings);
    core.notes(&phdrs, findings, facts);
    let loads: Vec<Phdr> = phdrs.into_iter().filter(|phdr| phdr.kind == PT_LOAD).collect();
    core.loads(&class, &loads, findings);
    if let Some(facts) = &mut facts.elf {
        facts.loads = loads.len();
    }
    loads::overlaps(check, opened, &loads, findings)?;
    // Compressed data was read already, unless some of it could not be.
    let damaged = [Rule::SeekableFrame, Rule::SeekableFrameData, Rule::SeekableChecksum, Rule::SeekableDictionary];
    let damaged = damaged.iter().any(|rule| findings.is_broken(*rule));
    let read = opened.layers.iter().any(|layer| *layer != Layer::Flattened) && !damaged;
    loads::readable(check, opened, &loads, read, findings)
}

struct Core<'a> {
    opened: &'a Opened,
}

impl Core<'_> {
    fn place(&self, found: impl Into<String>) -> Place {
        Place::of(self.opened.input, found)
    }

    fn size(&self) -> u64 {
        self.opened.store.size()
    }

    /// The program headers, as many as there are in the file. `None` where they cannot be found.
    fn headers(&self, findings: &mut Findings, facts: &mut Facts) -> Result<Option<(Class, Vec<Phdr>)>> {
        let store = self.opened.store.as_ref();
        let bytes = read_all(store, 0, self.size().min(64)).unwrap_or_default();
        let class = match bytes.get(4) {
            Some(1) => Class { wide: false, ehdr: 52, phdr: 32, shdr: 40 },
            _ => Class { wide: true, ehdr: 64, phdr: 56, shdr: 64 },
        };
        let len = bytes.len() as u64;
        if !findings.must(Rule::ElfHeader, len >= class.ehdr, || {
            self.place(format!("the file ends after {len} of {} bytes", class.ehdr)).at(0)
        }) {
            return Ok(None);
        }
        if bytes[5] == 2 {
            return Err(Error::input(format!("cannot check {}", self.opened.path.display()))
                .because("it is a big-endian ELF file")
                .next_step("dumps of s390x and big-endian POWER machines are not read"));
        }
        let (kind, machine) = (Class::half(&bytes, 16), Class::half(&bytes, 18));
        let halves = if class.wide { 52 } else { 40 };
        let entry = u64::from(Class::half(&bytes, halves + 2));
        let core = (1..=2).contains(&bytes[4]) && bytes[5] == 1 && kind == CORE;
        if !findings.must(Rule::ElfCore, core, || {
            let (bits, order) = (bytes[4], bytes[5]);
            self.place(format!("class {bits}, byte order {order}, type {kind}")).at(4)
        }) {
            return Ok(None);
        }
        findings
            .must(Rule::ElfEntry, entry == class.phdr, || self.place(format!("{entry} bytes")).at(halves as u64 + 2));
        findings
            .must(Rule::ElfMachine, MACHINES.contains(&machine), || self.place(format!("machine {machine}")).at(18));
        let flags = Class::word(&bytes, halves - 4);
        findings.must(Rule::ElfComplete, flags & 1 == 0, || {
            self.place(format!("the dump is marked incomplete (e_flags {flags:#x})")).at(48)
        });
        let (phoff, shoff) = if class.wide { (32, 40) } else { (28, 32) };
        let (phoff, shoff) = (class.address(&bytes, phoff), class.address(&bytes, shoff));
        findings.must(Rule::ElfPhoff, phoff <= LAST_PHOFF, || self.place(format!("byte {phoff}")).at(phoff));
        findings.must(Rule::ElfPhdrsFollow, phoff == class.ehdr, || {
            self.place(format!("byte {phoff}, not {}", class.ehdr)).at(phoff)
        });
        let mut count = u64::from(Class::half(&bytes, halves + 4));
        facts.elf = Some(ElfFacts { wide: class.wide, machine, extended: count == XNUM, loads: 0 });
        if count == XNUM {
            let sections = (Class::half(&bytes, halves + 6), Class::half(&bytes, halves + 8));
            let Some(counted) = self.extended(&class, shoff, sections, findings) else { return Ok(None) };
            count = counted;
        }
        let phdrs = self.table(&class, phoff, count, findings);
        Ok(Some((class, phdrs)))
    }

    /// The number of program headers in the first section header.
    fn extended(&self, class: &Class, shoff: u64, (entry, count): (u16, u16), findings: &mut Findings) -> Option<u64> {
        let section = read_all(self.opened.store.as_ref(), shoff, class.shdr).ok();
        let info = section.as_ref().map_or(0, |bytes| Class::word(bytes, if class.wide { 44 } else { 28 }));
        let right = section.is_some() && count >= 1 && u64::from(entry) == class.shdr && info >= 2;
        findings.must(Rule::ElfXnum, right, || {
            self.place(format!("{count} section headers of {entry} bytes, the first one with {info}")).at(shoff)
        });
        right.then_some(info.into())
    }

    fn table(&self, class: &Class, phoff: u64, count: u64, findings: &mut Findings) -> Vec<Phdr> {
        let room = self.size().saturating_sub(phoff) / class.phdr;
        let there = count.min(room).min(MOST_PHDRS);
        findings.must(Rule::ElfPhdrs, there == count && count > 0, || {
            self.place(format!("{there} of {count} program headers")).at(phoff)
        });
        let bytes = read_all(self.opened.store.as_ref(), phoff, there * class.phdr);
        let bytes = bytes.unwrap_or_else(|error| {
            findings.broken(Rule::FileReadable, self.place(format!("program headers: {error}")).at(phoff));
            Vec::new()
        });
        let entries = bytes.chunks_exact(class.phdr as usize).zip((phoff..).step_by(class.phdr as usize));
        entries.map(|(bytes, at)| class.phdr(bytes, at)).collect()
    }

    fn kinds(&self, phdrs: &[Phdr], findings: &mut Findings) {
        let Some(first) = phdrs.first() else { return };
        findings.must(Rule::ElfNoteFirst, first.kind == PT_NOTE, || {
            self.place(format!("its type is {}", first.kind)).at(first.at)
        });
        for phdr in &phdrs[1..] {
            findings.must(Rule::ElfNoteOnly, phdr.kind != PT_NOTE, || self.place("another one").at(phdr.at));
            findings.must(Rule::ElfOnlyLoads, [PT_LOAD, PT_NOTE].contains(&phdr.kind), || {
                self.place(format!("its type is {:#x}", phdr.kind)).at(phdr.at)
            });
        }
        let loads = phdrs.iter().any(|phdr| phdr.kind == PT_LOAD);
        findings.must(Rule::ElfLoads, loads, || self.place("there is none").at(first.at));
    }

    fn notes(&self, phdrs: &[Phdr], findings: &mut Findings, facts: &mut Facts) {
        let mut info = None;
        // makedumpfile gives a segment without data no place either.
        let data = phdrs.iter().filter(|phdr| phdr.kind == PT_LOAD && phdr.filesz > 0).map(|phdr| phdr.offset);
        let lowest = data.min();
        for phdr in phdrs.iter().filter(|phdr| phdr.kind == PT_NOTE) {
            let end = phdr.offset.checked_add(phdr.filesz);
            findings
                .must(Rule::ElfNoteAlign, phdr.align < 8, || self.place(format!("p_align {}", phdr.align)).at(phdr.at));
            if let Some(lowest) = lowest {
                findings.must(Rule::ElfNoteBeforeLoads, end.is_some_and(|end| end <= lowest), || {
                    self.place(format!("notes at byte {}, data from byte {lowest}", phdr.offset)).at(phdr.at)
                });
            }
            let inside = end.is_some_and(|end| end <= self.size());
            if !findings.must(Rule::NotesInFile, inside, || {
                let found = format!("{} bytes at byte {}, and the file has {}", phdr.filesz, phdr.offset, self.size());
                self.place(found).at(phdr.at)
            }) {
                continue;
            }
            let area = (phdr.offset, phdr.filesz);
            match notes::read(self.opened.input, self.opened.store.as_ref(), area, findings) {
                Ok(all) => {
                    let note = note::notes(all.held()).find(|note| note.name == VMCOREINFO);
                    info = info.or_else(|| note.map(|note| note.desc.to_vec()));
                }
                Err(error) => {
                    findings.broken(Rule::FileReadable, self.place(format!("notes: {error}")).at(phdr.offset));
                }
            }
        }
        notes::vmcoreinfo(self.opened.input, info.as_deref(), findings, facts);
    }

    fn loads(&self, class: &Class, loads: &[Phdr], findings: &mut Findings) {
        for load in loads {
            let place = |found: String| self.place(found).at(load.at);
            let end = |at: u64, len: u64| at.checked_add(len).is_some_and(|end| class.wide || end <= 1 << 32);
            let has_address = load.paddr != class.none();
            let sized = load.filesz <= load.memsz && (!has_address || end(load.paddr, load.memsz));
            findings.must(Rule::ElfLoadSizes, sized, || {
                place(format!("{:#x} of {:#x} bytes at address {:#x}", load.filesz, load.memsz, load.paddr))
            });
            let inside = load.offset.checked_add(load.filesz).is_some_and(|end| end <= self.size());
            findings.must(Rule::ElfLoadInFile, inside, || {
                let found = format!("{} bytes at byte {}, and the file has {}", load.filesz, load.offset, self.size());
                place(found).pfn(load.paddr >> 12)
            });
            findings.must(Rule::ElfLoadAddress, has_address, || place("p_paddr is -1".to_owned()));
            // Where there is no virtual address it is -1.
            let congruent = load.vaddr == class.none() || (load.vaddr ^ load.paddr).is_multiple_of(4096);
            findings.must(Rule::ElfLoadCongruent, congruent || !has_address, || {
                place(format!("{:#x} and {:#x}", load.vaddr, load.paddr))
            });
        }
        let Some(first) = loads.first() else { return };
        let memory = loads.iter().any(|load| load.memsz > 0);
        findings.must(Rule::ElfLoadMemory, memory, || self.place("none has any memory").at(first.at));
        findings.must(Rule::ElfFirstOffset, first.offset > 0, || self.place("p_offset is 0").at(first.at));
        let nowhere = loads.len() > 1 && loads.iter().all(|load| load.paddr == 0);
        findings.must(Rule::ElfLoadAddress, !nowhere, || self.place("p_paddr is 0 in all of them").at(first.at));
        findings.must(Rule::ElfLoadAlign, first.align == 0 || !first.offset.is_multiple_of(4096), || {
            self.place(format!("p_align {:#x}, data at byte {:#x}", first.align, first.offset)).at(first.at)
        });
        let count = loads.len();
        findings.must(Rule::ElfLoadCount, count <= MOST_LOADS, || self.place(format!("{count} of them")));
        findings.must(Rule::ElfLoadSingle, count > 1, || self.place("there is one").at(first.at));
    }
}
