//! Encodes single `struct page`s for one era.
//!
//! Knows which bit or word each era uses. Must not know where pages lie.
//! Goes to `kinds`, which describes pages by what they are.

use super::encodings::{FREE_AREAS, HUGETLB_DTOR, Hugetlb, KernelEra, NODE_ZONE_BITS, Order, Slab, THP_DTOR, Tail};

pub const STRUCT_PAGE: u64 = 64;
/// Where a synthetic kernel's `free_huge_page` is.
pub const FREE_HUGE_PAGE: u64 = 0xffff_ffff_811c_0de0;
const OTHER_DTOR: u64 = 0xffff_ffff_8118_4440;
/// A pointer to an address_space, anon_vma or kmem_cache: aligned, in the direct map.
pub const SOME_POINTER: u64 = 0xffff_8881_0123_4540;
/// What the kernel writes to `mapping` of tail pages.
const TAIL_MAPPING: u64 = 0xdead_0000_0000_0400;
const UNSET: u32 = 0xffff_ffff;

pub type Page = [u8; STRUCT_PAGE as usize];

/// What the compound is, as far as page[1] tells.
#[derive(Clone, Copy, PartialEq)]
pub enum Compound {
    Plain,
    Hugetlb,
}

/// One page under construction.
pub struct Encoder<'e> {
    pub era: &'e KernelEra,
    pub bytes: Page,
}

fn put(bytes: &mut Page, at: usize, width: usize, value: u64) {
    bytes[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
}

impl<'e> Encoder<'e> {
    /// A page in use by the kernel: one reference, no type, no mapping.
    pub fn new(era: &'e KernelEra) -> Encoder<'e> {
        let page = Encoder { era, bytes: [0; STRUCT_PAGE as usize] };
        page.or_flags(NODE_ZONE_BITS).mapcount(UNSET).count(1)
    }

    fn put(mut self, at: usize, width: usize, value: u64) -> Self {
        put(&mut self.bytes, at, width, value);
        self
    }

    fn or_flags(mut self, bits: u64) -> Self {
        let at = self.era.page.flags;
        let old = u64::from_le_bytes(self.bytes[at..at + 8].try_into().unwrap());
        put(&mut self.bytes, at, 8, old | bits);
        self
    }

    pub fn flag(self, bit: u32) -> Self {
        self.or_flags(1 << bit)
    }

    pub fn flags(self, bits: &[u32]) -> Self {
        bits.iter().fold(self, |page, bit| page.flag(*bit))
    }

    pub fn mapping(self, value: u64) -> Self {
        let at = self.era.page.mapping;
        self.put(at, 8, value)
    }

    pub fn private(self, value: u64) -> Self {
        let at = self.era.page.private;
        self.put(at, 8, value)
    }

    pub fn mapcount(self, value: u32) -> Self {
        let at = self.era.page.mapcount;
        self.put(at, 4, u64::from(value))
    }

    pub fn count(self, value: u32) -> Self {
        let at = self.era.page.count;
        self.put(at, 4, u64::from(value))
    }

    /// Sets the type word; eras whose types leave low bits to the owner get some there.
    pub fn page_type(self, word: Option<u32>, low_bits: u32) -> Self {
        let low = if self.era.type_low_bits { low_bits } else { 0 };
        match word {
            Some(w) if w & 0x00ff_ffff == 0 => self.mapcount(w | low),
            // The inverted types of 6.11: an owner's data are in the low half, all ones if unused.
            Some(w) if self.era.type_low_bits => self.mapcount(w & !(low & 0xffff)),
            Some(w) => self.mapcount(w),
            None => self,
        }
    }

    pub fn slab(self) -> Self {
        match self.era.slab {
            Slab::Flag(bit) => self.flag(bit),
            Slab::Type | Slab::TypeNotExported => {
                let word = self.era.types.slab;
                self.page_type(word, 0)
            }
        }
    }

    /// The head of a compound page.
    pub fn head(self, what: Compound) -> Self {
        let bit = self.era.bits.head;
        let page = self.flag(bit);
        match (what, page.era.hugetlb) {
            (Compound::Hugetlb, Hugetlb::Type) => {
                let word = page.era.types.hugetlb;
                page.page_type(word, 0)
            }
            _ => page,
        }
    }

    /// A tail: `nth` in its compound of the given order, whose head is at `head_va`.
    pub fn tail(self, what: Compound, nth: u64, order: u32, head_va: u64) -> Self {
        let page = self.count(0);
        let page = match page.era.tail {
            Tail::FirstPage { pg_tail } => page.flag(pg_tail).private(head_va),
            Tail::Head(at) => page.mapping(TAIL_MAPPING).put(at, 8, head_va | 1),
            Tail::Mask(at) => page.mapping(TAIL_MAPPING).put(at, 8, u64::MAX << order << 6 | 1),
        };
        if nth == 1 { page.order(order).destructor(what) } else { page }
    }

    fn order(self, order: u32) -> Self {
        let lru = self.era.page.lru;
        let order = u64::from(order);
        match self.era.order {
            Order::LruPrev => self.put(lru + 8, 8, order),
            Order::Field { offset, width } => self.put(offset, width, order),
            Order::Folio { offset } => self.put(offset - STRUCT_PAGE as usize, 1, order),
            Order::SecondPageFlags => self.or_flags(order),
        }
    }

    fn destructor(self, what: Compound) -> Self {
        let lru = self.era.page.lru;
        let huge = what == Compound::Hugetlb;
        let id = if huge { HUGETLB_DTOR } else { THP_DTOR };
        match self.era.hugetlb {
            Hugetlb::DtorAddress => self.put(lru, 8, if huge { FREE_HUGE_PAGE } else { OTHER_DTOR }),
            Hugetlb::DtorId { offset, width } => self.put(offset, width, id),
            Hugetlb::FolioDtor { offset } => self.put(offset - STRUCT_PAGE as usize, 1, id),
            Hugetlb::SecondPageFlag(bit) if huge => self.flag(bit),
            Hugetlb::SecondPageFlag(_) | Hugetlb::Type => self,
        }
    }

    /// The head of a free block in the buddy allocator.
    pub fn buddy(self, order: u64) -> Self {
        debug_assert!(order < FREE_AREAS * 2);
        let word = self.era.types.buddy;
        self.count(0).mapcount(word).private(order)
    }
}
