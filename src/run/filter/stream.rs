//! `vdump filter` to an ELF core that is written from its first byte to its last: in frames, or on standard output.

use super::{Classified, Outcome, Run};
use crate::{
    bitmap::PageBitmap,
    error::Result,
    format::elf::{Head, encode_headers},
    pipeline::{FramePacker, PackedFrame, in_order},
    plan::{ElfPlan, FRAME, PlannedElf},
    sink::{FrameSink, Medium, Written},
    source::OutputNotes,
};

impl Run<'_> {
    /// The compact ELF core from its first byte to its last, in compressed frames if the codec makes any.
    pub(super) fn write_stream(
        &self,
        medium: Box<dyn Medium>,
        frames: bool,
        classified: &mut Classified,
    ) -> Result<Outcome> {
        let mut zero = self.bitmaps.bitmap(classified.kept.len())?;
        let before = self.zeros(classified, Some(&mut zero))?;
        let plan = self.elf_plan(classified, &zero)?;
        self.check_plan(&plan, &before)?;
        let (front, notes) = (self.front(&plan, &before), self.elf_notes());
        classified.kept.subtract(&zero);
        drop(zero);
        let sink = FrameSink::create(medium, plan.size, frames)?;
        let pages = &classified.kept;
        let mut outcome = self.write(Box::new(sink), pages.count(), plan.gap_pages, |commit| {
            self.pack_frames(&plan, (&front, &notes), pages, 1, commit)
        })?;
        outcome.written = before.and(outcome.written);
        (outcome.mapped, outcome.widened) = (plan.mapped, plan.class != self.source.class());
        Ok(outcome)
    }

    /// Headers. A stream cannot be patched at its end, so they say that the dump is incomplete only if the input is, or pages
    /// were lost `before`.
    fn front(&self, plan: &ElfPlan, before: &Written) -> Vec<u8> {
        let (machine, flags) = (self.source.machine(), self.elf_flags(before));
        let notes = (plan.notes, self.elf_notes().len());
        encode_headers(&Head { class: plan.class, machine, flags, planned: 0, notes }, &plan.loads)
    }

    /// Makes every `step`-th frame on all threads and hands them to `commit` in order.
    pub(super) fn pack_frames(
        &self,
        plan: &ElfPlan,
        (front, notes): (&[u8], &OutputNotes<'_>),
        pages: &PageBitmap,
        step: usize,
        commit: impl FnMut(&mut PackedFrame) -> Result<()>,
    ) -> Result<()> {
        let (source, mask, page_shift) = (self.source, &self.redaction.mask, self.page_shift);
        let elf = PlannedElf { plan, front, notes, pages, source, mask, page_shift };
        let make_worker = || {
            let mut packer = FramePacker::new(elf, self.job.compression);
            move |index, out: &mut PackedFrame| packer.pack(index, out)
        };
        let frames = (0..plan.size.div_ceil(FRAME)).step_by(step);
        let buffers = vec![PackedFrame::default(); self.budget.buffers()];
        in_order(&self.pool, frames, buffers, make_worker, || self.progress.stopped(), commit)
    }
}
