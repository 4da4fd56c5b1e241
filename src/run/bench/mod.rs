//! `vdump bench`: what each stage of a dump does on this machine, by the functions that a dump uses, one stage at a time.
//!
//! Knows the order of the stages. Must not judge: the figures go to the report.

mod measured;
mod predict;
mod report;
mod sample;
mod stages;

use std::{path::Path, time::Duration};

use rayon::ThreadPool;
use vdump_filters::{PageClass, Selection};

use super::{Stop, facts, pool::pools, print_report};
use crate::{
    bitmap::PageBitmap,
    classify::{Classifier, Counts, Picks},
    cli::bench::Bench,
    codec::Compression,
    error::{Error, Result},
    kernel::{self, FreePcp, Kernel, known},
    plan::{Budget, FRAME, Needs},
    report::{Head, Progress},
    source::Source,
    sys::host,
};

use measured::{Codec, Measured, Stage, Unit};
use predict::Shares;
use report::Report;
use sample::Sample;

/// What a codec needs at most, and the frame that it reads: the fixed room of a worker.
const WORKER: u64 = FRAME + (1 << 20);

pub(super) fn run(options: &Bench) -> Result<()> {
    let limit = options.memory.bytes();
    let source = kernel::open(&options.input_args.opening(&options.inputs).within(limit))?;
    let stop = super::stop_on_signals()?;
    let report = Measuring::prepare(options, &source, &stop)?.report()?;
    print_report(&Head::new("bench", &options.inputs), &report, options.report.json)
}

/// Everything that the stages share.
struct Measuring<'a> {
    options: &'a Bench,
    source: &'a Source,
    stop: &'a Stop,
    kernel: Option<Kernel>,
    drop: Selection,
    page_shift: u32,
    /// All threads, and one.
    pools: [ThreadPool; 2],
    /// Room for the sample, bytes.
    room: u64,
    progress: Progress,
    /// The longest measurement.
    longest: Duration,
}

impl<'a> Measuring<'a> {
    fn prepare(options: &'a Bench, source: &'a Source, stop: &'a Stop) -> Result<Self> {
        let mut warnings = Vec::new();
        let limit = options.memory.bytes();
        let mut info = known::read(source, &options.kernel_args.named(), limit, &mut warnings)?;
        let page_shift = kernel::page_shift(source, info.as_ref())?;
        let drop = Selection::from(options.dump_level);
        let budget = fit(options, source, page_shift, limit)?;
        let also = if drop.needs_classes() { kernel::keys_of_own_structures() } else { Vec::new() };
        let symbols = info.as_mut().and_then(|info| known::complete(source, info, &also, limit));
        for warning in warnings {
            super::note(&warning);
        }
        let found = match &info {
            Some(info) => Kernel::read(source, info, symbols).and_then(|mut kernel| {
                if drop.needs_classes() {
                    kernel.read_own_structures(
                        source,
                        info,
                        FreePcp::bytes_for(source.existing().max_pfn(page_shift)),
                    )?;
                }
                Ok(kernel)
            }),
            None => Err(kernel::no_vmcoreinfo(source, "so pages cannot be classified", "measure with -d 0 or -d 1")),
        };
        let kernel = match found {
            Err(error) if drop.needs_classes() => {
                return Err(facts::advised(
                    error,
                    Some("measure with -d 0 or -d 1, which need no knowledge of the kernel"),
                ));
            }
            found => found.ok(),
        };
        let progress = Progress::new(options.progress.mode(), 1 << page_shift, stop.flag());
        Ok(Self {
            options,
            source,
            stop,
            kernel,
            drop,
            page_shift,
            pools: pools([budget.threads, 1])?,
            room: budget.spare,
            progress,
            longest: Duration::from_secs(options.seconds.into()),
        })
    }

    fn report(&self) -> Result<Report> {
        let mut stages = Vec::new();
        let (kept, counts, classified) = self.classify()?;
        stages.extend(classified);
        stages.push(self.both(Stage::Read, |pool, part| stages::read(self, pool, &kept, part))?);
        let sample = Sample::take(self, &kept)?;
        if sample.pages() == 0 {
            return Err(Error::input("there is nothing to compress")
                .because("every kept page that can be read is zero")
                .next_step("measure with another dump, or a lower level"));
        }
        stages.push(self.both(Stage::ZeroTest, |pool, _| stages::zero_test(self, pool, &sample, false))?);
        stages.push(self.both(Stage::ZeroTestZeros, |pool, _| stages::zero_test(self, pool, &sample, true))?);
        for codec in self.codecs() {
            stages.push(self.both(Stage::Codec(codec), |pool, _| stages::compress(self, pool, &sample, codec))?);
        }
        if let Some(folder) = &self.options.output {
            stages.push(Measured::new(Stage::Write, stages::write(self, &sample, folder)?, None));
        }
        self.progress.finish();
        let shares = Shares::new(self, &kept, &counts, &sample);
        let predictions = predict::all(&stages, &shares, self.ram());
        Ok(Report {
            input: self.source.path().display().to_string(),
            dump_level: self.options.dump_level.bits(),
            threads: self.pools[0].current_num_threads(),
            sample_bytes: sample.bytes() as u64,
            shares,
            stages,
            predictions,
        })
    }

