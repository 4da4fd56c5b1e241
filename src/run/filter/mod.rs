//! `vdump filter`: source, layout, memory, classify, plan, pipeline, sink. `vdump convert` leaves out what is between.

mod addresses;
mod budget;
mod estimate;
mod prepare;
mod report;
mod stream;
mod write;

use std::time::Instant;

use rayon::ThreadPool;

use super::Stop;
use crate::{
    bitmap::PageBitmap,
    classify::Counts,
    cli::{Filter, Format, resolve::Job},
    error::{Error, Kind, Result},
    layout::VmcoreInfo,
    memory::Problem,
    plan::Budget,
    report::{Progress, Report, Seconds},
    sink::{LostPage, Output, Written},
    source::Source,
};

use prepare::Kernel;

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

impl Run<'_> {
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
