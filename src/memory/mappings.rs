//! Everything that the crashed kernel's page tables map, or those of one of its processes.
//!
//! Knows how to go through all tables, however they lead. Must not know what is mapped where, nor whether the dump has it.
//! The mappings go to `plan`, the tables' own memory to `kernel`, those of processes to who wants to keep them.

use std::{
    fmt,
    ops::{ControlFlow, RangeInclusive},
    sync::Arc,
    time::{Duration, Instant},
};

use super::tables::TableReader;
use crate::{
    arch::{AddressSpace, Entry},
    source::Source,
};

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
    /// Whether the table of `level` at a physical address, which maps `first` to `last`, is of interest; else it is not read.
    fn enters(&mut self, _level: u32, _table: u64, _first: u64, _last: u64) -> bool {
        true
    }

    /// Whether anything from `first` to `last`, both virtual, is of interest; tables for the rest are not read.
    fn wants(&self, _first: u64, _last: u64) -> bool {
        true
    }

    /// One mapping. They come in the order of the parts that are walked, in each of them by address.
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
    pub ended: Option<Ended>,
}

/// Why a walk ended early.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// [`Bounds::tables`] were read.
    Tables,
    /// [`Bounds::time`] was over.
    Time,
    /// Who wanted the walk does not want it any more.
    Stopped,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tables => "there are more tables than any kernel has",
            Self::Time => "it took too long",
            Self::Stopped => "it was stopped",
        })
    }
}

/// How far walks may go. Tables that lead back to themselves would never end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Tables that are read at most.
    pub tables: u64,
    /// The longest that it may take.
    pub time: Duration,
}

impl Default for Bounds {
    /// So many tables map 512 GiB in pages of 4 KiB, more than any kernel has beside the direct mapping. On sound media it is
    /// seconds at most.
    fn default() -> Self {
        Self { tables: 256 << 10, time: Duration::from_secs(120) }
    }
}

/// A walk through all of the kernel's page tables, or several through those of processes: the bounds hold for all of them
/// together.
pub struct Mappings<'a> {
    space: Arc<dyn AddressSpace>,
    user: bool,
    tables: TableReader<'a>,
    bounds: Bounds,
    stopped: &'a dyn Fn() -> bool,
    started: Instant,
    walked: Walked,
}

impl<'a> Mappings<'a> {
    /// Prepares a walk, which `stopped` ends early.
    #[must_use]
    pub fn new(source: &'a Source, space: &Arc<dyn AddressSpace>, stopped: &'a dyn Fn() -> bool) -> Self {
        Self {
            space: Arc::clone(space),
            user: false,
            tables: TableReader::new(source.reader()),
            bounds: Bounds::default(),
            stopped,
            started: Instant::now(),
            walked: Walked::default(),
        }
    }

    /// The same within other bounds.
    #[must_use]
    pub fn within(self, bounds: Bounds) -> Self {
        Self { bounds, ..self }
    }

    /// Shows every mapping in the kernel's half to `visitor`. A table that cannot be read loses only what it maps.
    pub fn walk(self, visitor: &mut dyn Visit) -> Walked {
        let parts = self.space.kernel_parts();
        self.walk_parts(&parts, visitor)
    }

    /// The same of some parts of it.
    pub fn walk_parts(mut self, parts: &[RangeInclusive<u64>], visitor: &mut dyn Visit) -> Walked {
        let (table, level) = self.space.top();
        // Addresses are sign-extended from the top table's highest bit.
        let base = u64::MAX.checked_shl(self.space.address_bits()).unwrap_or(0);
        for part in parts {
            if let ControlFlow::Break(why) = self.table(level, table, base, part, visitor) {
                self.walked.ended = Some(why);
                break;
            }
        }
        self.walked
    }

    /// Why no walk gets any further.
    #[must_use]
    pub fn ended(&self) -> Option<Ended> {
        self.walked.ended
    }

    /// Shows every mapping of a process from one address to another to `visitor`; its top table is at a physical address.
    pub fn walk_process(&mut self, root: u64, part: &RangeInclusive<u64>, visitor: &mut dyn Visit) -> Walked {
        let before = self.walked;
        self.user = true;
        self.space = self.space.of_process(root);
        let (table, level) = self.space.top();
        let whole = self.space.user_part();
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
    ) -> ControlFlow<Ended> {
        let (shift, entries) = (self.space.shift(level), self.space.entries(level));
        if !visitor.enters(level, table, base, base | (entries << shift).wrapping_sub(1)) {
            return ControlFlow::Continue(());
        }
        self.walked.tables += 1;
        self.go_on()?;
        let index_of = |vaddr: u64| (vaddr.saturating_sub(base) >> shift).min(entries - 1);
        let mut before = None;
        for index in index_of(*part.start())..=index_of(*part.end()) {
            let first = base.wrapping_add(index << shift);
            let last = first | ((1 << shift) - 1);
            if !visitor.wants(first, last) {
                continue;
            }
            let Ok(entry) = self.tables.entry(&*self.space, level, table, index) else {
                // All of its entries are in one page.
                self.walked.unreadable += 1;
                return ControlFlow::Continue(());
            };
            let found = if self.user { self.space.user_entry(level, entry) } else { self.space.entry(level, entry) };
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

    fn go_on(&self) -> ControlFlow<Ended> {
        if self.walked.tables > self.bounds.tables {
            return ControlFlow::Break(Ended::Tables);
        }
        if self.started.elapsed() > self.bounds.time {
            return ControlFlow::Break(Ended::Time);
        }
        if (self.stopped)() { ControlFlow::Break(Ended::Stopped) } else { ControlFlow::Continue(()) }
    }
}
