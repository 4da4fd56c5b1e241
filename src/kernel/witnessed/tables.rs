//! The kernel's page tables, and what its vmalloc area and its modules' area map.
//!
//! Knows which tables must be read for that: those of the lowest level only in these areas, which keeps the walk short.
//! Must not know what is mapped.

use std::{
    collections::HashSet,
    ops::{ControlFlow, RangeInclusive},
    time::{Duration, Instant},
};

use super::{Found, Frames, Gap};
use crate::{
    kernel::crashed::Crashed,
    memory::arch::{self, Arch, Entry, TABLE_ENTRIES, TableReader},
};

/// Tables read at most: 256 MiB of them map 128 GiB of vmalloc's area, beside the direct mapping. Tables that lead back to
/// themselves would never end.
const MAX_TABLES: usize = 64 << 10;
/// The longest that the walk may take. On sound media it is milliseconds.
const MAX_TIME: Duration = Duration::from_secs(10);

pub(super) fn find(crashed: &Crashed<'_>, tables: &mut Frames, mapped: &mut Frames) -> Found {
    let unknown = || Gap::Unknown("the architecture is not known".to_owned());
    let arch = arch::for_layout(crashed.layout.paging).ok_or_else(unknown)?;
    let reader = TableReader::new(crashed.source.reader());
    let areas = areas(crashed);
    let (top, level) = arch.top();
    // Addresses are sign-extended from the top table's highest bit.
    let base = u64::MAX.checked_shl(arch.shift(level + 1)).unwrap_or(0);
    let half = arch.kernel_parts().iter().map(|part| *part.start()).min().unwrap_or(base);
    let (started, seen) = (Instant::now(), HashSet::new());
    let mut walk = Walk { crashed, arch, reader, areas, tables, mapped, started, seen, unreadable: 0 };
    if let ControlFlow::Break(why) = walk.table(level, top, base, half) {
        return Err(Gap::Damaged(why.to_owned()));
    }
    match walk.unreadable {
        0 => Ok(()),
        count => Err(Gap::Damaged(format!("{count} page tables cannot be read"))),
    }
}

/// Where every page that is mapped was given to the kernel as a page: vmalloc's area (which ends below the memory map,
/// Documentation/arch/x86/x86_64/mm.rst) and that of modules, which ends below the fixed mappings.
fn areas(crashed: &Crashed<'_>) -> Vec<RangeInclusive<u64>> {
    const KERNEL_MAP: u64 = 0xffff_ffff_8000_0000;
    const MODULES_END: u64 = 0xffff_ffff_feff_ffff;
    let info = crashed.info;
    let number = |name: &str| info.number(name).map(i64::cast_unsigned);
    let start = number("VMALLOC_START").or_else(|| crashed.variable("vmalloc_base"));
    let end = info.symbol("vmemmap").or_else(|| crashed.variable("vmemmap_base"));
    let vmalloc = start.zip(end).filter(|(start, end)| start >> 63 == 1 && start < end);
    let image = number("KERNEL_IMAGE_SIZE").filter(|size| (1 << 29..=1 << 30).contains(size));
    let modules = image.map(|size| KERNEL_MAP + size..=MODULES_END);
    vmalloc.map(|(start, end)| start..=end - 1).into_iter().chain(modules).collect()
}

struct Walk<'a, 'b> {
    crashed: &'a Crashed<'b>,
    arch: Box<dyn Arch>,
    reader: TableReader<'a>,
    areas: Vec<RangeInclusive<u64>>,
    tables: &'a mut Frames,
    mapped: &'a mut Frames,
    started: Instant,
    /// Tables read. Stacks for returns to 16-bit code lead to the same ones from everywhere (arch/x86/kernel/espfix_64.c).
    seen: HashSet<u64>,
    unreadable: u64,
}

impl Walk<'_, '_> {
    /// One table that maps from `base` on, and those below it, as far as they map what lies above `from`.
    fn table(&mut self, level: u32, table: u64, base: u64, from: u64) -> ControlFlow<&'static str> {
        let shift = self.arch.shift(level);
        let end = base | ((TABLE_ENTRIES << shift) - 1);
        self.tables.add(table, 1, self.crashed);
        if level == 1 && !self.is_in_area(base, end) {
            return ControlFlow::Continue(());
        }
        if !self.seen.insert(table) {
            return ControlFlow::Continue(());
        }
        self.go_on()?;
        let mut before = None;
        for index in from.saturating_sub(base) >> shift..TABLE_ENTRIES {
            let Ok(entry) = self.reader.entry(level, table, index) else {
                // All of its entries are in one page.
                self.unreadable += 1;
                return ControlFlow::Continue(());
            };
            let first = base.wrapping_add(index << shift);
            let last = first | ((1 << shift) - 1);
            let found = self.arch.entry(level, entry);
            match found {
                Entry::Absent | Entry::Elsewhere | Entry::Broken => {}
                Entry::Page(paddr) if self.is_in_area(first, last) => self.mapped.add(paddr, 1 << shift, self.crashed),
                Entry::Page(_) => {}
                // One table for neighbours is KASAN's shadow of what is not there.
                Entry::Table(_) if before == Some(found) => {}
                Entry::Table(next) => self.table(level - 1, next, first, from)?,
            }
            before = Some(found);
        }
        ControlFlow::Continue(())
    }

    fn is_in_area(&self, first: u64, last: u64) -> bool {
        self.areas.iter().any(|area| *area.start() <= last && first <= *area.end())
    }

    fn go_on(&mut self) -> ControlFlow<&'static str> {
        if self.seen.len() > MAX_TABLES {
            return ControlFlow::Break("there are more page tables than are looked at");
        }
        if self.started.elapsed() > MAX_TIME {
            return ControlFlow::Break("looking at page tables took too long");
        }
        ControlFlow::Continue(())
    }
}
