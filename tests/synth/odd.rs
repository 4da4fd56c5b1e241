//! Members of the zoo that contradict themselves: a sound member of which some pages say something else.
//!
//! Knows what damage, races and hardware errors leave in struct pages. Must not know where the pages will lie.
//! Goes to `kinds`, as one more kind.

use super::encodings::{KernelEra, Tail};
use super::kinds::Kind;
use super::structpage::{Compound, Encoder, Page, SOME_POINTER};
use super::truth::Class;

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Odd {
    /// A hugetlb page with a hardware error: the kernel marks its head and nothing else.
    PoisonedHuge,
    /// A free block whose head has a hardware error.
    PoisonedFreeHead,
    /// A free block of which some pages are not free.
    FreeWithIntruders,
    UnacceptedWithIntruders,
    /// Anonymous by its `mapping`, and by nothing else.
    LoneMapping,
    /// Anonymous, without PG_swapbacked since MADV_FREE: no contradiction, though it looks like one.
    LazyFree,
    /// A huge page some of whose tails belong to another head.
    ThpWithIntruders,
    HugeWithIntruders,
}

pub const ODDITIES: [(Kind, usize); 8] = [
    (Kind::Odd(Odd::PoisonedHuge), 1),
    (Kind::Odd(Odd::PoisonedFreeHead), 2),
    (Kind::Odd(Odd::FreeWithIntruders), 3),
    (Kind::Odd(Odd::UnacceptedWithIntruders), 1),
    (Kind::Odd(Odd::LoneMapping), 4),
    (Kind::Odd(Odd::LazyFree), 4),
    (Kind::Odd(Odd::ThpWithIntruders), 1),
    (Kind::Odd(Odd::HugeWithIntruders), 1),
];

/// What a page may be that has no business where it is.
#[derive(Clone, Copy)]
enum Intruder {
    Poisoned,
    PoisonedInUse,
    InUse,
    /// The tail of a compound page of eight, which is elsewhere.
    Tail,
    Typed,
    OnLru,
    /// The host's own head once more.
    SecondHead,
}

const IN_FREE_BLOCK: [(usize, Intruder); 6] = [
    (1, Intruder::Poisoned),
    (3, Intruder::InUse),
    (6, Intruder::Tail),
    (7, Intruder::Typed),
    (8, Intruder::PoisonedInUse),
    (12, Intruder::OnLru),
];
const IN_THP: [(usize, Intruder); 3] = [(37, Intruder::Tail), (64, Intruder::SecondHead), (511, Intruder::Tail)];
/// No second head: folded struct pages do show their head again, see `Hvo`.
const IN_HUGE: [(usize, Intruder); 2] = [(37, Intruder::Tail), (511, Intruder::Tail)];

impl Odd {
    /// The sound member underneath.
    pub fn host(self) -> Kind {
        match self {
            Odd::PoisonedHuge | Odd::HugeWithIntruders => Kind::Huge2M,
            Odd::PoisonedFreeHead => Kind::Buddy(3),
            Odd::FreeWithIntruders => Kind::Buddy(4),
            Odd::UnacceptedWithIntruders => Kind::Unaccepted,
            Odd::LoneMapping => Kind::Kernel,
            Odd::LazyFree => Kind::CacheClean,
            Odd::ThpWithIntruders => Kind::AnonThp,
        }
    }

    pub fn describe(self, era: &KernelEra, pfn: u64, va_of: &dyn Fn(u64) -> u64) -> Vec<(Page, Class)> {
        let mut pages = self.host().describe(era, pfn, va_of);
        let head = Encoder { era, bytes: pages[0].0 };
        match self {
            Odd::PoisonedHuge => {
                pages.iter_mut().for_each(|page| page.1 = Class::HwPoison);
                pages[0].0 = head.flag(era.bits.hwpoison).bytes;
            }
            Odd::PoisonedFreeHead => pages[0] = (head.flag(era.bits.hwpoison).bytes, Class::HwPoison),
            Odd::LoneMapping => pages[0] = (head.mapping(SOME_POINTER | 1).bytes, Class::Doubtful),
            Odd::LazyFree => {
                // Where nothing tells slab pages, a slab page could look like this.
                let class = if era.marks_slab() { Class::User } else { Class::Doubtful };
                pages[0] = (head.mapping(SOME_POINTER | 1).bytes, class);
            }
            Odd::FreeWithIntruders | Odd::UnacceptedWithIntruders => {
                intrude(&mut pages, &IN_FREE_BLOCK, era, pfn, va_of);
            }
            Odd::ThpWithIntruders => intrude(&mut pages, &IN_THP, era, pfn, va_of),
            Odd::HugeWithIntruders => intrude(&mut pages, &IN_HUGE, era, pfn, va_of),
        }
        pages
    }
}

fn intrude(
    pages: &mut [(Page, Class)],
    intruders: &[(usize, Intruder)],
    era: &KernelEra,
    pfn: u64,
    va_of: &dyn Fn(u64) -> u64,
) {
    let bits = &era.bits;
    let used = || Encoder::new(era);
    let idle = || used().count(0);
    for (at, intruder) in intruders {
        let page = match intruder {
            Intruder::Poisoned => idle().flag(bits.hwpoison),
            Intruder::PoisonedInUse => used().flag(bits.hwpoison),
            Intruder::InUse => used(),
            // Before 4.4 nothing exported tells whose tail a page is, or that it is one.
            Intruder::Tail | Intruder::SecondHead if matches!(era.tail, Tail::FirstPage { .. }) => continue,
            Intruder::Tail => idle().tail(Compound::Plain, 3, 3, va_of((pfn + *at as u64) & !7)),
            // Types of their own came later; the mark of a free block's head has always been one.
            Intruder::Typed => idle().page_type(era.types.table.or(Some(era.types.buddy)), 0),
            Intruder::OnLru => idle().flag(bits.lru),
            Intruder::SecondHead => Encoder { era, bytes: pages[0].0 },
        };
        let poisoned = matches!(intruder, Intruder::Poisoned | Intruder::PoisonedInUse);
        pages[*at] = (page.bytes, if poisoned { Class::HwPoison } else { Class::Doubtful });
    }
}
