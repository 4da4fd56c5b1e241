//! The report at the end of a run: a table for people, JSON for programs.
//!
//! Knows what is worth saying. Must not know how it was measured. Printed by `run`.

use std::fmt;

use serde::Serialize;
use vdump_filters::PageClass;

use super::{RedactionLine, SelfCheck};
use crate::error::printable;

/// How an output that has no name is shown.
const STANDARD_OUTPUT: &str = "-";

/// Pages of one class.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ClassLine {
    /// The class's name.
    pub name: &'static str,
    /// Pages of it.
    pub pages: u64,
    /// The same in bytes.
    pub bytes: u64,
    /// Whether the level leaves them out (zero pages stay readable all the same).
    pub dropped: bool,
}

/// Page totals.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct PageTotals {
    /// Pages of RAM that the machine had, as far as the input tells.
    pub ram: u64,
    /// Pages that the output can show: stored ones, and zero pages, which are stored once or not at all.
    pub kept: u64,
    /// Pages left out.
    pub dropped: u64,
    /// Pages that the input lacks already because it was filtered before.
    pub absent: u64,
}

/// Wall time by phase, seconds.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize)]
pub struct Seconds {
    /// Finding each page's class.
    pub classify: f64,
    /// Reading, compressing and writing.
    pub write: f64,
    /// All of it.
    pub total: f64,
}

/// A kept range that could not be classified.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ProblemLine {
    /// First frame.
    pub start_pfn: u64,
    /// One past the last frame.
    pub end_pfn: u64,
    /// Why.
    pub cause: String,
}

/// A page that could not be read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct ReadErrorLine {
    /// The frame.
    pub pfn: u64,
    /// Why.
    pub cause: String,
}

/// Pages in doubt for one reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct DoubtLine {
    /// The reason's name.
    pub reason: &'static str,
    /// Pages kept for it.
    pub pages: u64,
}

/// One file of a split set.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct PartLine {
    /// Its name.
    pub name: String,
    /// Its size, bytes.
    pub bytes: u64,
    /// Its first frame.
    pub start_pfn: u64,
    /// One past its last frame.
    pub end_pfn: u64,
}

/// What an ELF dump shows at the kernel's virtual addresses, beside the segments that show physical memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct MappedLine {
    /// Segments.
    pub segments: u64,
    /// Mapped pages in them.
    pub pages: u64,
    /// Mapped pages of RAM whose data was left out or is not in the input.
    pub absent_pages: u64,
    /// Mapped pages that are in the dump, but in no such segment.
    pub left_out_pages: u64,
    /// Page tables read.
    pub page_tables: u64,
    /// Page tables that could not be read or followed.
    pub unreadable_page_tables: u64,
}

/// Pages that were kept or left out whatever their class.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct PickedLine {
    /// Kept for their addresses, and of a class that is dropped.
    pub kept_by_range: u64,
    /// The same for tasks.
    pub kept_for_tasks: u64,
    /// Left out for their addresses, and of a class that is kept.
    pub dropped_by_range: u64,
    /// To be left out, and kept because they hold the kernel image or the notes.
    pub protected: u64,
    /// To be kept, and left out because they are poisoned or offline.
    pub unreadable: u64,
}

/// A task whose user memory is kept.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct TaskLine {
    /// Its number.
    pub pid: i32,
    /// That of its process.
    pub tgid: i32,
    /// Its name.
    pub comm: String,
    /// Pages of its memory that the input has; pages that tasks share count for each.
    pub pages: u64,
    /// Pages that the input lacks.
    pub absent_pages: u64,
    /// Pages that were not in memory.
    pub swapped_pages: u64,
}

