//! Descriptors and the pages that they lead to, every one of them.
//!
//! Knows what readers accept of a descriptor. Must not keep pages. Works on groups of page frames, in any order.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use zerocopy::FromBytes as _;

use super::{
    super::{Check, Findings, rules::Rule},
    Part,
    bitmaps::{self, GROUP},
};
use crate::{
    codec::Decoder,
    error::Result,
    format::diskdump::{DESC_SIZE, PageDesc, flags},
    source::store::{StoreError, StoreReader},
};

const CODECS: [u32; 5] = [flags::RAW, flags::ZLIB, flags::LZO, flags::SNAPPY, flags::ZSTD];
/// What a thread holds for its group: frames, descriptors, a page and its data, bytes.
const WORKER: u64 = 4 << 20;

/// A part with what follows from its range.
struct Share<'a> {
    part: &'a Part<'a>,
    /// Dumped frames of the whole dump in front of the part's first one.
    before: u64,
    /// Dumped frames of the part.
    own: u64,
    /// End of headers, bitmaps and descriptors.
    front: u64,
    /// Groups with dumped frames, each with the number of those in front of it.
    groups: &'a [(u64, u64)],
}

/// Counters that all threads share.
#[derive(Default)]
struct Counts {
    pages: AtomicU64,
    flags: AtomicU32,
}

/// Decodes all pages. Gives their number, and the flags that they have.
pub(super) fn check(check: &Check<'_>, parts: &[Part<'_>], findings: &mut Findings) -> Result<(u64, u32)> {
    let counts = Counts::default();
    let shares: Vec<Share<'_>> = parts.iter().filter_map(Share::of).collect();
    check.progress.start("pages", shares.iter().map(|share| share.own).sum());
    for share in &shares {
        let store = share.part.opened.store.as_ref();
        let each = WORKER + store.memory().1 * 2;
        let make = || Worker::new(share);
        let work = |worker: &mut Worker<'_>, job: u64, found: &mut Findings| {
            let group = share.groups.get(job as usize);
            check.progress.add(group.map_or(0, |group| worker.group(*group, &counts, found)));
        };
        check.on_all(share.groups.len() as u64, each, findings, make, work)?;
    }
    Ok((counts.pages.into_inner(), counts.flags.into_inner()))
}

impl<'a> Share<'a> {
    /// `None` where the bitmaps cannot be read.
    fn of(part: &'a Part<'a>) -> Option<Self> {
        let (frames, ranks) = (part.frames(), part.ranks.as_ref()?);
        let before = bitmaps::rank(part, ranks, frames.start);
        let own = bitmaps::rank(part, ranks, frames.end).saturating_sub(before);
        let front = part.head.descs().saturating_add(own * DESC_SIZE);
        let end = if frames.is_empty() { 0 } else { frames.end.div_ceil(GROUP) };
        Some(Self { part, before, own, front, groups: ranks.groups(frames.start / GROUP, end) })
    }
}

struct Worker<'a> {
    share: &'a Share<'a>,
    reader: Box<dyn StoreReader + 'a>,
    decoder: Decoder,
    page: Vec<u8>,
}

impl<'a> Worker<'a> {
    fn new(share: &'a Share<'a>) -> Self {
        let page = vec![0; share.part.head.block as usize];
        Self { share, reader: share.part.opened.store.reader(), decoder: Decoder::default(), page }
    }

