//! Bytes inside a compressed file that ends in a seek table, read at random.
//!
//! Knows which frame has which bytes, and keeps the last few frames. Must not know what the bytes mean. A damaged frame
//! costs its own bytes only.

use std::hash::Hasher as _;

use twox_hash::XxHash64;

use super::{Store, StoreError, StoreReader, read_all, walk};
use crate::{
    codec::frame::{FrameFormat, decompress},
    format::seekable::{FOOTER, Footer, SKIPPABLE_HEADER},
    source::MAX_READ,
};

/// Frames that each reader keeps decompressed, if they are small.
const KEPT: usize = 4;
/// Decompressed bytes that each reader keeps, if that is more than one frame.
const KEPT_BYTES: u64 = 4 << 20;
/// Larger frames are no way to read at random: such a file is decompressed as a whole.
const LARGEST: u32 = 64 << 20;

/// Where a frame ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    /// In the file, bytes.
    pub(super) stored: u64,
    /// In what the frames make, bytes.
    pub(super) plain: u64,
    pub(super) checksum: Option<u32>,
}

/// A compressed file with its seek table.
#[derive(Debug)]
pub struct SeekableStore {
    inner: Box<dyn Store>,
    format: FrameFormat,
    /// In order; a frame starts where the one before ends.
    ends: Vec<End>,
    /// The largest frame, decompressed, bytes.
    largest: u64,
}

impl SeekableStore {
    /// Reads the seek table of `inner`.
    ///
    /// # Errors
    /// There is none, or it does not describe the file, or frames are too large: gives `inner` back.
    pub fn open(inner: Box<dyn Store>, format: FrameFormat) -> Result<Self, Box<dyn Store>> {
        match read_table(inner.as_ref()) {
            Some(ends) => Ok(Self::with(inner, format, ends)),
            None => Err(inner),
        }
    }

    /// Makes the table that `inner` lacks from the frames themselves: what there is of a file that was cut short.
    ///
    /// # Errors
    /// No frame is whole, or they are no way to read at random: gives `inner` back.
    pub fn rebuild(inner: Box<dyn Store>, format: FrameFormat) -> Result<Self, Box<dyn Store>> {
        match walk::frames(inner.as_ref(), format) {
            Some(ends) => Ok(Self::with(inner, format, ends)),
            None => Err(inner),
        }
    }

    fn with(inner: Box<dyn Store>, format: FrameFormat, ends: Vec<End>) -> Self {
        let mut last = 0;
        let largest = ends.iter().map(|end| end.plain - std::mem::replace(&mut last, end.plain)).max();
        Self { inner, format, ends, largest: largest.unwrap_or(0) }
    }

    /// Start and end of frame `index`.
    fn frame(&self, index: usize) -> Option<(End, End)> {
        let end = *self.ends.get(index)?;
        let start = index.checked_sub(1).and_then(|before| self.ends.get(before));
        Some((start.copied().unwrap_or(End { stored: 0, plain: 0, checksum: None }), end))
    }

    /// Frames that a reader keeps.
    fn kept(&self) -> usize {
        ((KEPT_BYTES / self.largest.max(1)) as usize).clamp(1, KEPT)
    }

    fn decode(&self, index: usize) -> Result<Vec<u8>, StoreError> {
        let (start, end) = self.frame(index).ok_or(StoreError::Truncated(0))?;
        let stored = read_all(self.inner.as_ref(), start.stored, end.stored - start.stored)?;
        let plain = decompress(self.format, &stored, (end.plain - start.plain) as usize);
        let plain = plain.and_then(|plain| {
            let mut hasher = XxHash64::with_seed(0);
            hasher.write(&plain);
            let right = end.checksum.is_none_or(|wanted| wanted == hasher.finish() as u32);
            if right { Ok(plain) } else { Err("its checksum in the seek table is another".to_owned()) }
        });
        plain.map_err(|cause| {
            let (name, at) = (self.format.name(), start.stored);
            StoreError::Failed(format!("{name} frame {index} at byte {at} of the file is damaged ({cause})"))
        })
    }
}

