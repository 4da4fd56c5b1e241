//! Where a dump's bytes come from: physical memory by address, the segments that describe it, and the notes.
//!
//! Knows input formats, one file each, found by content and never by name. Must not know struct pages or dump levels.
//! A [`Source`] goes to `layout` (notes) and to `memory` and `pipeline` (pages).

mod elf;
pub(crate) mod foreign;
mod kdump;
mod layers;
mod live;
mod mask;
mod notes;
mod open;
mod piece;
mod ram;
mod raw;
mod reader;
mod scattered;
mod search;
pub mod store;
mod vmcoreinfo;
mod whole;

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use object::elf::{EM_NONE, Machine};

use crate::format::{elf::Class, note};

pub use kdump::{Missing, Recorded};
pub use layers::Layer;
pub use mask::{Mask, Masked, OutputReader};
pub use notes::{Notes, NotesReader, OutputNotes};
pub use open::is_part;
pub(crate) use open::{open_file, unknown_format};
pub use piece::Piece;
pub use ram::{Finder, RamMap};
pub use raw::{CoreHeaders, Opening, RamGiven};
pub use reader::{PageReader, ReadError};
pub use search::FoundNote;
pub use store::{Cause, StoredPages};
pub(crate) use whole::unpack;

use store::Store;

/// The most bytes that one `PageReader::read` may ask for.
pub const MAX_READ: usize = 1 << 20;

/// Which container the memory came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InputFormat {
    /// An ELF64 core.
    Elf,
    /// A kdump-compressed dump, in one file or several.
    Kdump,
    /// Memory as it is: a byte's offset is its physical address.
    Raw,
}

impl InputFormat {
    /// The name used in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Elf => "ELF core",
            Self::Kdump => "kdump-compressed",
            Self::Raw => "raw memory",
        }
    }
}

/// A `PT_LOAD` segment as the input recorded it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Load {
    /// Physical address, bytes.
    pub paddr: u64,
    /// Virtual address in the crashed kernel; equal to `paddr`, or zero, where the producer did not know.
    pub vaddr: u64,
    /// File offset of the data.
    pub offset: u64,
    /// Bytes in the file.
    pub filesz: u64,
    /// Bytes in memory; past `filesz` they are zero (or excluded: the format cannot tell).
    pub memsz: u64,
}

/// An ELF core that its file has only a part of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Truncated {
    /// Size of the file, bytes.
    pub size: u64,
    /// How far the segments reach, bytes.
    pub wanted: u64,
}

/// An opened dump.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    /// What the paths lead to.
    opened: Vec<File>,
    /// Where the pieces of memory are.
    store: Box<dyn Store>,
    format: InputFormat,
    layers: Vec<Layer>,
    class: Class,
    machine: Machine,
    /// The container does not say the machine: VMCOREINFO does.
    machine_unsaid: bool,
    loads: Vec<Load>,
    ram: RamMap,
    /// The memory that exists, where the dump knows of more than it has.
    existing: Option<RamMap>,
    notes: Notes,
    /// Where in memory VMCOREINFO was found that no note has.
    found: Option<u64>,
    /// Notes in memory of which nothing tells which one is the kernel's.
    undecided: Vec<String>,
    recorded: Option<Recorded>,
    truncated: Option<Truncated>,
    missing: Option<Missing>,
    /// Whoever wrote the dump says that it ends early.
    incomplete: bool,
    /// Who said what raw memory is, or that the memory is a running kernel's.
    given: Option<String>,
    /// What was decided while opening that the user should know.
    remarks: Vec<String>,
    /// The kernel runs, and this is its memory.
    live: bool,
}

impl Source {
    /// The path as the user gave it, for messages; of several the first.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The files that the paths led to, to tell whether another name leads to one of them too.
    #[must_use]
    pub fn opened(&self) -> &[File] {
        &self.opened
    }

