//! Memory: what a run may use, and how many threads and how large batches fit in it.
//!
//! Knows what each part of the program holds. Must not allocate. Goes to `run` and to the report.

use crate::{
    error::{Error, Kind, Result},
    report::human_bytes,
};

/// What a run must hold whatever its threads do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Needs {
    /// Page bitmaps, bytes.
    pub bitmaps: u64,
    /// Notes and segment tables, bytes.
    pub tables: u64,
    /// Bytes that one worker's codec context and its other fixed room take.
    pub codec: u64,
    /// Bytes of a batch, where the format does not let it shrink.
    pub batch: Option<u64>,
    /// Files that are written at once, each by a thread.
    pub lanes: u64,
}

/// How a run uses its memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Budget {
    /// The limit, bytes.
    pub limit: u64,
    /// Worker threads.
    pub threads: usize,
    /// Pages in a batch.
    pub batch_pages: u64,
    /// What the limit leaves, bytes.
    pub spare: u64,
    lanes: u64,
}

/// Code, stacks and the C library, measured on the static binary.
const BASE: u64 = 4 << 20;
/// A worker's block of struct pages with its classes and a page table for each level.
const WORKER: u64 = 1 << 20;
/// Batches in flight for each worker: the one it fills, the one being committed, and half of one waiting for its turn.
const BATCHES_PER_WORKER: u64 = 2;
/// The stack and the descriptors of a thread that writes one of several files.
const LANE: u64 = 128 << 10;
/// Batches in flight besides.
const SPARE_BATCHES: u64 = 2;

impl Budget {
    /// The largest batch, pages of 4 KiB: one read of at most [`crate::source::MAX_READ`] bytes.
    const LARGEST_BATCH: u64 = 1 << 20;
    const SMALLEST_BATCH: u64 = 64 << 10;
    /// The same where nothing else would do: one thread, a few pages at a time.
    const LAST_BATCH: u64 = 8 << 10;

    /// Fits `threads` into `limit`: smaller batches first, then fewer threads, and at last one thread with tiny batches.
    ///
    /// # Errors
    /// Not even one thread fits; says how much it would take.
    pub fn fit(limit: u64, threads: usize, page_size: u64, needs: Needs) -> Result<Self> {
        let threads = threads.max(1);
        let (smallest, largest) =
            needs.batch.map_or((Self::SMALLEST_BATCH, Self::LARGEST_BATCH), |batch| (batch, batch));
        let last = needs.batch.unwrap_or(Self::LAST_BATCH.max(page_size));
        for threads in (1..=threads).rev() {
            let mut batch = largest;
            while batch >= if threads == 1 { last } else { smallest } {
                if let Some(spare) = limit.checked_sub(Self::total(threads, batch, needs)) {
                    return Ok(Self {
                        limit,
                        threads,
                        batch_pages: (batch / page_size).max(1),
                        spare,
                        lanes: needs.lanes,
                    });
                }
                batch /= 2;
            }
        }
        let least = Self::total(1, last, needs);
        Err(Error::new(Kind::Memory, format!("not enough memory: {} are needed", human_bytes(least)))
            .because(format!("the limit is {}", human_bytes(limit)))
            .next_step(format!(
                "give --memory-limit {}M or more, or reserve more with crashkernel=",
                least.div_ceil(1 << 20)
            )))
    }

    /// Data that the flattened sink collects for a record: almost two batches.
    pub const FLAT_DATA: u64 = 2 << 20;

    /// Makes sure that the limit leaves room for `bytes` that could not be foreseen.
    ///
    /// # Errors
    /// It does not; says how much it would take.
    pub fn require(&self, bytes: u64, what: &str) -> Result<()> {
        if bytes <= self.spare {
            return Ok(());
        }
        let wanted = (self.limit - self.spare).saturating_add(bytes).div_ceil(1 << 20);
        Err(Error::new(Kind::Memory, format!("not enough memory: {what} take {}", human_bytes(bytes)))
            .because(format!("the limit leaves {}", human_bytes(self.spare)))
            .next_step(format!("give --memory-limit {wanted}M or more, or fewer threads (-j)")))
    }

    /// Batches that may be in flight at once.
    #[must_use]
    pub fn buffers(&self) -> usize {
        (self.threads as u64 * BATCHES_PER_WORKER + SPARE_BATCHES + self.lanes.saturating_sub(1)) as usize
    }

    /// Bytes for `threads` workers with batches of `batch` bytes: the batches, and for each worker what it reads into.
    fn total(threads: usize, batch: u64, needs: Needs) -> u64 {
        let threads = threads as u64;
        let others = needs.lanes.saturating_sub(1);
        let batches = (threads * BATCHES_PER_WORKER + SPARE_BATCHES + others) * batch + others * LANE;
        let workers = threads * (WORKER + batch + needs.codec);
        BASE.saturating_add(needs.bitmaps).saturating_add(needs.tables).saturating_add(batches + workers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEEDS: Needs = Needs { bitmaps: 1 << 20, tables: 1 << 20, codec: 1 << 20, batch: None, lanes: 1 };

    #[test]
    fn plenty_of_memory_changes_nothing() {
        let budget = Budget::fit(1 << 30, 8, 4096, NEEDS).unwrap();
        assert_eq!((budget.threads, budget.batch_pages), (8, 256));
    }

    #[test]
    fn batches_shrink_before_threads_go() {
        let budget = Budget::fit(24 << 20, 7, 4096, NEEDS).unwrap();
        assert_eq!(budget.threads, 7);
        assert!(budget.batch_pages < 256);
        let budget = Budget::fit(12 << 20, 64, 4096, NEEDS).unwrap();
        assert!((1..7).contains(&budget.threads));
    }

    #[test]
    fn one_thread_with_tiny_batches_is_tried_before_a_dump_is_refused() {
        let limit = (8 << 20) + (40 << 10);
        let budget = Budget::fit(limit, 4, 4096, NEEDS).unwrap();
        assert_eq!((budget.threads, budget.batch_pages), (1, 2));
        let error = Budget::fit(limit, 4, 4096, Needs { batch: Some(1 << 20), ..NEEDS }).unwrap_err().to_string();
        assert!(error.contains("--memory-limit 13M"), "{error}");
        assert_eq!(Budget::fit(13 << 20, 4, 4096, Needs { batch: Some(1 << 20), ..NEEDS }).unwrap().threads, 1);
    }

    /// 64 TiB: two bitmaps of 2 GiB each; and what no machine has.
    #[test]
    fn the_largest_machines_are_an_error_or_fit() {
        let needs = Needs { bitmaps: 4 << 30, ..NEEDS };
        let error = Budget::fit(64 << 20, 2, 4096, needs).unwrap_err().to_string();
        assert!(error.contains("--memory-limit 4104M"), "{error}");
        assert_eq!(Budget::fit(4104 << 20, 2, 4096, needs).unwrap().threads, 1);
        assert_eq!(Budget::fit(5 << 30, 2, 4096, needs).unwrap().threads, 2);
        for needs in [Needs { bitmaps: u64::MAX, ..NEEDS }, Needs { bitmaps: u64::MAX, tables: u64::MAX, ..NEEDS }] {
            assert!(Budget::fit(u64::MAX - 1, 2, 4096, needs).is_err());
        }
    }

    #[test]
    fn too_little_is_an_error_that_says_how_much() {
        let error = Budget::fit(1 << 20, 2, 4096, NEEDS).unwrap_err();
        assert!(error.to_string().contains("--memory-limit"), "{error}");
    }
}
