//! The classes of pages, and the reasons for doubt.
//!
//! Knows the names that reports, options and tests use. Must not know how a class is found. Goes to level and report.

use std::fmt;

/// Why a page could not be classified with confidence. Such pages are kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Doubt {
    /// The buddy allocator's order of a free block is larger than the kernel allows.
    BuddyOrder,
    /// A free block does not start at a multiple of its own size.
    BuddyAlignment,
    /// A page that a free block claims, but whose own `struct page` says that it is in use.
    FreeButUsed,
    /// A compound head whose order is missing, impossible or does not fit its alignment.
    CompoundOrder,
    /// A tail page that no head in reach claims.
    OrphanTail,
    /// A page inside a compound's range that does not point to that head.
    TailElsewhere,
    /// The `struct page` was never initialised (all ones).
    Uninitialised,
    /// `mapping` looks anonymous, but no flag that every anonymous page has confirms it: other owners of the word (zsmalloc
    /// before 4.7, a partial slab's counters) can look the same.
    LoneMapping,
}

impl Doubt {
    /// Every reason, in report order; [`Doubt::index`] is the position here.
    pub const ALL: [Self; 8] = [
        Self::BuddyOrder,
        Self::BuddyAlignment,
        Self::FreeButUsed,
        Self::CompoundOrder,
        Self::OrphanTail,
        Self::TailElsewhere,
        Self::Uninitialised,
        Self::LoneMapping,
    ];

    /// Position in [`Doubt::ALL`], for counters.
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }

    /// The name used in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::BuddyOrder => "buddy-order",
            Self::BuddyAlignment => "buddy-alignment",
            Self::FreeButUsed => "free-but-used",
            Self::CompoundOrder => "compound-order",
            Self::OrphanTail => "orphan-tail",
            Self::TailElsewhere => "tail-elsewhere",
            Self::Uninitialised => "uninitialised",
            Self::LoneMapping => "lone-mapping",
        }
    }
}

/// What a page was used for when the kernel died.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PageClass {
    /// In the buddy allocator.
    Free,
    /// On one of the page allocator's per-CPU lists (`free_pcp` in the kernel's reports): free, though no struct page says so.
    FreePcp,
    /// Confidential guest memory that was never accepted; free by another name.
    Unaccepted,
    /// Page cache without private data (file pages, tmpfs, swap cache).
    Cache,
    /// Page cache with private data (`PG_private`: buffer heads and the like).
    CachePrivate,
    /// Anonymous memory of a process, KSM pages included.
    User,
    /// A hugetlbfs page.
    Hugetlb,
    /// Kept by its class, but nothing except zero bytes.
    Zero,
    /// The hardware reported uncorrectable errors here: reading it may kill the capture kernel.
    HwPoison,
    /// Logically offline (ballooned or unplugged): there is nothing behind it.
    Offline,
    /// Slab memory: the kernel's own objects.
    Slab,
    /// Everything else: the kernel's own memory.
    Kernel,
    /// The `struct page` says it may go, but the kernel's own structures show that it is the kernel's: kept.
    Protected,
    /// In doubt, therefore kept.
    Doubtful(Doubt),
    /// RAM for which the kernel has no `struct page` that could be read: kept.
    Unmapped,
    /// The page's contents could not be read from the input.
    Unreadable,
}

impl PageClass {
    /// Number of distinct [`PageClass::index`] values (all doubts share one).
    pub const COUNT: usize = 16;

    /// Every class in report order, doubts folded into one.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Free,
        Self::FreePcp,
        Self::Unaccepted,
        Self::Cache,
        Self::CachePrivate,
        Self::User,
        Self::Hugetlb,
        Self::Zero,
        Self::HwPoison,
        Self::Offline,
        Self::Slab,
        Self::Kernel,
        Self::Protected,
        Self::Doubtful(Doubt::BuddyOrder),
        Self::Unmapped,
        Self::Unreadable,
    ];

    /// Position in [`PageClass::ALL`], for counters.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Free => 0,
            Self::FreePcp => 1,
            Self::Unaccepted => 2,
            Self::Cache => 3,
            Self::CachePrivate => 4,
            Self::User => 5,
            Self::Hugetlb => 6,
            Self::Zero => 7,
            Self::HwPoison => 8,
            Self::Offline => 9,
            Self::Slab => 10,
            Self::Kernel => 11,
            Self::Protected => 12,
            Self::Doubtful(_) => 13,
            Self::Unmapped => 14,
            Self::Unreadable => 15,
        }
    }

    /// The name used in reports and JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::FreePcp => "free-pcp",
            Self::Unaccepted => "unaccepted",
            Self::Cache => "cache",
            Self::CachePrivate => "cache-private",
            Self::User => "user",
            Self::Hugetlb => "hugetlb",
            Self::Zero => "zero",
            Self::HwPoison => "hwpoison",
            Self::Offline => "offline",
            Self::Slab => "slab",
            Self::Kernel => "kernel",
            Self::Protected => "protected",
            Self::Doubtful(_) => "doubtful",
            Self::Unmapped => "unmapped",
            Self::Unreadable => "unreadable",
        }
    }
}

impl fmt::Display for PageClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_and_lists_agree() {
        for (position, class) in PageClass::ALL.iter().enumerate() {
            assert_eq!(class.index(), position, "{class}");
        }
        for (position, doubt) in Doubt::ALL.iter().enumerate() {
            assert_eq!(doubt.index(), position, "{}", doubt.name());
        }
    }
}