    /// The container in words, and what lies around it.
    #[must_use]
    pub fn describe(&self) -> String {
        let plain = || self.format.name().to_owned() + if self.is_incomplete() { ", incomplete" } else { "" };
        let container = self.recorded.as_ref().map_or_else(plain, Recorded::describe);
        let layers = self.layers.iter().rev().map(|layer| format!(", {}", layer.name()));
        let given = self.given.as_ref().map(|by| format!(" ({by})")).unwrap_or_default();
        container + &layers.collect::<String>() + &given
    }

    /// The container.
    #[must_use]
    pub fn format(&self) -> InputFormat {
        self.format
    }

    /// What was decided while opening that the user should know.
    #[must_use]
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// Adds something that the user should know.
    pub(crate) fn remark(&mut self, text: impl Into<String>) {
        self.remarks.push(text.into());
    }

    /// Memory that reading takes, and that each reader takes, bytes: for the budget.
    #[must_use]
    pub fn memory(&self) -> (u64, u64) {
        self.store.memory()
    }

    /// What a kdump-compressed dump's headers say; `None` for other formats.
    #[must_use]
    pub fn recorded(&self) -> Option<&Recorded> {
        self.recorded.as_ref()
    }

    /// How much an ELF core that was truncated lacks; its lost pages are in [`Source::existing`] alone.
    #[must_use]
    pub fn truncated(&self) -> Option<Truncated> {
        self.truncated
    }

    /// The parts of a split set that were not named.
    #[must_use]
    pub fn missing_parts(&self) -> Option<&Missing> {
        self.missing.as_ref()
    }

