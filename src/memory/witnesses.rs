//! What the crashed kernel's memory says about its own types: the BTF that it carried, and what its free pages look like.
//!
//! Knows where the kernel keeps both. Must not know what the types are good for. The answers are joined with VMCOREINFO, for
//! kernels whose note leaves something out.

use super::{Kallsyms, ReadVirt as _, ReadVirtError, VirtReader};
use crate::layout::{VmcoreInfo, types::MAX_BTF};

/// The bounds of the BTF in the kernel's image (include/asm-generic/vmlinux.lds.h, 5.2: 341dfcf8d78e).
const BTF_BOUNDS: [&str; 2] = ["__start_BTF", "__stop_BTF"];

/// The BTF that the kernel carried, read from its memory.
///
/// # Errors
/// Why there is none, in words: the kernel has no BTF, or its symbol table cannot be used.
pub fn own_btf(info: &VmcoreInfo, virt: &VirtReader<'_>) -> Result<Vec<u8>, String> {
    let kallsyms = Kallsyms::load(info, virt).map_err(|error| error.to_string())?;
    let bounds = kallsyms.lookup(&BTF_BOUNDS).map_err(|error| error.to_string())?;
    let [Some(start), Some(stop)] = bounds[..] else {
        return Err("the kernel was built without BTF".to_owned());
    };
    let len = stop.checked_sub(start).filter(|len| (1..=MAX_BTF).contains(len));
    let len = len.ok_or_else(|| format!("its BTF would lie from {start:#x} to {stop:#x}"))?;
    let mut bytes = vec![0; len as usize];
    virt.read_virt(start, &mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// As many free blocks as are looked at.
const MOST_BLOCKS: u32 = 256;
/// As many as must say the same.
const FEWEST_BLOCKS: u32 = 8;
/// More than any kernel has (`MAX_NR_ZONES`, `MIGRATE_TYPES`, `MAX_NUMNODES`).
const MAX_ZONES: u64 = 8;
const MAX_LISTS: u64 = 16;
const MAX_NODES: u64 = 1024;
const MAX_ORDERS: u64 = 20;

/// The word in `_mapcount` that this kernel marks free blocks with, found by following its lists of free blocks: from 4.18 to
/// 6.10 it is a macro, of which neither DWARF nor BTF know. `None` if the lists cannot be followed, are too short to be
/// sure, or do not agree.
#[must_use]
pub fn buddy_word(info: &VmcoreInfo, virt: &VirtReader<'_>) -> Option<u32> {
    let lists = FreeLists::of(info)?;
    let mut found = Found::default();
    for node in lists.nodes(info, virt) {
        for zone in 0..MAX_ZONES {
            let zone = node.wrapping_add(lists.zones).wrapping_add(zone.wrapping_mul(lists.zone_size));
            // A node has fewer zones than there could be: what follows them is no list, and says so.
            let _ = lists.look(zone, virt, &mut found);
            if found.disagree {
                return None;
            }
        }
    }
    found.word.filter(|_| found.blocks >= FEWEST_BLOCKS)
}

#[derive(Default)]
struct Found {
    word: Option<u32>,
    blocks: u32,
    disagree: bool,
}

/// Offsets and sizes on the way from a node to a free page, bytes.
struct FreeLists {
    zones: u64,
    zone_size: u64,
    areas: u64,
    area_size: u64,
    orders: u64,
    list: u64,
    lists: u64,
    head_size: u64,
    page_lru: u64,
    page_private: u64,
    page_mapcount: u64,
}

impl FreeLists {
    fn of(info: &VmcoreInfo) -> Option<Self> {
        Some(Self {
            zones: info.offset("pglist_data.node_zones")?,
            zone_size: info.size("zone")?,
            areas: info.offset("zone.free_area")?,
            area_size: info.size("free_area")?,
            orders: info.length("zone.free_area")?.min(MAX_ORDERS),
            list: info.offset("free_area.free_list")?,
            lists: info.length("free_area.free_list")?.min(MAX_LISTS),
            head_size: info.size("list_head")?,
            page_lru: info.offset("page.lru")?,
            page_private: info.offset("page.private")?,
            page_mapcount: info.offset("page._mapcount")?,
        })
    }

    fn nodes(&self, info: &VmcoreInfo, virt: &VirtReader<'_>) -> Vec<u64> {
        if let Some(table) = info.symbol("node_data") {
            let nodes = info.length("node_data").unwrap_or(1).min(MAX_NODES);
            let read = |node: u64| virt.read_u64(table.wrapping_add(node * 8)).ok().filter(|at| *at != 0);
            return (0..nodes).filter_map(read).collect();
        }
        info.symbol("contig_page_data").into_iter().collect()
    }

    /// Looks at the first free block of each list of a zone.
    fn look(&self, zone: u64, virt: &VirtReader<'_>, found: &mut Found) -> Result<(), ReadVirtError> {
        for order in 0..self.orders {
            for list in 0..self.lists {
                let area = zone.wrapping_add(self.areas).wrapping_add(order.wrapping_mul(self.area_size));
                let head = area.wrapping_add(self.list).wrapping_add(list.wrapping_mul(self.head_size));
                let next = virt.read_u64(head)?;
                if next == head || found.blocks >= MOST_BLOCKS {
                    continue;
                }
                let page = next.wrapping_sub(self.page_lru);
                // A free block knows its order, and is linked from where it was found: else this is no list.
                let back = virt.read_u64(next.wrapping_add(8))?;
                if virt.read_u64(page.wrapping_add(self.page_private))? != order || back != head {
                    return Ok(());
                }
                let mut word = [0; 4];
                virt.read_virt(page.wrapping_add(self.page_mapcount), &mut word)?;
                let word = u32::from_le_bytes(word);
                found.blocks += 1;
                found.disagree |= *found.word.get_or_insert(word) != word;
            }
        }
        Ok(())
    }
}
