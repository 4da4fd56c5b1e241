//! Everything that the crashed kernel's page tables map, or those of one of its processes.
//!
//! Knows how to go through all tables, however they lead. Must not know what is mapped where, nor whether the dump has it.
//! The mappings go to `plan`, those of processes to who wants to keep them.

use std::{
    ops::{ControlFlow, RangeInclusive},
    time::{Duration, Instant},
};

use super::arch::{self, Arch, Entry, TABLE_ENTRIES, TableReader};
use crate::{layout::PagingLayout, source::Source};

/// Memory that one page table entry maps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Leaf {
    /// Virtual address of the first byte.
    pub vaddr: u64,
    /// Its physical address.
    pub paddr: u64,
    /// Bytes.
    pub len: u64,
}

/// Looks at mappings.
pub trait Visit {
    /// Whether anything from `first` to `last`, both virtual, is of interest; tables for the rest are not read.
    fn wants(&self, first: u64, last: u64) -> bool;

    /// One mapping. They come in the order of the architecture's parts, in each of them by address.
    fn visit(&mut self, leaf: Leaf);

    /// So many bytes of a process's memory lie elsewhere: they were swapped out, or were being moved.
    fn elsewhere(&mut self, _len: u64) {}
}

/// How a walk went.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Walked {
    /// Tables read.
    pub tables: u64,
    /// Tables that could not be read: what they map is not known.
    pub unreadable: u64,
    /// Entries that the architecture does not define.
    pub broken: u64,
    /// Why the walk ended before the last table.
    pub ended: Option<&'static str>,
}

/// Tables that one walk reads at most. So many map 512 GiB in pages of 4 KiB, more than any kernel has beside the direct
/// mapping; tables that lead back to themselves would never end.
const MAX_TABLES: u64 = 256 << 10;
/// The longest a walk may take. On sound media it is seconds at most.
const MAX_TIME: Duration = Duration::from_secs(120);

/// A walk through all of the kernel's page tables, or several through those of processes: the bounds hold for all of them
/// together.
pub struct Mappings<'a> {
    paging: PagingLayout,
    arch: Box<dyn Arch>,
    user: bool,
    tables: TableReader<'a>,
    stopped: &'a dyn Fn() -> bool,
    started: Instant,
    walked: Walked,
}

impl<'a> Mappings<'a> {
    /// Prepares a walk, which `stopped` ends early; `None` for an architecture that is not known.
    #[must_use]
    pub fn new(source: &'a Source, paging: PagingLayout, stopped: &'a dyn Fn() -> bool) -> Option<Self> {
        let arch = arch::for_layout(paging)?;
        let tables = TableReader::new(source.reader());
        let started = Instant::now();
        Some(Self { paging, arch, user: false, tables, stopped, started, walked: Walked::default() })
    }

    /// Shows every mapping in the kernel's half to `visitor`. A table that cannot be read costs what it maps only.
    pub fn walk(mut self, visitor: &mut dyn Visit) -> Walked {
        let (table, level) = self.arch.top();
        // Addresses are sign-extended from the top table's highest bit.
        let base = u64::MAX.checked_shl(self.arch.shift(level + 1)).unwrap_or(0);
        for part in self.arch.kernel_parts() {
            if let ControlFlow::Break(why) = self.table(level, table, base, &part, visitor) {
                self.walked.ended = Some(why);
                break;
            }
        }
        self.walked
    }

    /// Why no walk gets any further.
    #[must_use]
    pub fn ended(&self) -> Option<&'static str> {
        self.walked.ended
    }

    /// Shows every mapping of a process from one address to another to `visitor`; its top table is at a physical address.
    pub fn walk_process(&mut self, root: u64, part: &RangeInclusive<u64>, visitor: &mut dyn Visit) -> Walked {
        let before = self.walked;
        self.user = true;
        if let Some(arch) = arch::for_layout(PagingLayout { root, ..self.paging }) {
            self.arch = arch;
        }
        let (table, level) = self.arch.top();
        let whole = self.arch.user_part();
        let part = *part.start().max(whole.start())..=*part.end().min(whole.end());
        if !part.is_empty()
            && let ControlFlow::Break(why) = self.table(level, table, 0, &part, visitor)
        {
            self.walked.ended = Some(why);
        }
        let Walked { tables, unreadable, broken, ended } = self.walked;
        Walked {
            tables: tables - before.tables,
            unreadable: unreadable - before.unreadable,
            broken: broken - before.broken,
            ended,
        }
    }

    /// The entries of one table that lie in `part`; `base` is the address that the first one maps.
    fn table(
        &mut self,
        level: u32,
        table: u64,
        base: u64,
        part: &RangeInclusive<u64>,
        visitor: &mut dyn Visit,
    ) -> ControlFlow<&'static str> {
        self.walked.tables += 1;
        self.go_on()?;
        let shift = self.arch.shift(level);
        let index_of = |vaddr: u64| (vaddr.saturating_sub(base) >> shift).min(TABLE_ENTRIES - 1);
        let mut before = None;
        for index in index_of(*part.start())..=index_of(*part.end()) {
            let first = base.wrapping_add(index << shift);
            let last = first | ((1 << shift) - 1);
            if !visitor.wants(first, last) {
                continue;
            }
            let Ok(entry) = self.tables.entry(level, table, index) else {
                // All of its entries are in one page.
                self.walked.unreadable += 1;
                return ControlFlow::Continue(());
            };
            let found = if self.user { self.arch.user_entry(level, entry) } else { self.arch.entry(level, entry) };
            match found {
                Entry::Absent => {}
                Entry::Elsewhere => visitor.elsewhere(last.min(*part.end()) - first.max(*part.start()) + 1),
                Entry::Broken => self.walked.broken += 1,
                Entry::Page(paddr) => {
                    if level > 1 {
                        // It may be large, and so may be what is done with it.
                        self.go_on()?;
                    }
                    // A large page may stand over the part's ends.
                    let (from, to) = (first.max(*part.start()), last.min(*part.end()));
                    visitor.visit(Leaf { vaddr: from, paddr: paddr + (from - first), len: to - from + 1 });
                }
                // One table for neighbours is KASAN's: its shadow of terabytes that are not there is one page, over and over
                // (mm/kasan/init.c; mm/ptdump.c leaves them out too).
                Entry::Table(_) if before == Some(found) => {}
                Entry::Table(next) => self.table(level - 1, next, first, part, visitor)?,
            }
            before = Some(found);
        }
        ControlFlow::Continue(())
    }

    fn go_on(&self) -> ControlFlow<&'static str> {
        if self.walked.tables > MAX_TABLES {
            return ControlFlow::Break("there are more tables than any kernel has");
        }
        if self.started.elapsed() > MAX_TIME {
            return ControlFlow::Break("it took too long");
        }
        if (self.stopped)() { ControlFlow::Break("it was stopped") } else { ControlFlow::Continue(()) }
    }
}