    /// Whether the dump says that it ends early, or does.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        self.incomplete || self.truncated.is_some() || self.missing.is_some()
    }

    /// Whether this is the memory of the kernel that runs here (`/proc/kcore`): it changes while it is read.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Page frames that the machine had, as far as the dump tells, and the dump has not.
    #[must_use]
    pub fn absent(&self, page_shift: u32) -> u64 {
        self.existing
            .as_ref()
            .map_or(0, |existing| existing.frames(page_shift).saturating_sub(self.ram.frames(page_shift)))
    }

    /// Width of the ELF core, or of one of this machine.
    #[must_use]
    pub fn class(&self) -> Class {
        self.class
    }

    /// `e_machine` of the crashed machine.
    #[must_use]
    pub fn machine(&self) -> Machine {
        self.machine
    }

    /// The machine where neither the container nor VMCOREINFO says it.
    pub(crate) fn assume_machine(&mut self, machine: Machine) {
        if self.machine == EM_NONE {
            self.machine = machine;
        }
    }

    /// The segments as recorded, for their virtual addresses.
    #[must_use]
    pub fn loads(&self) -> &[Load] {
        &self.loads
    }

    /// Physical memory present in the dump, sorted and without overlaps.
    #[must_use]
    pub fn ram(&self) -> &RamMap {
        &self.ram
    }

    /// Physical memory that the machine had as far as the dump tells: what was left out of a dump that was filtered before
    /// is here and not in [`Source::ram`]. Nothing can be read through this map.
    #[must_use]
    pub fn existing(&self) -> &RamMap {
        self.existing.as_ref().unwrap_or(&self.ram)
    }

    /// The notes, byte for byte, but for large ones: those stay in the input.
    #[must_use]
    pub fn notes(&self) -> &[u8] {
        self.notes.held()
    }

    /// All notes.
    #[must_use]
    pub fn all_notes(&self) -> &Notes {
        &self.notes
    }

    /// The store that large notes lie in.
    pub(crate) fn note_store(&self) -> &dyn Store {
        self.store.front().unwrap_or(self.store.as_ref())
    }

    /// The VMCOREINFO text and its offset in [`Source::notes`], if the dump has it.
    #[must_use]
    pub fn vmcoreinfo(&self) -> Option<(usize, &[u8])> {
        note::notes(self.notes()).find(|note| note.name == note::VMCOREINFO).map(|note| (note.desc_offset, note.desc))
    }

    /// Whether a note has all of VMCOREINFO.
    #[must_use]
    pub fn has_whole_vmcoreinfo(&self) -> bool {
        self.vmcoreinfo().is_some_and(|(_, text)| vmcoreinfo::is_whole(text))
    }

    /// The notes in memory with VMCOREINFO that say different things, those that begin a page first. Reads all memory that the
    /// dump has.
    #[must_use]
    pub fn search_vmcoreinfo(&self) -> Vec<FoundNote> {
        search::find(self.reader(), self.reader(), &self.ram)
    }

    /// The VMCOREINFO note at a physical address, if a whole one is there.
    #[must_use]
    pub fn vmcoreinfo_at(&self, paddr: u64) -> Option<FoundNote> {
        search::at(&mut self.reader(), paddr)
    }

    /// The machine as `found` says it, where the container does not.
    pub(crate) fn take_machine_of(&mut self, found: &FoundNote) {
        if self.machine_unsaid {
            self.machine = vmcoreinfo::machine(&found.text);
        }
    }

    /// Makes a note in memory one of the dump's notes, instead of any VMCOREINFO among them. What is written has it too: crash,
    /// drgn and libkdumpfile look for it among the notes alone.
    pub(crate) fn adopt(&mut self, found: &FoundNote) {
        self.take_machine_of(found);
        self.notes.retain(|note| note.name != note::VMCOREINFO);
        self.notes.push(note::VMCOREINFO, 0, &found.text);
        self.found = Some(found.paddr);
    }

    /// Remembers that memory was searched for VMCOREINFO, and notes that may all be the kernel's.
    pub(crate) fn undecided(&mut self, found: &[FoundNote]) {
        self.undecided = found.iter().map(FoundNote::describe).collect();
    }

    /// Where the notes in memory are of which nothing tells which one is the kernel's, and the releases that they name.
    #[must_use]
    pub fn undecided_vmcoreinfo(&self) -> &[String] {
        &self.undecided
    }

    /// The physical address at which VMCOREINFO was found, if no note has it.
    #[must_use]
    pub fn vmcoreinfo_found_at(&self) -> Option<u64> {
        self.found
    }

    /// Whether Xen ran the machine: its kdump has notes of its own (XEN_ELFNOTE_CRASH_INFO, VMCOREINFO_XEN), and all of the
    /// machine's memory, of which dom0's kernel, whose VMCOREINFO it has, sees a part and by other frame numbers.
    #[must_use]
    pub fn is_of_xen(&self) -> bool {
        note::notes(self.notes()).any(|note| [note::XEN, note::VMCOREINFO_XEN].contains(&note.name))
    }

    /// CPUs whose registers were saved.
    #[must_use]
    pub fn saved_cpus(&self) -> usize {
        note::notes(self.notes()).filter(|note| note.name == note::CORE && note.kind == note::NT_PRSTATUS).count()
    }

    /// Bytes of memory that the maps take.
    #[must_use]
    pub fn map_bytes(&self) -> u64 {
        self.ram.held() + self.existing.as_ref().map_or(0, RamMap::held)
    }

    /// A reader of pages as they are stored, by number: the offset of [`Source::ram`] in pages. `None` where the format has
    /// no such pages.
    #[must_use]
    pub fn stored_pages(&self) -> Option<Box<dyn StoredPages + '_>> {
        self.store.stored_pages()
    }

    /// A reader of its own for one thread, for what goes to an output: `mask` lies over all that it reads.
    #[must_use]
    pub fn output_reader<'a>(&'a self, mask: &'a Mask) -> OutputReader<'a> {
        OutputReader::new(self.reader(), mask)
    }

    /// A reader of its own for one thread.
    #[must_use]
    pub fn reader(&self) -> PageReader<'_> {
        PageReader::new(self.store.reader(), &self.ram)
    }
}
