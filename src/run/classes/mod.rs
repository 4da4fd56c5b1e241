//! `vdump classes`: what memory was used for, by class, and by node and zone; what a dump of it would have.
//!
//! Knows the order: kernel, classes, zeros if they are asked for. Must not write a dump. The table is in `show`.

mod parts;
mod show;

use vdump_filters::{DumpLevel, PageClass, PfnRange, Selection};

use super::{facts, filter::budget};
use crate::{
    bitmap::PageBitmap,
    classify::{Classifier, Counts, Picks},
    cli::classes::Classes,
    error::{Error, Result},
    kernel::{self, FreePcp, Kernel, Symbols, Zone, keys_of_own_structures, known, zones},
    layout::VmcoreInfo,
    memory::VirtReader,
    pipeline::find_zeros,
    report::{Head, Progress},
    source::{Mask, Source},
};

use parts::Parts;
use show::Report;

/// What was counted.
struct Counted {
    counts: Counts,
    /// Of them, pages of zero bytes; counted on request only.
    zero: Option<Counts>,
    /// Pages that could not be read while zeros were looked for.
    unreadable: u64,
    /// By zone; or why there are none.
    zones: Option<Result<Vec<ZoneCount>, String>>,
}

/// Pages of one zone, or of none.
struct ZoneCount {
    /// `None`: pages that no zone spans, or more than one.
    zone: Option<Zone>,
    counts: Counts,
}

pub(super) fn run(options: &Classes) -> Result<()> {
    let limit = options.memory.bytes();
    let source = kernel::open(&options.input_args.opening(&options.inputs).within(limit))?;
    let stop = super::stop_on_signals()?;
    let mut warnings = source.remarks().to_vec();
    let (info, symbols) = known(options, &source, limit, &mut warnings)?;
    let page_shift = kernel::page_shift(&source, Some(&info))?;
    // The frames, and those on per-CPU lists; with zeros two more.
    let bitmaps = if options.zero { 4 } else { 2 };
    let threads = options.threads.count();
    let budget = budget::to_look(&source, page_shift, bitmaps, limit, threads)?;
    let mut kernel = Kernel::read(&source, &info, symbols).map_err(|error| facts::advised(error, None))?;
    kernel.read_own_structures(&source, &info, FreePcp::bytes_for(source.existing().max_pfn(page_shift)))?;
    warnings.extend(kernel.layout.limits.iter().chain(kernel.protected.limits()).cloned());
    let pool = super::pool::pool(budget.threads)?;
    let progress = Progress::new(options.progress.mode(), 1 << page_shift, stop.flag());
    let zones = options.verbose.then(|| zones_of(&source, &info, &kernel));
    let counted = pool.install(|| count(&source, &kernel, zones, options.zero, &progress));
    progress.finish();
    if let Some(signal) = stop.signal() {
        return Err(Error::stopped(signal, "before all pages were counted"));
    }
    let report = Report::new(&source, &info, page_shift, &counted, kernel.map.problems(), warnings);
    super::print_report(&Head::new("classes", &options.inputs), &report, options.report.json)
}

/// What is known of the kernel; where its zones are to be named more than filtering needs.
fn known(
    options: &Classes,
    source: &Source,
    limit: u64,
    warnings: &mut Vec<String>,
) -> Result<(VmcoreInfo, Option<Symbols>)> {
    let mut info = known::read(source, &options.kernel_args.named(), limit, warnings)?.ok_or_else(|| {
        let next = "--vmcoreinfo ADDR tells where it is (/sys/kernel/vmcoreinfo); 'vdump info' says what the dump has";
        kernel::no_vmcoreinfo(source, "so the kernel's structures cannot be found", next)
    })?;
    let symbols = if options.verbose {
        known::ask(source, &mut info, limit)
    } else {
        known::complete(source, &mut info, &keys_of_own_structures(), limit)
    };
    warnings.extend(known::contradictions(&info, false)?);
    Ok((info, symbols))
}

fn zones_of(source: &Source, info: &VmcoreInfo, kernel: &Kernel) -> Result<Vec<Zone>, String> {
    let virt = VirtReader::new(source, &kernel.layout.space);
    zones(info, &virt)
}

/// Counts all pages, by zone if there are any.
fn count(
    source: &Source,
    kernel: &Kernel,
    zones: Option<Result<Vec<Zone>, String>>,
    zero: bool,
    progress: &Progress,
) -> Counted {
    let page_shift = kernel.layout.page_shift;
    let Kernel { layout, map, protected, free_pcp, .. } = kernel;
    let classifier = |drop: DumpLevel| {
        let (drop, picks) = (Selection::from(drop), Picks::default());
        Classifier { source, layout, map, protected, free_pcp, drop, picks }
    };
    let max_pfn = source.existing().max_pfn(page_shift);
    let mut frames = PageBitmap::new(max_pfn);
    source.ram().pfn_ranges(page_shift).for_each(|range| frames.fill(range, true));
    let found: &[Zone] = zones.as_ref().and_then(|zones| zones.as_ref().ok()).map_or(&[], Vec::as_slice);
    let parts = Parts::new(found, max_pfn);
    progress.start("classify", frames.count());
    let by_part = classifier(DumpLevel::NONE).survey(frames.as_bytes(), parts.ranges(), progress);
    let counts = by_part.iter().fold(Counts::default(), Counts::merge);
    let zones = zones.map(|zones| zones.map(|zones| parts.by_zone(&by_part, zones)));
    let (zero, unreadable) = if zero {
        // What is never read stays unread here too.
        _ = classifier(DumpLevel::NONE).run(frames.as_bytes_mut(), &Progress::silent());
        progress.start("zeros", frames.count());
        let mut zero = PageBitmap::new(max_pfn);
        let (_, lost) = find_zeros((source, &Mask::default()), &mut frames, Some(&mut zero), page_shift, progress);
        let all = [PfnRange::new(0, max_pfn)];
        let counts = classifier(DumpLevel::NONE).survey(zero.as_bytes(), &all, &Progress::silent());
        (counts.into_iter().next(), lost.count)
    } else {
        (None, 0)
    };
    Counted { counts, zero, unreadable, zones }
}

impl Counted {
    /// Pages that a dump of this level would have, and how many of them are zero, where that is known.
    fn kept(&self, level: DumpLevel) -> (u64, Option<u64>) {
        let kept = |counts: &Counts| {
            PageClass::ALL.iter().filter(|class| !level.drops(**class)).map(|class| counts.of(*class)).sum::<u64>()
        };
        (kept(&self.counts).saturating_sub(self.unreadable), self.zero.as_ref().map(kept))
    }
}
