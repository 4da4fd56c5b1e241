//! How a dump is opened.

use std::path::{Path, PathBuf};

use super::{Dump, Error};
use crate::{
    kernel::{self, NamedFiles},
    source::{CoreHeaders, Opening, RamGiven},
};

/// How a dump is opened, where its path alone does not say it.
///
/// ```no_run
/// let dump = vdump::Options::new().part("vmcore.2").part("vmcore.3").memory_limit(64 << 20).open("vmcore.1")?;
/// # Ok::<(), vdump::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Options {
    parts: Vec<PathBuf>,
    limit: Option<u64>,
    vmcoreinfo: Option<u64>,
    ram: Option<RamGiven>,
    vmlinux: Option<PathBuf>,
}

impl Options {
    /// Nothing but the path.
    pub fn new() -> Self {
        Self::default()
    }

    /// Another part of a split set, in any order. Parts that are not named are lost pages.
    pub fn part(mut self, path: impl Into<PathBuf>) -> Self {
        self.parts.push(path.into());
        self
    }

    /// What opening may take of memory, bytes; else half of what is available. What does not fit is an error.
    pub fn memory_limit(self, bytes: u64) -> Self {
        Self { limit: Some(bytes), ..self }
    }

    /// The physical address of the kernel's VMCOREINFO note (the first number in /sys/kernel/vmcoreinfo), before any note of the
    /// dump.
    pub fn vmcoreinfo(self, address: u64) -> Self {
        Self { vmcoreinfo: Some(address), ..self }
    }

    /// The file is raw memory, where a byte's offset is its physical address, and this saved /proc/iomem says which parts are RAM.
    pub fn iomem(self, path: impl Into<PathBuf>) -> Self {
        Self { ram: Some(RamGiven::Iomem(path.into())), ..self }
    }

    /// The file is raw memory, and the ELF core headers at this physical address in it say which parts are RAM (`elfcorehdr=` on the
    /// capture kernel's command line).
    pub fn core_headers(self, address: u64) -> Self {
        Self { ram: Some(RamGiven::CoreHeaders(CoreHeaders::At { address, size: None })), ..self }
    }

    /// The same for headers in a file of their own.
    pub fn core_headers_in(self, path: impl Into<PathBuf>) -> Self {
        Self { ram: Some(RamGiven::CoreHeaders(CoreHeaders::File(path.into()))), ..self }
    }

    /// The kernel's vmlinux, or the file with its debug information, for what VMCOREINFO leaves out.
    pub fn vmlinux(self, path: impl Into<PathBuf>) -> Self {
        Self { vmlinux: Some(path.into()), ..self }
    }

    /// Opens the dump at `path`.
    ///
    /// # Errors
    /// As [`Dump::open`]; what was said does not fit the file.
    pub fn open(self, path: impl AsRef<Path>) -> Result<Dump, Error> {
        let limit = self.limit.unwrap_or_else(Opening::usual_limit);
        let paths = std::iter::once(path.as_ref().to_owned()).chain(self.parts).collect();
        let opening = Opening { paths, ram: self.ram, vmcoreinfo: self.vmcoreinfo, limit };
        let source = kernel::open_quietly(&opening)?;
        let mut unsure = Vec::new();
        let files = NamedFiles { vmlinux: self.vmlinux.as_deref(), ..NamedFiles::default() };
        let info = kernel::known::read(&source, &files, limit, &mut unsure)?;
        Dump::new(source, info, unsure)
    }
}
