//! Pages that can be reclaimed: on the lists of inactive, active and unevictable pages, and those taken off them for a moment.
//!
//! Knows the nodes' counts and what each CPU has not yet added to them. Must not know the pages themselves.

use super::{Count, item, sane};
use crate::kernel::crashed::Crashed;

/// `enum node_stat_item` (include/linux/mmzone.h, 4.8).
const ITEMS: [&str; 7] = [
    "NR_INACTIVE_ANON",
    "NR_ACTIVE_ANON",
    "NR_INACTIVE_FILE",
    "NR_ACTIVE_FILE",
    "NR_UNEVICTABLE",
    "NR_ISOLATED_ANON",
    "NR_ISOLATED_FILE",
];
/// What one CPU may hold that looks like a page on a list and is counted nowhere: a batch of 31 folios (`struct folio_batch`)
/// that it is about to free, taken off the lists already and anonymous still, and each of them as large as a huge page
/// (mm/swap.c, `folios_put_refs`). What it is about to put on a list is less: a large folio ends a batch (8f182270dfec, 4.5).
const IN_FLIGHT: u64 = 31 * 512;
/// The most that a CPU has not yet added to one count (mm/vmstat.c, `calculate_normal_threshold`), where it cannot be read.
const THRESHOLD: u64 = 125;

pub(super) fn read(crashed: &Crashed<'_>, nodes: &[u64]) -> Result<Count, String> {
    let table = crashed.symbol("vm_node_stat").ok_or("the kernel's symbol table has no vm_node_stat")?;
    let items: Vec<u64> = ITEMS.iter().map(|name| item(crashed, name)).collect::<Result<_, _>>()?;
    let mut pages = 0i64;
    for item in &items {
        let at = table.wrapping_add(item * 8);
        let value = crashed.word(at).ok_or_else(|| format!("vm_node_stat at {at:#x} cannot be read"))?;
        pages = pages.saturating_add(value.cast_signed());
    }
    let cpus = crashed.cpus();
    let mut slack = cpus * IN_FLIGHT;
    match differences(crashed, nodes, &items) {
        Some(more) => pages = pages.saturating_add(more),
        None => slack += cpus.saturating_mul(nodes.len() as u64).saturating_mul(ITEMS.len() as u64 * THRESHOLD),
    }
    // A count that is behind may be below zero, by a little.
    Ok(Count { pages: sane(pages.max(0).cast_unsigned())?, slack })
}

/// What the CPUs have not yet added.
fn differences(crashed: &Crashed<'_>, nodes: &[u64], items: &[u64]) -> Option<i64> {
    /// As many reads as this may take.
    const MAX_READS: usize = 64 << 10;
    let info = crashed.info;
    let pointer = info.offset("pglist_data.per_cpu_nodestats")?;
    let first = info.offset("per_cpu_nodestat.vm_node_stat_diff")?;
    let offsets: Vec<u64> = crashed.cpu_offsets().collect();
    if offsets.is_empty() || offsets.len().checked_mul(nodes.len())? > MAX_READS {
        return None;
    }
    let mut sum = 0i64;
    for node in nodes {
        let stats = crashed.word(node.wrapping_add(pointer)).filter(|stats| *stats != 0)?;
        for offset in &offsets {
            let at = stats.wrapping_add(*offset).wrapping_add(first);
            for item in items {
                // An `s8` each.
                let byte = crashed.byte(at.wrapping_add(*item))?;
                sum += i64::from(byte.cast_signed());
            }
        }
    }
    Some(sum)
}
