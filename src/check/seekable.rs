//! Dumps compressed in frames, with a seek table at the end.
//!
//! Knows the table and what it says about each frame. Must not know the dump inside. Reports which of the two is wrong.

use std::{hash::Hasher as _, path::Path};

use twox_hash::XxHash64;

use super::{Check, Findings, findings::Place, rules::Rule};
use crate::{
    codec::frame::{FrameFault, FrameFormat, decompress_one},
    error::{Error, Kind, Result},
    format::seekable::{Entry, FOOTER, Footer, SEEKABLE, SKIPPABLE_HEADER},
    source::store::{Store, read_all},
};

/// The format's limit for a frame, bytes.
const LARGEST: u32 = 1 << 30;
/// Frames up to this size are checked one by one, bytes; files with larger ones are unpacked as a whole.
const ONE_BY_ONE: u32 = 64 << 20;

/// A table that describes its file.
pub(super) struct Table {
    /// Each frame with its place in the file.
    frames: Vec<(u64, Entry)>,
}

/// Checks the table of the compressed file in `store`. `None` where there is none, or it leads nowhere.
///
/// # Errors
/// Memory does not do for it.
pub(super) fn table(
    check: &Check<'_>,
    input: usize,
    path: &Path,
    store: &dyn Store,
    findings: &mut Findings,
) -> Result<Option<Table>> {
    let footer = store.size().checked_sub(FOOTER).and_then(|at| read_all(store, at, FOOTER).ok());
    let footer = footer.and_then(|bytes| Footer::parse(&bytes));
    // As it is in the file, and as it is held.
    let bytes = footer.map_or(0, |footer| footer.table_len().saturating_mul(4));
    if bytes > check.memory && footer.is_some_and(|footer| footer.table_len() <= store.size()) {
        return Err(Error::new(Kind::Memory, format!("not enough memory to check {}", path.display()))
            .because(format!("its seek table would take {bytes} bytes"))
            .next_step("check it on a machine with more memory"));
    }
    Ok(entries(input, store, findings))
}

fn entries(input: usize, store: &dyn Store, findings: &mut Findings) -> Option<Table> {
    let at = store.size().checked_sub(FOOTER)?;
    let footer = read_all(store, at, FOOTER).ok()?;
    if footer.get(5..)? != SEEKABLE.to_le_bytes() {
        return None;
    }
    let place = |found: &str| Place::of(input, found).at(at);
    let Some(footer) = Footer::parse(&footer) else {
        findings.broken(Rule::SeekableTable, place("unknown descriptor bits, or too many frames"));
        return None;
    };
    let Some(start) = store.size().checked_sub(footer.table_len()) else {
        let found = format!("a table of {} frames does not fit in the file", footer.frames);
        findings.broken(Rule::SeekableTable, place(&found));
        return None;
    };
    let bytes = read_all(store, start, footer.table_len()).ok()?;
    let (header, entries) = bytes.split_at_checked(SKIPPABLE_HEADER as usize)?;
    if !findings.must(Rule::SeekableTable, footer.matches(header), || {
        Place::of(input, format!("no skippable frame for {} frames starts here", footer.frames)).at(start)
    }) {
        return None;
    }
    let mut frames = Vec::with_capacity(footer.frames as usize);
    let mut stored = 0u64;
    for entry in footer.entries(entries) {
        findings.must(Rule::SeekableFrameSize, entry.plain <= LARGEST, || {
            Place::of(input, format!("frame {} has {} bytes", frames.len(), entry.plain)).at(stored)
        });
        frames.push((stored, entry));
        stored += u64::from(entry.stored);
    }
    let adds_up = findings.must(Rule::SeekableSizes, stored == start && !frames.is_empty(), || {
        Place::of(input, format!("{} frames of {stored} bytes in {start} bytes", frames.len())).at(start)
    });
    adds_up.then_some(Table { frames })
}

impl Table {
    /// Whether frames can be held in memory, one for each thread.
    pub(super) fn is_usable(&self) -> bool {
        self.frames.iter().all(|(_, entry)| entry.plain <= ONE_BY_ONE && entry.stored <= 2 * ONE_BY_ONE)
    }
}

/// All frames of a file.
pub(super) struct Frames<'a> {
    pub(super) input: usize,
    pub(super) format: FrameFormat,
    pub(super) store: &'a dyn Store,
    pub(super) table: &'a Table,
}

impl Frames<'_> {
    /// Decompresses every frame.
    pub(super) fn check(&self, check: &Check<'_>, findings: &mut Findings) -> Result<()> {
        let frames = &self.table.frames;
        let pages = |entry: &Entry| u64::from(entry.plain) >> 12;
        check.progress.start("frames", frames.iter().map(|(_, entry)| pages(entry)).sum());
        let largest = frames.iter().map(|(_, entry)| u64::from(entry.plain) + u64::from(entry.stored)).max();
        let each = largest.unwrap_or(0) + self.store.memory().1;
        let work = |(): &mut (), job: u64, found: &mut Findings| {
            if let Some((at, entry)) = frames.get(job as usize) {
                self.frame(job, *at, *entry, found);
                check.progress.add(pages(entry));
            }
        };
        check.on_all(frames.len() as u64, each, findings, || (), work)
    }

    fn frame(&self, index: u64, at: u64, entry: Entry, findings: &mut Findings) {
        let place = |found: String| Place::of(self.input, format!("frame {index}: {found}")).at(at);
        let stored = match read_all(self.store, at, entry.stored.into()) {
            Ok(stored) => stored,
            Err(error) => return findings.broken(Rule::FileReadable, place(error.to_string())),
        };
        findings.looked(Rule::SeekableDictionary);
        findings.looked(Rule::SeekableFrame);
        match decompress_one(self.format, &stored, entry.plain as usize) {
            Ok(plain) => {
                findings.looked(Rule::SeekableFrameData);
                if let Some(wanted) = entry.checksum {
                    let mut hasher = XxHash64::with_seed(0);
                    hasher.write(&plain);
                    let found = hasher.finish() as u32;
                    findings.must(Rule::SeekableChecksum, found == wanted, || {
                        place(format!("{found:#010x} instead of {wanted:#010x}"))
                    });
                }
            }
            Err(FrameFault::Other(found)) => findings.broken(Rule::SeekableFrame, place(found)),
            Err(FrameFault::Dictionary(id)) => findings.broken(Rule::SeekableDictionary, place(format!("{id}"))),
            Err(FrameFault::Damaged(found)) => findings.broken(Rule::SeekableFrameData, place(found)),
        }
    }
}
