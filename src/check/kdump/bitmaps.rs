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
/// The same of a bitmap, bytes.
const GROUP_BYTES: usize = GROUP as usize / 8;
/// Bytes of a bitmap that are looked at together: whole groups.
const CHUNK: u64 = 256 << 10;

/// How many dumped frames lie where. Groups without any take no memory, however many of them a hostile header claims.
#[derive(Debug)]
pub(super) struct Ranks {
    /// Groups with dumped frames, each with the number of those in front of it.
    groups: Vec<(u64, u64)>,
    total: u64,
}

impl Ranks {
    /// Dumped frames in front of a group.
    pub(super) fn before(&self, group: u64) -> u64 {
        self.groups.get(self.place(group)).map_or(self.total, |(_, before)| *before)
    }

    /// The groups with dumped frames among those from one up to another.
    pub(super) fn groups(&self, first: u64, end: u64) -> &[(u64, u64)] {
        &self.groups[self.place(first)..self.place(end).max(self.place(first))]
    }

    fn place(&self, group: u64) -> usize {
        self.groups.partition_point(|(own, _)| *own < group)
    }
}

/// Checks both bitmaps. Gives where dumped frames are; `None` where the bitmaps cannot be read.
pub(super) fn check(check: &Check<'_>, part: &Part<'_>, findings: &mut Findings) -> Result<Option<Ranks>> {
    let (head, store) = (&part.head, part.opened.store.as_ref());
    let len = head.frames.div_ceil(8);
    let end = head.bitmap1.checked_add(head.bitmaps_len);
    let inside = end.is_some_and(|end| end <= store.size());
    if !findings.must(Rule::KdumpBitmapInFile, inside, || {
        let found = format!("{} bytes, and the file has {}", head.bitmaps_len, store.size());
        part.place(found).at(head.bitmap1)
    }) {
        return Ok(None);
    }
    let (mut first, mut second) = (store.reader(), store.reader());
    let (mut ranks, mut at) = (Ranks { groups: Vec::new(), total: 0 }, 0u64);
    // A stream of records, or a file with holes, may claim more zeros than anybody has the time to read.
    let data = |bitmap: u64, at: u64| store.next_data(bitmap.saturating_add(at)).saturating_sub(bitmap);
    while at < len {
        check.go_on()?;
        at = at.max(data(head.bitmap1, at).min(data(head.bitmap2, at)) / CHUNK * CHUNK);
        let step = CHUNK.min(len.saturating_sub(at)) as usize;
        let bitmaps = (first.read(head.bitmap1 + at, step), second.read(head.bitmap2 + at, step));
        let (Ok(exist), Ok(have)) = bitmaps else {
            findings.broken(Rule::FileReadable, part.place("the bitmaps").at(head.bitmap1 + at));
            return Ok(None);
        };
        let groups = exist.chunks(GROUP_BYTES).zip(have.chunks(GROUP_BYTES));
        for (group, (exist, have)) in (at / GROUP_BYTES as u64..).zip(groups) {
            let before = ranks.total;
            for (pfn, (exist, have)) in (group * GROUP..).step_by(8).zip(exist.iter().zip(have)) {
                let have = have & mask(head.frames, pfn);
                ranks.total += u64::from(have.count_ones());
                for bit in bits(have & !exist) {
                    findings.broken(Rule::KdumpDumpedExist, part.place("dumped, and does not exist").pfn(pfn + bit));
                }
            }
            if ranks.total > before {
                ranks.groups.push((group, before));
            }
        }
        room(check, part, &ranks)?;
        at += step as u64;
    }
    findings.looked(Rule::KdumpDumpedExist);
    findings.must(Rule::KdumpPages, ranks.total > 0, || part.place("no bit is set").at(head.bitmap2));
    tail(part, first.as_mut(), findings);
    Ok(Some(ranks))
}

/// Whether the counts fit in memory: what is compressed may be bitmaps of any size.
fn room(check: &Check<'_>, part: &Part<'_>, ranks: &Ranks) -> Result<()> {
    let needed = (ranks.groups.capacity() * size_of::<(u64, u64)>()) as u64;
    if needed <= check.memory {
        return Ok(());
    }
    let cause = format!("the counts of its {:#x} page frames take {}", part.head.frames, human_bytes(needed));
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
pub(super) fn rank(part: &Part<'_>, ranks: &Ranks, pfn: u64) -> u64 {
    let group = pfn / GROUP;
    if pfn >= part.head.frames {
        return ranks.total;
    }
    if pfn.is_multiple_of(GROUP) || ranks.groups(group, group + 1).is_empty() {
        return ranks.before(group);
    }
    let within = dumped(part, group, part.opened.store.reader().as_mut()).unwrap_or_default();
    ranks.before(group) + within.iter().filter(|dumped| **dumped < pfn).count() as u64
}
