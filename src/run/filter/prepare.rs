//! What is known and decided before the first byte is written: the kernel, the output, the bitmap of frames to keep.
//!
//! Knows which of these a level can do without. Must not write. The prepared [`Run`] goes to `write`.

use std::{sync::atomic::AtomicBool, time::Instant};

use rayon::ThreadPool;
use vdump_filters::{PageClass, Selection};

use super::{Classified, Run, budget, picks::Chosen, redaction, self_check, tasks, virtual_memory};
use crate::{
    arch,
    bitmap::{Bitmaps, PageBitmap},
    classify::{Classifier, Counts},
    cli::resolve::{Destination, Job},
    error::{Error, Kind, Result},
    kernel::{self, Kernel, Symbols, known},
    layout::VmcoreInfo,
    medium::{Flattened, Inputs, Pipe, Target},
    memory::Problem,
    plan::Budget,
    report::{Progress, human_bytes},
    run::{
        Stop, facts,
        pool::{pool, pools},
    },
    sink::{Medium, RandomWrites},
    source::Source,
};

impl<'a> Run<'a> {
    pub(super) fn prepare(job: &'a Job, source: &'a Source, stop: &'a Stop) -> Result<Self> {
        let started = Instant::now();
        refuse_what_cannot_be(job, source)?;
        let (mut info, unsure) = note_and_files(job, source)?;
        let page_shift = kernel::page_shift(source, info.as_ref())?;
        if job.strict {
            check_whole(source, page_shift)?;
        }
        let (mut budget, bitmaps, most_pcp) = budget::fit(job, source, page_shift)?;
        let mut warnings = [job.tried.as_slice(), source.remarks(), unsure.as_slice()].concat();
        let kernel = match job.keep_all {
            true => None,
            false => ask_kernel(job, source, &mut info, (budget.limit, most_pcp), &mut warnings)?,
        };
        let known = info.as_ref().zip(kernel.as_ref());
        let of_tasks = tasks::find(job, source, known, page_shift, stop)?;
        warnings.extend(of_tasks.warnings.iter().cloned());
        let chosen = Chosen::new(job, source, page_shift, of_tasks, &mut warnings);
        let space = if job.map_virtual { Some(virtual_memory::space(source, info.as_ref())?) } else { None };
        let redaction = redaction::find(job, source, info.as_ref(), (stop, budget.spare))?;
        budget.spare = budget.spare.saturating_sub(redaction.memory());
        warnings.extend(redaction::unfollowed(&redaction));
        // Before the outputs: without threads none is made.
        let (pool, lanes) = workers(job, &mut budget, &mut warnings)?;
        let output = place(job, source)?;
        warnings.extend(bitmaps_in_files(&bitmaps, source, page_shift));
        warnings.extend(facts::input_remarks(source, job.container));
        warnings.extend(narrow_kdump(job, source));
        let progress = Progress::new(job.progress, 1 << page_shift, stop.flag());
        Ok(Self {
            job,
            source,
            stop,
            info,
            kernel,
            chosen,
            drop: job.drop(),
            space,
            page_shift,
            budget,
            bitmaps,
            pool,
            lanes,
            progress,
            output,
            redaction,
            warnings,
            notes_unread: AtomicBool::new(false),
            started,
        })
    }

    /// The bitmap of frames to keep. A class that the self-check does not believe is kept, so that all is classified anew.
    pub(super) fn classify(&mut self) -> Result<Classified> {
        let begun = Instant::now();
        let mut classified = self.classify_once()?;
        let checks = self.self_check(&classified.counts);
        if self.job.strict {
            self.check_classified(&classified.counts, &classified.problems)?;
            self_check::must_hold(&checks)?;
        }
        let believed = self_check::believed(self.drop, &checks, &classified.counts);
        if believed != self.drop {
            self.drop = believed;
            // Its bitmap goes before there is another.
            drop(classified);
            classified = self.classify_once()?;
        }
        Ok(Classified { checks, seconds: begun.elapsed().as_secs_f64(), ..classified })
    }

