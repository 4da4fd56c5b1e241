//! Types put into words, as the kernel does it in VMCOREINFO.
//!
//! Knows which key a type's fact has there (Documentation/admin-guide/kdump/vmcoreinfo.rst, Linux 6.12) and how the values
//! of each era are made. Must not know where the types came from. The lines are one witness of the layout.

use std::collections::BTreeSet;

use super::{Types, Wanted};
use crate::layout::{VmcoreInfo, Witness};

/// Structures whose sizes are exported, under the name that the kernel gives them.
const SIZES: &[&str] = &[
    "page",
    "mem_section",
    "pglist_data",
    "zone",
    "free_area",
    "list_head",
    "nodemask_t",
    "printk_log",
    "printk_ringbuffer",
    "prb_desc_ring",
    "prb_desc",
    "prb_data_blk_lpos",
    "prb_data_ring",
    "printk_info",
    "dev_printk_info",
    "atomic_long_t",
    "latched_seq",
    "uts_namespace",
    // Not exported by any kernel: what the self-check needs.
    "thread_union",
    "spinlock",
    "hstate",
];

/// Members whose offsets are exported. A kernel has those of its era.
const OFFSETS: &[(&str, &[&str])] = &[
    (
        "page",
        &[
            "flags",
            "_refcount",
            "_count",
            "mapping",
            "lru",
            "_mapcount",
            "private",
            "compound_dtor",
            "compound_order",
            "compound_head",
            "compound_info",
            // Not exported: what is free on the per-CPU lists (`memory/pcp`), as what follows about zones and those lists.
            "pcp_list",
        ],
    ),
    ("folio", &["_folio_dtor", "_folio_order"]),
    ("mem_section", &["section_mem_map"]),
    ("pglist_data", &["node_zones", "nr_zones", "node_mem_map", "node_start_pfn", "node_spanned_pages", "node_id"]),
    ("zone", &["free_area", "vm_stat", "spanned_pages", "zone_start_pfn", "name"]),
    ("free_area", &["free_list"]),
    // Not exported by any kernel: what the self-check needs (`memory/counters`, `memory/witnessed`).
    ("pglist_data", &["per_cpu_nodestats"]),
    ("per_cpu_nodestat", &["vm_node_stat_diff"]),
    ("zone", &["lock", "per_cpu_pageset", "pageset"]),
    ("per_cpu_pageset", &["pcp"]),
    ("per_cpu_pages", &["count", "lists"]),
    ("free_area", &["nr_free"]),
    ("hstate", &["order", "nr_huge_pages", "resize_lock"]),
    ("mutex", &["owner"]),
    ("pcpu_chunk", &["base_addr", "nr_pages"]),
    ("list_head", &["next", "prev"]),
    ("uts_namespace", &["name"]),
    ("atomic_long_t", &["counter"]),
    ("latched_seq", &["val"]),
    ("printk_log", &["ts_nsec", "len", "text_len", "dict_len"]),
    ("printk_ringbuffer", &["desc_ring", "text_data_ring", "fail"]),
    ("prb_desc_ring", &["count_bits", "descs", "infos", "head_id", "tail_id"]),
    ("prb_desc", &["state_var", "text_blk_lpos"]),
    ("prb_data_blk_lpos", &["begin", "next"]),
    ("prb_data_ring", &["size_bits", "data", "head_lpos", "tail_lpos"]),
    ("printk_info", &["seq", "ts_nsec", "text_len", "caller_id", "dev_info"]),
    ("dev_printk_info", &["subsystem", "device"]),
    // What follows no kernel exports: tasks and their memory (include/linux/sched.h, mm_types.h, maple_tree.h).
    ("task_struct", &["tasks", "pid", "tgid", "comm", "mm", "stack", "signal", "thread_node", "thread_group"]),
    ("signal_struct", &["thread_head"]),
    ("rq", &["curr"]),
    ("mm_struct", &["pgd", "start_stack", "mm_mt", "mmap"]),
    ("vm_area_struct", &["vm_start", "vm_end", "vm_next"]),
    ("maple_tree", &["ma_root"]),
    ("maple_range_64", &["pivot", "slot"]),
    ("maple_arange_64", &["pivot", "slot"]),
];

/// Lengths of members: the key, the structure and the member.
const LENGTHS: &[(&str, &str, &str)] = &[
    ("zone.free_area", "zone", "free_area"),
    ("free_area.free_list", "free_area", "free_list"),
    ("pglist_data.node_zones", "pglist_data", "node_zones"),
    ("per_cpu_pages.lists", "per_cpu_pages", "lists"),
    ("printk_info_subsystem", "dev_printk_info", "subsystem"),
    ("printk_info_device", "dev_printk_info", "device"),
    ("maple_range_64.slot", "maple_range_64", "slot"),
    ("maple_arange_64.slot", "maple_arange_64", "slot"),
];

/// Page types: the key's middle, the enumerator since 6.12 and that of 6.11.
const PAGE_TYPES: &[(&str, &str, &str)] = &[
    ("BUDDY", "PGTY_buddy", "PG_buddy"),
    ("OFFLINE", "PGTY_offline", "PG_offline"),
    ("SLAB", "PGTY_slab", "PG_slab"),
    ("HUGETLB", "PGTY_hugetlb", "PG_hugetlb"),
    ("UNACCEPTED", "PGTY_unaccepted", "PG_unaccepted"),
];

