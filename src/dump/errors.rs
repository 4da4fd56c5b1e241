//! Errors that a program can tell apart.

use std::{fmt, io};

use crate::{
    error::{self, Kind},
    kernel::NAME_VMCOREINFO,
    source::Source,
};

/// What an [`Error`] is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused to open or to read a file.
    Io,
    /// The file is no dump, one of a kind that is not read, or its headers are damaged.
    InvalidDump,
    /// What the program asked for cannot be: a buffer of the wrong size, files that are no parts of one dump.
    InvalidArgument,
    /// What the dump needs in memory is more than the limit.
    MemoryLimit,
    /// The dump has no such memory, nor does it know that the machine had any there.
    NotInDump,
    /// The page was excluded when the dump was made.
    Excluded,
    /// The page should be in the dump and is not: it was lost when the dump was made, or with the end of the file, or it is in a part
    /// of a split set that is not there.
    Lost,
    /// Stored data or the kernel's own structures are damaged.
    Damaged,
    /// The kernel's page tables map nothing at the virtual address.
    NotMapped,
    /// The dump does not say enough about its kernel.
    UnknownKernel,
    /// It is known what is there, and it is not read: the virtual addresses of other machines than x86_64, and of Xen's.
    Unsupported,
}

/// Why a dump could not be opened or read. Prints as `what: cause`, on one line whatever the dump has in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Error {
    kind: ErrorKind,
    /// What was done, the cause and the next step.
    text: Box<error::Error>,
    address: Option<u64>,
}

impl Error {
    /// What it is about.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The first address that could not be read, where a read failed: virtual for [`read_virtual`](crate::Reader::read_virtual),
    /// else physical.
    #[must_use]
    pub fn address(&self) -> Option<u64> {
        self.address
    }

    /// The operating system's reason, where it refused to open a file.
    #[must_use]
    pub fn io_kind(&self) -> Option<io::ErrorKind> {
        self.text.io_kind()
    }

    /// What helps, where that is known, in the words of the program `vdump`: it may name its options.
    #[must_use]
    pub fn next_step(&self) -> Option<&str> {
        self.text.parts().2
    }

    pub(super) fn new(kind: ErrorKind, what: impl Into<String>, cause: impl fmt::Display) -> Self {
        Self { kind, text: Box::new(error::Error::input(what).because(cause)), address: None }
    }

    pub(super) fn at(self, address: u64) -> Self {
        Self { address: Some(address), ..self }
    }

    /// The cause alone.
    pub(super) fn cause(&self) -> &str {
        let (what, cause, _) = self.text.parts();
        cause.unwrap_or(what)
    }

    /// The same as the cause of why something else failed.
    pub(super) fn explaining(self, what: impl Into<String>) -> Self {
        let text = match self.text.parts() {
            ("", Some(cause), _) => error::Error::input(what).because(cause),
            (why, Some(cause), _) => error::Error::input(what).because(format_args!("{why}: {cause}")),
            (why, None, _) => error::Error::input(what).because(why),
        };
        let text = Box::new(match self.text.parts().2 {
            Some(next) => text.next_step(next),
            None => text,
        });
        Self { text, ..self }
    }

    /// Nothing tells where the kernel's structures are.
    pub(super) fn no_vmcoreinfo(source: &Source) -> Self {
        let cause = match source.undecided_vmcoreinfo() {
            [] => "it has no VMCOREINFO, in its notes or in the memory that it has".to_owned(),
            several => format!("nothing tells which VMCOREINFO is its kernel's: {}", several.join(", ")),
        };
        let text = error::Error::input("").because(cause).next_step(NAME_VMCOREINFO);
        Self { kind: ErrorKind::UnknownKernel, text: Box::new(text), address: None }
    }

    /// Why nothing is known of the page tables.
    pub(super) fn of_paging(text: error::Error) -> Self {
        let kind = if text.kind() == Kind::Unsaid { ErrorKind::UnknownKernel } else { ErrorKind::Unsupported };
        Self { kind, text: Box::new(text), address: None }
    }
}

/// An error while opening.
impl From<error::Error> for Error {
    fn from(text: error::Error) -> Self {
        let kind = match text.kind() {
            _ if text.io_kind().is_some() => ErrorKind::Io,
            Kind::Usage => ErrorKind::InvalidArgument,
            Kind::Memory => ErrorKind::MemoryLimit,
            Kind::Unsaid => ErrorKind::UnknownKernel,
            _ => ErrorKind::InvalidDump,
        };
        Self { kind, text: Box::new(text), address: None }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (what, cause, _) = self.text.parts();
        f.write_str(&error::printable(what))?;
        match cause {
            Some(cause) => write!(f, ": {}", error::printable(cause)),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {}
