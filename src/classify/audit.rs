//! The classes held against what else the kernel says: its own counts, and the memory that is its own beyond doubt.
//!
//! Knows which differences a sound machine can have: none where struct pages and counts change under one lock, else as much as
//! the count allows. Fewer pages than were counted are no fault, as the dump may lack some. Must not read memory. The
//! findings go to the report and decide whether a class is kept after all.

use vdump_filters::PageClass;

use super::Counts;
use crate::kernel::{Count, Counters, FreePcp, Gap, Part};

/// What a check found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// All is as it should be.
    Sound,
    /// The dump has fewer pages than the kernel counted: some of its memory is not in it.
    Fewer,
    /// The struct pages are wrong somewhere.
    Violated,
    /// It could not be checked.
    Unknown,
}

impl Verdict {
    /// The name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sound => "sound",
            Self::Fewer => "fewer",
            Self::Violated => "violated",
            Self::Unknown => "unknown",
        }
    }
}

/// One check.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Check {
    /// What was checked.
    pub name: &'static str,
    /// What came of it.
    pub verdict: Verdict,
    /// Pages that there should be.
    pub expected: Option<u64>,
    /// Pages that there may be more by rights.
    pub slack: u64,
    /// Pages that there are.
    pub found: u64,
    /// The classes that the pages in question seem to be of, with their number.
    pub seem: Vec<(PageClass, u64)>,
    /// Whether this is about memory that is kept whatever its struct pages say, rather than about a class.
    pub is_part: bool,
    /// Why not all of it could be checked.
    pub gap: Option<String>,
}

impl Check {
    /// Classes that cannot be believed, and must be kept.
    pub fn doubted(&self) -> impl Iterator<Item = PageClass> {
        let doubted = self.verdict == Verdict::Violated && !self.is_part;
        self.seem.iter().map(|(class, _)| *class).filter(move |class| doubted && *class != PageClass::HwPoison)
    }
}

/// Makes all checks.
#[must_use]
pub fn audit(counts: &Counts, counters: &Counters, free_pcp: &FreePcp, gaps: &[(Part, Gap)]) -> Vec<Check> {
    let parts = Part::ALL.into_iter().filter(|part| part.is_certain()).map(|part| of_part(counts, part, gaps));
    let classes = [
        ("free pages", &counters.free, &[PageClass::Free][..]),
        ("unaccepted pages", &counters.unaccepted, &[PageClass::Unaccepted]),
        ("reclaimable pages", &counters.lists, &[PageClass::Cache, PageClass::CachePrivate, PageClass::User]),
        ("hugetlb pages", &counters.huge, &[PageClass::Hugetlb]),
    ];
    let classes = classes.map(|(name, count, classes)| {
        let seem: Vec<_> = classes.iter().map(|class| (*class, counts.of(*class))).collect();
        let found = seem.iter().map(|(_, pages)| pages).sum();
        let exceeds = |count: &Count| found > count.pages.saturating_add(count.slack);
        of_count(name, count, found, seem, exceeds)
    });
    // A huge page counts as one bad page, and all of it is marked: only none at all can be told from too many.
    let bad = counts.of(PageClass::HwPoison);
    let none_counted = |count: &Count| count.pages == 0 && bad > 0;
    let poisoned = of_count("bad pages", &counters.poisoned, bad, vec![(PageClass::HwPoison, bad)], none_counted);
    // What the kernel does not manage, its image first, comes on top.
    let all = of_count("all memory", &counters.managed, counts.total(), Vec::new(), |_| false);
    parts.chain(classes).chain([of_pcp(counts, free_pcp), poisoned, all]).collect()
}

/// Pages on the per-CPU lists, which are not in the count of free blocks. Lists that do not agree are not believed, and their pages
/// are of other classes: there may be fewer, never more.
fn of_pcp(counts: &Counts, free_pcp: &FreePcp) -> Check {
    let found = counts.of(PageClass::FreePcp);
    let (expected, gap) = (free_pcp.counted(), free_pcp.gap());
    let verdict = match expected {
        None => Verdict::Unknown,
        Some(expected) if found < expected => Verdict::Fewer,
        Some(_) if gap.is_some() => Verdict::Unknown,
        Some(_) => Verdict::Sound,
    };
    let name = "free pages on per-CPU lists";
    Check { name, verdict, expected, slack: 0, found, seem: Vec::new(), is_part: false, gap }
}

