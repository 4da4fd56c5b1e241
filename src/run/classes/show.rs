//! The table of classes: for people, and as JSON for programs.
//!
//! Knows what is worth saying. Must not count. Printed by `run`.

use std::fmt;

use serde::Serialize;
use vdump_filters::{Doubt, DumpLevel, PageClass};

use super::{Counted, ZoneCount};
use crate::{
    classify::Counts,
    error::printable,
    layout::VmcoreInfo,
    memory::Problem,
    report::{DoubtLine, ProblemLine, human_bytes},
    source::Source,
    sys::host,
};

/// The levels that scripts use, and what each leaves out.
const LEVELS: [(u8, &str); 5] = [
    (0, "poisoned and offline pages"),
    (1, "zero pages"),
    (17, "zero and free pages"),
    (25, "zero, free and user pages"),
    (31, "zero, free, user and cache pages"),
];

#[derive(Serialize)]
struct ClassLine {
    name: &'static str,
    pages: u64,
    bytes: u64,
    /// Of all RAM, in a zone of its pages; 0 to 1.
    share: f64,
    /// `null`: not counted.
    zero_pages: Option<u64>,
}

#[derive(Serialize)]
struct LevelLine {
    level: u8,
    without: &'static str,
    /// Pages that the dump could show.
    kept_pages: u64,
    /// Of them zero pages, which are stored once or not at all; `null`: not counted.
    zero_pages: Option<u64>,
    /// Bytes of the pages that would be stored, before compression; where zero pages were not counted, at most.
    bytes: u64,
}

#[derive(Serialize)]
struct ZoneLine {
    /// `null`, as all but the counts: pages that no zone spans, or more than one.
    node: Option<u64>,
    zone: Option<String>,
    start_pfn: Option<u64>,
    end_pfn: Option<u64>,
    pages: u64,
    bytes: u64,
    classes: Vec<ClassLine>,
}

/// Everything about one look at memory.
#[derive(Serialize)]
pub(super) struct Report {
    format: String,
    kernel: Option<String>,
    /// The kernel runs.
    live: bool,
    /// User pages that are this program's own, about; where the kernel runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    own_pages: Option<u64>,
    page_size: u64,
    /// Pages of RAM that the machine had, as far as the input tells.
    ram_pages: u64,
    ram_bytes: u64,
    /// Of them those that the input lacks: of no class.
    absent_pages: u64,
    classes: Vec<ClassLine>,
    doubts: Vec<DoubtLine>,
    unreadable_pages: u64,
    levels: Vec<LevelLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    zones: Option<Vec<ZoneLine>>,
    /// Why zones cannot be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    zones_unknown: Option<String>,
    problems: Vec<ProblemLine>,
    warnings: Vec<String>,
}

impl Report {
    pub(super) fn new(
        source: &Source,
        info: &VmcoreInfo,
        page_shift: u32,
        counted: &Counted,
        problems: Vec<Problem>,
        warnings: Vec<String>,
    ) -> Self {
        let size = 1 << page_shift;
        let Counted { counts, zero, zones, .. } = counted;
        let absent = source.absent(page_shift);
        let ram = counts.total() + absent;
        let (zones, zones_unknown) = match zones {
            None => (None, None),
            Some(Ok(zones)) => (Some(zones.iter().map(|zone| zone_line(zone, size)).collect()), None),
            Some(Err(cause)) => (None, Some(cause.clone())),
        };
        let doubt = |doubt: &Doubt| DoubtLine { reason: doubt.name(), pages: counts.doubts[doubt.index()] };
        let problem =
            |Problem { range, cause }: Problem| ProblemLine { start_pfn: range.start, end_pfn: range.end, cause };
        Self {
            format: source.describe(),
            kernel: info.text("OSRELEASE").map(printable),
            live: source.is_live(),
            own_pages: if source.is_live() { host::own_memory().map(|bytes| bytes / size) } else { None },
            page_size: size,
            ram_pages: ram,
            ram_bytes: ram.saturating_mul(size),
            absent_pages: absent,
            classes: class_lines(counts, zero.as_ref(), size, ram),
            doubts: Doubt::ALL.iter().map(doubt).filter(|line| line.pages > 0).collect(),
            unreadable_pages: counted.unreadable,
            levels: level_lines(counted, size),
            zones,
            zones_unknown,
            problems: problems.into_iter().map(problem).collect(),
            warnings,
        }
    }
}

/// `all` is what shares are of, pages.
fn class_lines(counts: &Counts, zero: Option<&Counts>, size: u64, all: u64) -> Vec<ClassLine> {
    let share = |pages: u64| pages as f64 / all.max(1) as f64;
    let line = |class: PageClass| {
        let pages = counts.of(class);
        let zero_pages = zero.map(|zero| zero.of(class));
        ClassLine { name: class.name(), pages, bytes: pages.saturating_mul(size), share: share(pages), zero_pages }
    };
    PageClass::ALL.into_iter().map(line).filter(|line| line.pages > 0).collect()
}

