//! Which classes are dropped: what a dump level says, and more or fewer of them by name.
//!
//! Knows which classes may be dropped at all. Must not know how a class is found. Goes to `classify` and to the report.

use std::fmt;

use crate::{DumpLevel, PageClass};

/// A set of classes to drop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Selection(u16);

const _: () = assert!(PageClass::COUNT <= u16::BITS as usize);

/// The class is never dropped, or always.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NoChoice(pub PageClass);

impl fmt::Display for NoChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let how = if DumpLevel::NONE.drops(self.0) { "always left out" } else { "always kept" };
        write!(f, "pages of class '{}' are {how}", self.0)
    }
}

impl std::error::Error for NoChoice {}

impl From<DumpLevel> for Selection {
    fn from(level: DumpLevel) -> Self {
        let dropped = PageClass::ALL.into_iter().filter(|class| level.drops(*class));
        Self(dropped.fold(0, |set, class| set | 1 << class.index()))
    }
}

impl Selection {
    /// The classes that a user may drop or keep: those that the highest level drops and the lowest does not.
    pub fn choices() -> impl Iterator<Item = PageClass> {
        let free = |class: &PageClass| DumpLevel::MAX.drops(*class) && !DumpLevel::NONE.drops(*class);
        PageClass::ALL.into_iter().filter(free)
    }

    /// Whether pages of `class` are left out.
    #[must_use]
    #[inline]
    pub fn drops(self, class: PageClass) -> bool {
        self.0 >> class.index() & 1 == 1
    }

    /// The set with `class`, too, dropped.
    ///
    /// # Errors
    /// [`NoChoice`]: the class is one that is never dropped, or always.
    pub fn dropping(self, class: PageClass) -> Result<Self, NoChoice> {
        Self::choice(class).map(|bit| Self(self.0 | bit))
    }

    /// The set without `class`.
    ///
    /// # Errors
    /// As [`Selection::dropping`].
    pub fn keeping(self, class: PageClass) -> Result<Self, NoChoice> {
        Self::choice(class).map(|bit| Self(self.0 & !bit))
    }

    fn choice(class: PageClass) -> Result<u16, NoChoice> {
        let allowed = Self::choices().any(|choice| choice == class);
        if allowed { Ok(1 << class.index()) } else { Err(NoChoice(class)) }
    }

    /// Whether what each page was used for must be known; zero pages show themselves.
    #[must_use]
    pub fn needs_classes(self) -> bool {
        Self::choices().any(|class| class != PageClass::Zero && self.drops(class))
    }

    /// Whether pages of zero bytes are left out of the stored data.
    #[must_use]
    pub fn drops_zero(self) -> bool {
        self.drops(PageClass::Zero)
    }

    /// The level to write into a dump's header, where readers look up why a page may be missing: `asked` if it says just this,
    /// else the lowest that has the bit of every class that is dropped; of those that mean the same the one with the bits of
    /// `asked`.
    #[must_use]
    pub fn recorded(self, asked: DumpLevel) -> DumpLevel {
        if Self::from(asked) == self {
            return asked;
        }
        let covers = |level: &DumpLevel| self.0 & !Self::from(*level).0 == 0;
        let mut all = (0..=DumpLevel::MAX.bits()).filter_map(|bits| DumpLevel::new(bits).ok());
        let lowest = all.find(covers).unwrap_or(DumpLevel::MAX);
        let both = DumpLevel::new(lowest.bits() | asked.bits()).unwrap_or(DumpLevel::MAX);
        if Self::from(both) == Self::from(lowest) { both } else { lowest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Doubt;

    #[test]
    fn a_level_is_the_set_of_what_it_drops() {
        for bits in 0..=31 {
            let level = DumpLevel::new(bits).unwrap();
            let set = Selection::from(level);
            for class in PageClass::ALL {
                assert_eq!(set.drops(class), level.drops(class), "{bits} {class}");
            }
            assert_eq!((set.needs_classes(), set.drops_zero()), (level.needs_classes(), level.drops_zero()));
            assert_eq!(set.recorded(level), level);
        }
    }

    #[test]
    fn what_the_kernel_needs_cannot_be_dropped() {
        let all = Selection::from(DumpLevel::MAX);
        for class in [PageClass::Slab, PageClass::Kernel, PageClass::Doubtful(Doubt::BuddyOrder), PageClass::Unmapped] {
            assert_eq!(all.dropping(class), Err(NoChoice(class)));
            assert_eq!(all.keeping(class), Err(NoChoice(class)));
        }
        assert!(all.keeping(PageClass::HwPoison).is_err(), "reading poison may end the capture");
    }

    #[test]
    fn one_class_more_or_less() {
        let none = Selection::from(DumpLevel::NONE);
        let user = none.dropping(PageClass::User).unwrap();
        assert!(user.drops(PageClass::User) && !user.drops(PageClass::Hugetlb));
        assert_eq!(user.recorded(DumpLevel::NONE).bits(), 8, "a page that a reader misses may be user memory");
        assert_eq!(user.keeping(PageClass::User), Ok(none));
        let most = Selection::from(DumpLevel::MAX).keeping(PageClass::User).unwrap();
        assert_eq!(most.recorded(DumpLevel::MAX), DumpLevel::MAX, "bit 4 stands for bit 2, too");
    }
}
