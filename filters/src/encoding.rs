//! How each kernel era writes a page's state into its `struct page`, as data.
//!
//! Knows the numbers that VMCOREINFO exports and what they mean. Must not know the byte offsets (the layout room's) nor
//! the decision (the table's). The kernel's own exported value picks the encoding; its version is never asked.

/// How to test the 32-bit word that `_mapcount` and `page_type` share for one page type.
///
/// | kernel | exported value | test |
/// |---|---|---|
/// | up to 4.17 | -128 (`PAGE_BUDDY_MAPCOUNT_VALUE`) | equal |
/// | 4.18 to 6.10 | `~PG_buddy`, bits 7 to 12 (6e292b9be7f4, 4.18) | bit clear under base 0xf0000000 |
/// | 6.11 | `~PG_buddy`, bits 24 to 30 (8db00ad56461, 6.11) | bit clear under base 0x80000000 |
/// | 6.12 and later | `PGTY_buddy << 24` (4ffca5a96678, 6.12) | top byte equal; the owner may use the low 24 bits |
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TypeTest {
    /// The whole word equals this value.
    Exact(u32),
    /// `base` is set and `bit` is clear: a type flag stored inverted.
    FlagClear {
        /// Bits that say "this word is a type, not a map count".
        base: u32,
        /// The type's own bit.
        bit: u32,
    },
    /// The word's top byte equals this value.
    TopByte(u8),
}

/// `PAGE_TYPE_BASE` of 4.18 to 6.10 (include/linux/page-flags.h).
const TYPE_BASE_4_18: u32 = 0xf000_0000;
/// `PAGE_TYPE_BASE` of 6.11.
const TYPE_BASE_6_11: u32 = 0x8000_0000;
/// The buddy value before 4.18 (include/linux/mm.h, `PAGE_BUDDY_MAPCOUNT_VALUE`).
const MAPCOUNT_VALUE_BEFORE_4_18: u32 = (-128i32).cast_unsigned();

impl TypeTest {
    /// Reads the encoding off an exported `PAGE_*_MAPCOUNT_VALUE`, already truncated to the C `int` that it is.
    #[must_use]
    pub fn from_exported(value: u32) -> Self {
        let clear = !value;
        if value == MAPCOUNT_VALUE_BEFORE_4_18 {
            Self::Exact(value)
        } else if clear.is_power_of_two() && clear < (1 << 24) {
            Self::FlagClear { base: TYPE_BASE_4_18, bit: clear }
        } else if clear.is_power_of_two() && clear < TYPE_BASE_6_11 {
            Self::FlagClear { base: TYPE_BASE_6_11, bit: clear }
        } else if value & 0x00ff_ffff == 0 && (0xf000_0000..0xff00_0000).contains(&value) {
            Self::TopByte((value >> 24) as u8)
        } else {
            Self::Exact(value)
        }
    }

    /// Whether `word` is of this type.
    #[must_use]
    #[inline]
    pub fn matches(self, word: u32) -> bool {
        match self {
            Self::Exact(value) => word == value,
            Self::FlagClear { base, bit } => word & (base | bit) == base,
            Self::TopByte(byte) => (word >> 24) as u8 == byte,
        }
    }

    /// Whether `word` holds any page type at all, in the era that this encoding belongs to: a typed page is never mapped
    /// by a process nor in the page cache.
    ///
    /// The limits are the kernel's own `page_has_type()`: below -128 before 6.11 (`PAGE_MAPCOUNT_RESERVE`), and below
    /// 0xff000000 since 6.12 (`PGTY_mapcount_underflow << 24`). 6.11's lies a little higher; none of its types is between.
    #[must_use]
    #[inline]
    pub fn is_typed(self, word: u32) -> bool {
        let limit = match self {
            Self::Exact(_) => MAPCOUNT_VALUE_BEFORE_4_18.cast_signed() + 1,
            Self::FlagClear { base: TYPE_BASE_4_18, .. } => MAPCOUNT_VALUE_BEFORE_4_18.cast_signed(),
            Self::FlagClear { .. } | Self::TopByte(_) => 0xff00_0000_u32.cast_signed(),
        };
        word.cast_signed() < limit
    }
}

/// How the kernel marks a slab page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SlabEncoding {
    /// A page flag (`PG_slab`, up to 6.9).
    Flag(u32),
    /// A page type (`PAGE_SLAB_MAPCOUNT_VALUE`, since 6.10: 46df8e73a4a3).
    Type(TypeTest),
    /// Not exported. Bit 7, which `PG_slab` once had, means `PG_waiters` today, so there is no number to fall back to.
    Unknown,
}

