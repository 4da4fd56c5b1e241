//! The ways in which kernels have encoded what a page is: the vocabulary of an era.
//!
//! Knows which kinds of encoding exist. Must not know which release uses which.
//! Goes to `kernels`, which says so, and to `structpage`, which writes them.

/// Byte offsets inside `struct page`.
#[derive(Clone, Copy, Debug)]
pub struct PageOffsets {
    pub flags: usize,
    pub mapping: usize,
    pub lru: usize,
    pub private: usize,
    pub mapcount: usize,
    pub count: usize,
    /// `_count` until 4.6, `_refcount` after.
    pub count_name: &'static str,
}

/// Bit numbers in `page->flags`.
#[derive(Clone, Copy, Debug)]
pub struct FlagBits {
    pub referenced: u32,
    pub uptodate: u32,
    pub lru: u32,
    pub waiters: Option<u32>,
    pub reserved: u32,
    pub private: u32,
    pub head: u32,
    pub swapcache: u32,
    pub swapbacked: u32,
    pub hwpoison: u32,
}

/// The whole `_mapcount`/`page_type` word for each type; `None` where the era has no such type.
#[derive(Clone, Copy, Debug)]
pub struct PageTypes {
    pub buddy: u32,
    pub offline: Option<u32>,
    pub table: Option<u32>,
    pub hugetlb: Option<u32>,
    pub slab: Option<u32>,
    pub zsmalloc: Option<u32>,
    pub unaccepted: Option<u32>,
}

/// How a slab page is marked, and whether VMCOREINFO says so.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Slab {
    Flag(u32),
    Type,
    /// Marked by type, but neither PG_slab nor PAGE_SLAB_MAPCOUNT_VALUE is exported.
    TypeNotExported,
}

/// How a hugetlb folio is told from any other compound page.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Hugetlb {
    /// page[1].lru.next holds the address of free_huge_page (before 4.4).
    DtorAddress,
    /// An id in page[1], at this offset and of this width.
    DtorId {
        offset: usize,
        width: usize,
    },
    /// An id at `folio._folio_dtor`, counted from the head.
    FolioDtor {
        offset: usize,
    },
    /// A bit in page[1].flags.
    SecondPageFlag(u32),
    Type,
}

/// Where the order of a compound page is kept.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Order {
    /// page[1].lru.prev (before 4.4).
    LruPrev,
    /// In page[1], at this offset and of this width.
    Field { offset: usize, width: usize },
    /// At `folio._folio_order`, counted from the head.
    Folio { offset: usize },
    /// The low byte of page[1].flags.
    SecondPageFlags,
}

/// How a tail page names its head.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tail {
    /// PG_tail, and `first_page` in the place of `private` (before 4.4).
    FirstPage { pg_tail: u32 },
    /// A pointer to the head with bit 0 set, at this offset.
    Head(usize),
    /// A mask for the page's own address, with bit 0 set (7.1).
    Mask(usize),
}

/// How the kernel folds the struct pages of a hugetlb page (vmemmap optimisation).
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Hvo {
    None,
    /// 5.14 .. 5.17: two vmemmap pages stay, the others alias the second.
    TwoPages,
    /// 5.18 .. 7.0: one stays, the others alias it, so each begins with a fake head.
    FakeHeads,
    /// 7.1: one stays, the others alias one page of tails shared by all hugetlb pages.
    SharedTails,
}

/// One range of kernel releases.
#[derive(Clone, Debug)]
pub struct KernelEra {
    pub name: &'static str,
    pub release: &'static str,
    pub page: PageOffsets,
    pub bits: FlagBits,
    pub types: PageTypes,
    pub slab: Slab,
    pub hugetlb: Hugetlb,
    pub order: Order,
    pub tail: Tail,
    pub hvo: Hvo,
    /// Flag bits set in each present section's section_mem_map.
    pub section_flags: u64,
    /// sizeof(struct mem_section): 32 with CONFIG_PAGE_EXTENSION.
    pub section_size: u64,
    /// True if the low bits of a typed word carry data of the type's owner.
    pub type_low_bits: bool,
    /// `init_top_pgt` since 4.13, `init_level4_pgt` before.
    pub top_pgt: &'static str,
    /// True once SECTION_SIZE_BITS and MAX_PHYSMEM_BITS are exported (5.13).
    pub sparse_bits: bool,
    /// True until 5.9: the log is records in a row, not the lockless ring.
    pub old_log: bool,
}

impl KernelEra {
    /// Whether VMCOREINFO says how slab pages are marked.
    pub fn marks_slab(&self) -> bool {
        self.slab != Slab::TypeNotExported
    }
}

/// Orders below this one are legal (11 lists: 0 to 10).
pub const FREE_AREAS: u64 = 11;
pub const HUGETLB_DTOR: u64 = 2;
pub const THP_DTOR: u64 = 3;
/// zone, node and last-cpu bits as real kernels have them above the flags.
pub const NODE_ZONE_BITS: u64 = 0x0017_ffff_c000_0000;
