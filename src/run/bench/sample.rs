//! Some of what a dump would compress, in memory: kept pages that are not zero, from all over the dump.

use super::Measuring;
use crate::{
    bitmap::PageBitmap,
    error::{Error, Kind, Result},
    pipeline::is_zero,
    plan::{Batches, FRAME},
    source::MAX_READ,
};

/// A sample has at least so many.
const STRETCHES: u64 = 64;

/// Pages side by side.
pub(super) struct Sample {
    data: Vec<u8>,
    page_size: usize,
    /// Pages looked at, and those of them that were zero.
    looked_at: u64,
    zero: u64,
}

impl Sample {
    /// Reads as much as was asked for and there is room for, in stretches of at most a mebibyte that are spread evenly.
    pub(super) fn take(measuring: &Measuring<'_>, kept: &PageBitmap) -> Result<Self> {
        let page_size = 1usize << measuring.page_shift;
        let there = kept.count().saturating_mul(page_size as u64);
        let wanted = measuring.options.sample.min(there).max(page_size as u64);
        if measuring.room < page_size as u64 {
            return Err(Error::new(Kind::Memory, "not enough memory: there is no room for a sample of pages")
                .next_step("give a larger --memory-limit, or fewer threads (-j)"));
        }
        let size = wanted.min(measuring.room) / page_size as u64 * page_size as u64;
        let mut data = Vec::new();
        data.try_reserve_exact(size as usize).map_err(|error| {
            Error::new(Kind::Memory, "cannot hold a sample of pages")
                .because(error)
                .next_step("give a smaller --sample")
        })?;
        let mut sample = Self { data, page_size, looked_at: 0, zero: 0 };
        // Smaller stretches where the sample is small, so that it still comes from everywhere.
        let batch = (MAX_READ as u64).min(size / STRETCHES).max(page_size as u64) / page_size as u64;
        let step = (there / size.max(1)).max(1) as usize;
        let mut reader = measuring.source.reader();
        for batch in Batches::new(kept, batch).step_by(step) {
            for run in batch.extents {
                if measuring.progress.stopped() || sample.data.len() >= size as usize {
                    return Ok(sample);
                }
                // What cannot be read is no sample.
                if let Ok(bytes) = reader.read(run.start << measuring.page_shift, run.len() as usize * page_size) {
                    sample.add(bytes, size as usize);
                }
            }
        }
        Ok(sample)
    }

    fn add(&mut self, bytes: &[u8], size: usize) {
        for page in bytes.chunks_exact(self.page_size) {
            if self.data.len() + page.len() > size {
                return;
            }
            self.looked_at += 1;
            if is_zero(page) {
                self.zero += 1;
            } else {
                self.data.extend_from_slice(page);
            }
        }
    }

    pub(super) fn page_size(&self) -> usize {
        self.page_size
    }

    /// Pages held.
    pub(super) fn pages(&self) -> usize {
        self.data.len() / self.page_size
    }

    pub(super) fn bytes(&self) -> usize {
        self.data.len()
    }

    /// The share of kept pages that are zero.
    pub(super) fn zero_share(&self) -> f64 {
        self.zero as f64 / self.looked_at.max(1) as f64
    }

    /// Stretches of a mebibyte, the unit of parallel work.
    pub(super) fn pieces(&self) -> Vec<&[u8]> {
        self.data.chunks(FRAME as usize).collect()
    }
}
