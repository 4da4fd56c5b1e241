//! What a `struct page` looks like: offsets, and the era's encodings.
//!
//! Knows which VMCOREINFO keys each kernel era exports for it. Must not read memory. Goes to `classify`.

use vdump_filters::{Encodings, FlagBits, HugetlbEncoding, OrderEncoding, RawPage, SlabEncoding, TypeTest};

use super::{Origin, Resolver};
use crate::{
    arch::{AddressSpace, Usual, Words},
    error::{Error, Result},
};

/// Offsets in `struct page`, bytes, and how to read what is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageLayout {
    /// How its numbers lie in memory.
    pub words: Words,
    /// `sizeof(struct page)`.
    pub size: usize,
    /// `flags`, an `unsigned long`.
    pub flags: usize,
    /// `mapping`, a pointer.
    pub mapping: usize,
    /// `_refcount`, 4 bytes.
    pub refcount: Option<usize>,
    /// `_mapcount` and `page_type`, 4 bytes.
    pub type_word: Option<usize>,
    /// `private`, an `unsigned long`: a free block's order.
    pub private: Option<usize>,
    /// `compound_head` (4.4) or `compound_info` (7.1: fc3f334ce2b9), an `unsigned long`: a tail page's way to its head.
    pub compound: Option<usize>,
    /// What a compound's second page holds.
    pub second: SecondPage,
    /// The era's encodings.
    pub encodings: Encodings,
}

/// Offsets in the second page of a compound.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SecondPage {
    /// The order, 1 byte.
    pub order: Option<usize>,
    /// The destructor: its number (1 byte) or, before 4.4, its address.
    pub dtor: Option<usize>,
    /// `lru.prev`, a pointer: the order before 4.4.
    pub lru_prev: Option<usize>,
}

const PAGE_TYPE_KEYS: [&str; 3] = [
    "NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)",
    "NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)",
    "NUMBER(PAGE_UNACCEPTED_MAPCOUNT_VALUE)",
];

impl PageLayout {
    pub(super) fn resolve(resolver: &mut Resolver<'_>, space: &dyn AddressSpace) -> Result<Self> {
        let words = space.words();
        let size =
            resolver.small("struct page size", &["SIZE(page)"])?.ok_or_else(|| super::missing(&["SIZE(page)"]))?;
        let mut required = |name, keys: &[&str]| resolver.small(name, keys)?.ok_or_else(|| super::missing(keys));
        let flags = required("page.flags", &["OFFSET(page.flags)"])?;
        let mapping = required("page.mapping", &["OFFSET(page.mapping)"])?;
        let refcount = resolver.small("page._refcount", &["OFFSET(page._refcount)", "OFFSET(page._count)"])?;
        let type_word = resolver.small("page._mapcount", &["OFFSET(page._mapcount)"])?;
        let private = resolver.small("page.private", &["OFFSET(page.private)"])?;
        let lru = resolver.small("page.lru", &["OFFSET(page.lru)"])?;
        let compound =
            resolver.small("page.compound_head", &["OFFSET(page.compound_head)", "OFFSET(page.compound_info)"])?;
        let (hugetlb, dtor) = hugetlb(resolver, size, lru)?;
        let (order, order_byte) = order(resolver, size, compound, lru)?;
        let second = SecondPage { order: order_byte, dtor, lru_prev: lru.map(|lru| lru + words.long_size()) };
        let encodings = encodings(resolver, hugetlb, order, space.arch().free_orders())?;
        let layout = Self { words, size, flags, mapping, refcount, type_word, private, compound, second, encodings };
        layout.check()?;
        if layout.type_word.is_none() || layout.private.is_none() {
            resolver.limit("the kernel does not export where _mapcount and private are: free pages are kept");
        }
        Ok(layout)
    }

