//! `--dry-run`: how large would the dump be.
//!
//! Knows how to pack a sample. Must not write. The estimate goes to the report.

use super::{Classified, Outcome, Run};
use crate::{
    cli::resolve::Container,
    error::{Error, Kind, Result},
    pipeline::{Fate, PackedFrame, PackedPage},
    report::human_bytes,
    source::OutputNotes,
};

impl Run<'_> {
    /// A dry run: finds the zeros, compresses a sample, and says how large the dump would be.
    pub(super) fn estimate(&self, classified: &mut Classified) -> Result<Outcome> {
        /// Pages compressed for the estimate: 64 MiB of 4 KiB pages, spread evenly.
        const SAMPLE: u64 = 16 << 10;
        let (plan, mut written) = match self.job.container {
            Container::Kdump => (None, self.zeros(classified, None)?),
            Container::Elf | Container::ElfStream { .. } => {
                let mut zero = self.bitmaps.bitmap(classified.kept.len())?;
                let written = self.zeros(classified, Some(&mut zero))?;
                let plan = self.elf_plan(classified, &zero)?;
                self.check_plan(&plan, &written)?;
                classified.kept.subtract(&zero);
                (Some(plan), written)
            }
        };
        let stored = &classified.kept;
        let pages = stored.count();
        let (mut sampled, mut packed) = (0u64, 0u64);
        self.progress.start("sample", pages.min(SAMPLE));
        let step = (pages / SAMPLE + 1) as usize;
        let in_frames = self.job.container == Container::ElfStream { frames: true };
        let mut add = |pages: &[PackedPage], data: &[u8]| {
            let count = pages.iter().filter(|page| matches!(page.fate, Fate::Stored { .. })).count() as u64;
            sampled += count;
            packed += data.len() as u64;
            self.progress.add(count);
            Ok(())
        };
        match &plan {
            Some(plan) if in_frames => {
                let commit = |frame: &mut PackedFrame| add(&frame.pages, &frame.data);
                self.pack_frames(plan, (&[], &OutputNotes::default()), stored, step, commit)?;
            }
            // Plain ELF is as large as its plan.
            Some(_) => {}
            None => self.pack(stored, step, |batch| add(&batch.pages, &batch.data))?,
        }
        self.check_interrupted("in a dry run: nothing was to be written")?;
        let data = if sampled == 0 { 0 } else { (packed as f64 / sampled as f64 * pages as f64) as u64 };
        let notes = self.elf_notes().len();
        written.stored = pages;
        let mapped = plan.as_ref().and_then(|plan| plan.mapped);
        let (bytes, gap_pages) = match plan {
            None => {
                use crate::format::diskdump::Areas;
                let areas = Areas::place(1 << self.page_shift, notes, stored.len(), pages + written.zero);
                // Each part has headers, notes and bitmaps of its own.
                let fronts = areas.map_or(0, |areas| areas.data + areas.descs * (self.job.parts as u64 - 1));
                (fronts + data, 0)
            }
            Some(plan) if in_frames => (plan.notes + notes + data, plan.gap_pages),
            Some(plan) => (plan.size, plan.gap_pages),
        };
        self.check_fits(bytes)?;
        Ok(Outcome { written, bytes, gap_pages, mapped, ..Outcome::default() })
    }

    /// A dump that would be too large, where there is a level to try instead.
    fn check_fits(&self, bytes: u64) -> Result<()> {
        match self.too_large(bytes) {
            Some(cause) if !self.job.next_levels.is_empty() => {
                Err(Error::new(Kind::NoSpace, "the dump would not fit").because(cause))
            }
            _ => Ok(()),
        }
    }

    /// Why a dump of about so many bytes would end early.
    pub(super) fn too_large(&self, bytes: u64) -> Option<String> {
        let each = bytes.div_ceil(self.job.parts.max(1) as u64);
        let limit = self.job.limit.filter(|limit| each > *limit)?;
        Some(format!("a file would have about {}, and the limit is {limit} bytes", human_bytes(each)))
    }
}
