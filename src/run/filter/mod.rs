//! `vdump filter`: source, layout, memory, classify, plan, pipeline, sink. `vdump convert` leaves out what is between.

mod addresses;
mod budget;
mod report;
mod stream;

use std::time::Instant;

use rayon::{ThreadPool, ThreadPoolBuilder};
use vdump_filters::{DumpLevel, PageClass};

use super::{Stop, facts, known};
use crate::{
    bitmap::PageBitmap,
    classify::{Classifier, Counts},
    cli::{
        Filter, Format,
        resolve::{Destination, Job},
    },
    error::{Error, Kind, Result},
    layout::{Fact, KernelLayout, VmcoreInfo},
    memory::{MemMap, Problem, Protected, VirtReader},
    pipeline::{Fate, PackedBatch, Packer, find_zeros, in_order},
    plan::{Batches, Budget, ElfPlan},
    report::{Progress, Report, Seconds},
    sink::{ElfSink, KdumpFacts, KdumpSink, LostPage, Output, Pipe, Sink, Target, Written},
    source::{Recorded, Source},
};

pub(super) fn run(filter: &Filter) -> Result<()> {
    let job = Job::resolve(filter)?;
    let source = Source::open_all(&job.inputs)?;
    let stop = Stop::on_signals()?;
    let report = Run::prepare(&job, &source, &stop)?.run()?;
    if job.json {
        let printed = super::print(|out| {
            serde_json::to_writer_pretty(&mut *out, &report)?;
            writeln!(out)
        });
        // The dump is there all the same, and that is what the exit code says.
        if let Err(error) = printed {
            super::complain(&error);
        }
    }
    Ok(())
}

/// What is known about the crashed kernel.
struct Kernel {
    layout: KernelLayout,
    map: MemMap,
    protected: Protected,
}

impl Kernel {
    fn read(source: &Source, info: &VmcoreInfo) -> Result<Self> {
        let layout = KernelLayout::resolve(source, info)?;
        let virt = VirtReader::new(source, layout.paging)
            .ok_or_else(|| Error::input("the dump's architecture is not known"))?;
        let map = MemMap::read(&virt, &layout, source.existing())?;
        let protected = Protected::find(source, info, &layout, &virt);
        Ok(Self { layout, map, protected })
    }

    fn facts(&self) -> impl Iterator<Item = &Fact> {
        self.layout.facts.iter().chain(self.protected.facts())
    }
}

/// One run, after everything that can be refused has been.
struct Run<'a> {
    job: &'a Job,
    source: &'a Source,
    stop: &'a Stop,
    info: Option<VmcoreInfo>,
    kernel: Option<Kernel>,
    page_shift: u32,
    budget: Budget,
    pool: ThreadPool,
    progress: Progress,
    output: Option<Output>,
    warnings: Vec<String>,
    started: Instant,
}

/// What classification found.
struct Classified {
    kept: PageBitmap,
    counts: Counts,
    problems: Vec<Problem>,
    seconds: f64,
}

/// What was written, or would be.
#[derive(Default)]
struct Outcome {
    written: Written,
    bytes: u64,
    gap_pages: u64,
}

impl<'a> Run<'a> {
    fn prepare(job: &'a Job, source: &'a Source, stop: &'a Stop) -> Result<Self> {
        let started = Instant::now();
        let mut info = known::read(source, &job.knowing)?;
        let page_shift = facts::page_shift(source, info.as_ref())?;
        let budget = budget::fit(job, source, page_shift)?;
        let mut warnings = Vec::new();
        if let Some(info) = info.as_mut().filter(|_| !job.keep_all) {
            known::complete(source, info);
            warnings.extend(known::contradictions(info, job.strict)?);
        }
        let kernel = if job.keep_all { None } else { kernel(job.level, source, info.as_ref(), &mut warnings)? };
        let output = output(job, source)?;
        let pool = ThreadPoolBuilder::new()
            .num_threads(budget.threads)
            .build()
            .map_err(|_| Error::new(Kind::Memory, "cannot start threads").next_step("give -j 1"))?;
        if budget.threads < job.threads {
            let (used, wanted) = (budget.threads, job.threads);
            warnings.push(format!("{wanted} threads do not fit the memory limit: {used} used"));
        }
        if let Some(recorded) = source.recorded() {
            warnings.extend(said_before(recorded));
        }
        let progress = Progress::new(job.progress, 1 << page_shift, stop.flag());
        Ok(Self { job, source, stop, info, kernel, page_shift, budget, pool, progress, output, warnings, started })
    }

