//! The facts about one page: what its `struct page` says, freed of the era's encoding.
//!
//! Knows how to read raw words through [`Encodings`]. Must not know offsets or I/O. Goes to the decision table.

use crate::{Encodings, HugetlbEncoding, OrderEncoding, SlabEncoding};

/// The words of one `struct page`, as numbers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RawPage {
    /// `flags`.
    pub flags: u64,
    /// `mapping`.
    pub mapping: u64,
    /// `_mapcount`, which is also `page_type`. `None` where the layout does not give its place.
    pub type_word: Option<u32>,
    /// `_refcount` (`_count` before 4.7). `None` where the layout does not give its place.
    pub refcount: Option<u32>,
}

/// A set of facts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PageFacts(u16);

macro_rules! facts {
    ($($(#[$doc:meta])* $name:ident = $bit:expr;)*) => {
        impl PageFacts { $($(#[$doc])* pub const $name: Self = Self(1 << $bit);)* }
        const NAMES: &[(PageFacts, &str)] = &[$((PageFacts::$name, stringify!($name))),*];
    };
}

facts! {
    /// The `struct page` is all ones: never initialised.
    UNINITIALISED = 0;
    /// `PG_hwpoison`.
    HWPOISON = 1;
    /// A slab page.
    SLAB = 2;
    /// The kernel does not say how it marks slab pages.
    SLAB_UNKNOWN = 3;
    /// The head of a free block.
    BUDDY = 4;
    /// A page that was never accepted.
    UNACCEPTED = 5;
    /// An offline page.
    OFFLINE = 6;
    /// The head of a hugetlbfs page.
    HUGETLB = 7;
    /// Has a page type: page table, guard, zsmalloc, ... whatever the kernel's release calls them.
    TYPED = 8;
    /// `mapping` has bit 0 set: anonymous or KSM.
    ANON = 9;
    /// On an LRU list.
    LRU = 10;
    /// `PG_private`.
    PRIVATE = 11;
    /// `PG_swapbacked`.
    SWAPBACKED = 12;
    /// `PG_swapcache`; other owners use the bit as well, so only meaningful with `SWAPBACKED`.
    SWAPCACHE = 13;
    /// The head of a compound page.
    HEAD = 14;
    /// `_refcount` is not zero.
    REFERENCED = 15;
}

/// `PAGE_MAPPING_ANON` (include/linux/page-flags.h): anonymous and KSM pages have it, movable ones do not.
const MAPPING_ANON: u64 = 1;

impl RawPage {
    /// What [`PageFacts::read`] looks at, all else cleared: pages of the same essence have the same facts.
    #[must_use]
    #[inline]
    pub fn essence(self) -> Self {
        let refcount = self.refcount.map(|count| u32::from(count != 0));
        Self { mapping: self.mapping & MAPPING_ANON, refcount, ..self }
    }
}

impl PageFacts {
    /// No facts.
    pub const NONE: Self = Self(0);

    /// Both sets together.
    #[must_use]
    #[inline]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The set without `other`.
    #[must_use]
    #[inline]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether every fact of `wanted` is in the set.
    #[must_use]
    #[inline]
    pub const fn has(self, wanted: Self) -> bool {
        self.0 & wanted.0 == wanted.0
    }

    /// Whether any fact of `unwanted` is in the set.
    #[must_use]
    #[inline]
    pub const fn any(self, unwanted: Self) -> bool {
        self.0 & unwanted.0 != 0
    }

    /// The names of the facts in the set, as in the table of the decision.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        NAMES.iter().filter(move |(fact, _)| self.has(*fact)).map(|(_, name)| *name)
    }

    #[inline]
    fn with(self, condition: bool, fact: Self) -> Self {
        if condition { self.and(fact) } else { self }
    }

    /// Reads the facts off one `struct page`.
    ///
    /// A hugetlb page is known by its type here; the older encodings need the second page, see [`Encodings::hugetlb_by_second_page`].
    #[must_use]
    #[inline]
    pub fn read(raw: RawPage, encodings: &Encodings) -> Self {
        let flag = |bit: Option<u32>| bit.is_some_and(|bit| raw.flags >> bit & 1 == 1);
        let typed = |test: Option<crate::TypeTest>| match (test, raw.type_word) {
            (Some(test), Some(word)) => test.matches(word),
            _ => false,
        };
        let slab = match encodings.slab {
            SlabEncoding::Flag(bit) => flag(Some(bit)),
            SlabEncoding::Type(test) => typed(Some(test)),
            SlabEncoding::Unknown => false,
        };
        let hugetlb = match encodings.hugetlb {
            HugetlbEncoding::Type(test) => typed(Some(test)),
            _ => false,
        };
        // While slab is a flag its pages use this word for their own counters, so it says nothing about a type there.
        let any_type = match (encodings.buddy, raw.type_word) {
            (Some(buddy), Some(word)) if !slab => buddy.is_typed(word),
            _ => false,
        };
        Self::NONE
            .with(raw.flags == u64::MAX, Self::UNINITIALISED)
            .with(flag(encodings.flags.hwpoison), Self::HWPOISON)
            .with(slab, Self::SLAB)
            .with(encodings.slab == SlabEncoding::Unknown, Self::SLAB_UNKNOWN)
            .with(typed(encodings.buddy), Self::BUDDY)
            .with(typed(encodings.unaccepted), Self::UNACCEPTED)
            .with(typed(encodings.offline), Self::OFFLINE)
            .with(hugetlb, Self::HUGETLB)
            .with(any_type, Self::TYPED)
            .with(raw.mapping & MAPPING_ANON != 0, Self::ANON)
            .with(flag(encodings.flags.lru), Self::LRU)
            // Not knowing which cache pages have private data, all may.
            .with(encodings.flags.private.is_none_or(|bit| flag(Some(bit))), Self::PRIVATE)
            .with(flag(encodings.flags.swapbacked), Self::SWAPBACKED)
            .with(flag(encodings.flags.swapcache), Self::SWAPCACHE)
            .with(raw.flags & encodings.flags.head_mask != 0, Self::HEAD)
            .with(raw.refcount.is_some_and(|count| count != 0), Self::REFERENCED)
    }
}

impl Encodings {
    /// Whether a `struct page` inside a free block looks as the allocator leaves it: no user, no type, no owner's flags.
    /// The refcount alone proves little: the tails of a kernel compound have none either.
    #[must_use]
    #[inline]
    pub fn is_at_rest(&self, raw: RawPage) -> bool {
        const NO_TYPE: u32 = u32::MAX;
        raw.refcount.is_none_or(|count| count == 0)
            && raw.type_word.is_none_or(|word| word == NO_TYPE)
            && raw.mapping & MAPPING_ANON == 0
            && raw.flags & self.owner_flags() == 0
    }

    /// Whether a `struct page` looks as the allocator leaves that of any page that it takes back and keeps on a list
    /// (`free_pages_prepare` in mm/page_alloc.c): no user, no type, no mapping, none of `all_flags`, the page flags of this kernel
    /// (`PAGE_FLAGS_CHECK_AT_PREP`), but for the mark of a hardware error, which stays. What is not known is no.
    #[must_use]
    pub fn is_freed(&self, raw: RawPage, all_flags: u64) -> bool {
        const NO_TYPE: u32 = u32::MAX;
        let poison = self.flags.hwpoison.map_or(0, |bit| 1u64 << bit);
        raw.refcount == Some(0)
            && raw.type_word == Some(NO_TYPE)
            && raw.mapping == 0
            && raw.flags & all_flags & !poison == 0
    }

    /// The flags that the allocator clears when it takes a page back (`PAGE_FLAGS_CHECK_AT_PREP`), as far as they are known.
    #[inline]
    fn owner_flags(&self) -> u64 {
        let mask = |bit: Option<u32>| bit.map_or(0, |bit| 1u64 << bit);
        let slab = match self.slab {
            SlabEncoding::Flag(bit) => Some(bit),
            SlabEncoding::Type(_) | SlabEncoding::Unknown => None,
        };
        let flags = self.flags;
        mask(flags.lru) | mask(flags.swapbacked) | mask(flags.private) | mask(slab) | flags.head_mask
    }

    /// Whether the second page of a compound marks it as hugetlb: the encodings before 6.9.
    ///
    /// `flags`, `dtor` are the second page's flags word and destructor field (pointer or number).
    #[must_use]
    pub fn hugetlb_by_second_page(&self, flags: u64, dtor: u64) -> bool {
        match self.hugetlb {
            HugetlbEncoding::DtorAddress(address) => dtor == address,
            HugetlbEncoding::DtorId(id) => dtor == u64::from(id),
            HugetlbEncoding::SecondPageFlag(bit) => flags >> bit & 1 == 1,
            HugetlbEncoding::Type(_) | HugetlbEncoding::Unknown => false,
        }
    }

    /// A compound's order from its second page: `flags` word, order byte, `lru.prev` word, whichever the era uses.
    #[must_use]
    pub fn compound_order(&self, flags: u64, byte: u8, lru_prev: u64) -> Option<u64> {
        match self.order {
            OrderEncoding::SecondPageByte => Some(u64::from(byte)),
            OrderEncoding::SecondPageFlags => Some(flags & 0xff),
            OrderEncoding::SecondPageLruPrev => Some(lru_prev),
            OrderEncoding::Unknown => None,
        }
    }
}
