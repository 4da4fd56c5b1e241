//! Where the page allocator keeps its per-CPU lists, and the orders of what is on them.

use crate::{
    kernel::zones::MAX_ZONES,
    layout::{KernelLayout, MemMapLayout, VmcoreInfo},
};

/// Keys that no kernel exports: its own types say them.
pub const KEYS: [&str; 4] = [
    "OFFSET(per_cpu_pages.count)",
    "OFFSET(per_cpu_pages.lists)",
    "LENGTH(per_cpu_pages.lists)",
    "NUMBER(__NR_PAGEFLAGS)",
];

/// `PAGE_ALLOC_COSTLY_ORDER`, the highest of the small orders (include/linux/mmzone.h).
const COSTLY_ORDER: u64 = 3;
/// `MIGRATE_PCPTYPES`: lists of each order, where the kernel's enum of them has no name (before 4.6).
const PCP_TYPES: u64 = 3;
/// More than any kernel has.
const MAX_LISTS: u64 = 64;

/// Offsets in bytes, and how many of what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Shape {
    /// The per-CPU pointer in a zone.
    pub(super) pageset: u64,
    /// From where that leads to `struct per_cpu_pages`.
    pub(super) pages: u64,
    /// `count` in it, an `int`.
    pub(super) count: u64,
    /// `lists` in it, each a `list_head`.
    pub(super) lists: u64,
    /// How many lists there are.
    pub(super) nr_lists: u64,
    /// Lists of small orders: they come first.
    pub(super) nr_small: u64,
    /// Lists of each of these orders.
    pub(super) types: u64,
    /// The `list_head` in a `struct page`.
    pub(super) link: u64,
    /// The bits of `flags` that are page flags.
    pub(super) all_flags: u64,
    ids: Ids,
}

/// Where a `struct page`'s flags name its zone and node (include/linux/page-flags-layout.h): from the top down section, node
/// and zone.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Ids {
    /// Bits of the section, where the flags have it: with SPARSEMEM and without a virtual memory map.
    section: u32,
    node: u32,
    zone: u32,
}

impl Shape {
    /// What the kernel's types say.
    ///
    /// # Errors
    /// What they do not say, in words.
    pub(super) fn of(info: &VmcoreInfo, layout: &KernelLayout) -> Result<Self, String> {
        let offset = |name: &str| info.offset(name).ok_or_else(|| format!("nothing says what OFFSET({name}) is"));
        // Until 5.14 (28f836b6777b) a `struct per_cpu_pageset` lay around it.
        let (pageset, pages) = match info.offset("zone.per_cpu_pageset") {
            Some(pageset) => (pageset, 0),
            None => (offset("zone.pageset")?, offset("per_cpu_pageset.pcp")?),
        };
        let nr_lists = info.length("per_cpu_pages.lists").filter(|lists| (1..=MAX_LISTS).contains(lists));
        let nr_lists = nr_lists.ok_or("nothing says how many per-CPU lists there are")?;
        let types = info.number("MIGRATE_PCPTYPES").map_or(PCP_TYPES, i64::cast_unsigned);
        let flags = info.number("__NR_PAGEFLAGS").filter(|flags| (8..=40).contains(flags));
        let flags = flags.ok_or("nothing says which bits of a struct page's flags are flags")?;
        Ok(Self {
            pageset,
            pages,
            count: offset("per_cpu_pages.count")?,
            lists: offset("per_cpu_pages.lists")?,
            nr_lists,
            nr_small: small_lists(nr_lists, types)
                .ok_or_else(|| format!("{nr_lists} per-CPU lists for {types} types of pages are none that is known"))?,
            types,
            link: info.offset("page.pcp_list").map_or_else(|| offset("page.lru"), Ok)?,
            all_flags: (1 << flags) - 1,
            ids: Ids::of(info, layout).ok_or("nothing says where a struct page names its zone")?,
        })
    }

    /// The order of what is on a list of the small ones.
    pub(super) fn order(&self, list: u64) -> u32 {
        (list / self.types) as u32
    }

    /// The order of what is on the others, of which there are `entries` with `pages` frames: that of huge pages, which is
    /// `pageblock_order` until 6.9 and `HPAGE_PMD_ORDER` since; only one order gives so many.
    pub(super) fn large_order(entries: u64, pages: u64) -> Option<u32> {
        let each = pages.checked_div(entries).filter(|each| each.is_power_of_two() && each * entries == pages)?;
        let order = each.trailing_zeros();
        (u64::from(order) > COSTLY_ORDER).then_some(order)
    }