fn of_part(counts: &Counts, part: Part, gaps: &[(Part, Gap)]) -> Check {
    let expected = counts.parts[part.index()];
    let misfits = PageClass::ALL.into_iter().map(|class| (class, counts.misfits[part.index()][class.index()]));
    let seem: Vec<_> = misfits.filter(|(_, pages)| *pages > 0).collect();
    let wrong: u64 = seem.iter().map(|(_, pages)| pages).sum();
    let gap = gaps.iter().find(|(of, _)| *of == part).map(|(_, Gap::Unknown(why) | Gap::Damaged(why))| why.clone());
    let verdict = match (wrong, expected) {
        (1.., _) => Verdict::Violated,
        (0, 0) if gap.is_some() => Verdict::Unknown,
        // It may lie in another part, as a small log does in the image.
        _ => Verdict::Sound,
    };
    let found = expected - wrong;
    Check { name: part.name(), verdict, expected: Some(expected), slack: 0, found, seem, is_part: true, gap }
}

fn of_count(
    name: &'static str,
    count: &Result<Count, String>,
    found: u64,
    seem: Vec<(PageClass, u64)>,
    is_wrong: impl Fn(&Count) -> bool,
) -> Check {
    let check =
        Check { name, verdict: Verdict::Unknown, expected: None, slack: 0, found, seem, is_part: false, gap: None };
    match count {
        Ok(count) => {
            let verdict = match found < count.pages {
                _ if is_wrong(count) => Verdict::Violated,
                true => Verdict::Fewer,
                false => Verdict::Sound,
            };
            Check { verdict, expected: Some(count.pages), slack: count.slack, ..check }
        }
        Err(why) => Check { gap: Some(why.clone()), ..check },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(pages: u64, slack: u64) -> Counters {
        let count = || Ok(Count { pages, slack });
        Counters {
            free: count(),
            unaccepted: count(),
            lists: count(),
            huge: count(),
            poisoned: count(),
            managed: Err("not asked".to_owned()),
        }
    }

    fn verdict(checks: &[Check], name: &str) -> Verdict {
        checks.iter().find(|check| check.name == name).unwrap().verdict
    }

    #[test]
    fn a_class_may_have_what_was_counted_and_what_was_on_its_way() {
        for (pages, expected) in
            [(90, Verdict::Fewer), (100, Verdict::Sound), (103, Verdict::Sound), (104, Verdict::Violated)]
        {
            let mut counts = Counts::default();
            counts.add(PageClass::Free, pages);
            counts.add(PageClass::User, pages - 50);
            counts.add(PageClass::CachePrivate, 50);
            let checks = audit(&counts, &counters(100, 3), &FreePcp::default(), &[]);
            assert_eq!(verdict(&checks, "free pages"), expected, "{pages}");
            assert_eq!(verdict(&checks, "reclaimable pages"), expected, "{pages}");
            assert_eq!(verdict(&checks, "hugetlb pages"), Verdict::Fewer);
            assert_eq!(verdict(&checks, "all memory"), Verdict::Unknown);
            let doubted: Vec<_> = checks.iter().flat_map(Check::doubted).collect();
            let all = [PageClass::Free, PageClass::Cache, PageClass::CachePrivate, PageClass::User];
            assert_eq!(doubted, if expected == Verdict::Violated { &all[..] } else { &[] });
        }
    }

    #[test]
    fn bad_pages_are_wrong_only_where_none_were_counted() {
        let mut counts = Counts::default();
        counts.add(PageClass::HwPoison, 512);
        let of = |pages| verdict(&audit(&counts, &counters(pages, 0), &FreePcp::default(), &[]), "bad pages");
        assert_eq!((of(0), of(1)), (Verdict::Violated, Verdict::Sound));
        assert_eq!(
            audit(&counts, &counters(0, 0), &FreePcp::default(), &[]).iter().flat_map(Check::doubted).count(),
            0
        );
    }

    #[test]
    fn a_part_must_not_seem_to_be_anything_else() {
        let mut counts = Counts::default();
        counts.parts[Part::Log.index()] = 7;
        counts.parts[Part::PageTables.index()] = 9;
        counts.misfits[Part::PageTables.index()][PageClass::Free.index()] = 2;
        counts.parts[Part::ImageSegment.index()] = 5;
        counts.misfits[Part::ImageSegment.index()][PageClass::Free.index()] = 5;
        let checks = audit(
            &counts,
            &counters(0, 0),
            &FreePcp::default(),
            &[(Part::Stacks, Gap::Unknown("no tasks".to_owned()))],
        );
        assert_eq!(verdict(&checks, "log buffer"), Verdict::Sound);
        assert_eq!(verdict(&checks, "task stacks"), Verdict::Unknown);
        let tables = checks.iter().find(|check| check.name == "page tables").unwrap();
        assert_eq!((tables.verdict, tables.expected, tables.found), (Verdict::Violated, Some(9), 7));
        assert_eq!(tables.seem, [(PageClass::Free, 2)]);
        // Some of the image's segment is free by rights.
        assert!(checks.iter().all(|check| check.name != "image segment"));
    }
}
