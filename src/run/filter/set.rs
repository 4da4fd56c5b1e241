//! `vdump filter` to a split set: several files at once.
//!
//! Knows how to share the pages out before any is written. Must not know what a part looks like: that is the sink's.

use std::{
    iter,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
};

use vdump_filters::PfnRange;

use super::{Classified, Outcome, Run, write::Left};
use crate::{
    bitmap::PageBitmap,
    cli::resolve::Destination,
    error::{Error, Kind, Result},
    pipeline::{PackedBatch, in_lanes, in_order},
    plan::{Batch, Batches, Density, SHARE_FRAMES, shares},
    report::PartLine,
    sink::{KdumpPart, KdumpSet, RandomWrites},
};

/// Pages compressed to see where the bytes lie: 64 MiB of 4 KiB pages at most, spread evenly.
const SAMPLE: u64 = 16 << 10;
/// Neighbours among them. Not the batches' size: that depends on the threads, and the output must not.
const SAMPLE_RUN: u64 = 16;

impl Run<'_> {
    /// All parts at once, each by a thread of its own.
    pub(super) fn write_set(&self, files: Vec<Box<dyn RandomWrites>>, classified: &Classified) -> Result<Outcome> {
        let pages = &classified.kept;
        let shares = self.shares(pages, files.len())?;
        let ram = || self.source.existing().pfn_ranges(self.page_shift);
        let facts = self.kdump_facts();
        let mut set = KdumpSet::create(files, &shares, &facts, 1 << self.page_shift, ram, pages)?;
        let total = pages.count();
        self.progress.start("write", total);
        let done = AtomicU64::new(0);
        let result = self.write_parts(&mut set, &shares, pages, &done);
        let done = done.into_inner();
        let how_far = format!("after {done} of {total} pages");
        let result = self.told_how_far(result, &how_far).and_then(|()| {
            if done < total { self.check_interrupted(&how_far) } else { self.check_something(&set.written()) }
        });
        match result.and_then(|()| self.pool.install(|| set.finish())) {
            Ok(sizes) => {
                let written = set.written();
                let lines = self.job.output.iter().flat_map(Destination::files).zip(sizes.iter().zip(&shares));
                let parts = lines.map(|(name, (bytes, share))| PartLine {
                    name: name.display().to_string(),
                    bytes: *bytes,
                    start_pfn: share.start,
                    end_pfn: share.end,
                });
                let bytes = sizes.iter().sum();
                Ok(Outcome { written, bytes, parts: parts.collect(), remarks: set.remarks(), ..Outcome::default() })
            }
            Err(error) => {
                self.progress.finish();
                Err(match self.left_by(&error, (done, total)) {
                    Left::Nothing => {
                        set.discard();
                        if self.tries_next(&error) { error } else { self.explained(error, &[], &how_far) }
                    }
                    Left::Written(keep) => self.explained(error, &set.abandon(keep), &how_far),
                })
            }
        }
    }

    /// The frames of each part.
    fn shares(&self, pages: &PageBitmap, count: usize) -> Result<Vec<PfnRange>> {
        let samples = self.sample(pages)?;
        shares(pages, &samples, count).ok_or_else(|| {
            let frames = pages.len();
            Error::new(Kind::Usage, format!("cannot split the dump into {count} parts"))
                .because(format!("it has {frames} page frames, and a part has {SHARE_FRAMES} at least"))
                .next_step("write fewer parts, or one dump")
        })
    }

    /// How much pages take here and there.
    fn sample(&self, pages: &PageBitmap) -> Result<Vec<Density>> {
        let step = (pages.count() / SAMPLE + 1) as usize;
        self.progress.start("sample", pages.count().min(SAMPLE));
        let mut samples = Vec::new();
        let batches = Batches::new(pages, SAMPLE_RUN).step_by(step);
        let buffers = vec![PackedBatch::default(); self.budget.buffers()];
        in_order(
            &self.pool,
            batches,
            buffers,
            || self.packer(),
            || self.progress.stopped(),
            |batch| {
                if let Some(first) = batch.pages.first() {
                    let page_bytes = (batch.data.len() / batch.pages.len()) as u64;
                    samples.push(Density { start: first.pfn, page_bytes });
                    self.progress.add(batch.pages.len() as u64);
                }
                Ok(())
            },
        )?;
        self.check_interrupted("before anything was written")?;
        Ok(samples)
    }

    /// Writes each part's pages. A part that fails is left behind, and the others go on: what they save is saved. Not so where
    /// nobody wants a dump without it.
    fn write_parts(&self, set: &mut KdumpSet, shares: &[PfnRange], pages: &PageBitmap, done: &AtomicU64) -> Result<()> {
        let failed: Vec<_> = shares.iter().map(|_| AtomicBool::new(false)).collect();
        let ended = AtomicBool::new(false);
        // A set is never written without them.
        let lanes = self.lanes.as_ref().unwrap_or(&self.pool);
        let commit = |sink: &mut KdumpPart, batch: &PackedBatch| {
            sink.commit(batch)?;
            if let Some(page) = sink.written().lost_pages.first() {
                self.check_lost(page)?;
            }
            done.fetch_add(batch.pages.len() as u64, Relaxed);
            self.progress.add(batch.pages.len() as u64);
            Ok(())
        };
        let commits = set.parts().iter_mut().zip(&failed).map(|(sink, failed)| {
            let (commit, ended) = (&commit, &ended);
            move |batch: &mut PackedBatch| {
                commit(sink, batch).inspect_err(|error: &Error| {
                    failed.store(true, Relaxed);
                    let useless = error.kind() == Kind::Input || self.tries_next(error);
                    ended.fetch_or(useless, Relaxed);
                })
            }
        });
        let batches = shares.iter().map(|share| Batches::within(pages, *share, self.budget.batch_pages)).collect();
        let jobs = in_turns(batches, |lane| failed[lane].load(Relaxed));
        let buffers = vec![PackedBatch::default(); self.budget.buffers()];
        let stop = || self.progress.stopped() || ended.load(Relaxed);
        let results = in_lanes((&self.pool, lanes), jobs, buffers, || self.packer(), stop, commits.collect());
        results.into_iter().collect()
    }
}

/// A batch of each part, then the next of each; none for parts that have `failed`.
fn in_turns<'a>(
    batches: Vec<Batches<'a>>,
    failed: impl Fn(usize) -> bool + Send + 'a,
) -> impl Iterator<Item = (usize, Batch)> + Send + 'a {
    let mut parts: std::collections::VecDeque<_> = batches.into_iter().enumerate().collect();
    iter::from_fn(move || {
        loop {
            let (lane, mut batches) = parts.pop_front()?;
            if failed(lane) {
                continue;
            }
            if let Some(batch) = batches.next() {
                parts.push_back((lane, batches));
                return Some((lane, batch));
            }
        }
    })
}