    /// Whether a `struct page` with these flags says that it is of this node and zone.
    pub(super) fn is_of(&self, flags: u64, node: u64, zone: u64) -> bool {
        let Ids { section, node: node_bits, zone: zone_bits } = self.ids;
        let says = |above: u32| {
            let number = |from_top: u32, bits: u32| (flags << from_top).checked_shr(64 - bits).unwrap_or(0);
            number(above, node_bits) == node && number(above + node_bits, zone_bits) == zone
        };
        says(0) || (section > 0 && says(section))
    }
}

/// How many of the lists are of small orders: those of one page alone until 5.14, then those of each order that is not costly
/// (44042b449872). The rest is for huge pages: as many lists as types, one since 5.18 (5d0a661d808f), two since 6.10
/// (bf14ed81f571). Other numbers are of an order of things that is not known.
fn small_lists(lists: u64, types: u64) -> Option<u64> {
    let small = types.checked_mul(COSTLY_ORDER + 1).filter(|_| types > 0)?;
    match lists {
        _ if lists == types => Some(lists),
        _ if (small..=small + types).contains(&lists) => Some(small),
        _ => None,
    }
}

impl Ids {
    fn of(info: &VmcoreInfo, layout: &KernelLayout) -> Option<Self> {
        let zones = info.length("pglist_data.node_zones").filter(|zones| (1..=MAX_ZONES).contains(zones))?;
        // Without NUMA there is no table, and no bits.
        let nodes = match info.symbol("node_data") {
            Some(_) => info.length("node_data").filter(|nodes| (1..=1 << 16).contains(nodes))?,
            None => 1,
        };
        let section = match layout.mem_map {
            MemMapLayout::Sparse(sparse) => {
                log2(sparse.table_len.saturating_mul(sparse.sections_per_root).min(1 << 40))
            }
            MemMapLayout::Flat { .. } => 0,
        };
        Some(Self { section, node: log2(nodes), zone: log2(zones) })
    }
}

/// Bits that number so many.
fn log2(count: u64) -> u32 {
    count.next_power_of_two().trailing_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_each_release_have_their_orders() {
        let shapes =
            [(3, Some(3)), (12, Some(12)), (13, Some(12)), (14, Some(12)), (15, Some(12)), (4, None), (16, None)];
        for (lists, small) in shapes {
            assert_eq!(small_lists(lists, 3), small, "{lists}");
        }
        assert_eq!(small_lists(0, 0), None);
        assert_eq!(small_lists(12, u64::MAX), None);
    }

    #[test]
    fn huge_pages_have_the_one_order_that_fits() {
        assert_eq!(Shape::large_order(3, 3 << 9), Some(9));
        assert_eq!(Shape::large_order(1, 1 << 10), Some(10));
        for (entries, pages) in [(0, 0), (3, 1537), (2, 16), (3, 512 + 1024 + 1024)] {
            assert_eq!(Shape::large_order(entries, pages), None, "{entries} {pages}");
        }
    }

    #[test]
    fn flags_name_node_and_zone() {
        let ids = |section, node, zone| Ids { section, node, zone };
        let shape = |ids| Shape {
            pageset: 0,
            pages: 0,
            count: 0,
            lists: 0,
            nr_lists: 14,
            nr_small: 12,
            types: 3,
            link: 8,
            all_flags: 0xff_ffff,
            ids,
        };
        // Debian's 6.12 on x86_64: 10 bits of node, 3 of zone, then the last CPU and process.
        let numa = shape(ids(19, 10, 3));
        assert!(numa.is_of(0x000f_ffff_c000_0000, 0, 1));
        assert!(!numa.is_of(0x000f_ffff_c000_0000, 0, 2) && !numa.is_of(0x000f_ffff_c000_0000, 1, 1));
        assert!(numa.is_of(5 << 54 | 2 << 51, 5, 2));
        // Sections first, no NUMA.
        let sparse = shape(ids(19, 0, 2));
        assert!(sparse.is_of(7 << 45 | 2 << 43, 0, 2));
        assert!(shape(ids(0, 0, 0)).is_of(0, 0, 0));
        assert!(!shape(ids(0, 0, 0)).is_of(0, 1, 0));
    }
}
