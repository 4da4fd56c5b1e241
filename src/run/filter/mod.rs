//! `vdump filter`: source, layout, memory, classify, plan, pipeline, sink. `vdump convert` leaves out what is between.

pub(super) mod budget;
mod estimate;
mod picks;
mod prepare;
mod redaction;
mod report;
mod self_check;
mod set;
mod stream;
mod tasks;
mod virtual_memory;
mod write;

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Instant,
};

use rayon::ThreadPool;
use vdump_filters::Selection;

use super::Stop;
use crate::{
    arch::AddressSpace,
    bitmap::{Bitmaps, PageBitmap},
    classify::{Check, Counts},
    cli::{
        Filter,
        resolve::{self, Container, Job},
    },
    error::{Error, Kind, Result},
    kernel::{self, Kernel},
    layout::VmcoreInfo,
    memory::Problem,
    plan::{Budget, Mapped},
    redact::Redaction,
    report::{Head, PartLine, Progress, RedactionLine, Report, Seconds},
    sink::{LostPage, Written},
    source::Source,
};

use picks::Chosen;
use prepare::Place;

pub(super) fn run(filter: &Filter) -> Result<()> {
    let job = Job::resolve(filter)?;
    let source = if job.asks_kernel() { kernel::open(&job.input) } else { kernel::open_unasked(&job.input) }?;
    if job.show_vmcoreinfo {
        super::facts::show_vmcoreinfo(&source);
    }
    let stop = super::stop_on_signals()?;
    let report = until_it_fits(job, &source, &stop)?;
    if filter.output_args.report.json {
        // The dump is there all the same, and that is what the exit code says.
        if let Err(error) = super::print_json(&head(filter), &report) {
            super::complain(&error);
        }
    }
    Ok(())
}

/// The head of the report, as JSON.
fn head(filter: &Filter) -> Head {
    let command = match filter {
        Filter { copy: true, .. } => "merge",
        Filter { keep_all: true, .. } => "convert",
        _ => "filter",
    };
    Head::new(command, resolve::told_apart(filter).map_or(filter.files.as_slice(), |(inputs, _)| inputs))
}

/// The same where JSON was asked for and can be printed: not where standard output is the dump's.
pub(super) fn json_head(filter: &Filter) -> Option<Head> {
    let is_stdout = filter.files.last().is_some_and(|output| output.as_os_str() == "-");
    filter.output_args.report.json.then(|| head(filter)).filter(|_| !is_stdout)
}

/// Runs at the first level, and where the dump does not fit at the next ones.
fn until_it_fits(mut job: Job, source: &Source, stop: &Stop) -> Result<Report> {
    loop {
        let error = match Run::prepare(&job, source, stop).and_then(Run::run) {
            Err(error) if error.kind() == Kind::NoSpace && !job.next_levels.is_empty() => error,
            ended => return ended,
        };
        let next = job.next_levels.remove(0);
        let tried = format!("with dump level {}: {error}; trying level {}", job.level.bits(), next.bits());
        super::note(&tried);
        job.tried.push(tried);
        job.level = next;
    }
}

/// One run, after everything that can be refused has been.
struct Run<'a> {
    job: &'a Job,
    source: &'a Source,
    stop: &'a Stop,
    info: Option<VmcoreInfo>,
    kernel: Option<Kernel>,
    /// What to keep and to drop frame by frame.
    chosen: Chosen,
    /// The classes to drop: what was asked for, less what the self-check does not believe.
    drop: Selection,
    /// The page tables, where mapped memory is to be shown.
    space: Option<Arc<dyn AddressSpace>>,
    page_shift: u32,
    budget: Budget,
    bitmaps: Bitmaps,
    pool: ThreadPool,
    /// Those that write the parts of a split set.
    lanes: Option<ThreadPool>,
    progress: Progress,
    output: Place,
    redaction: Redaction,
    warnings: Vec<String>,
    /// Set where notes of the input could not be read on their way to the output.
    notes_unread: AtomicBool,
    started: Instant,
}

/// What classification found.
struct Classified {
    kept: PageBitmap,
    counts: Counts,
    problems: Vec<Problem>,
    /// Empty where nothing was checked.
    checks: Vec<Check>,
    seconds: f64,
}

/// What was written, or would be.
#[derive(Default)]
struct Outcome {
    written: Written,
    bytes: u64,
    gap_pages: u64,
    redacted: Option<RedactionLine>,
    mapped: Option<Mapped>,
    /// The input is a 32-bit ELF core, and the output is too large for one.
    widened: bool,
    /// What was done otherwise than it should be.
    remarks: Vec<String>,
    /// Where there are several: name and size of each.
    parts: Vec<PartLine>,
}

impl Run<'_> {
    fn run(mut self) -> Result<Report> {
        let mut classified = self.classify()?;
        let redacted = self.redacted(&classified.kept);
        let writing = Instant::now();
        let mut outcome = match (std::mem::take(&mut self.output), self.job.container) {
            (Place::Nowhere, _) => self.estimate(&mut classified)?,
            // Only kdump is ever split.
            (Place::Set(files), _) => self.write_set(files, &classified)?,
            (Place::One(medium), Container::Kdump) => self.write_kdump(medium, &classified)?,
            (Place::One(medium), Container::Elf) => self.write_elf(medium, &mut classified)?,
            (Place::One(medium), Container::ElfStream { frames }) => {
                self.write_stream(medium, frames, &mut classified)?
            }
        };
        outcome.redacted = redacted;
        self.progress.finish();
        let seconds = Seconds {
            classify: classified.seconds,
            write: writing.elapsed().as_secs_f64(),
            total: self.started.elapsed().as_secs_f64(),
        };
        let report = self.report(&classified, &outcome, seconds);
        self.show(&report, &outcome.remarks);
        Ok(report)
    }

    fn check_interrupted(&self, how_far: &str) -> Result<()> {
        match self.stop.signal() {
            Some(signal) => {
                self.progress.finish();
                Err(Error::stopped(signal, how_far))
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
