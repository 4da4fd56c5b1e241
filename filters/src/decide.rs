//! The decision: facts to class, as one table read from top to bottom.
//!
//! Knows the order of the rules and why. Must not know encodings or dump levels. The class goes to the bitmap.

use crate::{Doubt, PageClass, PageFacts};

/// One row: all of `must`, none of `must_not`, then this class.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rule {
    must: PageFacts,
    must_not: PageFacts,
    class: PageClass,
}

impl Rule {
    /// The facts that a page must have.
    #[must_use]
    pub fn must(&self) -> PageFacts {
        self.must
    }

    /// The facts of which it must have none.
    #[must_use]
    pub fn must_not(&self) -> PageFacts {
        self.must_not
    }

    /// The class that follows.
    #[must_use]
    pub fn class(&self) -> PageClass {
        self.class
    }
}

const fn rule(must: PageFacts, must_not: PageFacts, class: PageClass) -> Rule {
    Rule { must, must_not, class }
}

const NONE: PageFacts = PageFacts::NONE;

/// The table; the first row that fits decides.
///
/// Doubt comes before any class that can be dropped, the kernel's own marks (slab, page types) before what `flags` and
/// `mapping` suggest: those words mean something else in a slab or typed page.
const RULES: &[Rule] = &[
    rule(PageFacts::UNINITIALISED, NONE, PageClass::Doubtful(Doubt::Uninitialised)),
    // Reading a poisoned page may stop the capture kernel, so poison wins over everything that would keep it.
    rule(PageFacts::HWPOISON, NONE, PageClass::HwPoison),
    rule(PageFacts::SLAB, NONE, PageClass::Slab),
    rule(PageFacts::OFFLINE, NONE, PageClass::Offline),
    rule(PageFacts::BUDDY.and(PageFacts::REFERENCED), NONE, PageClass::Doubtful(Doubt::FreeButUsed)),
    rule(PageFacts::BUDDY, NONE, PageClass::Free),
    rule(PageFacts::UNACCEPTED.and(PageFacts::REFERENCED), NONE, PageClass::Doubtful(Doubt::FreeButUsed)),
    rule(PageFacts::UNACCEPTED, NONE, PageClass::Unaccepted),
    rule(PageFacts::HUGETLB, NONE, PageClass::Hugetlb),
    rule(PageFacts::TYPED, NONE, PageClass::Kernel),
    // Every anonymous page is swap-backed, or on an LRU list once MADV_FREE took that flag. `mapping` alone is not enough: zsmalloc
    // kept numbers there until 4.7, and a partial slab's counters lie over it, which matters where slab has no known mark.
    rule(PageFacts::ANON.and(PageFacts::SWAPBACKED), NONE, PageClass::User),
    rule(PageFacts::ANON.and(PageFacts::LRU), PageFacts::SLAB_UNKNOWN, PageClass::User),
    rule(PageFacts::ANON, NONE, PageClass::Doubtful(Doubt::LoneMapping)),
    rule(PageFacts::LRU, PageFacts::PRIVATE, PageClass::Cache),
    rule(PageFacts::LRU, NONE, PageClass::CachePrivate),
    rule(PageFacts::SWAPBACKED.and(PageFacts::SWAPCACHE), PageFacts::PRIVATE, PageClass::Cache),
    rule(PageFacts::SWAPBACKED.and(PageFacts::SWAPCACHE), NONE, PageClass::CachePrivate),
];

/// A page that no row of the table names is the kernel's own.
const LAST: &Rule = &rule(NONE, NONE, PageClass::Kernel);

/// The row that decides about a page with these facts.
#[must_use]
#[inline]
pub fn rule_for(facts: PageFacts) -> &'static Rule {
    for rule in RULES {
        if facts.has(rule.must) && !facts.any(rule.must_not) {
            return rule;
        }
    }
    LAST
}

/// What a page with these facts was used for.
#[must_use]
#[inline]
pub fn decide(facts: PageFacts) -> PageClass {
    rule_for(facts).class
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(facts: &[PageFacts]) -> PageClass {
        decide(facts.iter().fold(PageFacts::NONE, |all, fact| all.and(*fact)))
    }

    #[test]
    fn plain_pages() {
        assert_eq!(of(&[]), PageClass::Kernel);
        assert_eq!(of(&[PageFacts::BUDDY, PageFacts::TYPED]), PageClass::Free);
        assert_eq!(of(&[PageFacts::LRU]), PageClass::Cache);
        assert_eq!(of(&[PageFacts::LRU, PageFacts::PRIVATE]), PageClass::CachePrivate);
        assert_eq!(of(&[PageFacts::LRU, PageFacts::ANON, PageFacts::SWAPBACKED]), PageClass::User);
        assert_eq!(of(&[PageFacts::LRU, PageFacts::ANON]), PageClass::User);
        assert_eq!(of(&[PageFacts::ANON]), PageClass::Doubtful(Doubt::LoneMapping));
        assert_eq!(of(&[PageFacts::HUGETLB, PageFacts::TYPED, PageFacts::HEAD]), PageClass::Hugetlb);
        assert_eq!(of(&[PageFacts::SWAPBACKED, PageFacts::SWAPCACHE]), PageClass::Cache);
        assert_eq!(of(&[PageFacts::SWAPCACHE]), PageClass::Kernel);
    }

    #[test]
    fn the_kernels_own_marks_win_over_words_that_mean_something_else_there() {
        assert_eq!(of(&[PageFacts::SLAB, PageFacts::ANON, PageFacts::BUDDY]), PageClass::Slab);
        assert_eq!(of(&[PageFacts::TYPED, PageFacts::ANON, PageFacts::LRU]), PageClass::Kernel);
    }

    #[test]
    fn without_a_slab_mark_only_swap_backed_pages_are_surely_anonymous() {
        let unknown = PageFacts::SLAB_UNKNOWN;
        assert_eq!(of(&[unknown, PageFacts::ANON, PageFacts::LRU]), PageClass::Doubtful(Doubt::LoneMapping));
        assert_eq!(of(&[unknown, PageFacts::ANON, PageFacts::SWAPBACKED]), PageClass::User);
    }

    #[test]
    fn poison_and_doubt_come_first() {
        assert_eq!(of(&[PageFacts::HWPOISON, PageFacts::SLAB]), PageClass::HwPoison);
        assert_eq!(of(&[PageFacts::UNINITIALISED, PageFacts::HWPOISON]), PageClass::Doubtful(Doubt::Uninitialised));
        assert_eq!(of(&[PageFacts::BUDDY, PageFacts::REFERENCED]), PageClass::Doubtful(Doubt::FreeButUsed));
    }

    #[test]
    fn the_row_that_decides_fits() {
        for row in RULES.iter().chain([LAST]) {
            let found = rule_for(row.must());
            assert!(row.must().has(found.must()) && !row.must().any(found.must_not()));
            assert_eq!(decide(row.must()), found.class());
        }
        assert_eq!(rule_for(PageFacts::PRIVATE), LAST);
    }

    #[test]
    fn no_row_is_dead() {
        for (position, row) in RULES.iter().enumerate() {
            let hidden = RULES[..position].iter().any(|earlier| {
                row.must.has(earlier.must) && !row.must.any(earlier.must_not) && row.must_not.has(earlier.must_not)
            });
            assert!(!hidden, "row {position} can never decide");
        }
    }
}
