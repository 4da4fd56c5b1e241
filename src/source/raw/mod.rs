//! Raw memory, where a byte's offset is its physical address: old memory behind a device, or what QEMU's pmemsave wrote.
//!
//! Knows who can say which parts are RAM: ELF core headers, or a saved /proc/iomem. Must not guess that. Makes a `Source`.

mod headers;
pub(super) mod iomem;

use std::{
    fs::File,
    path::{Path, PathBuf},
};

use object::elf::{self, Machine};

use super::{Load, Notes, Piece, RamMap, foreign, kdump, store::Store};
use crate::{
    error::{Error, Kind, Result},
    sys::host,
};

/// What is to be opened, as the user named it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opening {
    /// One file, or all parts of a split dump.
    pub paths: Vec<PathBuf>,
    /// Who says what is RAM, if the file is raw memory.
    pub ram: Option<RamGiven>,
    /// Physical address of the kernel's VMCOREINFO note; it is searched for where no note of the dump has it.
    pub vmcoreinfo: Option<u64>,
    /// Memory that opening it may take, bytes.
    pub limit: u64,
}

impl Opening {
    /// The same within so many bytes of memory.
    #[must_use]
    pub fn within(self, limit: u64) -> Self {
        Self { limit, ..self }
    }

    /// What opening may take if nobody said so, bytes.
    #[must_use]
    pub fn usual_limit() -> u64 {
        host::usable_memory(Path::new("/")).unwrap_or(host::UNKNOWN_MEMORY)
    }

    /// The file that says what is RAM.
    #[must_use]
    pub fn ram_file(&self) -> Option<&Path> {
        match self.ram.as_ref()? {
            RamGiven::CoreHeaders(CoreHeaders::File(file)) | RamGiven::Iomem(file) => Some(file),
            RamGiven::CoreHeaders(CoreHeaders::At { .. }) => None,
        }
    }

    /// A dump that says itself what it holds.
    #[must_use]
    pub fn of_dump(path: &Path) -> Self {
        Self { paths: vec![path.to_owned()], ram: None, vmcoreinfo: None, limit: Self::usual_limit() }
    }
}

/// Who says what of raw memory is RAM.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RamGiven {
    /// ELF core headers, as they are made ready for a capture kernel.
    CoreHeaders(CoreHeaders),
    /// A saved /proc/iomem.
    Iomem(PathBuf),
}

/// Where ELF core headers are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CoreHeaders {
    /// In the raw memory itself.
    At {
        /// Physical address.
        address: u64,
        /// Bytes they have at most.
        size: Option<u64>,
    },
    /// In a file.
    File(PathBuf),
}

/// What is known of raw memory beyond its bytes.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) machine: Machine,
    /// Segments, where core headers say any.
    pub(super) loads: Vec<Load>,
    pub(super) ram: RamMap,
    pub(super) notes: Notes,
    pub(super) given: Given,
    /// What was opened to find out.
    pub(super) files: Vec<File>,
}

/// What was decided about raw memory, or about a running kernel's, for reports.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Given {
    /// Who said what is RAM.
    pub(super) by: String,
    /// What the user should know.
    pub(super) remarks: Vec<String>,
}

/// Finds out what of `store`, the raw memory at `path`, is RAM, and which notes core headers lead to.
pub(super) fn read(path: &Path, store: &dyn Store, ram: &RamGiven) -> Result<Raw> {
    match ram {
        RamGiven::CoreHeaders(CoreHeaders::At { address, size }) => headers::at(path, store, *address, *size),
        RamGiven::CoreHeaders(CoreHeaders::File(file)) => headers::in_file(path, store, file),
        RamGiven::Iomem(file) => by_iomem(path, store, file),
    }
}

fn not_raw(path: &Path) -> Error {
    Error::new(Kind::Usage, format!("cannot take {} for raw memory", path.display()))
}

/// Refuses what says itself where its memory is: taken as raw, all of it would be in the wrong place. Memory at address 0
/// is an interrupt table, or zeros; only more than a few magic bytes make something else of it.
pub(super) fn check_raw(path: &Path, start: &[u8]) -> Result<()> {
    if let Some(foreign) = foreign::known(start) {
        return Err(not_raw(path).because(format!("it is {}", foreign.name)).next_step(foreign.way_out));
    }
    let found = match start {
        [0x7f, b'E', b'L', b'F', 1 | 2, 1 | 2, 1, ..] => "an ELF file",
        start if kdump::is_kdump(start) => "a kdump-compressed dump",
        _ => return Ok(()),
    };
    Err(not_raw(path)
        .because(format!("it is {found}, which says itself where memory is"))
        .next_step("leave out --elfcorehdr and --iomem"))
}

/// The machine is not known before its VMCOREINFO is.
fn by_iomem(path: &Path, store: &dyn Store, file: &Path) -> Result<Raw> {
    let (opened, ranges) = iomem::read(file)?;
    let piece = |range: std::ops::Range<u64>| Piece {
        paddr: range.start,
        len: range.end - range.start,
        offset: Some(range.start),
    };
    let ram = RamMap::from_pieces(ranges.into_iter().map(piece).collect());
    let end = ram.end();
    check_end(path, store, Some(end), "System RAM")?;
    let given = Given { by: format!("RAM as {} says", file.display()), remarks: Vec::new() };
    let (machine, loads, notes) = (elf::EM_NONE, Vec::new(), Notes::default());
    Ok(Raw { machine, loads, ram, notes, given, files: vec![opened] })
}

/// Raw memory that ends before its RAM does was truncated, or is not that machine's.
fn check_end(path: &Path, store: &dyn Store, end: Option<u64>, what: &str) -> Result<()> {
    if end.is_some_and(|end| end <= store.size()) {
        return Ok(());
    }
    let end = end.map_or_else(|| "the last address".to_owned(), |end| format!("{end:#x}"));
    Err(Error::input(format!("cannot use {}", path.display()))
        .because(format!("{what} ends at {end}, but the raw memory has only {:#x} bytes", store.size()))
        .next_step("save all memory from address 0 on, and give what describes that very machine"))
}
