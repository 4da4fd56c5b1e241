//! The two bitmaps of a kdump-compressed file.
//!
//! Knows bits. Must not hold a bitmap: it may be larger than memory. The counts lead to each page's descriptor.

use super::{
    super::{Check, Findings, rules::Rule},
    Part,
};
use crate::{
    error::{Error, Kind, Result},
    report::human_bytes,
    source::store::{StoreError, StoreReader},
};

/// Page frames of one job; a count is kept for each so many.
pub(super) const GROUP: u64 = 16 << 10;
/// Bytes of a bitmap that are looked at together: whole groups.
const CHUNK: u64 = 256 << 10;

/// Checks both bitmaps. Gives the dumped frames in front of each group, and in front of the end.
pub(super) fn check(check: &Check<'_>, part: &Part<'_>, findings: &mut Findings) -> Result<Vec<u64>> {
    let (head, store) = (&part.head, part.opened.store.as_ref());
    let len = head.frames.div_ceil(8);
    let end = head.bitmap1.checked_add(head.bitmaps_len);
    let inside = end.is_some_and(|end| end <= store.size());
    if !findings.must(Rule::KdumpBitmapInFile, inside, || {
        let found = format!("{} bytes, and the file has {}", head.bitmaps_len, store.size());
        part.place(found).at(head.bitmap1)
    }) {
        return Ok(Vec::new());
    }
    room(check, part)?;
    let (mut first, mut second) = (store.reader(), store.reader());
    let (mut ranks, mut count, mut at) = (Vec::new(), 0u64, 0);
    while at < len {
        check.go_on()?;
        let step = CHUNK.min(len - at) as usize;
        let bitmaps = (first.read(head.bitmap1 + at, step), second.read(head.bitmap2 + at, step));
        let (Ok(exist), Ok(have)) = bitmaps else {
            findings.broken(Rule::FileReadable, part.place("the bitmaps").at(head.bitmap1 + at));
            return Ok(Vec::new());
        };
        for (index, (exist, have)) in exist.iter().zip(have).enumerate() {
            let pfn = (at + index as u64) * 8;
            if pfn.is_multiple_of(GROUP) {
                ranks.push(count);
            }
            let have = have & mask(head.frames, pfn);
            count += u64::from(have.count_ones());
            for bit in bits(have & !exist) {
                findings.broken(Rule::KdumpDumpedExist, part.place("dumped, and does not exist").pfn(pfn + bit));
            }
        }
        at += step as u64;
    }
    ranks.push(count);
    findings.looked(Rule::KdumpDumpedExist);
    findings.must(Rule::KdumpPages, count > 0, || part.place("no bit is set").at(head.bitmap2));
    tail(part, first.as_mut(), findings);
    Ok(ranks)
}

/// Whether the counts fit in memory: a sparse file may claim bitmaps of any size.
fn room(check: &Check<'_>, part: &Part<'_>) -> Result<()> {
    let needed = (part.head.frames / GROUP + 2) * size_of::<u64>() as u64;
    if needed <= check.memory {
        return Ok(());
    }
    let cause = format!("{:#x} page frames take {}", part.head.frames, human_bytes(needed));
    Err(Error::new(Kind::Memory, format!("cannot check {}", part.opened.path.display()))
        .because(format!("{cause}, and {} may be used", human_bytes(check.memory)))
        .next_step("if a machine can be that large, check its dump on one with more memory"))
}

/// The bits past the last frame, up to the end of the block.
fn tail(part: &Part<'_>, reader: &mut dyn StoreReader, findings: &mut Findings) {
    let last = (part.head.frames - 1) / 8;
    let len = part.head.block - last % part.head.block;
    for bitmap in [part.head.bitmap1, part.head.bitmap2] {
        // What the second bitmap has of a block may be less where the number of blocks is odd.
        let len = len.min(part.head.descs().saturating_sub(bitmap + last));
        let bytes = reader.read(bitmap + last, len as usize).unwrap_or_default();
        let mut bytes = bytes.iter().zip(last..);
        let over = bytes.find(|(byte, at)| *byte & !mask(part.head.frames, at * 8) != 0);
        findings.must(Rule::KdumpBitmapTail, over.is_none(), || {
            let (byte, at) = over.unwrap_or((&0, last));
            part.place(format!("bits {byte:#04x}")).at(bitmap + at)
        });
    }
}

/// The bits of a byte that stand for frames.
fn mask(frames: u64, pfn: u64) -> u8 {
    match frames.saturating_sub(pfn) {
        left @ 0..8 => (1 << left) - 1,
        _ => u8::MAX,
    }
}

fn bits(byte: u8) -> impl Iterator<Item = u64> {
    (0..8).filter(move |bit| byte >> bit & 1 != 0)
}

/// The dumped page frames of a group.
pub(super) fn dumped(part: &Part<'_>, group: u64, reader: &mut dyn StoreReader) -> Result<Vec<u64>, StoreError> {
    let first = group * GROUP;
    let len = (part.head.frames - first).min(GROUP).div_ceil(8) as usize;
    let bytes = reader.read(part.head.bitmap2 + first / 8, len)?;
    let frames = (first..).step_by(8).zip(bytes);
    Ok(frames.flat_map(|(pfn, byte)| bits(byte & mask(part.head.frames, pfn)).map(move |bit| pfn + bit)).collect())
}

/// How many dumped frames lie below `pfn`.
pub(super) fn rank(part: &Part<'_>, pfn: u64) -> u64 {
    let group = pfn / GROUP;
    let before = part.ranks.get(group as usize).or(part.ranks.last()).copied().unwrap_or(0);
    if pfn >= part.head.frames || pfn.is_multiple_of(GROUP) {
        return if pfn >= part.head.frames { part.ranks.last().copied().unwrap_or(0) } else { before };
    }
    let within = dumped(part, group, part.opened.store.reader().as_mut()).unwrap_or_default();
    before + within.iter().filter(|dumped| **dumped < pfn).count() as u64
}
