//! Finding zero pages before anything is written, for formats whose headers depend on them.
//!
//! Knows how to look at every kept page once, on all threads. Must not know why. The bitmap goes to `plan`.

use rayon::prelude::{IndexedParallelIterator, ParallelIterator as _, ParallelSliceMut as _};
use vdump_filters::{Pfn, PfnRange};

use super::is_zero;
use crate::{
    bitmap::{Bits, PageBitmap, runs_of},
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

/// Looks for frames of `kept` whose pages are all zeros under the mask: they are set in `zero`, or, where there is no such bitmap, leave `kept`.
/// Pages that cannot be read leave `kept`. Gives the number of zero pages and the lost ones. Runs on the current rayon pool;
/// stops early when the progress says that the user wants to.
#[must_use]
pub fn find_zeros(
    (source, mask): (&Source, &Mask),
    kept: &mut PageBitmap,
    zero: Option<&mut PageBitmap>,
    page_shift: u32,
    progress: &Progress,
) -> (u64, Lost) {
    let part = PART as usize / 8;
    let kept = kept.as_bytes_mut().par_chunks_mut(part);
    let parts = Parts { source, mask, page_shift, progress };
    match zero {
        Some(zero) => parts.look(kept.zip(zero.as_bytes_mut().par_chunks_mut(part).map(Some))),
        None => parts.look(kept.map(|kept| (kept, None))),
    }
}

/// A part of the bitmap of kept frames, and of that of zero ones.
type Bitmaps<'a> = (&'a mut [u8], Option<&'a mut [u8]>);

struct Parts<'a> {
    source: &'a Source,
    mask: &'a Mask,
    page_shift: u32,
    progress: &'a Progress,
}

impl Parts<'_> {
    fn look<'p>(&self, parts: impl IndexedParallelIterator<Item = Bitmaps<'p>>) -> (u64, Lost) {
        let look = |reader: &mut OutputReader<'_>, (index, bitmaps)| self.part(reader, index as u64 * PART, bitmaps);
        let none = || (0, Lost::default());
        let join = |(zeros, lost): (u64, Lost), (more, later)| (zeros + more, lost.merge(later));
        parts.enumerate().map_init(|| self.source.output_reader(self.mask), look).reduce(none, join)
    }

    fn part(&self, reader: &mut OutputReader<'_>, start: u64, (kept, mut zero): Bitmaps<'_>) -> (u64, Lost) {
        let (mut zeros, mut lost) = (0, Lost::default());
        let runs: Vec<PfnRange> = runs_of(kept).collect();
        for run in runs.into_iter().take_while(|_| !self.progress.stopped()) {
            let frames = PfnRange::new(start + run.start, start + run.end);
            look(reader, frames, self.page_shift, |found, is| {
                let within = PfnRange::new(found.start - start, found.end - start);
                match is {
                    Ok(true) => {
                        zeros += found.len();
                        match &mut zero {
                            Some(zero) => set(zero, within, true),
                            None => set(kept, within, false),
                        }
                    }
                    Ok(false) => {}
                    Err(cause) => {
                        set(kept, within, false);
                        lost.add(found.start, cause);
                    }
                }
            });
            self.progress.add(run.len());
        }
        (zeros, lost)
    }
}

fn set(part: &mut [u8], frames: PfnRange, value: bool) {
    let (byte, bit) = ((frames.start / 8) as usize, 1u8 << (frames.start % 8));
    match (frames.len(), value) {
        (1, true) => part[byte] |= bit,
        (1, false) => part[byte] &= !bit,
        _ => Bits::from_slice_mut(part)[frames.start as usize..frames.end as usize].fill(value),
    }
}

/// Whether the frames of `run` are zeros, one by one, or several at once where the input has no bytes for them.
fn look(
    reader: &mut OutputReader<'_>,
    run: PfnRange,
    page_shift: u32,
    mut found: impl FnMut(PfnRange, Result<bool, String>),
) {
    let page_size = 1usize << page_shift;
    let step = (MAX_READ >> page_shift) as u64;
    let mut at = run.start;
    while at < run.end {
        let end = run.end.min(at + step);
        if !reader.is_stored(Pfn(at).paddr(page_shift), (end - at) as usize * page_size) {
            found(PfnRange::new(at, end), Ok(true));
            at = end;
            continue;
        }
        match reader.read(Pfn(at).paddr(page_shift), (end - at) as usize * page_size) {
            Ok(bytes) => {
                for (pfn, page) in (at..).zip(bytes.chunks_exact(page_size)) {
                    found(PfnRange::new(pfn, pfn + 1), Ok(is_zero(page)));
                }
            }
            Err(_) => {
                for pfn in at..end {
                    let read = reader.read(Pfn(pfn).paddr(page_shift), page_size);
                    found(PfnRange::new(pfn, pfn + 1), read.map(is_zero).map_err(|error| error.to_string()));
                }
            }
        }
        at = end;
    }
}