    /// The words that decide about a page, of the bytes of its `struct page`.
    #[must_use]
    #[inline]
    pub fn raw(&self, page: &[u8]) -> RawPage {
        RawPage {
            flags: self.long(page, self.flags),
            mapping: self.long(page, self.mapping),
            type_word: self.type_word.map(|at| self.words.u32(bytes_at(page, at))),
            refcount: self.refcount.map(|at| self.words.u32(bytes_at(page, at))),
        }
    }

    /// The `unsigned long` or pointer at `offset` of a `struct page`. The layout promises that every offset lies inside the
    /// structure; what would not is zero, which no rule drops.
    #[must_use]
    #[inline]
    pub fn long(&self, page: &[u8], offset: usize) -> u64 {
        // By far the most pages that anybody filters are such.
        if self.words == Words::LE64 {
            u64::from_le_bytes(bytes_at(page, offset))
        } else {
            self.words.long_at(page, offset).unwrap_or(0)
        }
    }

    /// A tail page's word that leads to its head; `None` for anything that is not a tail.
    #[must_use]
    #[inline]
    pub fn tail_word(&self, page: &[u8]) -> Option<u64> {
        self.compound.map(|at| self.long(page, at)).filter(|word| word & 1 == 1)
    }

    /// Every field must lie inside the structure: the scanner relies on it.
    fn check(&self) -> Result<()> {
        let long = self.words.long_size();
        let words = [Some(self.flags), Some(self.mapping), self.private, self.compound, self.second.lru_prev];
        let halves = [self.refcount, self.type_word];
        let bytes = [self.second.order, self.second.dtor];
        let dtor_width = if matches!(self.encodings.hugetlb, HugetlbEncoding::DtorAddress(_)) { long } else { 1 };
        let mut ends = (words.into_iter().flatten().map(|at| at + long))
            .chain(halves.into_iter().flatten().map(|at| at + 4))
            .chain(bytes.into_iter().flatten().map(|at| at + dtor_width));
        if !(24..=256).contains(&self.size) || ends.any(|end| end > self.size) {
            return Err(Error::input("VMCOREINFO describes a struct page whose fields lie outside it")
                .because(format!("SIZE(page)={}, so the note is damaged", self.size)));
        }
        Ok(())
    }
}

/// Bytes of a `struct page`. The layout promises that every offset lies inside the structure; what would not is zero, which no
/// rule drops.
#[inline]
pub fn bytes_at<const N: usize>(page: &[u8], offset: usize) -> [u8; N] {
    page.get(offset..offset + N).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; N])
}

fn encodings(
    resolver: &mut Resolver<'_>,
    hugetlb: HugetlbEncoding,
    order: OrderEncoding,
    usual_orders: Usual,
) -> Result<Encodings> {
    let flags = FlagBits {
        lru: resolver.bit("PG_lru", "NUMBER(PG_lru)")?,
        private: resolver.bit("PG_private", "NUMBER(PG_private)")?,
        swapcache: resolver.bit("PG_swapcache", "NUMBER(PG_swapcache)")?,
        swapbacked: resolver.bit("PG_swapbacked", "NUMBER(PG_swapbacked)")?,
        hwpoison: resolver.bit("PG_hwpoison", "NUMBER(PG_hwpoison)")?,
        head_mask: resolver.first("PG_head_mask", &["NUMBER(PG_head_mask)"]).unwrap_or(0).cast_unsigned(),
    };
    if flags.lru.is_none() {
        resolver.limit("the kernel does not export PG_lru: page cache is kept");
    }
    if flags.private.is_none() {
        resolver.limit("the kernel does not export PG_private: all page cache counts as private");
    }
    if flags.head_mask == 0 {
        resolver.limit("the kernel does not export PG_head_mask: the tails of huge pages are kept");
    }
    let [buddy, offline, unaccepted] = PAGE_TYPE_KEYS.map(|key| resolver.int(key, &[key]).map(TypeTest::from_exported));
    if buddy.is_none() {
        resolver.limit("the kernel does not export PAGE_BUDDY_MAPCOUNT_VALUE: free pages are kept");
    }
    let free_orders = match resolver.first("free orders", &["LENGTH(zone.free_area)"]) {
        Some(orders @ 1..=20) => orders as u32,
        _ => {
            resolver.note("free orders", usual_orders.value, Origin::Default(usual_orders.why));
            usual_orders.value as u32
        }
    };
    let slab = slab(resolver)?;
    Ok(Encodings { flags, slab, hugetlb, order, buddy, offline, unaccepted, free_orders })
}

