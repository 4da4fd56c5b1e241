//! Split sets: whether several files are the whole of one dump.
//!
//! Knows what all parts have in common, and what each has alone. Must not read pages. Names the part that does not fit.

use super::{
    super::{Check, Findings, findings::Place, rules::Rule},
    Part,
};
use crate::{error::Result, source::MAX_READ};

/// Checks `parts`, which are all inputs with headers of `inputs`.
pub(super) fn check(check: &Check<'_>, parts: &[Part<'_>], inputs: usize, findings: &mut Findings) -> Result<()> {
    let several = inputs > 1;
    for part in parts {
        if several {
            findings.must(Rule::SplitPart, part.head.split, || part.place("it is a whole dump"));
        }
        if part.head.split {
            range(part, findings);
        }
    }
    let mut set: Vec<&Part<'_>> = parts.iter().filter(|part| part.head.split).collect();
    if several {
        alike(check, &set, findings)?;
    }
    set.sort_by_key(|part| (part.head.start, part.head.end));
    covered(&set, findings);
    Ok(())
}

fn range(part: &Part<'_>, findings: &mut Findings) {
    let (start, end, frames) = (part.head.start, part.head.end, part.head.frames);
    findings.must(Rule::KdumpRange, start <= end && end <= frames, || {
        part.place(format!("page frames {start:#x} to {end:#x} of {frames:#x}"))
    });
    let miscounted = miscounted(part);
    findings.must(Rule::SplitStart, miscounted.is_none(), || {
        part.place(format!("the part starts at page frame {start:#x}: crash takes other pages from here on"))
            .pfn(miscounted.unwrap_or(0))
    });
}

/// Page frames that crash counts together.
const SECTION: u64 = 4096;

/// Where crash's count of dumped frames goes wrong: it counts whole words, so it takes the frames in front of an odd start
/// for those in front of each of its sections. Equal numbers of both do no harm.
fn miscounted(part: &Part<'_>) -> Option<u64> {
    let (start, odd) = (part.head.start, part.head.start % 64);
    if odd == 0 || part.ranks.is_none() {
        return None;
    }
    let end = part.head.end.min(part.head.frames);
    let mut reader = part.opened.store.reader();
    let mut dumped = |pfn: u64| {
        let word = reader.read(part.head.bitmap2 + (pfn - odd) / 8, 8).ok()?;
        let word = u64::from_le_bytes(word.try_into().ok()?);
        Some((word & ((1 << odd) - 1)).count_ones())
    };
    let before = dumped(start)?;
    let borders = (start..end).step_by(SECTION as usize).skip(1);
    borders.into_iter().find(|border| dumped(*border).is_some_and(|count| count != before))
}

/// Compares each part with the one that most are like, so that the stranger is named.
fn alike(check: &Check<'_>, set: &[&Part<'_>], findings: &mut Findings) -> Result<()> {
    let votes = |part: &Part<'_>| set.iter().filter(|other| other.head.bytes == part.head.bytes).count();
    let Some(model) = set.iter().rev().max_by_key(|part| votes(part)) else { return Ok(()) };
    for part in set.iter().filter(|part| part.opened.input != model.opened.input) {
        let than = format!("other than {}", model.opened.path.display());
        findings.must(Rule::SplitHeaders, part.head.bytes == model.head.bytes, || part.place(than.clone()));
        findings.must(Rule::SplitNotes, part.head.notes == model.head.notes, || {
            part.place(than.clone()).at(part.head.notes.0)
        });
        let at = differs(check, part, model)?;
        findings.must(Rule::SplitBitmaps, at.is_none(), || part.place(than).at(at.unwrap_or(0)));
    }
    Ok(())
}

/// Where the bitmaps of two parts differ first.
fn differs(check: &Check<'_>, part: &Part<'_>, model: &Part<'_>) -> Result<Option<u64>> {
    let end = part.head.descs();
    if part.head.bitmap1 != model.head.bitmap1 || end != model.head.descs() {
        return Ok(Some(part.head.bitmap1));
    }
    let (mut ours, mut theirs) = (part.opened.store.reader(), model.opened.store.reader());
    let mut at = part.head.bitmap1;
    while at < end {
        check.go_on()?;
        let len = (end - at).min(MAX_READ as u64) as usize;
        let (Ok(one), Ok(other)) = (ours.read(at, len), theirs.read(at, len)) else {
            // Named already: the bitmaps are not in the file.
            return Ok(None);
        };
        if let Some(index) = one.iter().zip(other).position(|(one, other)| one != other) {
            return Ok(Some(at + index as u64));
        }
        at += len as u64;
    }
    Ok(None)
}

/// Every frame lies in exactly one of the sorted parts.
fn covered(set: &[&Part<'_>], findings: &mut Findings) {
    let Some(last) = set.last() else { return };
    let mut at = 0;
    let missing = |part: &Part<'_>, from: u64, end: u64, side: &str| {
        let (path, last) = (part.opened.path.display(), end.saturating_sub(1));
        let found = format!("no input has page frames {from:#x} to {last:#x}, {side} {path}");
        Place::of(part.opened.input, found).pfn(from)
    };
    for part in set {
        let (start, end) = (part.head.start, part.head.end);
        findings.must(Rule::SplitCovers, start <= at, || missing(part, at, start, "in front of"));
        findings.must(Rule::SplitOverlap, start >= at, || part.place("another input has it too").pfn(start));
        at = at.max(end);
    }
    findings.must(Rule::SplitCovers, at >= last.head.frames, || missing(last, at, last.head.frames, "behind"));
}
