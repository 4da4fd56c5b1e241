//! What a run will hold in memory, before it holds it.

use std::path::Path;

use vdump_filters::PfnRange;

use crate::{
    bitmap::{Bitmaps, PageBitmap},
    cli::resolve::{Container, Destination, Job},
    error::Result,
    format::elf,
    kernel::FreePcp,
    memory::MemMap,
    plan::{Budget, FRAME, Needs},
    source::Source,
    sys::host,
};

/// Fits the run into its memory limit, and says where the bitmaps go: into files beside the output where memory would have
/// them only at the cost of threads, or not at all. And how many bytes there are for the frames on per-CPU lists: none where
/// with them the limit would not do.
pub(super) fn fit(job: &Job, source: &Source, page_shift: u32) -> Result<(Budget, Bitmaps, u64)> {
    let most_pcp = match job.drop().needs_classes() {
        true => FreePcp::bytes_for(source.existing().max_pfn(page_shift)),
        false => 0,
    };
    let with = |bytes: u64| fit_with(job, source, page_shift, bytes).map(|(budget, bitmaps)| (budget, bitmaps, bytes));
    with(most_pcp).or_else(|error| if most_pcp > 0 { with(0) } else { Err(error) })
}

fn fit_with(job: &Job, source: &Source, page_shift: u32, most_pcp: u64) -> Result<(Budget, Bitmaps)> {
    // The bitmap of kept frames, and where segments end in zeros a bitmap of those.
    let bitmaps = if job.container.is_elf() { 2 } else { 1 };
    // And one of the frames of tasks.
    let bitmaps = bitmaps + u64::from(!job.selection.keep_task.is_empty());
    let bitmap = PageBitmap::bytes_for(source.existing().max_pfn(page_shift));
    let frames = matches!(job.container, Container::ElfStream { .. });
    // A frame before compression, and what compression may add to it.
    let codec = if frames {
        job.compression.frame_context_bytes() + FRAME + (64 << 10)
    } else {
        job.compression.context_bytes()
    };
    let needs = Needs {
        bitmaps: bitmap.saturating_mul(bitmaps),
        tables: tables(source, page_shift).saturating_add(most_pcp),
        codec: codec + decoding(source),
        batch: frames.then_some(FRAME),
        lanes: job.parts as u64,
    };
    let fit = |limit, needs| Budget::fit(limit, job.threads, 1 << page_shift, needs);
    let in_memory = fit(job.memory_limit, needs);
    if bitmap > MOST_IN_A_FILE || in_memory.as_ref().is_ok_and(|budget| budget.threads == job.threads) {
        return Ok((in_memory?, Bitmaps::Memory));
    }
    let beside = job.output.as_ref().and_then(Destination::folder).map(Path::to_owned);
    let bitmaps = Bitmaps::Folder(beside.unwrap_or_else(std::env::temp_dir));
    // Mapped files take addresses too, of which a process may have few.
    let besides = host::address_space().map_or(u64::MAX, |room| room.saturating_sub(needs.bitmaps));
    match fit(job.memory_limit.min(besides), Needs { bitmaps: 0, ..needs }) {
        // What can hold a small bitmap can hold a large one, or says so when it is made.
        Ok(budget) if bitmaps.bitmap(1).is_ok() && !gains_nothing(&budget, &in_memory) => Ok((budget, bitmaps)),
        _ => Ok((in_memory?, Bitmaps::Memory)),
    }
}

/// A bitmap for 64 TiB, as much memory as Linux has run on. A header can claim more.
const MOST_IN_A_FILE: u64 = 2 << 30;

fn gains_nothing(budget: &Budget, in_memory: &Result<Budget>) -> bool {
    in_memory.as_ref().is_ok_and(|known| (known.threads, known.batch_pages) == (budget.threads, budget.batch_pages))
}

/// The same for a look at all of memory that writes nothing, with so many bitmaps of frames.
pub(in crate::run) fn to_look(
    source: &Source,
    page_shift: u32,
    bitmaps: u64,
    limit: u64,
    threads: usize,
) -> Result<Budget> {
    let bitmap = PageBitmap::bytes_for(source.existing().max_pfn(page_shift));
    let needs = Needs {
        bitmaps: bitmap.saturating_mul(bitmaps),
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

/// Pieces of memory map that the dump's memory can have.
fn sections(source: &Source, page_shift: u32) -> u64 {
    let shift = SMALLEST_SECTION.saturating_sub(page_shift);
    let of = |range: PfnRange| ((range.end - 1) >> shift) - (range.start >> shift) + 1;
    source.existing().pfn_ranges(page_shift).map(of).sum::<u64>().min(MemMap::MOST_PIECES as u64)
}
