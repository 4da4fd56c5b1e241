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
    // And one of the frames of tasks.
    let planes = planes + u64::from(!job.choosing.keep_task.is_empty());
    let plane = PageBitmap::bytes_for(source.existing().max_pfn(page_shift));
    let segments = source.loads().len() as u64 * 3 * elf::PHDR_SIZE;
    let frames = job.format == Format::Elf && (job.compression.makes_frames() || to_pipe);
    // A frame before compression, and what compression may add to it.
    let codec = if frames {
        job.compression.frame_context_bytes() + FRAME + (64 << 10)
    } else {
        job.compression.context_bytes()
    };
    let (opened, reading) = source.memory();
    let needs = Needs {
        bitmaps: plane.saturating_mul(planes),
        tables: opened
            + source.notes().len() as u64 * 2
            + segments
            + sections(source, page_shift) * SECTION_BYTES
            + source.map_bytes(),
        codec: codec + reading + if source.recorded().is_some() { DECODER_BYTES } else { 0 },
        batch: frames.then_some(FRAME),
        lanes: job.parts as u64,
    };
    Budget::fit(job.memory_limit, job.threads, 1 << page_shift, needs)
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