    fn run(mut self) -> Result<Report> {
        let mut classified = self.classify()?;
        let writing = Instant::now();
        let outcome = match (self.output.take(), self.job.format) {
            (None, _) => self.estimate(&mut classified)?,
            (Some(Output::File(target)), Format::Kdump) => self.write_kdump(target, &classified)?,
            (Some(Output::Pipe(pipe)), Format::Kdump) => self.write_flat(pipe, &classified)?,
            (Some(Output::File(target)), Format::Elf) if !self.in_frames() => {
                self.write_elf(target, &mut classified)?
            }
            (Some(output), Format::Elf) => self.write_stream(output, &mut classified)?,
        };
        self.progress.finish();
        let seconds = Seconds {
            classify: classified.seconds,
            write: writing.elapsed().as_secs_f64(),
            total: self.started.elapsed().as_secs_f64(),
        };
        let report = self.report(&classified, outcome, seconds);
        self.show(&report);
        Ok(report)
    }

    /// The plane of frames to keep.
    fn classify(&mut self) -> Result<Classified> {
        let begun = Instant::now();
        let ram = self.source.ram();
        let mut kept = PageBitmap::new(self.source.existing().max_pfn(self.page_shift));
        for range in ram.pfn_ranges(self.page_shift) {
            kept.fill(range, true);
        }
        let mut counts = Counts::default();
        let mut problems = Vec::new();
        match &self.kernel {
            Some(Kernel { layout, map, protected, .. }) => {
                problems = map.problems();
                let classifier = Classifier { source: self.source, layout, map, protected, level: self.job.level };
                self.progress.start("classify", kept.count());
                counts = self.pool.install(|| classifier.run(kept.as_bytes_mut(), &self.progress));
            }
            None => counts.add(PageClass::Unmapped, kept.count()),
        }
        self.check_interrupted("before anything was written")?;
        if self.job.strict {
            self.check_classified(&counts, &problems)?;
        }
        Ok(Classified { kept, counts, problems, seconds: begun.elapsed().as_secs_f64() })
    }

    /// With `--strict` every frame must have a `struct page` that could be read.
    fn check_classified(&self, counts: &Counts, problems: &[Problem]) -> Result<()> {
        let next = "without --strict they are kept";
        if let Some(Problem { range, cause }) = problems.first() {
            let what = format!("cannot classify the page frames {:#x} to {:#x}", range.start, range.end);
            return Err(Error::input(what).because(cause).next_step(next));
        }
        match counts.of(PageClass::Unmapped) {
            pages @ 1.. if self.kernel.is_some() => {
                Err(Error::input(format!("cannot read the struct pages of {pages} page frames")).next_step(next))
            }
            _ => Ok(()),
        }
    }

    fn write_kdump(&self, target: Target, classified: &Classified) -> Result<Outcome> {
        let facts = self.kdump_facts();
        let ram = self.source.existing().pfn_ranges(self.page_shift);
        let sink = KdumpSink::create(target, &facts, 1 << self.page_shift, ram, &classified.kept)?;
        let pages = &classified.kept;
        self.write(Box::new(sink), pages.count(), 0, |commit| self.pack(pages, 1, commit))
    }

    fn write_elf(&self, target: Target, classified: &mut Classified) -> Result<Outcome> {
        let (zero, before) = self.zeros(classified)?;
        let notes = self.source.notes();
        let plan = self.elf_plan(classified, &zero)?;
        let gap_pages = plan.gap_pages;
        let sink = ElfSink::create(target, plan, self.source.machine(), notes, self.page_shift)?;
        classified.kept.subtract(&zero);
        drop(zero);
        let pages = &classified.kept;
        let mut outcome = self.write(Box::new(sink), pages.count(), gap_pages, |commit| self.pack(pages, 1, commit))?;
        outcome.written = before.and(outcome.written);
        Ok(outcome)
    }

    fn elf_plan(&self, classified: &Classified, zero: &PageBitmap) -> Result<ElfPlan> {
        let notes = self.source.notes().len() as u64;
        let none = PageBitmap::new(if self.job.level.drops_zero() { 0 } else { zero.len() });
        let tails = if self.job.level.drops_zero() { zero } else { &none };
        let loads = addresses::loads(self.source, self.info.as_ref(), self.kernel.as_ref());
        ElfPlan::make(&classified.kept, tails, &loads, notes, self.page_shift)
    }