    /// Checks the pages of one group, in front of which lie `before` dumped frames. Gives their number.
    fn group(&mut self, (group, before): (u64, u64), counts: &Counts, findings: &mut Findings) -> u64 {
        let part = self.share.part;
        let Ok(mut pfns) = bitmaps::dumped(part, group, self.reader.as_mut()) else { return 0 };
        let frames = part.frames();
        let skipped = pfns.partition_point(|pfn| *pfn < frames.start);
        pfns.retain(|pfn| frames.contains(pfn));
        let rank = before + skipped as u64;
        let descs = part.head.descs().saturating_add(rank.saturating_sub(self.share.before) * DESC_SIZE);
        // As many as there are in the file.
        let room = part.opened.store.size().saturating_sub(descs) / DESC_SIZE;
        let there = pfns.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        for (pfn, at) in pfns.iter().zip((descs..).step_by(DESC_SIZE as usize)).skip(there) {
            let found = format!("the file ends at byte {}", part.opened.store.size());
            findings.broken(Rule::KdumpDescsInFile, part.place(found).at(at).pfn(*pfn));
        }
        findings.looked(Rule::KdumpDescsInFile);
        let bytes = match self.reader.read(descs, there * DESC_SIZE as usize) {
            Ok(bytes) => bytes.to_vec(),
            Err(error) => {
                findings.broken(Rule::FileReadable, part.place(format!("descriptors: {error}")).at(descs));
                return 0;
            }
        };
        let (mut before, mut seen) = (None, 0);
        for (pfn, (desc, at)) in
            pfns.iter().zip(bytes.chunks_exact(DESC_SIZE as usize).zip((descs..).step_by(DESC_SIZE as usize)))
        {
            let desc = PageDesc::read_from_bytes(desc).unwrap_or_default();
            // Zero pages share their data, and often stand together.
            if before != Some(desc) {
                before = self.desc(*pfn, at, desc, findings).then_some(desc);
                seen |= desc.flags.get();
            }
            counts.pages.fetch_add(u64::from(before.is_some()), Relaxed);
        }
        counts.flags.fetch_or(seen, Relaxed);
        pfns.len() as u64
    }

    /// Checks one descriptor and its page; whether all is well.
    fn desc(&mut self, pfn: u64, at: u64, desc: PageDesc, findings: &mut Findings) -> bool {
        let part = self.share.part;
        let (offset, size, flags) = (desc.offset.get(), desc.size.get(), desc.flags.get());
        let (block, file) = (part.head.block, part.opened.store.size());
        let place = |found: String| part.place(found).at(at).pfn(pfn);
        if !findings.must(Rule::KdumpDescLost, offset != 0, || place("the descriptor is empty".into())) {
            return false;
        }
        let sized = findings.must(Rule::KdumpDescSize, size > 0 && u64::from(size) <= block, || {
            place(format!("{size} bytes for a page of {block}"))
        });
        let known = findings.must(Rule::KdumpDescFlags, CODECS.contains(&flags), || place(format!("flags {flags:#x}")));
        let raw = flags != flags::RAW || !sized || {
            findings.must(Rule::KdumpDescRawSize, u64::from(size) == block, || {
                place(format!("{size} bytes for a page of {block}"))
            })
        };
        let end = offset.checked_add(size.into());
        let inside = findings.must(Rule::KdumpDescInFile, end.is_some_and(|end| end <= file), || {
            place(format!("{size} bytes at byte {offset}, and the file has {file}"))
        });
        findings.must(Rule::KdumpDescApart, offset >= self.share.front, || {
            place(format!("data at byte {offset}, and descriptors end at byte {}", self.share.front))
        });
        if !(sized && known && raw && inside) {
            return false;
        }
        let data = match self.reader.read(offset, size as usize) {
            Ok(data) => data,
            Err(StoreError::Failed(cause)) => {
                findings.broken(Rule::FileReadable, place(cause.text));
                return false;
            }
            Err(error) => {
                findings.broken(Rule::KdumpDescInFile, place(error.to_string()));
                return false;
            }
        };
        let decoded = self.decoder.decode(flags, data, &mut self.page);
        findings.must(Rule::KdumpPageDecodes, decoded.is_ok(), || {
            place(format!(
                "{}, in {size} bytes at byte {offset}",
                decoded.err().map_or(String::new(), |e| e.to_string())
            ))
        })
    }
}
