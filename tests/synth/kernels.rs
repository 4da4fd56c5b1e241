//! Kernel eras as data: how each range of releases encodes what a page is.
//!
//! Knows the x86_64 `struct page` of each era and what its VMCOREINFO exports.
//! Must not know the product: every number here is written down a second time, from the kernel's
//! own headers, so that a wrong number over there is found over here.
//! Goes to `structpage` (which encodes pages) and `vmcoreinfo` (which prints the keys).

use super::encodings::{FlagBits, Hugetlb, Hvo, KernelEra, Order, PageOffsets, PageTypes, Slab, Tail};

/// 3.10 .. 4.17: mapping before the counters, lru after them.
const OLD: PageOffsets =
    PageOffsets { flags: 0, mapping: 8, lru: 32, private: 48, mapcount: 24, count: 28, count_name: "_count" };
/// 4.18 and later.
const NEW: PageOffsets =
    PageOffsets { flags: 0, mapping: 24, lru: 8, private: 40, mapcount: 48, count: 52, count_name: "_refcount" };

const BITS_3_10: FlagBits = FlagBits {
    referenced: 2,
    uptodate: 3,
    lru: 5,
    waiters: None,
    reserved: 10,
    private: 11,
    head: 14,
    swapcache: 16,
    swapbacked: 19,
    hwpoison: 23,
};
const BITS_4_4: FlagBits = FlagBits { swapcache: 15, swapbacked: 18, hwpoison: 22, ..BITS_3_10 };
const BITS_4_18: FlagBits = FlagBits {
    referenced: 2,
    uptodate: 3,
    lru: 5,
    waiters: Some(7),
    reserved: 11,
    private: 12,
    head: 15,
    swapcache: 9,
    swapbacked: 18,
    hwpoison: 22,
};
const BITS_5: FlagBits = FlagBits {
    referenced: 1,
    uptodate: 2,
    lru: 4,
    waiters: Some(7),
    reserved: 12,
    private: 13,
    head: 16,
    swapcache: 10,
    swapbacked: 19,
    hwpoison: 23,
};
const BITS_6_6: FlagBits = FlagBits {
    referenced: 2,
    uptodate: 3,
    lru: 5,
    waiters: Some(7),
    reserved: 14,
    private: 15,
    head: 6,
    swapcache: 12,
    swapbacked: 19,
    hwpoison: 23,
};
const BITS_6_10: FlagBits =
    FlagBits { reserved: 13, private: 14, swapcache: 11, swapbacked: 18, hwpoison: 21, ..BITS_6_6 };
const BITS_6_12: FlagBits =
    FlagBits { reserved: 13, private: 14, swapcache: 10, swapbacked: 17, hwpoison: 20, ..BITS_6_6 };

const TYPES_OLD: PageTypes = PageTypes {
    buddy: -128i32 as u32,
    offline: None,
    table: None,
    hugetlb: None,
    slab: None,
    zsmalloc: None,
    unaccepted: None,
};
/// Inverted flags: a typed word is all ones less the type's own bit.
const TYPES_4_18: PageTypes = PageTypes { buddy: !0x80, table: Some(!0x400), ..TYPES_OLD };
const TYPES_5: PageTypes = PageTypes { buddy: !0x80, offline: Some(!0x100), table: Some(!0x400), ..TYPES_OLD };
const TYPES_6_9: PageTypes = PageTypes { table: Some(!0x200), hugetlb: Some(!0x800), ..TYPES_5 };
const TYPES_6_10: PageTypes = PageTypes { slab: Some(!0x1000), ..TYPES_6_9 };
/// The same, moved to bits 24 to 30.
const TYPES_6_11: PageTypes = PageTypes {
    buddy: !0x4000_0000,
    offline: Some(!0x2000_0000),
    table: Some(!0x1000_0000),
    hugetlb: Some(!0x0400_0000),
    slab: Some(!0x0200_0000),
    zsmalloc: Some(!0x0100_0000),
    unaccepted: None,
};
/// A number in the top byte.
const TYPES_6_12: PageTypes = PageTypes {
    buddy: 0xf0 << 24,
    offline: Some(0xf1 << 24),
    table: Some(0xf2 << 24),
    hugetlb: Some(0xf4 << 24),
    slab: Some(0xf5 << 24),
    zsmalloc: Some(0xf6 << 24),
    unaccepted: None,
};