/// Enums whose enumerators are exported.
const ENUMS: &[&str] =
    &["pageflags", "pagetype", "compound_dtor_id", "zone_stat_item", "node_stat_item", "migratetype"];
/// Enumerators that number the kernel's counts and lists, with their enums: the first is exported, the self-check and the per-CPU
/// lists need the others.
const COUNTS: &[(&str, &str)] = &[
    ("zone_stat_item", "NR_FREE_PAGES"),
    ("zone_stat_item", "NR_UNACCEPTED"),
    ("node_stat_item", "NR_INACTIVE_ANON"),
    ("node_stat_item", "NR_ACTIVE_ANON"),
    ("node_stat_item", "NR_INACTIVE_FILE"),
    ("node_stat_item", "NR_ACTIVE_FILE"),
    ("node_stat_item", "NR_UNEVICTABLE"),
    ("node_stat_item", "NR_ISOLATED_ANON"),
    ("node_stat_item", "NR_ISOLATED_FILE"),
    ("pageflags", "__NR_PAGEFLAGS"),
    ("migratetype", "MIGRATE_PCPTYPES"),
];
/// Variables whose lengths are exported.
const ARRAYS: &[&str] = &["mem_section", "node_data"];

impl Wanted<'static> {
    /// All that `describe` can put into words.
    #[must_use]
    pub fn kernel() -> Self {
        let members = OFFSETS.iter().map(|(structure, _)| structure);
        let lengths = LENGTHS.iter().map(|(_, structure, _)| structure);
        let structures: BTreeSet<&str> = SIZES.iter().chain(members).chain(lengths).copied().collect();
        Self {
            structures: structures.into_iter().collect(),
            enums: ENUMS.into(),
            arrays: ARRAYS.into(),
            ..Self::default()
        }
    }
}

/// The lines that a kernel with these types would export, as said by `witness`.
#[must_use]
pub fn describe(types: &Types, witness: Witness) -> VmcoreInfo {
    let mut info = Lines { info: VmcoreInfo::default(), witness };
    for name in SIZES {
        info.set("SIZE", name, types.size(name).map(u64::cast_signed));
    }
    for (structure, members) in OFFSETS {
        for member in *members {
            let offset = types.offset(structure, member).map(u64::cast_signed);
            info.set("OFFSET", &format!("{structure}.{member}"), offset);
        }
    }
    for (key, structure, member) in LENGTHS {
        let elements = types.member(structure, member).and_then(|member| member.elements);
        info.set("LENGTH", key, elements.map(u64::cast_signed));
    }
    for variable in ARRAYS {
        info.set("LENGTH", variable, types.array(variable).map(u64::cast_signed));
    }
    flags(&mut info, types);
    page_types(&mut info, types);
    info.set("NUMBER", "HUGETLB_PAGE_DTOR", types.enumerator("compound_dtor_id", "HUGETLB_PAGE_DTOR"));
    for (of, name) in COUNTS {
        info.set("NUMBER", name, types.enumerator(of, name));
    }
    info.info
}

struct Lines {
    info: VmcoreInfo,
    witness: Witness,
}

impl Lines {
    fn set(&mut self, what: &str, name: &str, value: Option<i64>) {
        if let Some(value) = value {
            self.info.set(format!("{what}({name})"), value.to_string(), self.witness);
        }
    }
}

fn flags(info: &mut Lines, types: &Types) {
    let flag = |name| types.enumerator("pageflags", name);
    // All of them, under every name they have: the kernel exports a few, and people want to read them all.
    for (name, value) in types.enumerators("pageflags").filter(|(name, _)| name.starts_with("PG_")) {
        info.set("NUMBER", name, Some(value));
    }
    let head = flag("PG_head").and_then(|bit| u32::try_from(bit).ok()).and_then(|bit| 1i64.checked_shl(bit));
    info.set("NUMBER", "PG_head_mask", head);
}

/// The words that mark page types, as the C `int` that the kernel prints; and the numbers of all types since 6.12.
fn page_types(info: &mut Lines, types: &Types) {
    for (name, value) in types.enumerators("pagetype").filter(|(name, _)| name.starts_with("PGTY_")) {
        info.set("NUMBER", name, Some(value));
    }
    for (key, since_6_12, of_6_11) in PAGE_TYPES {
        let value = match types.enumerator("pagetype", since_6_12) {
            // `PGTY_buddy << 24` (4ffca5a96678, 6.12).
            Some(byte) => u32::try_from(byte).ok().map(|byte| byte << 24),
            // `~PG_buddy`, an enumerator only in 6.11 (8db00ad56461) and a macro before.
            None => types.enumerator("pagetype", of_6_11).and_then(|bit| u32::try_from(bit).ok()).map(|bit| !bit),
        };
        info.set("NUMBER", &format!("PAGE_{key}_MAPCOUNT_VALUE"), value.map(|value| value.cast_signed().into()));
    }
}
