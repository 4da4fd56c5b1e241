//! Free blocks, as each zone counts them by their order.
//!
//! Knows nodes and zones. Must not know the blocks themselves.

use super::{Count, item, lacks, sane};
use crate::kernel::crashed::Crashed;

/// More than any kernel has (`MAX_NUMNODES`, `MAX_NR_ZONES`, `MAX_ORDER`).
const MAX_NODES: u64 = 1024;
const MAX_ZONES: u32 = 8;
const MAX_ORDERS: u64 = 20;
/// `SIZE(spinlock)` where it is nothing but the queue's word (include/asm-generic/qspinlock_types.h): all zero is unlocked.
/// One that real-time kernels or lock debugging made larger is not looked into.
const PLAIN_LOCK: u64 = 4;

/// The nodes' addresses.
pub(super) fn nodes(crashed: &Crashed<'_>) -> Result<Vec<u64>, String> {
    let info = crashed.info;
    let nodes: Vec<u64> = match info.symbol("node_data") {
        Some(table) => {
            let count = info.length("node_data").filter(|count| (1..=MAX_NODES).contains(count));
            let count = count.ok_or_else(|| lacks("LENGTH(node_data)"))?;
            let read = |node: u64| crashed.word(table.wrapping_add(node * 8));
            let nodes: Option<Vec<u64>> = (0..count).map(read).collect();
            nodes.ok_or_else(|| format!("the table of nodes at {table:#x} cannot be read"))?
        }
        None => vec![info.symbol("contig_page_data").ok_or_else(|| lacks("SYMBOL(node_data)"))?],
    };
    Ok(nodes.into_iter().filter(|node| *node != 0).collect())
}

/// Pages in free blocks. The counts change under the zone's lock together with the blocks' marks: where it is not held they
/// agree to the page. Where it is, or cannot be seen, one block may be on its way (mm/page_alloc.c, `__free_one_page`: marked
/// first, then counted).
pub(super) fn free(crashed: &Crashed<'_>, nodes: &[u64]) -> Result<Count, String> {
    let info = crashed.info;
    let offset = |name: &str| info.offset(name).ok_or_else(|| lacks(&format!("OFFSET({name})")));
    let size = |name: &str| info.size(name).ok_or_else(|| lacks(&format!("SIZE({name})")));
    let (zones, nr_zones) = (offset("pglist_data.node_zones")?, offset("pglist_data.nr_zones")?);
    let (areas, spanned) = (offset("zone.free_area")?, offset("zone.spanned_pages")?);
    let (zone_size, area_size) = (size("zone")?, size("free_area")?);
    let nr_free = nr_free(crashed, area_size).ok_or_else(|| lacks("OFFSET(free_area.nr_free)"))?;
    let orders = info.length("zone.free_area").filter(|orders| (1..=MAX_ORDERS).contains(orders));
    let orders = orders.ok_or_else(|| lacks("LENGTH(zone.free_area)"))?;
    let lock = info.offset("zone.lock").filter(|_| info.size("spinlock") == Some(PLAIN_LOCK));
    let (mut count, mut any) = (Count::default(), false);
    for node in nodes {
        let filled = crashed.half(node.wrapping_add(nr_zones)).filter(|zones| *zones <= MAX_ZONES);
        let filled = filled.ok_or_else(|| format!("the node at {node:#x} has no number of zones that can be"))?;
        for zone in 0..u64::from(filled) {
            let zone = node.wrapping_add(zones).wrapping_add(zone.wrapping_mul(zone_size));
            let word = |at: u64| crashed.word(at).ok_or_else(|| format!("the zone at {zone:#x} cannot be read"));
            if word(zone.wrapping_add(spanned))? == 0 {
                continue;
            }
            any = true;
            for order in 0..orders {
                let area = zone.wrapping_add(areas).wrapping_add(order.wrapping_mul(area_size));
                let pages = word(area.wrapping_add(nr_free))?.saturating_mul(1 << order);
                count.pages = sane(pages).and_then(|pages| sane(count.pages + pages))?;
            }
            let unlocked = lock.and_then(|lock| crashed.half(zone.wrapping_add(lock))) == Some(0);
            count.slack += if unlocked { 0 } else { 1 << (orders - 1) };
        }
    }
    // A machine without any memory did not crash.
    if any { Ok(count) } else { Err("no zone has any memory".to_owned()) }
}

/// Where the number of blocks lies in a `free_area`: as its types say, or behind the lists if that is just what its size leaves.
fn nr_free(crashed: &Crashed<'_>, area_size: u64) -> Option<u64> {
    let info = crashed.info;
    let after_lists = || {
        let lists = info.length("free_area.free_list")?.checked_mul(info.size("list_head")?)?;
        let end = info.offset("free_area.free_list")?.checked_add(lists)?;
        (end.checked_add(8) == Some(area_size)).then_some(end)
    };
    info.offset("free_area.nr_free").or_else(after_lists).filter(|at| *at < area_size)
}

/// Pages that were never accepted. They come in blocks of the largest order, too many at once for a CPU to keep the difference to
/// itself (mm/page_alloc.c, `__free_unaccepted`); each CPU may be taking one.
pub(super) fn unaccepted(crashed: &Crashed<'_>) -> Result<Count, String> {
    let at = crashed.symbol("vm_zone_stat").ok_or("the kernel's symbol table has no vm_zone_stat")?;
    let at = at.wrapping_add(item(crashed, "NR_UNACCEPTED")? * 8);
    let pages = crashed.word(at).ok_or_else(|| format!("vm_zone_stat at {at:#x} cannot be read"))?;
    Ok(Count { pages: sane(pages)?, slack: crashed.cpus() << (MAX_ORDERS / 2) })
}