/// Everything about one run.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct Report {
    /// The input's path, for messages; all of them for a split dump. JSON has them in its head.
    #[serde(skip)]
    pub input: String,
    /// The output's path; absent in a dry run.
    pub output: Option<String>,
    /// The crashed kernel's release.
    pub kernel: Option<String>,
    /// The output format.
    pub format: &'static str,
    /// The compression, with its level.
    pub compress: String,
    /// The dump level, as the dump's header has it: at least all that is dropped.
    pub dump_level: u8,
    /// The classes that are dropped, beside those that always are.
    pub drops: Vec<&'static str>,
    /// Nothing was written.
    pub dry_run: bool,
    /// The output holds everything that it should.
    pub complete: bool,
    /// Page totals.
    pub pages: PageTotals,
    /// Pages that were kept or left out whatever their class, if any were to be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub picked: Option<PickedLine>,
    /// Tasks whose user memory is kept; the first hundred.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tasks: Vec<TaskLine>,
    /// Pages by class, only classes that occur.
    pub classes: Vec<ClassLine>,
    /// Pages kept in doubt, by reason.
    pub doubts: Vec<DoubtLine>,
    /// Ranges kept because they could not be classified.
    pub problems: Vec<ProblemLine>,
    /// How what was found fits what else the kernel says; absent where nobody asked for classes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub self_check: Option<SelfCheck>,
    /// Pages that could not be read; the first hundred.
    pub read_errors: Vec<ReadErrorLine>,
    /// How many pages could not be read.
    pub unreadable_pages: u64,
    /// What the input lacks because it was truncated.
    pub cut_short: Option<String>,
    /// Memory shown at virtual addresses, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub virtual_memory: Option<MappedLine>,
    /// What was overwritten, if that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redaction: Option<RedactionLine>,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// Bytes of all kept pages.
    pub bytes_kept: u64,
    /// Size of the output; the estimate in a dry run.
    pub bytes_written: u64,
    /// The files of a split set; empty for one file.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<PartLine>,
    /// Page size, bytes.
    pub page_size: u64,
    /// Worker threads.
    pub threads: usize,
    /// The memory budget, bytes.
    pub memory_limit: u64,
    /// The most memory that was resident, bytes.
    pub peak_resident: Option<u64>,
    /// Wall time.
    pub seconds: Seconds,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<14} {:>12} {:>11} {:>7}", "class", "pages", "size", "share")?;
        // Zero pages are found by content: they belong to the classes that are kept, and are shown below as a part of them.
        let is_zero = |line: &&ClassLine| line.name == PageClass::Zero.name();
        for line in self.classes.iter().filter(|line| !is_zero(line)) {
            let fate = if line.dropped { "dropped" } else { "kept" };
            self.row(f, line.name, line.pages, fate)?;
        }
        if self.pages.absent > 0 {
            self.row(f, "absent", self.pages.absent, "not in the input")?;
        }
        if let Some(PickedLine { dropped_by_range: pages @ 1.., .. }) = self.picked {
            self.row(f, "by address", pages, "dropped, of classes that are kept")?;
        }
        self.row(f, "RAM", self.pages.ram, "")?;
        self.row(f, "kept", self.pages.kept, "")?;
        if let Some(picked) = &self.picked {
            for (name, pages) in [("  by address", picked.kept_by_range), ("  for tasks", picked.kept_for_tasks)] {
                if pages > 0 {
                    self.row(f, name, pages, "of classes that are dropped")?;
                }
            }
        }
        if let Some(zero) = self.classes.iter().find(is_zero) {
            self.row(f, "  zero pages", zero.pages, if zero.dropped { "not stored" } else { "" })?;
        }
        if let Some(mapped) = &self.virtual_memory {
            self.row(f, "  mapped", mapped.pages, &format!("in {} segments of virtual memory", mapped.segments))?;
        }
        let size = human_bytes(self.bytes_written);
        let ratio = self.bytes_kept as f64 / self.bytes_written.max(1) as f64;
        let doing = if self.dry_run { "would write about" } else { "written" };
        write!(f, "{doing} {size} ({}, {ratio:.1} to 1)", self.container())?;
        // How long a dry run takes says nothing of the dump.
        f.write_str(if self.dry_run { "; the estimate took" } else { " in" })?;
        let rate = self.pages.ram.saturating_mul(self.page_size) as f64 / self.seconds.total.max(0.001);
        write!(f, " {:.1} s, {}/s of RAM", self.seconds.total, human_bytes(rate as u64))?;
        if let Some(peak) = self.peak_resident {
            write!(f, ", peak memory {}", human_bytes(peak))?;
        }
        writeln!(f)?;
        if let Some(output) = self.output.as_ref().filter(|_| self.parts.is_empty()) {
            let name = if output == STANDARD_OUTPUT { "standard output" } else { output.as_str() };
            writeln!(f, "to {}", printable(name))?;
        }
        for PartLine { name, bytes, .. } in &self.parts {
            writeln!(f, "  {} has {}", printable(name), human_bytes(*bytes))?;
        }
        if let Some(how) = self.how_to_open() {
            writeln!(f, "to open it: {how}")?;
        }
        self.redaction.iter().try_for_each(|redaction| redaction.show(f, self.dry_run))?;
        self.notes(f)
    }
}

/// As many items of one kind as a console can bear.
const LISTED: usize = 10;

impl Report {
    /// Container and compression in words.
    fn container(&self) -> String {
        let format = if self.format == "elf" { "ELF" } else { self.format };
        match self.compress.as_str() {
            "none" | "uncompressed" => format!("uncompressed {format}"),
            codec => format!("{format}, {codec}"),
        }
    }