    /// Finds zero pages beforehand, and pages that cannot be read: those leave the plane of kept ones, since an ELF segment
    /// over them would show zeros. Below the level's zero bit the zeros count, but take room in the file, as holes.
    fn zeros(&self, classified: &mut Classified) -> Result<(PageBitmap, Written)> {
        self.progress.start("zeros", classified.kept.count());
        let (zero, lost) =
            self.pool.install(|| find_zeros(self.source, &mut classified.kept, self.page_shift, &self.progress));
        self.check_interrupted("before anything was written")?;
        let lost_pages: Vec<_> = lost.pages.into_iter().map(|(pfn, cause)| LostPage { pfn, cause }).collect();
        if let Some(page) = lost_pages.first() {
            self.check_lost(page)?;
        }
        let written = Written { zero: zero.count(), stored: 0, lost: lost.count, lost_pages };
        Ok((zero, written))
    }

    /// Runs a pipeline of `total` pages into `sink`.
    fn write(
        &self,
        mut sink: Box<dyn Sink>,
        total: u64,
        gap_pages: u64,
        pipeline: impl FnOnce(&mut dyn FnMut(&mut PackedBatch) -> Result<()>) -> Result<()>,
    ) -> Result<Outcome> {
        self.progress.start("write", total);
        let mut done = 0;
        let result = pipeline(&mut |batch| {
            sink.commit(batch)?;
            if let Some(page) = sink.written().lost_pages.first() {
                self.check_lost(page)?;
            }
            done += batch.pages.len() as u64;
            self.progress.add(batch.pages.len() as u64);
            Ok(())
        });
        let how_far = format!("after {done} of {total} pages");
        let result = result.and_then(|()| {
            // A signal that comes when all is done changes nothing.
            let ended_early = done < total || !sink.is_whole();
            if ended_early { self.check_interrupted(&how_far) } else { self.check_something(sink.written()) }
        });
        match result.and_then(|()| sink.finish()) {
            Ok(bytes) => Ok(Outcome { written: sink.written().clone(), bytes, gap_pages }),
            Err(error) => {
                self.progress.finish();
                Err(self.give_up(sink.as_mut(), error, &how_far))
            }
        }
    }

    /// Ends a dump that cannot be completed. What could be written is worth keeping, unless a person pressed Ctrl-C, asked for
    /// all or nothing, or got nothing.
    fn give_up(&self, sink: &mut dyn Sink, error: Error, how_far: &str) -> Error {
        let keep = match error.kind() {
            Kind::Interrupted => self.stop.keeps_partial(),
            Kind::Input => false,
            _ => true,
        };
        match sink.abandon(keep) {
            Some(partial) => error.or_next_step(format!("{} has what was written {how_far}", partial.display())),
            None if self.job.output == Some(Destination::StandardOutput) => {
                error.or_next_step("what went to standard output so far is no whole dump")
            }
            None => error.or_next_step("no dump was written"),
        }
    }

    /// A dump without a single page is none.
    fn check_something(&self, written: &Written) -> Result<()> {
        let Written { zero, stored, lost, lost_pages } = written;
        match lost_pages.first() {
            Some(page) if *stored == 0 && *zero == 0 => {
                Err(Error::input(format!("cannot read any of {lost} pages of {}", self.source.path().display()))
                    .because(&page.cause)
                    .next_step("the device is failing: copy what can be read elsewhere first"))
            }
            _ => Ok(()),
        }
    }

    /// Packs every `step`-th batch of `pages` on all threads and hands the batches to `commit` in order.
    fn pack(&self, pages: &PageBitmap, step: usize, commit: impl FnMut(&mut PackedBatch) -> Result<()>) -> Result<()> {
        let make_worker = || {
            let mut packer = Packer::new(self.source.reader(), self.job.compression.codec(), self.page_shift);
            move |batch, out: &mut PackedBatch| packer.pack(&batch, out)
        };
        let batches = Batches::new(pages, self.budget.batch_pages).step_by(step);
        let buffers = vec![PackedBatch::default(); self.budget.buffers()];
        in_order(&self.pool, batches, buffers, make_worker, || self.progress.stopped(), commit)
    }

