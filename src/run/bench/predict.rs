//! How long a dump would take and how large it would be, by what was measured.
//!
//! Knows which stages a format goes through. Must not measure.

use serde::Serialize;

use super::{
    Measuring,
    measured::{Codec, Measured, Stage},
    sample::Sample,
};
use crate::{bitmap::PageBitmap, classify::Counts, format::diskdump::Areas};

/// How much of a machine's memory goes which way.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(super) struct Shares {
    /// Memory of the dumped machine, bytes.
    pub(super) ram_bytes: u64,
    /// Of it kept at this level, bytes.
    pub(super) kept_bytes: u64,
    /// Of that zero pages by the sample, bytes.
    pub(super) zero_bytes: u64,
    /// Struct pages that describe it, bytes; 0 where nobody asks them.
    pub(super) struct_page_bytes: u64,
    /// What a kdump file has in front of its pages: headers, bitmaps and descriptors, bytes.
    front_bytes: u64,
}

impl Shares {
    pub(super) fn new(measuring: &Measuring<'_>, kept: &PageBitmap, counts: &Counts, sample: &Sample) -> Self {
        let page_size = 1u64 << measuring.page_shift;
        let kept_bytes = kept.count() * page_size;
        let struct_page = measuring.kernel.as_ref().map_or(0, |kernel| kernel.layout.page.size as u64);
        let notes = measuring.source.all_notes().len();
        let areas = Areas::place(page_size, notes, kept.len(), kept.count());
        Self {
            ram_bytes: counts.total() * page_size,
            kept_bytes,
            zero_bytes: (kept_bytes as f64 * sample.zero_share()) as u64,
            struct_page_bytes: counts.total() * struct_page,
            front_bytes: areas.map_or(0, |areas| areas.data),
        }
    }
}

/// A dump with one codec.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub(super) struct Prediction {
    /// Output format.
    pub(super) format: &'static str,
    /// Codec and level.
    pub(super) codec: String,
    /// Of the input: seconds and bytes.
    pub(super) seconds: f64,
    /// Size, bytes.
    pub(super) bytes: u64,
    /// The same shares of the machine that is to be dumped, if its memory is known.
    pub(super) machine: Option<OfMachine>,
}

/// A dump of a machine with other memory and the same use of it.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub(super) struct OfMachine {
    /// Its memory, bytes.
    pub(super) ram_bytes: u64,
    /// Seconds.
    pub(super) seconds: f64,
    /// Size, bytes.
    pub(super) bytes: u64,
}

/// One line for each codec that was measured.
pub(super) fn all(stages: &[Measured], shares: &Shares, ram: Option<u64>) -> Vec<Prediction> {
    let codecs = stages.iter().filter_map(|measured| match measured.stage {
        Stage::Codec(codec) => Some((codec, measured)),
        _ => None,
    });
    codecs.map(|(codec, measured)| one(stages, shares, ram, codec, measured)).collect()
}

fn one(stages: &[Measured], shares: &Shares, ram: Option<u64>, codec: Codec, measured: &Measured) -> Prediction {
    let taken = |stage: Stage, bytes: u64| {
        let found = stages.iter().find(|measured| measured.stage == stage);
        found.map_or(0.0, |measured| bytes as f64 / measured.all.max(1.0))
    };
    let &Shares { ram_bytes, kept_bytes, zero_bytes, struct_page_bytes, front_bytes } = shares;
    let stored = kept_bytes - zero_bytes;
    let looking =
        taken(Stage::Read, kept_bytes) + taken(Stage::ZeroTest, stored) + taken(Stage::ZeroTestZeros, zero_bytes);
    let compressing = stored as f64 / measured.all.max(1.0);
    let packed = (stored as f64 * measured.packed.unwrap_or(1.0)) as u64;
    // Threads compress while one writes: the slower of both is what it takes.
    let (format, before, during, bytes) = match codec {
        Codec::Page(_) => ("kdump", 0.0, looking + compressing, packed + front_bytes),
        // Zeros are found beforehand, and what is kept is read again.
        Codec::Frame(_) => ("elf", looking, taken(Stage::Read, stored) + compressing, packed),
    };
    let writing = taken(Stage::Write, bytes);
    let seconds = taken(Stage::Classify, struct_page_bytes) + before + during.max(writing);
    let machine = ram.map(|ram| {
        let factor = ram as f64 / ram_bytes.max(1) as f64;
        OfMachine { ram_bytes: ram, seconds: seconds * factor, bytes: (bytes as f64 * factor) as u64 }
    });
    Prediction { format, codec: codec.compression().to_string(), seconds, bytes, machine }
}
