//! Finding zero pages before anything is written, for formats whose headers depend on them.
//!
//! Knows how to look at every kept page once, on all threads. Must not know why. The plane goes to `plan`.

use rayon::prelude::{IndexedParallelIterator as _, ParallelIterator as _, ParallelSliceMut as _};
use vdump_filters::{Pfn, PfnRange};

use super::is_zero;
use crate::{
    bitmap::PageBitmap,
    report::Progress,
    source::{MAX_READ, PageReader, Source},
};

/// Frames looked at as one piece of work; a multiple of 8.
const PART: u64 = 4096;

/// The frames of `kept` whose pages are all zeros, and those that cannot be read, with the reason. Runs on the current
/// rayon pool; stops early when the progress says that the user wants to.
#[must_use]
pub fn find_zeros(
    source: &Source,
    kept: &PageBitmap,
    page_shift: u32,
    progress: &Progress,
) -> (PageBitmap, Vec<(u64, String)>) {
    let mut zero = PageBitmap::new(kept.len());
    let lost = zero
        .as_bytes_mut()
        .par_chunks_mut(PART as usize / 8)
        .enumerate()
        .map_init(
            || source.reader(),
            |reader, (index, bits)| {
                let start = index as u64 * PART;
                let part = PfnRange::new(start, start + PART);
                let mut lost = Vec::new();
                for run in kept.runs_in(part) {
                    if progress.stopped() {
                        break;
                    }
                    look(reader, run, page_shift, |pfn, found| match found {
                        Ok(true) => bits[((pfn - start) / 8) as usize] |= 1 << (pfn % 8),
                        Ok(false) => {}
                        Err(cause) => lost.push((pfn, cause)),
                    });
                    progress.add(run.len());
                }
                lost
            },
        )
        .reduce(Vec::new, |mut all, more| {
            all.extend(more);
            all
        });
    (zero, lost)
}

fn look(reader: &mut PageReader<'_>, run: PfnRange, page_shift: u32, mut found: impl FnMut(u64, Result<bool, String>)) {
    let page_size = 1usize << page_shift;
    let step = (MAX_READ >> page_shift) as u64;
    let mut at = run.start;
    while at < run.end {
        let end = run.end.min(at + step);
        match reader.read(Pfn(at).paddr(page_shift), (end - at) as usize * page_size) {
            Ok(bytes) => {
                for (pfn, page) in (at..).zip(bytes.chunks_exact(page_size)) {
                    found(pfn, Ok(is_zero(page)));
                }
            }
            Err(_) => {
                for pfn in at..end {
                    let read = reader.read(Pfn(pfn).paddr(page_shift), page_size);
                    found(pfn, read.map(is_zero).map_err(|error| error.to_string()));
                }
            }
        }
        at = end;
    }
}
