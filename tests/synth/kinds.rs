//! The zoo: every kind of page a test may want, as struct pages and as ground truth.
//!
//! Knows what makes a page free, cached, anonymous and so on. Must not know where it will lie.
//! Goes to `memmap`, page by page.

use super::encodings::{FREE_AREAS, Hvo, KernelEra, Slab, Tail};
use super::odd::Odd;
use super::structpage::{Compound, Encoder, Page, SOME_POINTER};
use super::truth::Class;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    Kernel,
    Reserved,
    Slab,
    /// A slab page whose `mapping` word happens to have bit 0 set: not anonymous.
    SlabOddMapping,
    /// A slab page whose counters happen to read as the buddy mark (flag eras only).
    SlabLikeBuddy,
    SlabCompound,
    PageTable,
    Zsmalloc,
    Movable,
    Buddy(u32),
    /// On a list of its CPU: nothing says that it is free, nor anything else.
    FreePcp(u32),
    BuddyBadOrder,
    BuddyMisaligned,
    Anon,
    /// Anonymous, with the bit set that was PG_slab before it became PG_waiters.
    AnonWaiters,
    AnonSwapCache,
    Ksm,
    CacheClean,
    CachePrivate,
    SwapCache,
    Tmpfs,
    AnonThp,
    LargeFolio(u32),
    LargeFolioPrivate(u32),
    Huge2M,
    /// MAP_PRIVATE hugetlb: `mapping` is an anon_vma.
    Huge2MAnon,
    /// With folded struct pages.
    Huge2MFolded,
    Huge1G,
    Poison,
    /// One poisoned page inside an anonymous huge page.
    ThpPoisonTail,
    Offline,
    Unaccepted,
    /// Claims a head that is no head.
    OrphanTail,
    /// One of those with pages that contradict the others.
    Odd(Odd),
}

/// The usual inhabitants and how many of each.
pub const ZOO: [(Kind, usize); 39] = [
    (Kind::Kernel, 9),
    (Kind::Reserved, 3),
    (Kind::Slab, 12),
    (Kind::SlabOddMapping, 3),
    (Kind::SlabLikeBuddy, 3),
    (Kind::SlabCompound, 3),
    (Kind::PageTable, 6),
    (Kind::Zsmalloc, 6),
    (Kind::Movable, 4),
    (Kind::Buddy(0), 12),
    (Kind::Buddy(1), 6),
    (Kind::Buddy(3), 4),
    (Kind::Buddy(6), 2),
    (Kind::Buddy(10), 2),
    (Kind::BuddyBadOrder, 2),
    (Kind::BuddyMisaligned, 2),
    (Kind::Anon, 40),
    (Kind::AnonWaiters, 4),
    (Kind::AnonSwapCache, 6),
    (Kind::Ksm, 4),
    (Kind::CacheClean, 40),
    (Kind::CachePrivate, 12),
    (Kind::SwapCache, 6),
    (Kind::Tmpfs, 8),
    (Kind::AnonThp, 2),
    (Kind::LargeFolio(2), 4),
    (Kind::LargeFolio(5), 2),
    (Kind::LargeFolioPrivate(3), 2),
    (Kind::Huge2M, 2),
    (Kind::Huge2MAnon, 1),
    (Kind::Huge2MFolded, 2),
    (Kind::Poison, 3),
    (Kind::ThpPoisonTail, 1),
    (Kind::Offline, 5),
    (Kind::Unaccepted, 1),
    (Kind::OrphanTail, 2),
    (Kind::Anon, 7),
    (Kind::CacheClean, 1),
    (Kind::Buddy(0), 1),
];

const THP_ORDER: u32 = 9;
const GIGANTIC_ORDER: u32 = 18;
const SLAB_ORDER: u32 = 3;
const POISONED_TAIL: u64 = 37;

impl Kind {
    /// Whether such pages exist in this era.
    pub fn exists(self, era: &KernelEra) -> bool {
        match self {
            Kind::SlabOddMapping => era.marks_slab(),
            Kind::SlabLikeBuddy => matches!(era.slab, Slab::Flag(_)),
            Kind::PageTable => era.types.table.is_some(),
            Kind::AnonWaiters => era.bits.waiters.is_some(),
            Kind::Huge2MFolded => era.hvo != Hvo::None,
            Kind::Offline => era.types.offline.is_some(),
            Kind::Unaccepted => era.types.unaccepted.is_some(),
            Kind::Odd(odd) => odd.host().exists(era),
            _ => true,
        }
    }

    /// Pages taken, as an order; the place is aligned to it.
    pub fn order(self) -> u32 {
        match self {
            Kind::Buddy(order) | Kind::FreePcp(order) | Kind::LargeFolio(order) | Kind::LargeFolioPrivate(order) => {
                order
            }
            Kind::SlabCompound => SLAB_ORDER,
            Kind::AnonThp | Kind::ThpPoisonTail | Kind::Huge2M | Kind::Huge2MAnon | Kind::Huge2MFolded => THP_ORDER,
            Kind::Huge1G => GIGANTIC_ORDER,
            Kind::Unaccepted => FREE_AREAS as u32 - 1,
            // Two and eight pages, of which only one is odd.
            Kind::OrphanTail => 1,
            Kind::BuddyMisaligned => 3,
            Kind::Odd(odd) => odd.host().order(),
            _ => 0,
        }
    }