fn slab(resolver: &mut Resolver<'_>) -> Result<SlabEncoding> {
    if let Some(value) = resolver.int("slab page type", &["NUMBER(PAGE_SLAB_MAPCOUNT_VALUE)"]) {
        return Ok(SlabEncoding::Type(TypeTest::from_exported(value)));
    }
    if let Some(bit) = resolver.bit("PG_slab", "NUMBER(PG_slab)")? {
        return Ok(SlabEncoding::Flag(bit));
    }
    resolver.limit("the kernel does not say how it marks slab pages: pages that could be slab are kept");
    Ok(SlabEncoding::Unknown)
}

/// The newest encoding first; the place of the destructor in the second page where the encoding needs it.
fn hugetlb(resolver: &mut Resolver<'_>, size: usize, lru: Option<usize>) -> Result<(HugetlbEncoding, Option<usize>)> {
    if let Some(value) = resolver.int("hugetlb page type", &["NUMBER(PAGE_HUGETLB_MAPCOUNT_VALUE)"]) {
        return Ok((HugetlbEncoding::Type(TypeTest::from_exported(value)), None));
    }
    if let Some(bit) = resolver.bit("PG_hugetlb", "NUMBER(PG_hugetlb)")? {
        return Ok((HugetlbEncoding::SecondPageFlag(bit), None));
    }
    let page_dtor = resolver.small("page.compound_dtor", &["OFFSET(page.compound_dtor)"])?;
    let folio_dtor = resolver.small("folio._folio_dtor", &["OFFSET(folio._folio_dtor)"])?;
    let dtor = page_dtor.or_else(|| folio_dtor?.checked_sub(size));
    if let (Some(id @ 0..=255), Some(dtor)) = (resolver.int("hugetlb destructor", &["NUMBER(HUGETLB_PAGE_DTOR)"]), dtor)
    {
        return Ok((HugetlbEncoding::DtorId(id as u8), Some(dtor)));
    }
    if let (Some(address), Some(lru)) = (resolver.first("hugetlb destructor", &["SYMBOL(free_huge_page)"]), lru) {
        return Ok((HugetlbEncoding::DtorAddress(address.cast_unsigned()), Some(lru)));
    }
    resolver.limit("the kernel does not say how it marks hugetlb pages: they are kept");
    Ok((HugetlbEncoding::Unknown, None))
}

fn order(
    resolver: &mut Resolver<'_>,
    size: usize,
    compound: Option<usize>,
    lru: Option<usize>,
) -> Result<(OrderEncoding, Option<usize>)> {
    let in_page = resolver.small("page.compound_order", &["OFFSET(page.compound_order)"])?;
    let in_folio = resolver.small("folio._folio_order", &["OFFSET(folio._folio_order)"])?;
    // The folio's offset counts from its first page.
    if let Some(at) = in_page.or_else(|| in_folio?.checked_sub(size)) {
        return Ok((OrderEncoding::SecondPageByte, Some(at)));
    }
    Ok(match (compound, lru) {
        // `compound_order` was exported together with `compound_head` and went when the order moved into the flags (6.6:
        // ebc1baf5c9b4).
        (Some(_), _) => (OrderEncoding::SecondPageFlags, None),
        (None, Some(_)) => (OrderEncoding::SecondPageLruPrev, None),
        (None, None) => (OrderEncoding::Unknown, None),
    })
}
