//! Finding zero pages before anything is written, for formats whose headers depend on them.
//!
//! Knows how to look at every kept page once, on all threads. Must not know why. The plane goes to `plan`.

use rayon::prelude::{IndexedParallelIterator as _, ParallelIterator as _, ParallelSliceMut as _};
use vdump_filters::{Pfn, PfnRange};

use super::is_zero;
use crate::{
    bitmap::{PageBitmap, runs_of},
    report::Progress,
    source::{MAX_READ, Mask, OutputReader, Source},
};

/// Frames looked at as one piece of work; a multiple of 8.
const PART: u64 = 4096;

/// Pages that could not be read.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Lost {
    /// How many.
    pub count: u64,
    /// The first of them with the reason, at most [`Lost::LISTED`].
    pub pages: Vec<(u64, String)>,
}

impl Lost {
    /// As many as are remembered one by one: a broken device must not fill the memory.
    pub const LISTED: usize = 100;

    fn add(&mut self, pfn: u64, cause: String) {
        self.count += 1;
        if self.pages.len() < Self::LISTED {
            self.pages.push((pfn, cause));
        }
    }

    fn merge(mut self, later: Self) -> Self {
        self.count += later.count;
        self.pages.extend(later.pages);
        self.pages.truncate(Self::LISTED);
        self
    }
}

/// The frames of `kept` whose pages are all zeros under the mask. Pages that cannot be read leave `kept`. Runs on the current rayon pool;
/// stops early when the progress says that the user wants to.
#[must_use]
pub fn find_zeros(
    (source, mask): (&Source, &Mask),
    kept: &mut PageBitmap,
    page_shift: u32,
    progress: &Progress,
) -> (PageBitmap, Lost) {
    let mut zero = PageBitmap::new(kept.len());
    let part = PART as usize / 8;
    let lost = zero
        .as_bytes_mut()
        .par_chunks_mut(part)
        .zip(kept.as_bytes_mut().par_chunks_mut(part))
        .enumerate()
        .map_init(
            || source.output_reader(mask),
            |reader, (index, (zero, kept))| {
                let start = index as u64 * PART;
                let mut lost = Lost::default();
                let runs: Vec<PfnRange> = runs_of(kept).collect();
                for run in runs.into_iter().take_while(|_| !progress.stopped()) {
                    let frames = PfnRange::new(start + run.start, start + run.end);
                    look(reader, frames, page_shift, |pfn, found| {
                        let (byte, bit) = (((pfn - start) / 8) as usize, 1u8 << (pfn % 8));
                        match found {
                            Ok(true) => zero[byte] |= bit,
                            Ok(false) => {}
                            Err(cause) => {
                                kept[byte] &= !bit;
                                lost.add(pfn, cause);
                            }
                        }
                    });
                    progress.add(run.len());
                }
                lost
            },
        )
        .reduce(Lost::default, Lost::merge);
    (zero, lost)
}

fn look(
    reader: &mut OutputReader<'_>,
    run: PfnRange,
    page_shift: u32,
    mut found: impl FnMut(u64, Result<bool, String>),
) {
    let page_size = 1usize << page_shift;
    let step = (MAX_READ >> page_shift) as u64;
    let mut at = run.start;
    while at < run.end {
        let end = run.end.min(at + step);
        if !reader.is_stored(Pfn(at).paddr(page_shift), (end - at) as usize * page_size) {
            (at..end).for_each(|pfn| found(pfn, Ok(true)));
            at = end;
            continue;
        }
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
