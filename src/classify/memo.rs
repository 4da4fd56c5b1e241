//! What was decided about struct pages that look alike.
//!
//! Knows that the decision depends on a few words only. Must not decide anything itself. Spares the block classifier from
//! asking the table for each of millions of pages, of which there are a few dozen kinds.

use vdump_filters::{Encodings, PageClass, PageFacts, RawPage, decide};

/// More than the kinds of pages that one node's memory has.
const ENTRIES: usize = 64;

/// What a `struct page` says by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Verdict {
    /// What it says.
    pub(super) facts: PageFacts,
    /// What that amounts to, poison left out: that is the page's own, what it speaks for is decided without.
    pub(super) class: PageClass,
    /// Whether it can speak for no other page, and is neither poisoned nor in doubt: if it is no tail, this is its class.
    pub(super) alone: bool,
}

impl Verdict {
    fn of(raw: RawPage, encodings: &Encodings) -> Self {
        let facts = PageFacts::read(raw, encodings);
        let class = decide(facts.without(PageFacts::HWPOISON));
        let special = PageFacts::UNINITIALISED.and(PageFacts::HWPOISON).and(PageFacts::HEAD);
        let alone =
            !facts.any(special) && !matches!(class, PageClass::Free | PageClass::Unaccepted | PageClass::Doubtful(_));
        Self { facts, class, alone }
    }
}

/// The latest verdicts, by the essence that they depend on. For one encoding only.
#[derive(Debug)]
pub(super) struct Memo {
    /// The very latest: a page is mostly of its neighbour's kind.
    last: Option<(RawPage, Verdict)>,
    entries: Box<[Option<(RawPage, Verdict)>; ENTRIES]>,
}

/// Where the verdict on pages of this essence is kept.
#[inline]
fn place(essence: RawPage) -> usize {
    let used = u64::from(essence.refcount.unwrap_or(0));
    let others = u64::from(essence.type_word.unwrap_or(0)) << 2 | essence.mapping << 1 | used;
    // Fibonacci hashing: the high bits of the product depend on all bits.
    let mixed = (essence.flags ^ others.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) as usize % ENTRIES
}

impl Memo {
    pub(super) fn new() -> Self {
        Self { last: None, entries: Box::new([None; ENTRIES]) }
    }

    /// What `raw` says.
    #[inline]
    pub(super) fn verdict(&mut self, raw: RawPage, encodings: &Encodings) -> Verdict {
        let essence = raw.essence();
        match self.last {
            Some((known, verdict)) if known == essence => verdict,
            _ => self.recall(essence, encodings),
        }
    }

    fn recall(&mut self, essence: RawPage, encodings: &Encodings) -> Verdict {
        let entry = &mut self.entries[place(essence)];
        let found = match entry {
            Some(found) if found.0 == essence => *found,
            _ => *entry.insert((essence, Verdict::of(essence, encodings))),
        };
        self.last = Some(found);
        found.1
    }
}

#[cfg(test)]
mod tests {
    use vdump_filters::{FlagBits, HugetlbEncoding, OrderEncoding, SlabEncoding, TypeTest};

    use super::*;

    /// Every bit of every word: if one changes what a page says, it must not meet the verdict of the page without it.
    #[test]
    fn no_verdict_is_used_for_another_kind_of_page() {
        let byte = |byte| Some(TypeTest::TopByte(byte));
        let flags = FlagBits {
            lru: Some(5),
            private: Some(13),
            swapcache: Some(10),
            swapbacked: Some(18),
            hwpoison: Some(22),
            head_mask: 1 << 6,
        };
        for slab in [SlabEncoding::Flag(9), SlabEncoding::Type(TypeTest::TopByte(0xf5)), SlabEncoding::Unknown] {
            let encodings = Encodings {
                flags,
                slab,
                buddy: byte(0xf0),
                offline: byte(0xf1),
                unaccepted: byte(0xf8),
                hugetlb: HugetlbEncoding::Type(TypeTest::TopByte(0xf4)),
                order: OrderEncoding::SecondPageFlags,
                free_orders: 11,
            };
            let mut memo = Memo::new();
            let types = [u32::MAX, 0xf0ff_ffff, 0xf1ff_ffff, 0xf8ff_ffff, 0xf4ff_ffff, 0xf5ff_ffff, 0];
            for type_word in types {
                let base = RawPage { flags: 1 << 58, mapping: 0, type_word: Some(type_word), refcount: Some(0) };
                let of_flags = (0..64).map(|bit| RawPage { flags: base.flags ^ 1 << bit, ..base });
                let of_mapping = (0..64).map(|bit| RawPage { mapping: 1 << bit, ..base });
                let of_type = (0..32).map(|bit| RawPage { type_word: Some(type_word ^ 1 << bit), ..base });
                let of_count = (0..32).map(|bit| RawPage { refcount: Some(1 << bit), ..base });
                let none = RawPage { flags: u64::MAX, mapping: u64::MAX, type_word: Some(u32::MAX), refcount: Some(1) };
                for other in of_flags.chain(of_mapping).chain(of_type).chain(of_count).chain([none]) {
                    for raw in [base, other, base] {
                        assert_eq!(memo.verdict(raw, &encodings), Verdict::of(raw, &encodings), "{raw:?}");
                    }
                }
            }
        }
    }
}
