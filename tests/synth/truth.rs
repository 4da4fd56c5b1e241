//! Ground truth: what each page of a fixture really is, and so what each level must drop.
//!
//! Knows classes and dump levels. Must not know how a kernel encodes them.
//! Goes to the tests, which compare it with what the product wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    Free,
    FreePcp,
    Unaccepted,
    Cache,
    CachePrivate,
    User,
    Hugetlb,
    HwPoison,
    Offline,
    Kernel,
    /// Part of the kernel image, though its struct page says that it may go: kept, and counted.
    Protected,
    /// Contradicts itself: kept, and counted.
    Doubtful,
    /// RAM without a struct page: kept, and counted.
    Unmapped,
    /// The input does not give its contents: in no dump, and counted.
    Unreadable,
}

pub const LEVEL_ZERO: u8 = 1;
pub const LEVEL_CACHE: u8 = 2;
pub const LEVEL_CACHE_PRIVATE: u8 = 4;
pub const LEVEL_USER: u8 = 8;
pub const LEVEL_FREE: u8 = 16;

impl Class {
    /// Whether a dump at this level leaves the page out.
    pub fn dropped_at(self, level: u8) -> bool {
        let bits = match self {
            Class::Free | Class::FreePcp | Class::Unaccepted => LEVEL_FREE,
            Class::Cache => LEVEL_CACHE | LEVEL_CACHE_PRIVATE,
            Class::CachePrivate => LEVEL_CACHE_PRIVATE,
            Class::User | Class::Hugetlb => LEVEL_USER,
            // Unsafe or impossible to read: out at every level.
            Class::HwPoison | Class::Offline | Class::Unreadable => return true,
            Class::Kernel | Class::Protected | Class::Doubtful | Class::Unmapped => 0,
        };
        level & bits != 0
    }

    /// The name that the JSON report gives the class.
    pub fn json_name(self) -> &'static str {
        match self {
            Class::Free => "free",
            Class::FreePcp => "free-pcp",
            Class::Unaccepted => "unaccepted",
            Class::Cache => "cache",
            Class::CachePrivate => "cache-private",
            Class::User => "user",
            Class::Hugetlb => "hugetlb",
            Class::HwPoison => "hwpoison",
            Class::Offline => "offline",
            Class::Kernel => "kernel",
            Class::Protected => "protected",
            Class::Doubtful => "doubtful",
            Class::Unmapped => "unmapped",
            Class::Unreadable => "unreadable",
        }
    }
}

/// Classes whose counts a report must get exactly; the kernel's own memory may be told apart further.
pub const COUNTED: [Class; 13] = [
    Class::Free,
    Class::FreePcp,
    Class::Unaccepted,
    Class::Cache,
    Class::CachePrivate,
    Class::User,
    Class::Hugetlb,
    Class::HwPoison,
    Class::Offline,
    Class::Protected,
    Class::Doubtful,
    Class::Unmapped,
    Class::Unreadable,
];

/// Classes by PFN; RAM that is not named is kernel memory.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    pub ram: Vec<Range<u64>>,
    pub classes: BTreeMap<u64, Class>,
}

impl Truth {
    pub fn pfns(&self) -> impl Iterator<Item = u64> + '_ {
        self.ram.iter().cloned().flatten()
    }

    pub fn is_ram(&self, pfn: u64) -> bool {
        self.ram.iter().any(|r| r.contains(&pfn))
    }

    pub fn class(&self, pfn: u64) -> Class {
        self.classes.get(&pfn).copied().unwrap_or(Class::Kernel)
    }

    pub fn max_pfn(&self) -> u64 {
        self.ram.iter().map(|r| r.end).max().unwrap_or(0)
    }

    pub fn dropped(&self, level: u8) -> BTreeSet<u64> {
        self.classes.iter().filter(|(_, c)| c.dropped_at(level)).map(|(pfn, _)| *pfn).collect()
    }

    pub fn kept(&self, level: u8) -> BTreeSet<u64> {
        self.pfns().filter(|pfn| !self.class(*pfn).dropped_at(level)).collect()
    }

    pub fn count(&self, class: Class) -> u64 {
        if class == Class::Kernel {
            return self.pfns().filter(|pfn| self.class(*pfn) == Class::Kernel).count() as u64;
        }
        self.classes.values().filter(|c| **c == class).count() as u64
    }
}