/// How the kernel marks a hugetlbfs page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HugetlbEncoding {
    /// The second page's destructor pointer is `free_huge_page` (before 4.4).
    DtorAddress(u64),
    /// The second page's destructor number (4.4 to 6.5, `HUGETLB_PAGE_DTOR`).
    DtorId(u8),
    /// A flag in the second page's flags word (6.6 to 6.8, `PG_hugetlb`).
    SecondPageFlag(u32),
    /// A page type of the head (since 6.9, `PAGE_HUGETLB_MAPCOUNT_VALUE`).
    Type(TypeTest),
    /// Not exported: hugetlb pages are kept unless another rule names them.
    Unknown,
}

/// Where a compound head's order is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OrderEncoding {
    /// A byte in the second page (`compound_order`, or `folio._folio_order` of 6.3 to 6.5).
    SecondPageByte,
    /// The low byte of the second page's flags word (since 6.6: ebc1baf5c9b4).
    SecondPageFlags,
    /// The second page's `lru.prev` word (before 4.4).
    SecondPageLruPrev,
    /// Not known: compound pages are decided page by page and their tails kept.
    Unknown,
}

/// The page flag bits that the kernel exported. `None`: not exported, never guessed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FlagBits {
    /// `PG_lru`.
    pub lru: Option<u32>,
    /// `PG_private`.
    pub private: Option<u32>,
    /// `PG_swapcache`.
    pub swapcache: Option<u32>,
    /// `PG_swapbacked`.
    pub swapbacked: Option<u32>,
    /// `PG_hwpoison`.
    pub hwpoison: Option<u32>,
    /// `PG_head_mask`, already a mask.
    pub head_mask: u64,
}

/// Everything needed to read the facts off a `struct page`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Encodings {
    /// Page flag numbers.
    pub flags: FlagBits,
    /// How slab is marked.
    pub slab: SlabEncoding,
    /// How hugetlb is marked.
    pub hugetlb: HugetlbEncoding,
    /// Where the order is.
    pub order: OrderEncoding,
    /// Free pages in the buddy allocator.
    pub buddy: Option<TypeTest>,
    /// Offline pages.
    pub offline: Option<TypeTest>,
    /// Unaccepted pages.
    pub unaccepted: Option<TypeTest>,
    /// One past the largest order of a free block: `LENGTH(zone.free_area)`.
    pub free_orders: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDDY_4_4: u32 = (-128i32).cast_unsigned();
    const BUDDY_6_1: u32 = !0x80;
    const BUDDY_6_11: u32 = !0x4000_0000;
    const BUDDY_6_12: u32 = 0xf0 << 24;

    #[test]
    fn the_exported_value_picks_the_encoding() {
        assert_eq!(TypeTest::from_exported(BUDDY_4_4), TypeTest::Exact(BUDDY_4_4));
        assert_eq!(TypeTest::from_exported(BUDDY_6_1), TypeTest::FlagClear { base: 0xf000_0000, bit: 0x80 });
        assert_eq!(TypeTest::from_exported(BUDDY_6_11), TypeTest::FlagClear { base: 0x8000_0000, bit: 0x4000_0000 });
        assert_eq!(TypeTest::from_exported(BUDDY_6_12), TypeTest::TopByte(0xf0));
    }

    #[test]
    fn every_era_knows_its_own_value_and_not_a_map_count() {
        for exported in [BUDDY_4_4, BUDDY_6_1, BUDDY_6_11, BUDDY_6_12] {
            let test = TypeTest::from_exported(exported);
            assert!(test.matches(exported), "{exported:#x}");
            assert!(test.is_typed(exported), "{exported:#x}");
            for map_count in [u32::MAX, 0, 1, 1000, i32::MAX.cast_unsigned()] {
                assert!(!test.matches(map_count), "{exported:#x} {map_count:#x}");
                assert!(!test.is_typed(map_count), "{exported:#x} {map_count:#x}");
            }
        }
    }

    #[test]
    fn since_6_12_the_owner_may_use_the_low_bits() {
        assert!(TypeTest::from_exported(0xf6 << 24).matches(0xf600_0123));
        assert!(!TypeTest::from_exported(0xf6 << 24).matches(0xf500_0123));
    }

    #[test]
    fn an_unheard_of_value_is_compared_whole() {
        assert_eq!(TypeTest::from_exported(0x1234_5678), TypeTest::Exact(0x1234_5678));
    }
}