    /// A dry run: finds the zeros, compresses a sample, and says how large the dump would be.
    fn estimate(&self, classified: &mut Classified) -> Result<Outcome> {
        /// Pages compressed for the estimate: 64 MiB of 4 KiB pages, spread evenly.
        const SAMPLE: u64 = 16 << 10;
        let (zero, mut written) = self.zeros(classified)?;
        let plan = match self.job.format {
            Format::Kdump => None,
            Format::Elf => Some(self.elf_plan(classified, &zero)?),
        };
        let mut stored = classified.kept.clone();
        stored.subtract(&zero);
        let pages = stored.count();
        let (mut sampled, mut packed) = (0u64, 0u64);
        self.progress.start("sample", pages.min(SAMPLE));
        let step = (pages / SAMPLE + 1) as usize;
        let commit = |batch: &mut PackedBatch| {
            let count = batch.pages.iter().filter(|page| matches!(page.fate, Fate::Stored { .. })).count() as u64;
            sampled += count;
            packed += batch.data.len() as u64;
            self.progress.add(count);
            Ok(())
        };
        match &plan {
            Some(plan) if self.in_frames() => self.pack_frames(plan, &[], &stored, step, commit)?,
            // Plain ELF is as large as its plan.
            Some(_) => {}
            None => self.pack(&stored, step, commit)?,
        }
        self.check_interrupted("in a dry run: nothing was to be written")?;
        let data = if sampled == 0 { 0 } else { (packed as f64 / sampled as f64 * pages as f64) as u64 };
        let notes = self.source.notes().len() as u64;
        written.stored = pages;
        let (bytes, gap_pages) = match plan {
            None => {
                use crate::format::diskdump::Areas;
                let areas = Areas::place(1 << self.page_shift, notes, stored.len(), pages + written.zero);
                (areas.map_or(0, |areas| areas.data) + data, 0)
            }
            Some(plan) if self.in_frames() => (plan.notes + notes + data, plan.gap_pages),
            Some(plan) => (plan.size, plan.gap_pages),
        };
        Ok(Outcome { written, bytes, gap_pages })
    }

    fn kdump_facts(&self) -> KdumpFacts {
        let (info, recorded) = (self.info.as_ref(), self.source.recorded());
        let phys_base = self.kernel.as_ref().map(|kernel| kernel.layout.paging.phys_base);
        let saved = self.source.saved_cpus() as u32;
        KdumpFacts {
            utsname: facts::utsname(self.source, info),
            crash_time: facts::crash_time(self.source, info).unwrap_or(0),
            phys_base: phys_base.or_else(|| recorded?.phys_base).unwrap_or(0),
            level: recorded.and_then(|recorded| left_out_before(recorded, self.job.level)).unwrap_or(self.job.level),
            codec_flags: self.job.compression.codec().flags(),
            cpus: if saved > 0 { saved } else { recorded.map_or(0, |recorded| recorded.cpus) },
            notes: self.source.notes().to_vec(),
            vmcoreinfo: self.source.vmcoreinfo().map(|(offset, text)| (offset, text.len())),
        }
    }

    fn check_interrupted(&self, how_far: &str) -> Result<()> {
        match self.stop.signal() {
            Some(signal) => {
                self.progress.finish();
                Err(Error::new(Kind::Interrupted, format!("stopped by {signal} {how_far}")))
            }
            None => Ok(()),
        }
    }

    fn check_lost(&self, page: &LostPage) -> Result<()> {
        if !self.job.strict {
            return Ok(());
        }
        Err(Error::input(format!("cannot read page {:#x} of {}", page.pfn, self.source.path().display()))
            .because(&page.cause)
            .next_step("without --strict the page is left out"))
    }
}

/// What the input's own writer left out, and the output cannot say.
fn said_before(recorded: &Recorded) -> impl Iterator<Item = String> {
    let incomplete = "the input is incomplete: pages that it lost are missing in the output too".to_owned();
    let erased =
        "the input lists data that was erased on purpose; the output has the same gaps without the list".to_owned();
    recorded.incomplete.then_some(incomplete).into_iter().chain(recorded.erased.then_some(erased))
}

/// The level that says what is missing in the output: what was left out before is still missing.
fn left_out_before(recorded: &Recorded, level: DumpLevel) -> Option<DumpLevel> {
    let bits = u8::try_from(recorded.dump_level).ok()? & DumpLevel::MAX.bits();
    DumpLevel::new(bits | level.bits()).ok()
}

fn output(job: &Job, source: &Source) -> Result<Option<Output>> {
    Ok(match &job.output {
        None => None,
        Some(Destination::StandardOutput) => Some(Output::Pipe(Pipe::standard_output()?)),
        Some(Destination::File(name)) => Some(Output::File(Target::create(name, job.force, source.opened())?)),
    })
}

/// Knowledge about the kernel: levels 0 and 1 do without, but then cannot skip poisoned and offline pages.
fn kernel(
    level: DumpLevel,
    source: &Source,
    info: Option<&VmcoreInfo>,
    warnings: &mut Vec<String>,
) -> Result<Option<Kernel>> {
    let found = match info {
        Some(info) => Kernel::read(source, info),
        None => Err(facts::no_vmcoreinfo(source)
            .because("so the kernel's structures cannot be found")
            .next_step("dump with -d 0 or -d 1, which need no knowledge of the kernel")),
    };
    match found {
        Ok(kernel) => Ok(Some(kernel)),
        Err(error) if level.needs_classes() => Err(error),
        Err(error) => {
            warnings.push(format!("poisoned and offline pages are not left out: {error}"));
            Ok(None)
        }
    }
}