    /// The struct pages from `pfn` on, each with what the page really is.
    pub fn describe(self, era: &KernelEra, pfn: u64, va_of: &dyn Fn(u64) -> u64) -> Vec<(Page, Class)> {
        let bits = &era.bits;
        let e = || Encoder::new(era);
        let lru = || e().flags(&[bits.referenced, bits.uptodate, bits.lru]);
        let cached = || lru().mapping(SOME_POINTER).mapcount(0);
        let anon = || lru().flag(bits.swapbacked).mapping(SOME_POINTER | 1).mapcount(0);
        let slab = || e().slab();
        let free = || e().count(0);
        let one = |page: Encoder<'_>, class| vec![(page.bytes, class)];
        let compound = |head: Encoder<'_>, what, class| {
            let order = self.order();
            let mut pages = vec![(head.head(what).bytes, class)];
            pages.extend((1..1 << order).map(|n| (e().tail(what, n, order, va_of(pfn)).bytes, class)));
            pages
        };
        match self {
            Kind::Kernel => one(e(), Class::Kernel),
            Kind::Reserved => one(e().flag(bits.reserved), Class::Kernel),
            Kind::Slab => one(slab().mapping(SOME_POINTER), Class::Kernel),
            Kind::SlabOddMapping => one(slab().mapping(SOME_POINTER | 1), Class::Kernel),
            Kind::SlabLikeBuddy => one(slab().mapcount(era.types.buddy), Class::Kernel),
            Kind::SlabCompound => compound(slab(), Compound::Plain, Class::Kernel),
            Kind::PageTable => one(e().page_type(era.types.table, 0), Class::Kernel),
            Kind::Zsmalloc => {
                let page = e().flag(bits.private).mapping(SOME_POINTER | 2);
                one(page.page_type(era.types.zsmalloc, 0x0000_0340), Class::Kernel)
            }
            Kind::Movable => one(e().mapping(SOME_POINTER | 2), Class::Kernel),
            Kind::Buddy(order) => {
                let mut pages = vec![(e().buddy(u64::from(order)).bytes, Class::Free)];
                pages.extend((1..1u64 << order).map(|_| (free().bytes, Class::Free)));
                pages
            }
            Kind::FreePcp(order) => vec![(free().bytes, Class::FreePcp); 1 << order],
            Kind::BuddyBadOrder => one(e().buddy(FREE_AREAS + 5), Class::Doubtful),
            Kind::BuddyMisaligned => {
                let mut pages = vec![(e().bytes, Class::Kernel); 1 << self.order()];
                pages[1] = (e().buddy(2).bytes, Class::Doubtful);
                pages
            }
            Kind::Anon => one(anon(), Class::User),
            Kind::AnonWaiters => one(anon().flags(bits.waiters.as_slice()), Class::User),
            Kind::AnonSwapCache => one(anon().flag(bits.swapcache), Class::User),
            Kind::Ksm => one(anon().mapping(SOME_POINTER | 3).mapcount(2), Class::User),
            Kind::CacheClean => one(cached(), Class::Cache),
            Kind::CachePrivate => one(cached().flag(bits.private).private(SOME_POINTER), Class::CachePrivate),
            Kind::SwapCache => one(e().flags(&[bits.uptodate, bits.swapbacked, bits.swapcache]), Class::Cache),
            Kind::Tmpfs => one(cached().flag(bits.swapbacked), Class::Cache),
            Kind::AnonThp => compound(anon(), Compound::Plain, Class::User),
            Kind::LargeFolio(_) => compound(cached(), Compound::Plain, Class::Cache),
            Kind::LargeFolioPrivate(_) => {
                compound(cached().flag(bits.private).private(SOME_POINTER), Compound::Plain, Class::CachePrivate)
            }
            Kind::Huge2M | Kind::Huge2MFolded | Kind::Huge1G => {
                compound(e().mapping(SOME_POINTER), Compound::Hugetlb, Class::Hugetlb)
            }
            Kind::Huge2MAnon => compound(e().mapping(SOME_POINTER | 1), Compound::Hugetlb, Class::Hugetlb),
            Kind::Poison => one(e().flag(bits.hwpoison), Class::HwPoison),
            Kind::ThpPoisonTail => {
                let mut pages = compound(anon(), Compound::Plain, Class::User);
                let order = self.order();
                let tail = e().tail(Compound::Plain, POISONED_TAIL, order, va_of(pfn)).flag(bits.hwpoison);
                pages[POISONED_TAIL as usize] = (tail.bytes, Class::HwPoison);
                pages
            }
            Kind::Offline => one(e().page_type(era.types.offline, 0), Class::Offline),
            Kind::Unaccepted => {
                let mut pages = vec![(free().bytes, Class::Unaccepted); 1 << self.order()];
                pages[0].0 = free().page_type(era.types.unaccepted, 0).bytes;
                pages
            }
            Kind::OrphanTail => {
                let tail = e().tail(Compound::Plain, 2, 1, va_of(pfn));
                // Before 4.4 nothing exported tells a tail, so there is nothing to doubt.
                let class = if matches!(era.tail, Tail::FirstPage { .. }) { Class::Kernel } else { Class::Doubtful };
                vec![(e().bytes, Class::Kernel), (tail.bytes, class)]
            }
            Kind::Odd(odd) => odd.describe(era, pfn, va_of),
        }
    }
}
