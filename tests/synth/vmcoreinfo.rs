//! The VMCOREINFO text of a synthetic kernel, key by key, as the kernel prints it.
//!
//! Knows key names and their formats (symbols in hex, numbers as signed C longs).
//! Must not know where anything lies; addresses are handed in.
//! Goes to `elf` as the description of a note.

use super::encodings::{FREE_AREAS, HUGETLB_DTOR, Hugetlb, KernelEra, Order, Slab, Tail};
use super::structpage::{FREE_HUGE_PAGE, STRUCT_PAGE};

pub type Pairs = Vec<(String, String)>;

/// What the era's table cannot know.
pub struct Facts {
    pub crash_time: u64,
    pub phys_base: i64,
    pub kaslr_offset: u64,
    pub levels: u32,
    pub sme_mask: u64,
    pub top_pgt: u64,
    pub stext: u64,
    pub init_uts_ns: u64,
    /// Symbols, sizes and offsets of the memory model and of the log.
    pub pointers: Pairs,
}

/// An exported enum or macro: a C int that the kernel widens to long and prints with %ld.
fn number(pairs: &mut Pairs, name: &str, value: u64) {
    pairs.push((format!("NUMBER({name})"), format!("{}", value as u32 as i32)));
}

fn size(pairs: &mut Pairs, name: &str, value: u64) {
    pairs.push((format!("SIZE({name})"), value.to_string()));
}

fn offset(pairs: &mut Pairs, name: &str, value: usize) {
    pairs.push((format!("OFFSET({name})"), value.to_string()));
}

pub fn symbol(name: &str, value: u64) -> (String, String) {
    (format!("SYMBOL({name})"), format!("{value:x}"))
}

pub fn length(name: &str, value: u64) -> (String, String) {
    (format!("LENGTH({name})"), value.to_string())
}

pub fn pairs(era: &KernelEra, facts: &Facts) -> Pairs {
    let mut out: Pairs = vec![
        ("OSRELEASE".into(), era.release.into()),
        ("PAGESIZE".into(), "4096".into()),
        symbol("init_uts_ns", facts.init_uts_ns),
        symbol("node_online_map", facts.init_uts_ns + 0x1000),
        symbol("swapper_pg_dir", facts.top_pgt),
        symbol("_stext", facts.stext),
    ];
    offset(&mut out, "uts_namespace.name", 4);
    out.extend(facts.pointers.clone());
    page_layout(&mut out, era);
    out.push(length("zone.free_area", FREE_AREAS));
    out.push(length("free_area.free_list", 6));
    page_flags(&mut out, era);
    out.push(("NUMBER(phys_base)".into(), facts.phys_base.to_string()));
    out.push(symbol(era.top_pgt, facts.top_pgt));
    out.push(("NUMBER(pgtable_l5_enabled)".into(), u32::from(facts.levels == 5).to_string()));
    out.push(("KERNELOFFSET".into(), format!("{:x}", facts.kaslr_offset)));
    out.push(("NUMBER(KERNEL_IMAGE_SIZE)".into(), "1073741824".into()));
    out.push(("NUMBER(sme_mask)".into(), facts.sme_mask.to_string()));
    out.push(("CRASHTIME".into(), facts.crash_time.to_string()));
    out
}

fn page_layout(out: &mut Pairs, era: &KernelEra) {
    let page = &era.page;
    for (name, value) in [
        ("page", STRUCT_PAGE),
        ("pglist_data", 172_992),
        ("zone", 1664),
        ("free_area", 104),
        ("list_head", 16),
        ("nodemask_t", 128),
    ] {
        size(out, name, value);
    }
    offset(out, "page.flags", page.flags);
    offset(out, &format!("page.{}", page.count_name), page.count);
    offset(out, "page.mapping", page.mapping);
    offset(out, "page.lru", page.lru);
    offset(out, "page._mapcount", page.mapcount);
    offset(out, "page.private", page.private);
    match era.hugetlb {
        Hugetlb::DtorId { offset: at, .. } => offset(out, "page.compound_dtor", at),
        Hugetlb::FolioDtor { offset: at } => offset(out, "folio._folio_dtor", at),
        _ => {}
    }
    match era.order {
        Order::Field { offset: at, .. } => offset(out, "page.compound_order", at),
        Order::Folio { offset: at } => offset(out, "folio._folio_order", at),
        _ => {}
    }
    match era.tail {
        Tail::Head(at) => offset(out, "page.compound_head", at),
        Tail::Mask(at) => offset(out, "page.compound_info", at),
        Tail::FirstPage { .. } => {}
    }
    offset(out, "list_head.next", 0);
    offset(out, "list_head.prev", 8);
    for (name, at) in [("node_zones", 0), ("nr_zones", 133_440), ("node_id", 133_472)] {
        offset(out, &format!("pglist_data.{name}"), at);
    }
    for (name, at) in [("free_area", 192), ("vm_stat", 1472), ("spanned_pages", 112)] {
        offset(out, &format!("zone.{name}"), at);
    }
    offset(out, "free_area.free_list", 0);
}

fn page_flags(out: &mut Pairs, era: &KernelEra) {
    let bits = &era.bits;
    number(out, "NR_FREE_PAGES", 0);
    number(out, "PG_lru", u64::from(bits.lru));
    number(out, "PG_private", u64::from(bits.private));
    number(out, "PG_swapcache", u64::from(bits.swapcache));
    number(out, "PG_swapbacked", u64::from(bits.swapbacked));
    match era.slab {
        Slab::Flag(bit) => number(out, "PG_slab", u64::from(bit)),
        Slab::Type => number(out, "PAGE_SLAB_MAPCOUNT_VALUE", u64::from(era.types.slab.unwrap())),
        Slab::TypeNotExported => {}
    }
    number(out, "PG_hwpoison", u64::from(bits.hwpoison));
    number(out, "PG_head_mask", 1 << bits.head);
    number(out, "PAGE_BUDDY_MAPCOUNT_VALUE", u64::from(era.types.buddy));
    match era.hugetlb {
        Hugetlb::DtorAddress => out.push(symbol("free_huge_page", FREE_HUGE_PAGE)),
        Hugetlb::DtorId { .. } | Hugetlb::FolioDtor { .. } => number(out, "HUGETLB_PAGE_DTOR", HUGETLB_DTOR),
        Hugetlb::SecondPageFlag(bit) => number(out, "PG_hugetlb", u64::from(bit)),
        Hugetlb::Type => number(out, "PAGE_HUGETLB_MAPCOUNT_VALUE", u64::from(era.types.hugetlb.unwrap())),
    }
    for (name, word) in [("PAGE_OFFLINE", era.types.offline), ("PAGE_UNACCEPTED", era.types.unaccepted)] {
        if let Some(word) = word {
            number(out, &format!("{name}_MAPCOUNT_VALUE"), u64::from(word));
        }
    }
}

pub fn text(pairs: &Pairs) -> Vec<u8> {
    pairs.iter().flat_map(|(k, v)| format!("{k}={v}\n").into_bytes()).collect()
}