    fn classify_once(&mut self) -> Result<Classified> {
        let ram = self.source.ram();
        let mut kept = self.bitmaps.bitmap(self.source.existing().max_pfn(self.page_shift))?;
        for range in ram.pfn_ranges(self.page_shift) {
            kept.fill(range, true);
        }
        let mut counts = Counts::default();
        let mut problems = Vec::new();
        match &self.kernel {
            Some(Kernel { layout, map, protected, free_pcp, .. }) => {
                problems = map.problems();
                let picks = self.chosen.picks();
                let (source, drop) = (self.source, self.drop);
                let classifier = Classifier { source, layout, map, protected, free_pcp, drop, picks };
                self.progress.start("classify", kept.count());
                counts = self.pool.install(|| classifier.run(kept.as_bytes_mut(), &self.progress));
            }
            None => {
                counts.add(PageClass::Unmapped, kept.count());
                counts.picked =
                    self.chosen.without_classes(self.source, self.page_shift, &mut kept, &mut self.warnings);
            }
        }
        self.check_interrupted("before anything was written")?;
        Ok(Classified { kept, counts, problems, checks: Vec::new(), seconds: 0.0 })
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
}

/// With `--strict` nothing may be missing at the end of the file.
fn check_whole(source: &Source, page_shift: u32) -> Result<()> {
    match facts::truncation(source, page_shift) {
        Some(cause) => Err(Error::input(format!("cannot use {}", source.path().display()))
            .because(cause)
            .next_step("copy the dump again, or name all parts; without --strict the rest of it is used")),
        // Each page that a kdump file lost is known, and may not be wanted.
        None if source.is_incomplete() && source.recorded().is_none() => {
            Err(Error::input(format!("cannot use {}", source.path().display()))
                .because("it is marked as incomplete: pages were lost when it was written")
                .next_step("without --strict the rest of it is used"))
        }
        None => Ok(()),
    }
}

/// Who cannot read a kdump-compressed dump of a 32-bit machine: crash for such machines knows their own layout alone, and of
/// ELF cores with 64-bit headers those of i386 (`is_netdump`).
fn narrow_kdump(job: &Job, source: &Source) -> Option<String> {
    let machine = arch::named(source.machine()).filter(|machine| !machine.is_wide)?;
    let instead = if machine.crash_reads_elf64 { " (it reads -f elf)" } else { "" };
    let cause =
        "the output's header has the layout of 64-bit machines: libkdumpfile reads it, crash for 32-bit machines does";
    (!job.container.is_elf()).then(|| format!("{cause} not{instead}"))
}

/// Where the dump goes.
#[derive(Default)]
pub(super) enum Place {
    /// Nowhere: a dry run.
    #[default]
    Nowhere,
    /// One file, or a pipe.
    One(Box<dyn Medium>),
    /// The files of a split set.
    Set(Vec<Box<dyn RandomWrites>>),
}

fn place(job: &Job, source: &Source) -> Result<Place> {
    let read = job.kernel_args.files().chain(job.redact.as_deref()).chain(job.input.ram_file());
    let inputs = Inputs::opened(source.opened()).and(read);
    Ok(match &job.output {
        None => Place::Nowhere,
        Some(Destination::StandardOutput) => {
            let pipe = Pipe::standard_output(job.limit, &inputs)?;
            Place::One(if job.flattened { Box::new(Flattened::new(pipe)) } else { Box::new(pipe) })
        }
        Some(Destination::File(name)) => {
            Place::One(Box::new(Target::create(name, job.force, &inputs)?.limited(job.limit)))
        }
        Some(Destination::Files(names)) => {
            let targets = Target::create_all(names, job.force, &inputs)?;
            Place::Set(targets.into_iter().map(|target| Box::new(target.limited(job.limit)) as _).collect())
        }
    })
}

/// Refuses what no option makes sense of.
fn refuse_what_cannot_be(job: &Job, source: &Source) -> Result<()> {
    if job.copy && source.stored_pages().is_none() {
        return Err(Error::new(Kind::Usage, format!("cannot merge {}", source.path().display()))
            .because(format!("it is no part of a split dump: {}", source.describe()))
            .next_step("use 'vdump convert' to write it as a kdump-compressed dump"));
    }
    if source.is_live() && job.output.is_some() {
        return Err(Error::new(Kind::Usage, format!("cannot make a dump of {}", source.path().display()))
            .because("its kernel runs: what changes while it is read would contradict itself in the dump")
            .next_step(
                "--dry-run says how large a dump would be, and 'vdump classes' of what; for the dump itself load a \
                     capture kernel ('vdump load --panic') and crash the machine",
            ));
    }
    Ok(())
}

/// What the dump's note and the named files say, and which of these may be another kernel's.
fn note_and_files(job: &Job, source: &Source) -> Result<(Option<VmcoreInfo>, Vec<String>)> {
    let mut unsure = Vec::new();
    let info = known::read(source, &job.kernel_args.named(), job.memory_limit, &mut unsure)?;
    match unsure.first().filter(|_| job.strict) {
        Some(first) => Err(Error::input("cannot be sure of the kernel's layout")
            .because(first)
            .next_step("give a vmlinux or a layout file with its BUILD-ID; without --strict the file is believed")),
        None => Ok((info, unsure)),
    }
}

/// Asks the kernel's own memory what nobody else said, which may take `limit` bytes, and reads what is to be known of it.
fn ask_kernel(
    job: &Job,
    source: &Source,
    info: &mut Option<VmcoreInfo>,
    (limit, most_pcp): (u64, u64),
    warnings: &mut Vec<String>,
) -> Result<Option<Kernel>> {
    let mut symbols = None;
    if let Some(info) = info {
        let mut also = if job.drop().needs_classes() { kernel::keys_of_own_structures() } else { Vec::new() };
        also.extend(tasks::keys(job));
        symbols = known::complete(source, info, &also, limit);
        warnings.extend(known::contradictions(info, job.strict)?);
    }
    crashed_kernel((job.drop(), most_pcp), source, info.as_ref(), symbols, warnings)
}

/// Starts the threads that fit, and those that write the parts of a split set.
fn workers(job: &Job, budget: &mut Budget, warnings: &mut Vec<String>) -> Result<(ThreadPool, Option<ThreadPool>)> {
    if budget.threads < job.threads {
        let (used, wanted) = (budget.threads, job.threads);
        warnings.push(format!("{wanted} threads do not fit the memory limit: {used} used"));
    }
    let (pool, lanes) = match job.parts {
        2.. if job.output.is_some() => pools([budget.threads, job.parts]).map(|[pool, lanes]| (pool, Some(lanes)))?,
        _ => (pool(budget.threads)?, None),
    };
    let (used, wanted) = (pool.current_num_threads(), budget.threads);
    if used < wanted {
        warnings.push(format!("the system does not start {wanted} threads: {used} used"));
        budget.threads = used;
    }
    Ok((pool, lanes))
}

/// Says that bitmaps of page frames are in files, where they are.
fn bitmaps_in_files(bitmaps: &Bitmaps, source: &Source, page_shift: u32) -> Option<String> {
    let Bitmaps::Folder(folder) = bitmaps else { return None };
    let bitmap = human_bytes(PageBitmap::bytes_for(source.existing().max_pfn(page_shift)));
    let folder = folder.display();
    Some(format!(
        "page bitmaps ({bitmap} each) are kept in {folder}: with them the memory limit would not do; what the system caches of \
         them counts as peak memory"
    ))
}

/// Knowledge about the kernel: levels 0 and 1 do without, but then cannot skip poisoned and offline pages.
fn crashed_kernel(
    (drop, most_pcp): (Selection, u64),
    source: &Source,
    info: Option<&VmcoreInfo>,
    symbols: Option<Symbols>,
    warnings: &mut Vec<String>,
) -> Result<Option<Kernel>> {
    let found = match info {
        Some(info) => Kernel::read(source, info, symbols),
        None => Err(kernel::no_vmcoreinfo(
            source,
            "so the kernel's structures cannot be found",
            "--vmcoreinfo ADDR tells where it is (/sys/kernel/vmcoreinfo); -d 0 and -d 1 need no knowledge of the kernel",
        )),
    };
    match found {
        Ok(mut kernel) => {
            if let Some(info) = info.filter(|_| drop.needs_classes()) {
                kernel.read_own_structures(source, info, most_pcp)?;
            }
            Ok(Some(kernel))
        }
        Err(error) if drop.needs_classes() && source.is_of_xen() => Err(error.or_next_step(
            "dump with -d 0 or -d 1; 'makedumpfile -E -X --xen-syms FILE' leaves out the guests' memory, crash reads either",
        )),
        Err(error) if drop.needs_classes() => Err(facts::advised(error, Some(&facts::without_kernel(source)))),
        Err(error) => {
            warnings.push(format!("poisoned and offline pages are not excluded: {error}"));
            Ok(None)
        }
    }
}
