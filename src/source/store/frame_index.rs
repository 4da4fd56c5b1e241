//! Where the frames of a compressed file lie: of every 64th frame it is held, of those between it is read again from the seek table,
//! or from the frames where there is none. So a table of any length takes little memory.

use super::{
    Store, StoreError, read_all,
    walk::{self, End},
};
use crate::{
    codec::frame::FrameFormat,
    format::seekable::{FOOTER, Footer, SKIPPABLE_HEADER},
};

/// Frames in a group.
const GROUP: usize = 64;
/// Larger frames are no way to read at random: such a file is decompressed as a whole.
const LARGEST: u32 = 64 << 20;
/// No frame of either format is smaller, bytes.
const SMALLEST: u32 = 8;

/// Where all frames lie.
#[derive(Debug)]
pub(super) struct FrameIndex {
    /// Where each group starts.
    groups: Vec<(u64, u64)>,
    frames: usize,
    /// Bytes that all frames make.
    size: u64,
    /// The largest frame, decompressed, bytes.
    largest: u64,
    rest: Rest,
}

/// Where the frames of a group can be looked up.
#[derive(Debug)]
enum Rest {
    /// In the entries of the seek table, which start at this byte of the file.
    Table(Footer, u64),
    /// In the frames themselves.
    Frames(FrameFormat),
}

/// Where the frames of one group lie.
#[derive(Debug)]
pub(super) struct Group {
    number: usize,
    start: End,
    ends: Vec<End>,
}

impl FrameIndex {
    fn new(rest: Rest) -> Self {
        Self { groups: Vec::new(), frames: 0, size: 0, largest: 0, rest }
    }

    /// From the seek table at the end of the file; `None` where the file ends in no table that describes it.
    pub(super) fn of_table(store: &dyn Store) -> Option<Self> {
        let at = store.size().checked_sub(FOOTER)?;
        let footer = Footer::parse(&read_all(store, at, FOOTER).ok()?)?;
        let start = store.size().checked_sub(footer.table_len())?;
        if !footer.matches(&read_all(store, start, SKIPPABLE_HEADER).ok()?) {
            return None;
        }
        let mut index = Self::new(Rest::Table(footer, start + SKIPPABLE_HEADER));
        let mut end = End { stored: 0, plain: 0, checksum: None };
        let count = footer.frames as usize;
        // Thousands of entries at once.
        for first in (0..count).step_by(64 * GROUP) {
            for next in index.entries(store, first, end, (count - first).min(64 * GROUP)).ok()? {
                let (stored, plain) = (next.stored - end.stored, next.plain - end.plain);
                if plain > LARGEST.into() || stored > (2 * LARGEST).into() || stored < SMALLEST.into() {
                    return None;
                }
                index.push(end, next);
                end = next;
            }
        }
        // With other frames between them the numbers would lead astray.
        (end.stored == start && index.frames > 0).then_some(index)
    }

    /// From the frames themselves; `None` where they cannot be read at random.
    pub(super) fn of_frames(store: &dyn Store, format: FrameFormat) -> Option<Self> {
        let mut index = Self::new(Rest::Frames(format));
        walk::frames(store, format, |start, end| index.push(start, end))?;
        Some(index)
    }

    fn push(&mut self, start: End, end: End) {
        if self.frames.is_multiple_of(GROUP) {
            self.groups.push((start.stored, start.plain));
        }
        self.frames += 1;
        self.size = end.plain;
        self.largest = self.largest.max(end.plain - start.plain);
    }

    /// Bytes that all frames make.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The largest frame, decompressed, bytes.
    pub(super) fn largest(&self) -> u64 {
        self.largest
    }

    /// Bytes that are held.
    pub(super) fn held(&self) -> u64 {
        (self.groups.capacity() * size_of::<(u64, u64)>()) as u64
    }

    /// The group that has the byte at `offset` of what the frames make.
    pub(super) fn group_of(&self, offset: u64) -> usize {
        self.groups.partition_point(|(_, plain)| *plain <= offset).saturating_sub(1)
    }

    /// Looks up the frames of a group in `store`.
    pub(super) fn group(&self, store: &dyn Store, number: usize) -> Result<Group, StoreError> {
        let (stored, plain) = *self.groups.get(number).ok_or(StoreError::Truncated(0))?;
        let start = End { stored, plain, checksum: None };
        let first = number * GROUP;
        let ends = self.entries(store, first, start, (self.frames - first).min(GROUP))?;
        let next = self.groups.get(number + 1).copied();
        let last = ends.last().map(|end| (end.stored, end.plain));
        if next.is_some_and(|next| last != Some(next)) {
            return Err(StoreError::damaged("the compressed file changed while it was read".to_owned()));
        }
        Ok(Group { number, start, ends })
    }

    /// Where `count` frames end, from number `first` on, which begins at `start`.
    fn entries(&self, store: &dyn Store, first: usize, start: End, count: usize) -> Result<Vec<End>, StoreError> {
        match self.rest {
            Rest::Table(footer, at) => {
                let len = footer.entry_len() as u64;
                let bytes = read_all(store, at + first as u64 * len, count as u64 * len)?;
                let mut end = start;
                let ends = footer.entries(&bytes).map(|entry| {
                    let (stored, plain) = (end.stored + u64::from(entry.stored), end.plain + u64::from(entry.plain));
                    end = End { stored, plain, checksum: entry.checksum };
                    end
                });
                Ok(ends.collect())
            }
            Rest::Frames(format) => Ok(walk::some_frames(store, format, start, count)),
        }
    }
}

impl Group {
    pub(super) fn number(&self) -> usize {
        self.number
    }

    /// The frame that has the byte at `offset`: its number, start and end.
    pub(super) fn find(&self, offset: u64) -> Option<(usize, End, End)> {
        let index = self.ends.partition_point(|end| end.plain <= offset);
        let end = *self.ends.get(index)?;
        let start = index.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(self.start);
        Some((self.number * GROUP + index, start, end))
    }
}