/// `None` where the file ends in no table that describes it.
fn read_table(store: &dyn Store) -> Option<Vec<End>> {
    let at = store.size().checked_sub(FOOTER)?;
    let footer = Footer::parse(&read_all(store, at, FOOTER).ok()?)?;
    let start = store.size().checked_sub(footer.table_len())?;
    let table = read_all(store, start, footer.table_len()).ok()?;
    let (header, entries) = table.split_at_checked(SKIPPABLE_HEADER as usize)?;
    if !footer.matches(header) {
        return None;
    }
    let (mut stored, mut plain) = (0u64, 0u64);
    let mut ends = Vec::with_capacity(footer.frames as usize);
    for entry in footer.entries(entries) {
        if entry.plain > LARGEST || entry.stored > 2 * LARGEST {
            return None;
        }
        stored += u64::from(entry.stored);
        plain += u64::from(entry.plain);
        ends.push(End { stored, plain, checksum: entry.checksum });
    }
    // With other frames between them the numbers would lead astray.
    (stored == start && !ends.is_empty()).then_some(ends)
}

impl Store for SeekableStore {
    fn size(&self) -> u64 {
        self.ends.last().map_or(0, |end| end.plain)
    }

    fn reader(&self) -> Box<dyn StoreReader + '_> {
        Box::new(SeekableReader { store: self, frames: Vec::new(), damaged: None, buffer: Vec::new() })
    }

    fn memory(&self) -> (u64, u64) {
        let (store, reader) = self.inner.memory();
        // One frame more while it is decoded, and as much for its stored form.
        let frames = (self.kept() as u64 + 2) * self.largest;
        (store + (self.ends.len() * size_of::<End>()) as u64, reader + frames + MAX_READ as u64)
    }
}

#[derive(Debug)]
struct SeekableReader<'a> {
    store: &'a SeekableStore,
    /// Index and bytes of the frames used last, the newest at the end.
    frames: Vec<(usize, Vec<u8>)>,
    /// The last damaged frame, so that it is not decoded again for each of its pages.
    damaged: Option<(usize, StoreError)>,
    /// For ranges that lie in several frames.
    buffer: Vec<u8>,
}

impl SeekableReader<'_> {
    /// Makes frame `index` the newest of the kept ones.
    fn hold(&mut self, index: usize) -> Result<(), StoreError> {
        if let Some((damaged, error)) = &self.damaged
            && *damaged == index
        {
            return Err(error.clone());
        }
        if let Some(at) = self.frames.iter().position(|(held, _)| *held == index) {
            self.frames[at..].rotate_left(1);
            return Ok(());
        }
        if self.frames.len() >= self.store.kept() {
            self.frames.remove(0);
        }
        match self.store.decode(index) {
            Ok(bytes) => self.frames.push((index, bytes)),
            Err(error) => {
                self.damaged = Some((index, error.clone()));
                return Err(error);
            }
        }
        Ok(())
    }

    /// The bytes of `offset..end` that lie in frame `index`.
    fn part(&mut self, index: usize, offset: u64, end: u64) -> Result<&[u8], StoreError> {
        let (start, _) = self.store.frame(index).ok_or(StoreError::Truncated(0))?;
        self.hold(index)?;
        let bytes = self.frames.last().map_or(&[][..], |(_, bytes)| bytes);
        let from = offset.saturating_sub(start.plain) as usize;
        let to = bytes.len().min((end - start.plain) as usize);
        bytes.get(from..to).ok_or(StoreError::Truncated(0))
    }
}

