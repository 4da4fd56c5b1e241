//! The programs that open dumps, and what can be said of one: whether it opens a dump, and what a broken rule does to it.

use serde::Serialize;

/// Programs that open dumps.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reader {
    /// The crash utility.
    Crash,
    /// drgn, with the libkdumpfile inside its wheel.
    Drgn,
    /// gdb.
    Gdb,
    /// libkdumpfile.
    Libkdumpfile,
    /// makedumpfile, which filters dumps again.
    Makedumpfile,
}

/// All of them.
pub const READERS: [Reader; 5] = [Reader::Crash, Reader::Drgn, Reader::Gdb, Reader::Libkdumpfile, Reader::Makedumpfile];

impl Reader {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Drgn => "drgn",
            Self::Gdb => "gdb",
            Self::Libkdumpfile => "libkdumpfile",
            Self::Makedumpfile => "makedumpfile",
        }
    }
}

/// Whether a reader opens the dump.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Opens {
    /// As it is.
    Yes,
    /// As it is, but something is wrong, missing or slow.
    Partly,
    /// After a command that makes another file of it.
    After,
    /// Nobody tried.
    Unknown,
    /// Not at all.
    No,
}

/// What a broken rule does to a reader.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Harm {
    /// It does not open the dump.
    Refuses,
    /// It opens the dump, and some memory is wrong, missing or slow to come.
    Stumbles,
}
