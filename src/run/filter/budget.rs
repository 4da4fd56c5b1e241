//! What a run will hold in memory, before it holds it.

use crate::{
    bitmap::PageBitmap,
    cli::{
        Format,
        resolve::{Destination, Job},
    },
    error::Result,
    format::elf,
    plan::{Budget, FRAME, Needs},
    source::Source,
};

/// Fits the run into its memory limit.
pub(super) fn fit(job: &Job, source: &Source, page_shift: u32) -> Result<Budget> {
    let to_pipe = job.output == Some(Destination::StandardOutput);
    // The plane of kept frames, and where zeros are found beforehand a plane of those (a dry run subtracts in a third).
    let planes = match (&job.output, job.format) {
        (None, _) => 3,
        (Some(_), Format::Elf) => 2,
        (Some(_), Format::Kdump) => 1,
    };
    let plane = PageBitmap::bytes_for(source.existing().max_pfn(page_shift));
    let frames = job.format == Format::Elf && (job.compression.makes_frames() || to_pipe);
    // A frame before compression, and what compression may add to it.
    let codec = if frames {
        job.compression.frame_context_bytes() + FRAME + (64 << 10)
    } else {
        job.compression.context_bytes()
    };
    let needs = Needs {
        bitmaps: plane.saturating_mul(planes),
        tables: tables(source, page_shift),
        codec: codec + decoding(source),
        batch: frames.then_some(FRAME),
        lanes: job.parts as u64,
    };
    Budget::fit(job.memory_limit, job.threads, 1 << page_shift, needs)
}

/// The same for a look at all of memory that writes nothing, with so many planes of frames.
pub(in crate::run) fn to_look(
    source: &Source,
    page_shift: u32,
    planes: u64,
    limit: u64,
    threads: usize,
) -> Result<Budget> {
    let plane = PageBitmap::bytes_for(source.existing().max_pfn(page_shift));
    let needs = Needs {
        bitmaps: plane.saturating_mul(planes),
        tables: tables(source, page_shift),
        codec: decoding(source),
        batch: None,
        lanes: 1,
    };
    Budget::fit(limit, threads, 1 << page_shift, needs)
}

/// What is held about the input, whatever is done with it.
fn tables(source: &Source, page_shift: u32) -> u64 {
    let segments = source.loads().len() as u64 * 3 * elf::PHDR_SIZE;
    let notes = source.notes().len() as u64 * 2;
    source.memory().0 + notes + segments + sections(source, page_shift) * SECTION_BYTES + source.map_bytes()
}

/// What each worker holds to read.
fn decoding(source: &Source) -> u64 {
    source.memory().1 + if source.recorded().is_some() { DECODER_BYTES } else { 0 }
}

/// What a worker's readers hold where pages must be decompressed: three of them, each with a cache and a buffer.
const DECODER_BYTES: u64 = 3 << 20;
/// What the memory map holds for each section, bytes.
const SECTION_BYTES: u64 = 64;
/// The smallest section of any kernel, log2 of bytes.
const SMALLEST_SECTION: u32 = 24;

/// Sections that the dump's memory touches, at most.
fn sections(source: &Source, page_shift: u32) -> u64 {
    let shift = SMALLEST_SECTION.saturating_sub(page_shift);
    source.existing().pfn_ranges(page_shift).map(|range| ((range.end - 1) >> shift) - (range.start >> shift) + 1).sum()
}