impl StoreReader for SeekableReader<'_> {
    fn read(&mut self, offset: u64, len: usize) -> Result<&[u8], StoreError> {
        let end = offset.saturating_add(len as u64);
        if end > self.store.size() {
            return Err(StoreError::Truncated(self.store.size().saturating_sub(offset) as usize));
        }
        let first = self.store.ends.partition_point(|frame| frame.plain <= offset);
        if self.store.ends.get(first).is_none_or(|frame| end <= frame.plain) {
            return if len == 0 { Ok(&[]) } else { self.part(first, offset, end) };
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let mut index = first;
        while buffer.len() < len {
            buffer.extend_from_slice(self.part(index, offset + buffer.len() as u64, end)?);
            index += 1;
        }
        self.buffer = buffer;
        Ok(&self.buffer)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::{
        codec::{Compression, frame::FrameCoder},
        format::seekable::encode,
        source::store::FileStore,
    };

    const FRAME: usize = 1000;

    fn plain() -> Vec<u8> {
        (0..10_500u32).map(|at| (at * at / 77) as u8).collect()
    }

    fn packed(compression: Compression) -> (Vec<u8>, Vec<(u32, u32)>) {
        let mut coder = FrameCoder::new(compression).unwrap();
        let (mut file, mut table, mut frame) = (Vec::new(), Vec::new(), Vec::new());
        for part in plain().chunks(FRAME) {
            coder.compress(part, &mut frame).unwrap();
            file.extend(&frame);
            table.push((frame.len() as u32, part.len() as u32));
        }
        file.extend(encode(&table));
        (file, table)
    }

    fn open(bytes: &[u8]) -> Result<SeekableStore, Box<dyn Store>> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        SeekableStore::open(Box::new(FileStore::new(file).unwrap()), FrameFormat::of(bytes).unwrap())
    }

    #[test]
    fn any_range_reads_as_the_plain_bytes() {
        for compression in [Compression::Zstd(1), Compression::Lz4] {
            let store = open(&packed(compression).0).unwrap();
            assert_eq!(store.size(), 10_500);
            let mut reader = store.reader();
            for (offset, len) in [(0, 10), (990, 20), (0, 10_500), (5000, 1000), (10_499, 1), (10_500, 0), (995, 7000)]
            {
                assert_eq!(reader.read(offset, len).unwrap(), &plain()[offset as usize..][..len], "{offset} {len}");
            }
            assert_eq!(reader.read(10_400, 101), Err(StoreError::Truncated(100)));
        }
    }

    #[test]
    fn a_damaged_frame_costs_itself_only() {
        for compression in [Compression::Zstd(1), Compression::Lz4] {
            let (mut file, table) = packed(compression);
            let third: u32 = table[..3].iter().map(|(stored, _)| stored).sum();
            file[third as usize - 2] ^= 0x10;
            let store = open(&file).unwrap();
            let mut reader = store.reader();
            assert!(matches!(reader.read(2000, 1), Err(StoreError::Failed(cause)) if cause.contains("frame 2 ")));
            assert!(reader.read(2999, 1).is_err() && reader.read(1500, 1000).is_err());
            assert_eq!(reader.read(1999, 1).unwrap(), &plain()[1999..2000]);
            assert_eq!(reader.read(3000, 2000).unwrap(), &plain()[3000..5000]);
        }
    }

    #[test]
    fn a_table_that_lies_is_none() {
        let (file, table) = packed(Compression::Zstd(1));
        let body = &file[..file.len() - encode(&table).len()];
        for lie in [vec![], vec![(1, 1)], vec![(u32::MAX, 1); 3], vec![(body.len() as u32, u32::MAX)]] {
            assert!(open(&[body, &encode(&lie)].concat()).is_err(), "{lie:?}");
        }
        assert!(open(body).is_err() && open(&file[..file.len() - 1]).is_err());
        let wrong = vec![(body.len() as u32, 10_499)];
        let store = open(&[body, &encode(&wrong)].concat()).unwrap();
        assert!(store.reader().read(0, 1).is_err(), "frames of another size");
    }
}
