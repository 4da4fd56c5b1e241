//! The kernel's page tables, and what its vmalloc area and its modules' area map.
//!
//! Knows which tables must be read for that: those of the lowest level only in these areas, which keeps the walk short.
//! Must not know what is mapped.

use std::{collections::HashSet, ops::RangeInclusive, time::Duration};

use super::{Found, Frames, Gap};
use crate::{
    kernel::crashed::Crashed,
    memory::{Bounds, Ended, Leaf, Mappings, Visit},
};

/// So many tables take 256 MiB and map 128 GiB of vmalloc's area, beside the direct mapping. On sound media it is milliseconds.
const BOUNDS: Bounds = Bounds { tables: 64 << 10, time: Duration::from_secs(10) };

pub(super) fn find(crashed: &Crashed<'_>, tables: &mut Frames, mapped: &mut Frames) -> Found {
    let space = &crashed.layout.space;
    let number = |name: &str| crashed.info.number(name).map(i64::cast_unsigned);
    let areas = space.page_areas(&number, &|name| crashed.info.symbol(name), &|name| crashed.variable(name));
    let start = space.kernel_parts().iter().map(|part| *part.start()).min().unwrap_or(0);
    let mut areas = Areas { crashed, areas, tables, mapped, seen: HashSet::new() };
    let walk = Mappings::new(crashed.source, space, &|| false).within(BOUNDS);
    let walked = walk.walk_parts(&[start..=u64::MAX], &mut areas);
    match (walked.ended, walked.unreadable) {
        (Some(Ended::Time), _) => Err(Gap::Damaged("looking at page tables took too long".to_owned())),
        (Some(_), _) => Err(Gap::Damaged("there are more page tables than are looked at".to_owned())),
        (None, 0) => Ok(()),
        (None, count) => Err(Gap::Damaged(format!("{count} page tables cannot be read"))),
    }
}

/// Notes all tables, and what is mapped in some areas.
struct Areas<'a, 'b> {
    crashed: &'a Crashed<'b>,
    areas: Vec<RangeInclusive<u64>>,
    tables: &'a mut Frames,
    mapped: &'a mut Frames,
    /// Tables read. Stacks for returns to 16-bit code lead to the same ones from everywhere (arch/x86/kernel/espfix_64.c).
    seen: HashSet<u64>,
}

impl Areas<'_, '_> {
    fn has(&self, first: u64, last: u64) -> bool {
        self.areas.iter().any(|area| *area.start() <= last && first <= *area.end())
    }
}

impl Visit for Areas<'_, '_> {
    fn enters(&mut self, level: u32, table: u64, first: u64, last: u64) -> bool {
        self.tables.add(table, 1, self.crashed);
        (level > 1 || self.has(first, last)) && self.seen.insert(table)
    }

    fn visit(&mut self, leaf: Leaf) {
        if self.has(leaf.vaddr, leaf.vaddr + (leaf.len - 1)) {
            self.mapped.add(leaf.paddr, leaf.len, self.crashed);
        }
    }
}