fn level_lines(counted: &Counted, size: u64) -> Vec<LevelLine> {
    let line = |(bits, without)| {
        let level = DumpLevel::new(bits).unwrap_or(DumpLevel::MAX);
        let (kept_pages, zero_pages) = counted.kept(level);
        let zeros = zero_pages.filter(|_| level.drops_zero()).unwrap_or(0);
        LevelLine { level: bits, without, kept_pages, zero_pages, bytes: (kept_pages - zeros.min(kept_pages)) * size }
    };
    LEVELS.into_iter().map(line).collect()
}

fn zone_line(ZoneCount { zone, counts }: &ZoneCount, size: u64) -> ZoneLine {
    ZoneLine {
        node: zone.as_ref().map(|zone| zone.node),
        zone: zone.as_ref().map(|zone| zone.name.clone()),
        start_pfn: zone.as_ref().map(|zone| zone.range.start),
        end_pfn: zone.as_ref().map(|zone| zone.range.end),
        pages: counts.total(),
        bytes: counts.total().saturating_mul(size),
        classes: class_lines(counts, None, size, counts.total()),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}, kernel {}", self.format, self.kernel.as_deref().unwrap_or("unknown"))?;
        writeln!(f)?;
        table(f, "class", &self.classes)?;
        if self.absent_pages > 0 {
            let size = human_bytes(self.absent_pages.saturating_mul(self.page_size));
            let share = self.absent_pages as f64 * 100.0 / self.ram_pages.max(1) as f64;
            writeln!(f, "{:<14} {:>12} {size:>11} {share:>5.1} %  not in the input", "absent", self.absent_pages)?;
        }
        let size = human_bytes(self.ram_bytes);
        writeln!(f, "{:<14} {:>12} {size:>11}", "RAM", self.ram_pages)?;
        if let Some(own) = self.own_pages {
            writeln!(f, "about {own} of the user pages are vdump's own")?;
        }
        for zone in self.zones.iter().flatten() {
            writeln!(f)?;
            table(f, &printable(&zone.title()), &zone.classes)?;
        }
        if let Some(cause) = &self.zones_unknown {
            writeln!(f, "\nzones are not known: {}", printable(cause))?;
        }
        self.levels(f)?;
        self.notes(f)
    }
}

impl Report {
    fn levels(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n{:<14} {:>12} {:>11}", "a dump of level", "pages", "size")?;
        let counted = self.levels.iter().any(|line| line.zero_pages.is_some());
        for LevelLine { level, without, kept_pages, bytes, .. } in &self.levels {
            writeln!(f, "{level:<15} {kept_pages:>12} {:>11}  without {without}", human_bytes(*bytes))?;
        }
        let zeros = if counted {
            "zero pages count as pages, and take no room"
        } else {
            "zero pages, which take no room, are counted in: --zero finds them"
        };
        writeln!(f, "before compression; {zeros}")
    }

    fn notes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// As many items of one kind as a console can bear.
        const LISTED: usize = 10;
        for warning in &self.warnings {
            writeln!(f, "note: {}", printable(warning))?;
        }
        if self.unreadable_pages > 0 {
            writeln!(f, "note: {} pages could not be read", self.unreadable_pages)?;
        }
        for ProblemLine { start_pfn, end_pfn, cause } in self.problems.iter().take(LISTED) {
            writeln!(f, "note: page frames {start_pfn:#x} to {end_pfn:#x} have no class: {}", printable(cause))?;
        }
        if let Some(more @ 1..) = self.problems.len().checked_sub(LISTED) {
            writeln!(f, "note: {more} more ranges have no class for such reasons")?;
        }
        for DoubtLine { reason, pages } in &self.doubts {
            writeln!(f, "note: {pages} pages are in doubt: {reason}")?;
        }
        Ok(())
    }
}

impl ZoneLine {
    fn title(&self) -> String {
        match (&self.zone, self.node) {
            (Some(zone), Some(node)) => format!("node {node} {zone}"),
            _ => "no sure zone".to_owned(),
        }
    }
}

fn table(f: &mut fmt::Formatter<'_>, title: &str, lines: &[ClassLine]) -> fmt::Result {
    let zero = if lines.iter().any(|line| line.zero_pages.is_some()) { "   zero pages" } else { "" };
    writeln!(f, "{title:<14} {:>12} {:>11} {:>7}{zero}", "pages", "size", "share")?;
    for ClassLine { name, pages, bytes, share, zero_pages } in lines {
        let zero = zero_pages.map_or_else(String::new, |pages| format!("{pages:>13}"));
        writeln!(f, "{name:<14} {pages:>12} {:>11} {:>5.1} %{zero}", human_bytes(*bytes), share * 100.0)?;
    }
    Ok(())
}