    /// Measures with all threads and with one.
    fn both(&self, stage: Stage, run: impl Fn(&ThreadPool, usize) -> Result<Unit>) -> Result<Measured> {
        self.progress.start(stage.phase(), 0);
        let all = run(&self.pools[0], 0)?;
        // With one CPU both would be the same.
        let one = if self.pools[0].current_num_threads() > 1 { run(&self.pools[1], 1)? } else { all };
        self.check_stopped()?;
        Ok(Measured::new(stage, all, Some(one)))
    }

    /// Classifies all pages on all threads, as a dump does, and on one thread as many as there is time for.
    fn classify(&self) -> Result<(PageBitmap, Counts, Option<Measured>)> {
        let all_frames = || {
            let mut frames = PageBitmap::new(self.source.existing().max_pfn(self.page_shift));
            self.source.ram().pfn_ranges(self.page_shift).for_each(|range| frames.fill(range, true));
            frames
        };
        let mut kept = all_frames();
        let mut counts = Counts::default();
        let Some(Kernel { layout, map, protected, free_pcp, .. }) = &self.kernel else {
            counts.add(PageClass::Unmapped, kept.count());
            return Ok((kept, counts, None));
        };
        let (drop, picks) = (self.drop, Picks::default());
        let classifier = Classifier { source: self.source, layout, map, protected, free_pcp, drop, picks };
        let mut again = all_frames();
        self.progress.start(Stage::Classify.phase(), kept.count());
        let all = stages::timed(|| {
            counts = self.pools[0].install(|| classifier.run(kept.as_bytes_mut(), &self.progress));
            counts.total() * layout.page.size as u64
        });
        self.check_stopped()?;
        let one = stages::until(self.longest, |progress| {
            let counts = self.pools[1].install(|| classifier.run(again.as_bytes_mut(), progress));
            counts.total() * layout.page.size as u64
        });
        Ok((kept, counts, Some(Measured::new(Stage::Classify, all, Some(one)))))
    }

    fn codecs(&self) -> Vec<Codec> {
        use Compression::{Lz4, Lzo, None, Snappy, Zlib, Zstd};
        let wanted: Vec<_> = match self.options.compress.as_slice() {
            [] => vec![None, Lzo, Snappy, Zstd(0), Zstd(-1), Zstd(1), Compression::DEFAULT_ZLIB, Zlib(6), Lz4],
            named => named.to_vec(),
        };
        let pages = wanted.iter().filter(|codec| **codec != Lz4);
        let pages = pages.map(|codec| Codec::Page(codec.or_level_of(Compression::DEFAULT_ZSTD)));
        let frames = wanted.iter().filter(|codec| codec.makes_frames());
        let frames = frames.map(|codec| Codec::Frame(codec.or_level_of(Compression::DEFAULT_FRAME_ZSTD)));
        pages.chain(frames).collect()
    }

    /// Memory of the machine that is to be dumped, bytes.
    fn ram(&self) -> Option<u64> {
        self.options.ram.or_else(|| host::total_memory(Path::new("/")))
    }

    fn check_stopped(&self) -> Result<()> {
        match self.stop.signal() {
            Some(signal) => {
                self.progress.finish();
                Err(Error::stopped(signal, "while measuring"))
            }
            None => Ok(()),
        }
    }
}

/// Fits the threads and two bitmaps of kept pages into the memory limit; the sample gets what is left.
fn fit(options: &Bench, source: &Source, page_shift: u32, limit: u64) -> Result<Budget> {
    let bitmap = PageBitmap::bytes_for(source.existing().max_pfn(page_shift));
    let (opened, reading) = source.memory();
    let codec = options.compress.iter().map(|codec| codec.context_bytes().max(codec.frame_context_bytes())).max();
    let codec = codec.unwrap_or_else(|| Compression::DEFAULT_FRAME_ZSTD.frame_context_bytes());
    let needs = Needs {
        // And what is free on per-CPU lists.
        bitmaps: bitmap.saturating_mul(2).saturating_add(FreePcp::bytes_for(source.existing().max_pfn(page_shift))),
        tables: opened + source.notes().len() as u64 + source.map_bytes(),
        codec: codec + WORKER + reading,
        batch: None,
        lanes: 1,
    };
    Budget::fit(limit, options.threads.count(), 1 << page_shift, needs)
}
