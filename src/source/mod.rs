//! Where a dump's bytes come from: physical memory by address, the segments that describe it, and the notes.
//!
//! Knows input formats, one file each, found by content and never by name. Must not know struct pages or dump levels.
//! A [`Source`] goes to `layout` (notes) and to `memory` and `pipeline` (pages).

mod elf;
mod layers;
mod ram;
mod reader;
pub mod store;
mod whole;

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use object::elf::Machine;

use crate::{
    error::{Error, Result},
    format::note,
};

pub use layers::Layer;
pub use ram::{Piece, RamMap};
pub use reader::{PageReader, ReadError};

use elf::Elf;
use store::{FileStore, Store};

/// The most bytes that one [`PageReader::read`] may ask for.
pub const MAX_READ: usize = 1 << 20;

/// Which container the memory came in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum InputFormat {
    /// An ELF64 core.
    Elf,
}

impl InputFormat {
    /// The name used in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Elf => "ELF core",
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

/// An opened dump.
#[derive(Debug)]
pub struct Source {
    path: PathBuf,
    /// What the path leads to.
    opened: File,
    /// Where the pieces of memory are.
    store: Box<dyn Store>,
    format: InputFormat,
    layers: Vec<Layer>,
    machine: Machine,
    loads: Vec<Load>,
    ram: RamMap,
    notes: Vec<u8>,
}

impl Source {
    /// Opens `path`, finding its format by content.
    ///
    /// # Errors
    /// The file cannot be opened, is not a dump, is damaged, or is of a kind that is not read.
    pub fn open(path: &Path) -> Result<Self> {
        // Without O_NONBLOCK opening a FIFO waits for a writer that may never come.
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path);
        let file = file.map_err(|error| open_error(path, &error))?;
        let meta = file.metadata().map_err(|error| Error::io(path, "inspect", &error))?;
        if meta.is_dir() {
            return Err(Error::input(format!("cannot read {}", path.display()))
                .because("it is a directory")
                .next_step("name the dump file in it, usually 'vmcore'"));
        }
        if !meta.is_file() {
            return Err(Error::input(format!("cannot read {}", path.display()))
                .because("it is a device, a pipe or a socket, and pages must be read in any order")
                .next_step("write the dump to a file and give that"));
        }
        let opening = |error: io::Error| Error::io(path, "open", &error);
        let store = FileStore::new(file.try_clone().map_err(opening)?).map_err(opening)?;
        if store.size() == 0 {
            return Err(Error::input(format!("cannot read {}", path.display()))
                .because("the file is empty")
                .next_step("the dump was never written; look for a file whose name ends in -incomplete"));
        }
        let (store, layers) = layers::open(path, Box::new(store))?;
        match layers::start(path, store.as_ref())?.as_slice() {
            [0x7f, b'E', b'L', b'F', ..] => Self::from_elf(path, file, layers, store),
            other => Err(unknown_format(path, other)),
        }
    }

    fn from_elf(path: &Path, opened: File, layers: Vec<Layer>, store: Box<dyn Store>) -> Result<Self> {
        let Elf { machine, loads, notes } = elf::parse(path, store.as_ref())?;
        let ram = RamMap::from_loads(&loads);
        let format = InputFormat::Elf;
        Ok(Self { path: path.to_owned(), opened, store, format, layers, machine, loads, ram, notes })
    }

    /// The path as the user gave it, for messages.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file that the path led to, to tell whether another name leads to it too.
    #[must_use]
    pub fn opened(&self) -> &File {
        &self.opened
    }

    /// The container.
    #[must_use]
    pub fn format(&self) -> InputFormat {
        self.format
    }

    /// The container and what lies around it, as reports name them.
    #[must_use]
    pub fn format_name(&self) -> String {
        let layers = self.layers.iter().rev().map(|layer| format!(", {}", layer.name()));
        self.format.name().to_owned() + &layers.collect::<String>()
    }

    /// Memory that reading takes, and that each reader takes, bytes: for the budget.
    #[must_use]
    pub fn memory(&self) -> (u64, u64) {
        self.store.memory()
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

    /// Whether the input is the crashed kernel's memory itself, `/proc/vmcore`.
    #[must_use]
    pub fn is_live(&self) -> bool {
        self.store.is_live()
    }

    /// A reader of its own for one thread.
    #[must_use]
    pub fn reader(&self) -> PageReader<'_> {
        PageReader::new(&self.path, self.store.reader(), &self.ram)
    }
}

/// Reads until `buf` is full or the file ends; returns how many bytes there were.
pub(super) fn read_some_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut got = 0;
    while got < buf.len() {
        match file.read_at(&mut buf[got..], offset + got as u64) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

fn open_error(path: &Path, error: &io::Error) -> Error {
    let base = Error::io(path, "open", error);
    match error.kind() {
        io::ErrorKind::NotFound if path == Path::new("/proc/vmcore") => {
            base.next_step("it exists only in a capture kernel, booted by kexec after a crash")
        }
        io::ErrorKind::NotFound => base.next_step("check the path"),
        io::ErrorKind::PermissionDenied => base.next_step("run as root, or as the dump's owner"),
        _ => base,
    }
}

fn unknown_format(path: &Path, magic: &[u8]) -> Error {
    let base = Error::input(format!("cannot read {}", path.display()));
    if magic.starts_with(b"KDUMP   ") || magic.starts_with(b"DISKDUMP") {
        base.because("it is a kdump-compressed dump, which this version writes but does not read")
            .next_step("give the ELF vmcore that it was made from")
    } else {
        base.because("it is neither an ELF core nor one that is flattened or inside zstd or lz4")
            .next_step("give /proc/vmcore, or a file copied from it")
    }
}
