//! The dump level: which classes are dropped.
//!
//! Knows makedumpfile's five bits. Must not know how a class is found. Goes to the bitmap and into the dump's header.

use std::{fmt, str::FromStr};

use crate::{PageClass, number};

/// makedumpfile's dump level, 0 to 31: the sum of what to drop.
///
/// | bit | drops |
/// |---|---|
/// | 1 | pages of zero bytes (they stay readable: stored once, or as an ELF segment's zero tail) |
/// | 2 | page cache without private data |
/// | 4 | page cache, with and without private data |
/// | 8 | user memory: anonymous and hugetlb pages |
/// | 16 | free pages, those on the page allocator's per-CPU lists too, and pages never accepted |
///
/// Hardware-poisoned and offline pages are dropped at every level, 0 included: there is nothing to read there, and
/// trying may take the capture kernel down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DumpLevel(u8);

/// The text is not a number from 0 to 31.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InvalidDumpLevel(String);

impl fmt::Display for InvalidDumpLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "'{}' is not a dump level: give a number from 0 to 31, the sum of 1 (zero), 2 (cache), 4 (private cache), 8 (user), 16 (free)",
            self.0
        )
    }
}

impl std::error::Error for InvalidDumpLevel {}

impl DumpLevel {
    const ZERO: u8 = 1;
    const CACHE: u8 = 2;
    const CACHE_PRIVATE: u8 = 4;
    const USER: u8 = 8;
    const FREE: u8 = 16;

    /// The level that drops nothing but what cannot be read.
    pub const NONE: Self = Self(0);

    /// The level that drops everything a kernel engineer rarely needs.
    pub const MAX: Self = Self(31);

    /// Makes a level from its number.
    ///
    /// # Errors
    /// [`InvalidDumpLevel`] above 31.
    pub fn new(bits: u8) -> Result<Self, InvalidDumpLevel> {
        if bits <= Self::MAX.0 { Ok(Self(bits)) } else { Err(InvalidDumpLevel(bits.to_string())) }
    }

    /// The level's number, 0 to 31.
    #[must_use]
    pub fn bits(self) -> u8 {
        self.0
    }

    /// Whether the level needs to know what each page was used for; 0 and 1 do not.
    #[must_use]
    pub fn needs_classes(self) -> bool {
        self.0 & !Self::ZERO != 0
    }

    /// Whether pages of zero bytes are left out of the stored data.
    #[must_use]
    pub fn drops_zero(self) -> bool {
        self.0 & Self::ZERO != 0
    }

    /// Whether pages of `class` are left out. Bit 4 implies bit 2, as in makedumpfile.
    #[must_use]
    pub fn drops(self, class: PageClass) -> bool {
        let mask = match class {
            PageClass::Free | PageClass::FreePcp | PageClass::Unaccepted => Self::FREE,
            PageClass::Cache => Self::CACHE | Self::CACHE_PRIVATE,
            PageClass::CachePrivate => Self::CACHE_PRIVATE,
            PageClass::User | PageClass::Hugetlb => Self::USER,
            PageClass::Zero => Self::ZERO,
            PageClass::HwPoison | PageClass::Offline | PageClass::Unreadable => return true,
            PageClass::Slab
            | PageClass::Kernel
            | PageClass::Protected
            | PageClass::Doubtful(_)
            | PageClass::Unmapped => return false,
        };
        self.0 & mask != 0
    }
}

impl FromStr for DumpLevel {
    type Err = InvalidDumpLevel;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bits = number::decimal(text).and_then(|bits| u8::try_from(bits).ok());
        bits.and_then(|bits| Self::new(bits).ok()).ok_or_else(|| InvalidDumpLevel(text.to_owned()))
    }
}

impl fmt::Display for DumpLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Doubt;

    #[test]
    fn each_bit_drops_its_classes_and_no_other() {
        let table: [(u8, &[PageClass]); 6] = [
            (0, &[]),
            (1, &[PageClass::Zero]),
            (2, &[PageClass::Cache]),
            (4, &[PageClass::Cache, PageClass::CachePrivate]),
            (8, &[PageClass::User, PageClass::Hugetlb]),
            (16, &[PageClass::Free, PageClass::FreePcp, PageClass::Unaccepted]),
        ];
        let always = [PageClass::HwPoison, PageClass::Offline, PageClass::Unreadable];
        for (bits, dropped) in table {
            let level = DumpLevel::new(bits).unwrap();
            for class in PageClass::ALL {
                let expected = dropped.contains(&class) || always.contains(&class);
                assert_eq!(level.drops(class), expected, "level {bits}, {class}");
            }
        }
    }

    #[test]
    fn doubt_is_kept_at_every_level() {
        for bits in 0..=31 {
            let level = DumpLevel::new(bits).unwrap();
            for doubt in Doubt::ALL {
                assert!(!level.drops(PageClass::Doubtful(doubt)));
            }
        }
    }

    #[test]
    fn text_outside_0_to_31_is_refused() {
        for text in ["32", "-1", "", "x", "256", "1.5"] {
            assert!(text.parse::<DumpLevel>().is_err(), "{text}");
        }
        assert_eq!("31".parse(), Ok(DumpLevel::MAX));
    }
}
