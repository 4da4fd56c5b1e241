//! What is measured: the stages of a dump, and the rates of each.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::codec::Compression;

/// A codec and what it is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Codec {
    /// Single pages, for kdump.
    Page(Compression),
    /// Frames of a mebibyte, for ELF.
    Frame(Compression),
}

impl Codec {
    pub(super) fn compression(self) -> Compression {
        match self {
            Self::Page(compression) | Self::Frame(compression) => compression,
        }
    }
}

/// What was measured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stage {
    /// Struct pages: read and decided on. Bytes are those of the struct pages.
    Classify,
    /// Kept pages: read.
    Read,
    /// The zero test on kept pages that are not zero.
    ZeroTest,
    /// The zero test on zeros.
    ZeroTestZeros,
    /// Compression. Bytes are those before it.
    Codec(Codec),
    /// Writing to the folder and bringing it to the disk.
    Write,
}

impl Stage {
    /// A word for the progress bar.
    pub(super) fn phase(self) -> &'static str {
        match self {
            Self::Classify => "classify",
            Self::Read => "read",
            Self::ZeroTest | Self::ZeroTestZeros => "zeros",
            Self::Codec(_) => "compress",
            Self::Write => "write",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Classify => f.write_str("struct pages"),
            Self::Read => f.write_str("read kept pages"),
            Self::ZeroTest => f.write_str("zero test"),
            Self::ZeroTestZeros => f.write_str("zero test, zeros"),
            Self::Codec(Codec::Page(compression)) => write!(f, "{compression}, pages"),
            Self::Codec(Codec::Frame(compression)) => write!(f, "{compression}, frames"),
            Self::Write => f.write_str("write"),
        }
    }
}

impl Serialize for Stage {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One measurement.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Unit {
    /// Bytes gone through.
    pub(super) bytes: u64,
    /// In how long.
    pub(super) seconds: f64,
    /// In how much CPU time of all threads.
    pub(super) cpu: f64,
    /// Bytes after compression for each byte before.
    pub(super) packed: Option<f64>,
}

impl Unit {
    fn rate(self) -> f64 {
        self.bytes as f64 / self.seconds.max(1e-9)
    }
}

/// A stage with its rates, bytes a second.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(super) struct Measured {
    pub(super) stage: Stage,
    /// With all threads.
    pub(super) all: f64,
    /// With one thread.
    pub(super) one: Option<f64>,
    /// With one thread, for each second of CPU time; of writing, with all threads.
    pub(super) cpu: f64,
    /// Bytes after compression for each byte before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) packed: Option<f64>,
}

impl Measured {
    pub(super) fn new(stage: Stage, all: Unit, one: Option<Unit>) -> Self {
        let packed = all.packed.filter(|_| matches!(stage, Stage::Codec(_)));
        let busy = one.unwrap_or(all);
        let cpu = busy.bytes as f64 / busy.cpu.max(1e-9);
        Self { stage, all: all.rate(), cpu, one: one.map(Unit::rate), packed }
    }
}