    /// The command that opens the dump; `None` where there is none yet. (On standard output it has no name.)
    fn how_to_open(&self) -> Option<String> {
        let output = self.output.as_deref().filter(|output| *output != STANDARD_OUTPUT)?;
        if !self.parts.is_empty() {
            let parts: Vec<_> = self.parts.iter().map(|part| printable(&part.name)).collect();
            return Some(format!("crash vmlinux {}", parts.join(" ")));
        }
        let output = printable(output);
        let codec = self.compress.split(':').next().unwrap_or_default();
        if self.format == "elf" && ["zstd", "lz4"].contains(&codec) {
            let to = if codec == "zstd" { "-o vmcore" } else { "vmcore" };
            return Some(format!("{codec} -d {output} {to}, then crash vmlinux vmcore"));
        }
        Some(format!("crash vmlinux {output}, or drgn -c {output}"))
    }

    /// What is missing in the dump and should not be; empty if nothing is.
    #[must_use]
    pub fn losses(&self) -> String {
        let mut text = String::new();
        if let Some(cause) = &self.cut_short {
            text += &format!(
                "vdump: the input {} is incomplete: {cause}; --strict stops instead\n",
                printable(&self.input)
            );
        }
        for page in self.read_errors.iter().take(LISTED) {
            let ReadErrorLine { pfn, cause } = page;
            text += &format!(
                "vdump: cannot read page {pfn:#x} of {}: {}; it is missing in the dump\n",
                printable(&self.input),
                printable(cause)
            );
        }
        if self.unreadable_pages > 0 {
            let count = self.unreadable_pages;
            text += &format!("vdump: {count} pages could not be read and are missing; --strict stops instead\n");
        }
        text
    }

    /// What the user should know about the pages that were kept.
    fn notes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for warning in &self.warnings {
            writeln!(f, "vdump: note: {}", printable(warning))?;
        }
        self.choices(f)?;
        for ProblemLine { start_pfn, end_pfn, cause } in self.problems.iter().take(LISTED) {
            writeln!(f, "vdump: kept page frames {start_pfn:#x} to {end_pfn:#x}: {}", printable(cause))?;
        }
        if let Some(more @ 1..) = self.problems.len().checked_sub(LISTED) {
            writeln!(f, "vdump: kept {more} more ranges for such reasons")?;
        }
        if let Some(check) = &self.self_check {
            f.write_str(&check.violations())?;
        }
        for DoubtLine { reason, pages } in &self.doubts {
            writeln!(f, "vdump: kept {pages} pages in doubt: {reason}")?;
        }
        Ok(())
    }

    /// What became of tasks and ranges.
    fn choices(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for TaskLine { pid, comm, pages, absent_pages, swapped_pages, .. } in self.tasks.iter().take(LISTED) {
            write!(f, "vdump: kept for task {pid} ({comm}): {pages} pages")?;
            for (pages, why) in [(absent_pages, "are not in the input"), (swapped_pages, "were not in memory")] {
                if *pages > 0 {
                    write!(f, "; {pages} {why}")?;
                }
            }
            writeln!(f)?;
        }
        if let Some(more @ 1..) = self.tasks.len().checked_sub(LISTED) {
            writeln!(f, "vdump: kept for {more} more tasks")?;
        }
        if let Some(PickedLine { protected: pages @ 1.., .. }) = self.picked {
            writeln!(f, "vdump: kept {pages} pages that --drop-range names: the kernel image or the notes")?;
        }
        if let Some(PickedLine { unreadable: pages @ 1.., .. }) = self.picked {
            writeln!(f, "vdump: excluded {pages} pages that were to be kept: poisoned or offline")?;
        }
        Ok(())
    }

    fn row(&self, f: &mut fmt::Formatter<'_>, name: &str, pages: u64, fate: &str) -> fmt::Result {
        let share = pages as f64 * 100.0 / self.pages.ram.max(1) as f64;
        let size = human_bytes(pages.saturating_mul(self.page_size));
        let line = format!("{name:<14} {pages:>12} {size:>11} {share:>5.1} %  {fate}");
        writeln!(f, "{}", line.trim_end())
    }
}

/// Bytes for people, in powers of 1024.
#[must_use]
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        if value < 1023.95 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

/// A span of time for people.
#[must_use]
pub fn human_seconds(seconds: f64) -> String {
    let whole = seconds.max(0.0).round() as u64;
    let (minutes, hours, days) = (whole / 60, whole / 3600, whole / 86400);
    match whole {
        0..10 => format!("{seconds:.1} s"),
        10..60 => format!("{whole} s"),
        60..3600 => format!("{minutes} min {} s", whole % 60),
        3600..86400 => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_well() {
        let spans = [(0.04, "0.0 s"), (9.4, "9.4 s"), (59.0, "59 s"), (61.0, "1 min 1 s"), (3700.0, "1 h 1 min")];
        for (seconds, text) in spans.into_iter().chain([(90000.0, "1 d 1 h")]) {
            assert_eq!(human_seconds(seconds), text);
        }
    }

    #[test]
    fn bytes_read_well() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1 << 20, "1.0 MiB"),
            ((1 << 20) - 1, "1.0 MiB"),
            (1_610_612_736, "1.5 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(human_bytes(bytes), text);
        }
    }
}
