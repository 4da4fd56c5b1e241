//! The reader that other programs use: a dump of any kind that vdump reads, as memory.
//!
//! Sees what a `Source` has and what is known of its kernel, and shows both in types that promise to
//! stay. Must not filter or write.

mod errors;
mod log;
mod options;
mod pages;
mod reader;
mod vmcoreinfo;

use std::{fmt, ops::Range, path::Path, sync::Arc};

pub use errors::{Error, ErrorKind};
pub use log::Log;
pub use options::Options;
pub use pages::{Page, PageState};
pub use reader::Reader;
pub use vmcoreinfo::Vmcoreinfo;

use crate::{
    arch::{self, AddressSpace},
    format::note,
    kernel,
    layout::{KernelLayout, VmcoreInfo},
    source::Source,
};

/// An opened dump, which any number of threads can read, each with a [`Reader`] of its own.
///
/// Everything that a dump of this program, of makedumpfile, QEMU or a kernel can be is opened in the same way, by its content:
/// ELF cores and `/proc/vmcore`, kdump-compressed files (whole or split), both also flattened and inside zstd or lz4. Dumps that
/// are incomplete, or truncated, are read as far as they go.
pub struct Dump {
    source: Source,
    /// The note, with what a named vmlinux says besides.
    info: Option<VmcoreInfo>,
    page_shift: u32,
    space: Result<Arc<dyn AddressSpace>, Error>,
    remarks: Vec<String>,
}

/// A note of the dump: the registers of a CPU, VMCOREINFO, and what else the machine left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Note<'a> {
    /// The owner's name without its terminating zero, for example `CORE`.
    pub name: &'a [u8],
    /// The type, whose meaning depends on the name, for example 1 for the `NT_PRSTATUS` of `CORE`.
    pub kind: u32,
    /// The contents.
    pub desc: &'a [u8],
}

impl Dump {
    /// Opens the dump at `path`, within half of the memory that is available. [`Options`] opens split sets and raw memory, and
    /// sets another limit.
    ///
    /// Where no note of the dump has VMCOREINFO its memory is searched for it, which reads all of it.
    ///
    /// # Errors
    /// [`ErrorKind::Io`], [`ErrorKind::InvalidDump`], [`ErrorKind::MemoryLimit`], or [`ErrorKind::UnknownKernel`] where not even
    /// the page size is known.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        Options::new().open(path)
    }

    /// The kernel's release, as `uname -r` prints it.
    #[must_use]
    pub fn release(&self) -> Option<&str> {
        let noted = self.info.as_ref().and_then(|info| info.text("OSRELEASE"));
        let recorded = || {
            let field = &self.source.recorded()?.utsname[2];
            let text = field.split(|byte| *byte == 0).next()?;
            std::str::from_utf8(text).ok().filter(|text| !text.is_empty())
        };
        noted.or_else(recorded)
    }

    /// The machine, as `uname -m` prints it: `x86_64`, `aarch64`, `ppc64le`, `s390x` ...; `unknown` if the dump does not tell.
    /// Virtual addresses and the log are read on x86_64 only.
    #[must_use]
    pub fn architecture(&self) -> &'static str {
        arch::uname(self.source.machine())
    }

    /// Bytes in a page frame.
    #[must_use]
    pub fn page_size(&self) -> usize {
        1 << self.page_shift
    }

    /// The kernel's description of itself; `None` if the dump has none, or several of which nothing tells which one counts.
    #[must_use]
    pub fn vmcoreinfo(&self) -> Option<Vmcoreinfo<'_>> {
        let note = self.source.vmcoreinfo().map_or(&[][..], |(_, text)| text);
        self.info.as_ref().map(|info| Vmcoreinfo::new(info, note))
    }

    /// When the kernel crashed, seconds since 1970.
    #[must_use]
    pub fn crash_time(&self) -> Option<u64> {
        kernel::crash_time(&self.source, self.info.as_ref())
    }

    /// The notes in their order. Those above 256 KiB, which drivers leave (`NT_VMCOREDD`), stay in the file and are not among them.
    pub fn notes(&self) -> impl Iterator<Item = Note<'_>> {
        note::notes(self.source.notes()).map(|note| Note { name: note.name, kind: note.kind, desc: note.desc })
    }

    /// What is read for a container, in words, for example `kdump-compressed v6, zstd`.
    #[must_use]
    pub fn describe(&self) -> String {
        self.source.describe()
    }

    /// Whether the dump says that it ends early, ends before its data does, or lacks a part of its split set. What it lost is an
    /// error of [`ErrorKind::Lost`] when it is read.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        self.source.is_incomplete()
    }

    /// What was decided while opening that a person should know, in sentences without a full stop.
    #[must_use]
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// The physical memory that the dump has, as ranges of addresses in order that neither meet nor touch. They are found as they
    /// are asked for: a dump may have millions.
    pub fn ranges(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        pages::ranges(self.source.ram())
    }

    /// The physical memory that the machine had as far as the dump tells: [`Dump::ranges`], and what was excluded or lost. An ELF
    /// core does not tell of what was excluded.
    pub fn machine_ranges(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        pages::ranges(self.source.existing())
    }

    /// The page frames that the dump has, in order. Their contents come from [`Reader::page`].
    pub fn pages(&self) -> impl Iterator<Item = Page> + '_ {
        pages::pages(self.source.ram(), self.page_shift)
    }

    /// A reader for one thread. It keeps what it unpacked last: one that stays is faster than one for each read.
    #[must_use]
    pub fn reader(&self) -> Reader<'_> {
        Reader::new(self)
    }

    /// The address of a symbol: from VMCOREINFO, else from the kernel's own symbol table (kallsyms), which is looked through each
    /// time. `None` if there is no such symbol, or several.
    ///
    /// # Errors
    /// As [`Reader::read_virtual`]; the table is damaged, or the kernel does not say where it is (before 6.0).
    pub fn symbol(&self, name: &str) -> Result<Option<u64>, Error> {
        log::symbol(self, name)
    }

    /// The kernel's log; at most its last 64 MiB.
    ///
    /// # Errors
    /// As [`Reader::read_virtual`]; the kernel does not say where its log is, or what leads to it is damaged. Damaged records are
    /// no error: [`Log::losses`] has them.
    pub fn log(&self) -> Result<Log, Error> {
        log::read(self)
    }

    fn new(source: Source, info: Option<VmcoreInfo>, unsure: Vec<String>) -> Result<Self, Error> {
        let page_shift = kernel::page_shift(&source, info.as_ref())?;
        let space = match &info {
            Some(info) => KernelLayout::address_space(&source, info).map_err(Error::of_paging),
            None => Err(Error::no_vmcoreinfo(&source)),
        };
        let remarks = source.remarks().iter().cloned().chain(unsure).collect();
        Ok(Self { source, info, page_shift, space, remarks })
    }
}

impl fmt::Debug for Dump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dump")
            .field("path", &self.source.path())
            .field("release", &self.release())
            .finish_non_exhaustive()
    }
}
