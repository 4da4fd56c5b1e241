//! The types that say where struct pages are and how to read them.
//!
//! Knows names only. Must not know how they are found. Every reader of type information takes a [`Wanted`], so that it
//! parses nothing else.

/// Names to look for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wanted {
    /// Structures and unions, by tag or typedef.
    pub structures: &'static [&'static str],
    /// Enums by tag.
    pub enums: &'static [&'static str],
    /// Variables that are arrays.
    pub arrays: &'static [&'static str],
}

impl Wanted {
    /// What VMCOREINFO exports about types, and more where kernels changed it without saying so.
    pub const KERNEL: Self = Self {
        structures: &[
            "page",
            "folio",
            "mem_section",
            "pglist_data",
            "zone",
            "free_area",
            "list_head",
            "printk_log",
            "printk_ringbuffer",
            "prb_desc_ring",
            "prb_desc",
            "prb_data_blk_lpos",
            "prb_data_ring",
            "printk_info",
            "dev_printk_info",
            "latched_seq",
            "uts_namespace",
            "atomic_long_t",
            "nodemask_t",
        ],
        enums: &["pageflags", "pagetype", "compound_dtor_id", "zone_stat_item"],
        arrays: &["mem_section", "node_data"],
    };
}
