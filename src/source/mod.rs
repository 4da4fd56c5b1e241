//! Where a dump's bytes come from: physical memory by address, the segments that describe it, and the notes.
//!
//! Knows input formats, one file each, found by content and never by name. Must not know struct pages or dump levels.
//! A [`Source`] goes to `layout` (notes) and to `memory` and `pipeline` (pages).

mod elf;
mod kdump;
mod layers;
mod live;
mod mask;
mod open;
mod ram;
mod raw;
mod reader;
pub mod store;
mod whole;

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use object::elf::Machine;

use crate::format::note;

pub use kdump::Recorded;
pub use layers::Layer;
pub use mask::{Mask, Masked, OutputReader};
pub use open::is_part;
pub(crate) use open::{open_file, unknown_format};
pub use ram::{Piece, RamMap};
pub use raw::{CoreHeaders, Opening, RamGiven};
pub use reader::{PageReader, ReadError};
pub use store::StoredPages;
pub(crate) use whole::unpack;

use open::read_some_at;
use store::Store;

/// The most bytes that one [`PageReader::read`] may ask for.
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
pub struct CutShort {
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
    machine: Machine,
    loads: Vec<Load>,
    ram: RamMap,
    /// The memory that exists, where the dump knows of more than it has.
    existing: Option<RamMap>,
    notes: Vec<u8>,
    recorded: Option<Recorded>,
    cut_short: Option<CutShort>,
    /// Whoever wrote the dump says that it ends early.
    incomplete: bool,
    /// What others said about raw memory, or what is to be known of a running kernel's.
    given: Option<raw::Given>,
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
        let given = self.given.as_ref().map(|given| format!(" ({})", given.by)).unwrap_or_default();
        container + &layers.collect::<String>() + &given
    }

    /// What was decided while opening that the user should know.
    #[must_use]
    pub fn remarks(&self) -> &[String] {
        self.given.as_ref().map_or(&[], |given| &given.remarks)
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

    /// How much an ELF core that was cut short lacks; its lost pages are in [`Source::existing`] alone.
    #[must_use]
    pub fn cut_short(&self) -> Option<CutShort> {
        self.cut_short
    }

    /// Whether the dump says that it ends early, or does.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        self.incomplete || self.cut_short.is_some()
    }

    /// Whether this is the memory of the kernel that runs here (`/proc/kcore`): it changes while it is read.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.live
    }

    /// Page frames that the machine had, as far as the dump tells, and the dump has not.
    #[must_use]
    pub fn absent(&self, page_shift: u32) -> u64 {
        let pages = |map: &RamMap| map.pfn_ranges(page_shift).map(|range| range.end - range.start).sum::<u64>();
        self.existing.as_ref().map_or(0, |existing| pages(existing) - pages(&self.ram))
    }

    /// `e_machine` of the crashed machine.
    #[must_use]
    pub fn machine(&self) -> Machine {
        self.machine
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

    /// All notes, byte for byte.
    #[must_use]
    pub fn notes(&self) -> &[u8] {
        &self.notes
    }

    /// The VMCOREINFO text and its offset in [`Source::notes`], if the dump has it.
    #[must_use]
    pub fn vmcoreinfo(&self) -> Option<(usize, &[u8])> {
        note::notes(&self.notes).find(|note| note.name == note::VMCOREINFO).map(|note| (note.desc_offset, note.desc))
    }

    /// CPUs whose registers were saved.
    #[must_use]
    pub fn saved_cpus(&self) -> usize {
        note::notes(&self.notes).filter(|note| note.name == note::CORE && note.kind == note::NT_PRSTATUS).count()
    }

    /// Bytes of memory that the maps take.
    #[must_use]
    pub fn map_bytes(&self) -> u64 {
        let pieces = self.ram.pieces().len() + self.existing.as_ref().map_or(0, |map| map.pieces().len());
        (pieces * size_of::<Piece>()) as u64
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