const E3_10: KernelEra = KernelEra {
    name: "3.10",
    release: "3.10.0-1160.el7.x86_64",
    page: OLD,
    bits: BITS_3_10,
    types: TYPES_OLD,
    slab: Slab::Flag(7),
    hugetlb: Hugetlb::DtorAddress,
    order: Order::LruPrev,
    tail: Tail::FirstPage { pg_tail: 15 },
    hvo: Hvo::None,
    section_flags: 0b11,
    section_size: 32,
    type_low_bits: false,
    top_pgt: "init_level4_pgt",
    sparse_bits: false,
    old_log: true,
};
const E4_4: KernelEra = KernelEra {
    name: "4.4",
    release: "4.4.0-210-generic",
    bits: BITS_4_4,
    hugetlb: Hugetlb::DtorId { offset: 40, width: 2 },
    order: Order::Field { offset: 42, width: 2 },
    tail: Tail::Head(32),
    section_size: 16,
    ..E3_10
};
const E4_18: KernelEra = KernelEra {
    name: "4.18",
    release: "4.18.0-553.el8.x86_64",
    page: NEW,
    bits: BITS_4_18,
    types: TYPES_4_18,
    slab: Slab::Flag(8),
    hugetlb: Hugetlb::DtorId { offset: 16, width: 1 },
    order: Order::Field { offset: 17, width: 1 },
    tail: Tail::Head(8),
    section_flags: 0b111,
    top_pgt: "init_top_pgt",
    ..E4_4
};
const E5_15: KernelEra = KernelEra {
    name: "5.15",
    release: "5.15.0-105-generic",
    bits: BITS_5,
    types: TYPES_5,
    slab: Slab::Flag(9),
    hvo: Hvo::TwoPages,
    section_flags: 0b1111,
    sparse_bits: true,
    old_log: false,
    ..E4_18
};
const E6_1: KernelEra =
    KernelEra { name: "6.1", release: "6.1.0-32-amd64", hvo: Hvo::FakeHeads, section_size: 32, ..E5_15 };
const E6_3: KernelEra = KernelEra {
    name: "6.3",
    release: "6.3.13-060313-generic",
    hugetlb: Hugetlb::FolioDtor { offset: 80 },
    order: Order::Folio { offset: 81 },
    ..E6_1
};
const E6_6: KernelEra = KernelEra {
    name: "6.6",
    release: "6.6.30-generic",
    bits: BITS_6_6,
    slab: Slab::Flag(11),
    hugetlb: Hugetlb::SecondPageFlag(8),
    order: Order::SecondPageFlags,
    ..E6_1
};
const E6_9: KernelEra =
    KernelEra { name: "6.9", release: "6.9.12-generic", types: TYPES_6_9, hugetlb: Hugetlb::Type, ..E6_6 };
const E6_10: KernelEra = KernelEra {
    name: "6.10",
    release: "6.10.14-generic",
    bits: BITS_6_10,
    types: TYPES_6_10,
    slab: Slab::Type,
    ..E6_9
};
const E6_11: KernelEra =
    KernelEra { name: "6.11", release: "6.11.0-29-generic", types: TYPES_6_11, type_low_bits: true, ..E6_10 };
const E6_12: KernelEra = KernelEra {
    name: "6.12",
    release: "6.12.30+deb13-amd64",
    bits: BITS_6_12,
    types: TYPES_6_12,
    section_size: 16,
    ..E6_11
};
/// 6.15 takes section flag bit 5 (SECTION_IS_VMEMMAP_PREINIT); unaccepted memory is exported.
const E6_17: KernelEra = KernelEra {
    name: "6.17",
    release: "6.17.2-generic",
    types: PageTypes { unaccepted: Some(0xf7 << 24), ..TYPES_6_12 },
    section_flags: 0b10_1111,
    ..E6_12
};
const E7_1: KernelEra = KernelEra {
    name: "7.1",
    release: "7.1.0-generic",
    tail: Tail::Mask(8),
    hvo: Hvo::SharedTails,
    // Bits that no kernel uses yet: a reader must go by the pointer's alignment.
    section_flags: 0b1111_1111,
    ..E6_17
};
const NO_SLAB: KernelEra =
    KernelEra { name: "no-slab-key", release: "6.12.1-odd", slab: Slab::TypeNotExported, ..E6_12 };

pub static ERAS: [KernelEra; 14] =
    [E3_10, E4_4, E4_18, E5_15, E6_1, E6_3, E6_6, E6_9, E6_10, E6_11, E6_12, E6_17, E7_1, NO_SLAB];

/// The era of this name; a typo is a bug of the test.
pub fn era(name: &str) -> &'static KernelEra {
    ERAS.iter().find(|e| e.name == name).unwrap_or_else(|| panic!("no era {name}"))
}
