//! The report of a run: what every room found, in one value.

use std::{
    io::{self, Write as _},
    sync::atomic::Ordering::Relaxed,
};

use vdump_filters::{Doubt, PageClass, Selection};

use super::{Classified, Outcome, Run, self_check, virtual_memory};
use crate::{
    classify::{Counts, Picked},
    error::printable,
    memory::Problem,
    plan::Mapped,
    report::{
        ClassLine, DoubtLine, MappedLine, Mode, PageTotals, PickedLine, ProblemLine, ReadErrorLine, Report, Seconds,
        SelfCheck,
    },
    run::facts,
    sink::Written,
    sys::host,
};

impl Run<'_> {
    /// Everything about the run, after it.
    pub(super) fn report(&self, classified: &Classified, outcome: &Outcome, seconds: Seconds) -> Report {
        let page_size = 1u64 << self.page_shift;
        let Classified { counts, problems, .. } = classified;
        let Written { zero, lost, lost_pages, .. } = &outcome.written;
        let (zero, lost) = (*zero, *lost);
        let drop = self.drop;
        let names: Vec<_> = self.job.input.paths.iter().map(|path| path.display().to_string()).collect();
        let classes = self.class_lines(counts, (zero, lost), page_size);
        // What an earlier filtering left out was never looked at: it is not of any class.
        let cut_short = facts::truncation(self.source, self.page_shift);
        let absent = self.source.absent(self.page_shift);
        let ram = counts.total();
        let by_class = PageClass::ALL.iter().filter(|class| drop.drops(**class)).map(|class| counts.of(*class)).sum();
        let dropped = counts.picked.dropped_of(by_class) + lost;
        let pages = PageTotals { ram: ram + absent, kept: ram - dropped, dropped, absent };
        Report {
            input: names.join(", "),
            output: self.job.output.as_ref().map(ToString::to_string),
            kernel: self.info.as_ref().and_then(|info| info.text("OSRELEASE")).map(printable),
            format: self.job.container.name(),
            compress: match self.source.recorded().filter(|_| self.job.copy) {
                Some(recorded) => recorded.compression(),
                None => self.job.compression.to_string(),
            },
            dump_level: self.recorded_level().bits(),
            drops: Selection::choices().filter(|class| drop.drops(*class)).map(PageClass::name).collect(),
            dry_run: self.job.output.is_none(),
            complete: lost == 0 && cut_short.is_none(),
            pages,
            picked: self.chosen.is_any().then(|| picked_line(&counts.picked)),
            tasks: self.chosen.tasks.lines.clone(),
            classes,
            doubts: doubt_lines(counts),
            problems: problems.iter().map(problem_line).collect(),
            self_check: self_check::lines(&classified.checks, self.job.drop(), drop),
            read_errors: lost_pages
                .iter()
                .map(|page| ReadErrorLine { pfn: page.pfn, cause: page.cause.clone() })
                .collect(),
            unreadable_pages: lost,
            cut_short,
            virtual_memory: outcome.mapped.as_ref().map(mapped_line),
            redaction: outcome.redacted.clone(),
            warnings: self.all_warnings(outcome, counts.of(PageClass::Unmapped)),
            bytes_kept: pages.kept.saturating_mul(page_size),
            bytes_written: outcome.bytes,
            parts: outcome.parts.clone(),
            page_size,
            threads: self.budget.threads,
            memory_limit: self.budget.limit,
            peak_resident: host::peak_resident(),
            seconds,
        }
    }

    /// A line for each class that has pages. `zero` and `lost` pages are found by content, among those that their class keeps.
    fn class_lines(&self, counts: &Counts, (zero, lost): (u64, u64), page_size: u64) -> Vec<ClassLine> {
        let line = |class: PageClass| {
            let pages = match class {
                PageClass::Zero => zero,
                PageClass::Unreadable => lost,
                class => counts.of(class),
            };
            let bytes = pages.saturating_mul(page_size);
            ClassLine { name: class.name(), pages, bytes, dropped: self.drop.drops(class) }
        };
        // Where nobody asked what pages were used for there is nothing to say about it.
        let known = |class: &&PageClass| !self.job.keep_all || **class != PageClass::Unmapped;
        PageClass::ALL.iter().filter(known).map(|class| line(*class)).filter(|line| line.pages > 0).collect()
    }

    fn all_warnings(&self, outcome: &Outcome, unmapped: u64) -> Vec<String> {
        let mut warnings = self.warnings.clone();
        if self.notes_unread.load(Relaxed) {
            warnings.push("notes of the input could not be read: they are zeros in the output".to_owned());
        }
        if let Some(kernel) = &self.kernel {
            if unmapped > 0 {
                warnings
                    .push(format!("{unmapped} pages were kept because they have no struct page that could be read"));
            }
            warnings.extend(kernel.layout.limits.iter().chain(kernel.protected.limits()).cloned());
        }
        if self.job.output.is_none() {
            let ends = |cause| format!("{cause}: the dump would end there, incomplete");
            warnings.extend(self.too_large(outcome.bytes).map(ends));
            if self.job.limit.is_none() && !self.job.next_levels.is_empty() {
                warnings
                    .push("a dry run without --limit tries no other level: nothing is written that must fit".into());
            }
        }
        warnings.extend(outcome.mapped.iter().flat_map(virtual_memory::gaps));
        if outcome.widened {
            warnings.push("the output is a 64-bit ELF core: one of 32 bits has no room for it".to_owned());
        }
        if let gap_pages @ 1.. = outcome.gap_pages {
            warnings.push(format!("{gap_pages} dropped pages lie in small gaps inside ELF segments and read as zeros"));
        }
        warnings.extend(outcome.remarks.iter().cloned());
        warnings
    }

    /// Shows the report on standard error: losses always, and what is to be known of the output; the rest unless all but errors is to be quiet.
    pub(super) fn show(&self, report: &Report, remarks: &[String]) {
        let mut text = String::new();
        if self.job.verbose
            && let Some(kernel) = &self.kernel
        {
            for fact in kernel.facts() {
                text += &format!("vdump: {} = {} ({})\n", fact.name, fact.value, fact.origin);
            }
            text += &report.self_check.iter().map(SelfCheck::in_full).collect::<String>();
        }
        if self.job.progress != Mode::None {
            text += &report.to_string();
        } else {
            text += &remarks.iter().map(|remark| format!("vdump: {}\n", printable(remark))).collect::<String>();
        }
        text += &report.losses();
        // A console that is gone is no reason to call the dump failed.
        let _ = io::stderr().write_all(text.as_bytes());
    }
}

fn doubt_lines(counts: &Counts) -> Vec<DoubtLine> {
    let line = |doubt: &Doubt| DoubtLine { reason: doubt.name(), pages: counts.doubts[doubt.index()] };
    Doubt::ALL.iter().map(line).filter(|line| line.pages > 0).collect()
}

fn problem_line(problem: &Problem) -> ProblemLine {
    let Problem { range, cause } = problem;
    ProblemLine { start_pfn: range.start, end_pfn: range.end, cause: cause.clone() }
}

fn mapped_line(mapped: &Mapped) -> MappedLine {
    MappedLine {
        segments: mapped.segments,
        pages: mapped.pages,
        absent_pages: mapped.absent,
        left_out_pages: mapped.left_out,
        page_tables: mapped.walked.tables,
        unreadable_page_tables: mapped.walked.unreadable + mapped.walked.broken,
    }
}

fn picked_line(picked: &Picked) -> PickedLine {
    let Picked { kept, kept_for_tasks, dropped, protected, unreadable } = *picked;
    PickedLine { kept_by_range: kept, kept_for_tasks, dropped_by_range: dropped, protected, unreadable }
}
