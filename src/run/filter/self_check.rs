//! The self-check after classification: what follows from it for this run.
//!
//! Knows that a class which cannot be believed is kept. Must not know how a check is made (`classify/audit.rs`).

use vdump_filters::{PageClass, Selection};

use super::Run;
use crate::{
    classify::{Check, Counts, Verdict, audit},
    error::{Error, Result},
    report::{CheckLine, SeemLine, SelfCheck},
};

impl Run<'_> {
    /// All checks; none where nobody asked for classes.
    pub(super) fn self_check(&self, counts: &Counts) -> Vec<Check> {
        let looked = self.kernel.as_ref().and_then(|kernel| Some((kernel, kernel.counters.as_ref()?)));
        looked
            .map(|(kernel, counters)| audit(counts, counters, &kernel.free_pcp, kernel.protected.gaps()))
            .unwrap_or_default()
    }
}

/// Classes that share a bit of the dump level.
const SHARED: [&[PageClass]; 2] =
    [&[PageClass::Free, PageClass::FreePcp, PageClass::Unaccepted], &[PageClass::User, PageClass::Hugetlb]];

/// `drop` without the classes that cannot be believed.
pub(super) fn believed(drop: Selection, checks: &[Check], counts: &Counts) -> Selection {
    // A class that is never dropped, or always, stays what it is.
    let without = |drop: Selection, class| drop.keeping(class).unwrap_or(drop);
    let mut believed = checks.iter().flat_map(Check::doubted).fold(drop, without);
    for classes in SHARED {
        let is_doubted = classes.iter().any(|class| drop.drops(*class) && !believed.drops(*class));
        let dropped = classes.iter().filter(|class| believed.drops(**class)).map(|class| counts.of(*class));
        // Of no page that was dropped, the level need not speak.
        if is_doubted && dropped.sum::<u64>() == 0 {
            believed = classes.iter().fold(believed, |believed, class| without(believed, *class));
        }
    }
    believed
}

/// With `--strict` no check may be violated.
pub(super) fn must_hold(checks: &[Check]) -> Result<()> {
    match checks.iter().find(|check| check.verdict == Verdict::Violated) {
        Some(check) => {
            let text =
                SelfCheck { violated: 1, kept_classes: Vec::new(), checks: vec![line(check, false)] }.violations();
            let cause = text.trim().trim_start_matches("vdump: self-check: ").to_owned();
            Err(Error::input("cannot believe the crashed kernel's struct pages")
                .because(cause)
                .next_step("without --strict such pages are kept"))
        }
        None => Ok(()),
    }
}

/// The checks for the report, where `asked` was to be dropped and `drop` is.
pub(super) fn lines(checks: &[Check], asked: Selection, drop: Selection) -> Option<SelfCheck> {
    let doubted: Vec<_> = checks.iter().flat_map(Check::doubted).collect();
    let kept = Selection::choices().filter(|class| asked.drops(*class) && !drop.drops(*class));
    let kept: Vec<_> = kept.filter(|class| doubted.contains(class)).map(PageClass::name).collect();
    let violated = checks.iter().filter(|check| check.verdict == Verdict::Violated).count();
    let checks: Vec<_> = checks.iter().map(|check| line(check, asked != drop)).collect();
    (!checks.is_empty()).then_some(SelfCheck { violated, kept_classes: kept, checks })
}

fn line(check: &Check, lowered: bool) -> CheckLine {
    let violated = check.verdict == Verdict::Violated;
    let sum = check.seem.iter().map(|(_, pages)| pages).sum();
    let doubted = check.doubted().next().is_some();
    CheckLine {
        name: check.name,
        verdict: check.verdict.name(),
        expected: check.expected,
        slack: check.slack,
        found: check.found,
        kept: if violated && (check.is_part || (doubted && lowered)) { sum } else { 0 },
        seem: check
            .seem
            .iter()
            .filter(|_| violated)
            .map(|(class, pages)| SeemLine { class: class.name(), pages: *pages })
            .collect(),
        gap: check.gap.clone(),
        is_part: check.is_part,
    }
}
