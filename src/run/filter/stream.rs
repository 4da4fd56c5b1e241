//! `vdump filter` to formats that are written in one pass: ELF in frames, or to standard output.

use super::{Classified, Outcome, Run};
use crate::{
    bitmap::PageBitmap,
    error::Result,
    format::elf::{FLAG_NONE, encode_headers},
    pipeline::{FrameJob, FramePacker, PackedBatch, in_order},
    plan::{ElfPlan, FRAME},
    sink::{FrameSink, Output, Stream},
};

impl Run<'_> {
    /// Whether the output is an ELF core in compressed frames.
    pub(super) fn in_frames(&self) -> bool {
        self.job.format == crate::cli::Format::Elf && self.job.compression.makes_frames()
    }

    /// The compact ELF core from its first byte to its last, in compressed frames if the codec makes any.
    pub(super) fn write_stream(&self, output: Output, classified: &mut Classified) -> Result<Outcome> {
        let (zero, before) = self.zeros(classified)?;
        let plan = self.elf_plan(classified, &zero)?;
        let front = self.front(&plan);
        classified.kept.subtract(&zero);
        drop(zero);
        let sink = FrameSink::create(Stream::new(output), plan.size, self.in_frames())?;
        let pages = &classified.kept;
        let mut outcome = self.write(Box::new(sink), pages.count(), plan.gap_pages, |commit| {
            self.pack_frames(&plan, &front, pages, 1, commit)
        })?;
        outcome.written = before.and(outcome.written);
        Ok(outcome)
    }

    /// Headers and notes. A stream cannot be patched at its end, so they never say that the dump is incomplete.
    fn front(&self, plan: &ElfPlan) -> Vec<u8> {
        let notes = self.source.notes();
        let mut front = encode_headers(self.source.machine(), FLAG_NONE, (plan.notes, notes.len() as u64), &plan.loads);
        front.resize(plan.notes as usize, 0);
        front.extend_from_slice(notes);
        front
    }

    /// Makes every `step`-th frame on all threads and hands them to `commit` in order.
    pub(super) fn pack_frames(
        &self,
        plan: &ElfPlan,
        front: &[u8],
        pages: &PageBitmap,
        step: usize,
        commit: impl FnMut(&mut PackedBatch) -> Result<()>,
    ) -> Result<()> {
        let (compression, page_shift) = (self.job.compression, self.page_shift);
        let job = FrameJob { plan, front, pages, compression, page_shift };
        let make_worker = || {
            let mut packer = FramePacker::new(job, self.source.reader());
            move |index, out: &mut PackedBatch| packer.pack(index, out)
        };
        let frames = (0..plan.size.div_ceil(FRAME)).step_by(step);
        let buffers = vec![PackedBatch::default(); self.budget.buffers()];
        in_order(&self.pool, frames, buffers, make_worker, || self.progress.stopped(), commit)
    }
}
