//! From the kept frames to a whole dump, or to one that ended early: batches through the pipeline into a sink.
//!
//! Knows which sink takes what, and what stays of a dump that cannot be completed. Must not ask what pages are. Gives an
//! [`Outcome`] to the report.

use std::path::PathBuf;

use object::elf::FileFlags;
use vdump_filters::DumpLevel;

use super::{Classified, Outcome, Run};
use crate::{
    bitmap::PageBitmap,
    cli::resolve::Destination,
    error::{Error, Kind, Result},
    format::elf::{FLAG_INCOMPLETE, FLAG_NONE},
    kernel,
    pipeline::{Copier, Packed, PackedBatch, Packer, find_zeros, in_order},
    plan::{Batch, Batches, Budget, ElfPlan},
    sink::{ElfSink, KdumpFacts, KdumpSink, LostPage, Medium, Order, Sink, Written},
    source::Recorded,
};

/// One thread's part of the work.
enum Worker<'a> {
    Packs(Packer<'a>),
    Copies(Copier<'a>),
}

/// A dump that a signal ends stays if it has one of so many pages.
const WORTH_KEEPING: u64 = 10;

/// What stays of a dump that cannot be completed.
pub(super) enum Left {
    /// Nothing under any name.
    Nothing,
    /// What was written, if the flag is set or it lies under a name that the caller chose.
    Written(bool),
}

impl Run<'_> {
    pub(super) fn write_kdump(&self, medium: Box<dyn Medium>, classified: &Classified) -> Result<Outcome> {
        let pages = &classified.kept;
        if medium.order() != Order::Any {
            let needed = pages.count().saturating_mul(KdumpSink::STREAMED_PAGE_BYTES) + Budget::FLAT_DATA;
            self.budget.require(needed, "the descriptors of a dump on standard output, which come last,")?;
        }
        let ram = self.source.existing().pfn_ranges(self.page_shift);
        let sink = KdumpSink::create(medium, &self.kdump_facts(), 1 << self.page_shift, ram, pages)?;
        self.write(Box::new(sink), pages.count(), 0, |commit| self.pack(pages, 1, commit))
    }

    pub(super) fn write_elf(&self, medium: Box<dyn Medium>, classified: &mut Classified) -> Result<Outcome> {
        let cannot = |_| Error::unexpected("the headers of this ELF core cannot be written again");
        let file = medium.into_random().map_err(cannot)?;
        let mut zero = self.bitmaps.bitmap(classified.kept.len())?;
        let before = self.zeros(classified, Some(&mut zero))?;
        let notes = self.elf_notes();
        let plan = self.elf_plan(classified, &zero)?;
        self.check_plan(&plan, &before)?;
        let (gap_pages, mapped, widened) = (plan.gap_pages, plan.mapped, plan.class != self.source.class());
        let flags = self.elf_flags(&before);
        let sink = ElfSink::create(file, plan, self.source.machine(), &notes, self.page_shift, flags)?;
        classified.kept.subtract(&zero);
        drop(zero);
        let pages = &classified.kept;
        let mut outcome = self.write(Box::new(sink), pages.count(), gap_pages, |commit| self.pack(pages, 1, commit))?;
        outcome.written = before.and(outcome.written);
        (outcome.mapped, outcome.widened) = (mapped, widened);
        Ok(outcome)
    }

    /// `e_flags` of an ELF dump, with what was found out `before` its first byte.
    pub(super) fn elf_flags(&self, before: &Written) -> FileFlags {
        if self.source.is_incomplete() || before.lost > 0 { FLAG_INCOMPLETE } else { FLAG_NONE }
    }

    pub(super) fn elf_plan(&self, classified: &Classified, zero: &PageBitmap) -> Result<ElfPlan> {
        let notes = self.elf_notes().len();
        let none = PageBitmap::new(0);
        let tails = if self.drop.drops_zero() { zero } else { &none };
        let loads = kernel::segments(self.source, self.info.as_ref(), self.kernel.as_ref());
        let mut plan = ElfPlan::make(&classified.kept, tails, &loads, notes, self.page_shift, self.source.class())?;
        if let Some(space) = &self.space {
            self.map_virtual(space, &loads, &classified.kept, &mut plan)?;
        }
        Ok(plan)
    }

    /// Finds zero pages beforehand, and pages that cannot be read: those leave the bitmap of kept ones, since an ELF segment
    /// over them would show zeros. Below the level's zero bit the zeros count, but take room in the file, as holes. Without a
    /// bitmap for them the zeros leave that of the kept ones.
    pub(super) fn zeros(&self, classified: &mut Classified, zero: Option<&mut PageBitmap>) -> Result<Written> {
        self.progress.start("zeros", classified.kept.count());
        let (kept, from) = (&mut classified.kept, (self.source, &self.redaction.mask));
        let (zero, lost) = self.pool.install(|| find_zeros(from, kept, zero, self.page_shift, &self.progress));
        self.check_interrupted("before anything was written")?;
        let lost_pages: Vec<_> = lost.pages.into_iter().map(|(pfn, cause)| LostPage { pfn, cause }).collect();
        if let Some(page) = lost_pages.first() {
            self.check_lost(page)?;
        }
        Ok(Written { zero, stored: 0, lost: lost.count, lost_pages })
    }

    /// Runs a pipeline of `total` pages into `sink`.
    pub(super) fn write<B: Packed>(
        &self,
        mut sink: Box<dyn Sink<B> + '_>,
        total: u64,
        gap_pages: u64,
        pipeline: impl FnOnce(&mut dyn FnMut(&mut B) -> Result<()>) -> Result<()>,
    ) -> Result<Outcome> {
        self.progress.start("write", total);
        let mut done = 0;
        let result = pipeline(&mut |batch| {
            sink.commit(batch)?;
            if let Some(page) = sink.written().lost_pages.first() {
                self.check_lost(page)?;
            }
            done += batch.pages().len() as u64;
            self.progress.add(batch.pages().len() as u64);
            Ok(())
        });
        let how_far = format!("after {done} of {total} pages");
        let result = self.told_how_far(result, &how_far).and_then(|()| {
            // A signal that comes when all is done changes nothing.
            let ended_early = done < total || !sink.is_whole();
            if ended_early { self.check_interrupted(&how_far) } else { self.check_something(sink.written()) }
        });
        match result.and_then(|()| sink.finish()) {
            Ok(bytes) => {
                let (written, remarks) = (sink.written().clone(), sink.remarks());
                Ok(Outcome { written, bytes, gap_pages, remarks, ..Outcome::default() })
            }
            Err(error) => {
                self.progress.finish();
                Err(self.give_up(sink.as_mut(), error, (done, total), &how_far))
            }
        }
    }

    /// Ends a dump that cannot be completed.
    fn give_up<B>(&self, sink: &mut dyn Sink<B>, error: Error, progress: (u64, u64), how_far: &str) -> Error {
        match self.left_by(&error, progress) {
            Left::Nothing => {
                sink.discard();
                if self.tries_next(&error) { error } else { self.explained(error, &[], how_far) }
            }
            Left::Written(keep) => self.explained(error, sink.abandon(keep).as_slice(), how_far),
        }
    }

    /// A signal that ended a wait of the sink is told as one that came at any other time.
    pub(super) fn told_how_far(&self, result: Result<()>, how_far: &str) -> Result<()> {
        result.map_err(|error| match error.kind() {
            Kind::Interrupted(signal) => Error::stopped(signal, how_far),
            _ => error,
        })
    }

    /// Whether another level is tried, of which less may do.
    pub(super) fn tries_next(&self, error: &Error) -> bool {
        error.kind() == Kind::NoSpace && !self.job.next_levels.is_empty()
    }

    /// What stays when `done` of `total` pages are written. What could be written is worth keeping, unless somebody stopped
    /// the run before a tenth of it, asked for all or nothing, or got nothing; or a higher level is tried next.
    pub(super) fn left_by(&self, error: &Error, (done, total): (u64, u64)) -> Left {
        match error.kind() {
            _ if self.tries_next(error) => Left::Nothing,
            // A file without a page, under whatever name, is only in the way.
            _ if done == 0 && total > 0 => Left::Nothing,
            Kind::Interrupted(_) => Left::Written(done >= total.div_ceil(WORTH_KEEPING)),
            Kind::Input => Left::Written(false),
            _ => Left::Written(true),
        }
    }

    /// Says where what stays is.
    pub(super) fn explained(&self, error: Error, partial: &[PathBuf], how_far: &str) -> Error {
        let names: Vec<_> = partial.iter().map(|path| path.display().to_string()).collect();
        let error = error.leaving(partial);
        let advice = match error.kind() {
            Kind::NoSpace if self.job.copy => "; give it more room",
            Kind::NoSpace if self.job.keep_all => "; give it more room, or compress it more (--compress)",
            Kind::NoSpace => "; give it more room, or make a smaller dump (--dump-level, --compress)",
            _ => "",
        };
        match names.as_slice() {
            [name] => error.or_next_step(format!("{name} has what was written {how_far}{advice}")),
            [_, ..] => error.or_next_step(format!("{} have what was written {how_far}{advice}", names.join(", "))),
            [] if self.job.output == Some(Destination::StandardOutput) => {
                error.or_next_step("what went to standard output so far is no whole dump")
            }
            [] => error.or_next_step("no dump was written"),
        }
    }

    /// A dump without a single page is none.
    pub(super) fn check_something(&self, written: &Written) -> Result<()> {
        if written.stored == 0 && written.zero == 0 { self.check_any(written) } else { Ok(()) }
    }

    /// An ELF core without a segment is refused by every reader.
    pub(super) fn check_plan(&self, plan: &ElfPlan, before: &Written) -> Result<()> {
        if !plan.loads.is_empty() {
            return Ok(());
        }
        self.check_any(before)?;
        Err(Error::input("the dump would have no page")
            .because("everything that the input has is excluded")
            .next_step("choose a lower dump level or drop less"))
    }

    /// Says why nothing is left of what was to be dumped.
    fn check_any(&self, written: &Written) -> Result<()> {
        let Some(page) = written.lost_pages.first() else { return Ok(()) };
        let next = if self.source.recorded().is_some() {
            "the dump is damaged: copy it again; 'vdump check' lists what is broken in it"
        } else {
            "its device is failing, or the file has been cut since it was opened: copy what can be read elsewhere first"
        };
        let path = self.source.path().display();
        let what = match written.lost {
            1 => format!("cannot read the only page of {path}"),
            lost => format!("cannot read any of {lost} pages of {path}"),
        };
        Err(Error::input(what).because(&page.cause).next_step(next))
    }

    /// A worker that reads and compresses batches, or copies them.
    pub(super) fn packer(&self) -> impl FnMut(Batch, &mut PackedBatch) {
        let mut worker = match self.source.stored_pages().filter(|_| self.job.copy) {
            Some(stored) => Worker::Copies(Copier::new(stored, self.source.ram(), self.page_shift, self.job.strict)),
            None => {
                let codec = self.job.compression.codec();
                Worker::Packs(Packer::new(self.source.output_reader(&self.redaction.mask), codec, self.page_shift))
            }
        };
        move |batch, out| match &mut worker {
            Worker::Packs(packer) => packer.pack(&batch, out),
            Worker::Copies(copier) => copier.copy(&batch, out),
        }
    }

    /// Packs every `step`-th batch of `pages` on all threads and hands the batches to `commit` in order.
    pub(super) fn pack(
        &self,
        pages: &PageBitmap,
        step: usize,
        commit: impl FnMut(&mut PackedBatch) -> Result<()>,
    ) -> Result<()> {
        let batches = Batches::new(pages, self.budget.batch_pages).step_by(step);
        let buffers = vec![PackedBatch::default(); self.budget.buffers()];
        in_order(&self.pool, batches, buffers, || self.packer(), || self.progress.stopped(), commit)
    }

    /// The level that says what is missing in the output: at least all that is dropped, and what was excluded before.
    pub(super) fn recorded_level(&self) -> DumpLevel {
        let level = self.drop.recorded(self.job.level);
        self.source.recorded().and_then(|recorded| excluded_before(recorded, level)).unwrap_or(level)
    }

    pub(super) fn kdump_facts(&self) -> KdumpFacts<'_> {
        let (info, recorded) = (self.info.as_ref(), self.source.recorded());
        let phys_base = self.kernel.as_ref().map(|kernel| kernel.layout.space.phys_base());
        let saved = self.source.saved_cpus() as u32;
        let copied = recorded.filter(|_| self.job.copy);
        KdumpFacts {
            // What is copied keeps its header.
            utsname: copied
                .map_or_else(|| kernel::utsname(self.source, info, self.mask()), |recorded| recorded.utsname),
            crash_time: copied
                .map_or_else(|| kernel::crash_time(self.source, info).unwrap_or(0), |recorded| recorded.crash_time),
            phys_base: phys_base.or_else(|| recorded?.phys_base).unwrap_or(0),
            level: self.recorded_level(),
            codec_flags: copied.map_or_else(|| self.job.compression.codec().flags(), |recorded| recorded.codec_flags),
            cpus: if saved > 0 && copied.is_none() { saved } else { recorded.map_or(0, |recorded| recorded.cpus) },
            notes: self.output_notes(self.source.all_notes().clone()),
            erased: self.erased(),
            partial: self.source.is_incomplete(),
            vmcoreinfo: (self.source.vmcoreinfo())
                .map(|(offset, text)| (self.source.all_notes().place(offset), text.len() as u64)),
        }
    }
}

/// `level` with what the dump's own level excluded.
fn excluded_before(recorded: &Recorded, level: DumpLevel) -> Option<DumpLevel> {
    let bits = u8::try_from(recorded.dump_level).ok()? & DumpLevel::MAX.bits();
    DumpLevel::new(bits | level.bits()).ok()
}
