//! Bytes inside a compressed file that ends in a seek table, read at random. A damaged frame loses only its own bytes.

use std::hash::Hasher as _;

use twox_hash::XxHash64;

use super::{
    Store, StoreError, StoreReader,
    frame_index::{FrameIndex, Group},
    read_all,
    walk::End,
};
use crate::{
    codec::frame::{FrameFormat, decompress},
    source::MAX_READ,
};

/// Frames that each reader keeps decompressed, if they are small.
const KEPT: usize = 4;
/// Decompressed bytes that each reader keeps, if that is more than one frame.
const KEPT_BYTES: u64 = 4 << 20;
/// A compressed file with its seek table.
#[derive(Debug)]
pub struct SeekableStore {
    inner: Box<dyn Store>,
    format: FrameFormat,
    index: FrameIndex,
}

impl SeekableStore {
    /// Reads the seek table of `inner`. A reader may take `limit` bytes of memory.
    ///
    /// # Errors
    /// There is none, or it does not describe the file, or frames are too large: gives `inner` back.
    pub fn open(inner: Box<dyn Store>, format: FrameFormat, limit: u64) -> Result<Self, Box<dyn Store>> {
        let index = FrameIndex::of_table(inner.as_ref());
        Self::with(inner, format, index, limit)
    }

    /// Makes the table that `inner` lacks from the frames themselves: what there is of a file that was truncated.
    ///
    /// # Errors
    /// No frame is whole, or they are no way to read at random: gives `inner` back.
    pub fn rebuild(inner: Box<dyn Store>, format: FrameFormat, limit: u64) -> Result<Self, Box<dyn Store>> {
        let index = FrameIndex::of_frames(inner.as_ref(), format);
        Self::with(inner, format, index, limit)
    }

    fn with(
        inner: Box<dyn Store>,
        format: FrameFormat,
        index: Option<FrameIndex>,
        limit: u64,
    ) -> Result<Self, Box<dyn Store>> {
        match index {
            Some(index) if reader_bytes(index.largest()) <= limit => Ok(Self { inner, format, index }),
            _ => Err(inner),
        }
    }

    fn decode(&self, number: usize, start: End, end: End) -> Result<Vec<u8>, StoreError> {
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
            StoreError::damaged(format!("{name} frame {number} at byte {at} of the file is damaged ({cause})"))
        })
    }
}

/// Frames that a reader keeps.
fn kept(largest: u64) -> usize {
    ((KEPT_BYTES / largest.max(1)) as usize).clamp(1, KEPT)
}

/// Memory that a reader takes: one frame more while it is decoded, and as much for its stored form.
fn reader_bytes(largest: u64) -> u64 {
    (kept(largest) as u64 + 2) * largest + MAX_READ as u64
}

impl Store for SeekableStore {
    fn size(&self) -> u64 {
        self.index.size()
    }

    fn reader(&self) -> Box<dyn StoreReader + '_> {
        Box::new(SeekableReader { store: self, group: None, frames: Vec::new(), damaged: None, buffer: Vec::new() })
    }

    fn memory(&self) -> (u64, u64) {
        let (store, reader) = self.inner.memory();
        (store + self.index.held(), reader + reader_bytes(self.index.largest()))
    }
}

#[derive(Debug)]
struct SeekableReader<'a> {
    store: &'a SeekableStore,
    /// The part of the table that was used last.
    group: Option<Group>,
    /// Index and bytes of the frames used last, the newest at the end.
    frames: Vec<(usize, Vec<u8>)>,
    /// The last damaged frame, so that it is not decoded again for each of its pages.
    damaged: Option<(usize, StoreError)>,
    /// For ranges that lie in several frames.
    buffer: Vec<u8>,
}

impl SeekableReader<'_> {
    /// Makes frame `number` the newest of the kept ones.
    fn hold(&mut self, number: usize, start: End, end: End) -> Result<(), StoreError> {
        if let Some((damaged, error)) = &self.damaged
            && *damaged == number
        {
            return Err(error.clone());
        }
        if let Some(at) = self.frames.iter().position(|(held, _)| *held == number) {
            self.frames[at..].rotate_left(1);
            return Ok(());
        }
        if self.frames.len() >= kept(self.store.index.largest()) {
            self.frames.remove(0);
        }
        match self.store.decode(number, start, end) {
            Ok(bytes) => self.frames.push((number, bytes)),
            Err(error) => {
                self.damaged = Some((number, error.clone()));
                return Err(error);
            }
        }
        Ok(())
    }

    /// The frame that has the byte at `offset`: its number, start and end.
    fn find(&mut self, offset: u64) -> Result<(usize, End, End), StoreError> {
        let index = &self.store.index;
        let number = index.group_of(offset);
        let group = match self.group.take().filter(|group| group.number() == number) {
            Some(group) => group,
            None => index.group(self.store.inner.as_ref(), number)?,
        };
        let found = group.find(offset).ok_or(StoreError::Truncated(0));
        self.group = Some(group);
        found
    }

    /// The bytes of `offset..end` that lie in the frame with the first of them.
    fn part(&mut self, offset: u64, end: u64) -> Result<&[u8], StoreError> {
        let (number, start, stop) = self.find(offset)?;
        self.hold(number, start, stop)?;
        let bytes = self.frames.last().map_or(&[][..], |(_, bytes)| bytes);
        let from = (offset - start.plain) as usize;
        let to = bytes.len().min((end - start.plain) as usize);
        bytes.get(from..to).filter(|part| !part.is_empty()).ok_or(StoreError::Truncated(0))
    }
}

impl StoreReader for SeekableReader<'_> {
    fn read(&mut self, offset: u64, len: usize) -> Result<&[u8], StoreError> {
        let end = offset.saturating_add(len as u64);
        if end > self.store.size() {
            return Err(StoreError::Truncated(self.store.size().saturating_sub(offset) as usize));
        }
        if len == 0 {
            return Ok(&[]);
        }
        let (_, _, stop) = self.find(offset)?;
        if end <= stop.plain {
            return self.part(offset, end);
        }
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        while buffer.len() < len {
            buffer.extend_from_slice(self.part(offset + buffer.len() as u64, end)?);
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
        SeekableStore::open(Box::new(FileStore::new(file).unwrap()), FrameFormat::of(bytes).unwrap(), u64::MAX)
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
    fn a_damaged_frame_loses_only_itself() {
        for compression in [Compression::Zstd(1), Compression::Lz4] {
            let (mut file, table) = packed(compression);
            let third: u32 = table[..3].iter().map(|(stored, _)| stored).sum();
            file[third as usize - 2] ^= 0x10;
            let store = open(&file).unwrap();
            let mut reader = store.reader();
            assert!(matches!(reader.read(2000, 1), Err(StoreError::Failed(cause)) if cause.text.contains("frame 2 ")));
            assert!(reader.read(2999, 1).is_err() && reader.read(1500, 1000).is_err());
            assert_eq!(reader.read(1999, 1).unwrap(), &plain()[1999..2000]);
            assert_eq!(reader.read(3000, 2000).unwrap(), &plain()[3000..5000]);
        }
    }

    /// Each reader finds its way through a table of which only every 64th entry is held.
    #[test]
    fn many_small_frames_read_as_the_plain_bytes() {
        let plain: Vec<u8> = (0..40_000u32).map(|at| (at * at / 77) as u8).collect();
        for compression in [Compression::Zstd(1), Compression::Lz4] {
            let mut coder = FrameCoder::new(compression).unwrap();
            let (mut file, mut table, mut frame) = (Vec::new(), Vec::new(), Vec::new());
            for (index, part) in plain.chunks(100).enumerate() {
                if index % 64 == 63 {
                    // Frames that are passed over, on both sides of a border.
                    for _ in 0..3 {
                        file.extend([0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3]);
                        table.push((11, 0));
                    }
                }
                coder.compress(part, &mut frame).unwrap();
                file.extend(&frame);
                table.push((frame.len() as u32, part.len() as u32));
            }
            let body = file.len();
            file.extend(encode(&table));
            let rebuilt = |bytes: &[u8]| {
                let mut unnamed = tempfile::tempfile().unwrap();
                unnamed.write_all(bytes).unwrap();
                let inner = Box::new(FileStore::new(unnamed).unwrap());
                SeekableStore::rebuild(inner, FrameFormat::of(bytes).unwrap(), u64::MAX).unwrap()
            };
            for store in [open(&file).unwrap(), rebuilt(&file[..body])] {
                assert_eq!(store.size(), 40_000);
                let mut reader = store.reader();
                for at in (0..39_000).step_by(333).chain((0..39_000).rev().step_by(4_001)) {
                    for len in [1, 99, 250] {
                        assert!(reader.read(at, len).unwrap() == &plain[at as usize..][..len], "{at} {len}");
                    }
                }
                assert!(reader.read(0, 40_000).unwrap() == plain);
            }
        }
    }

    #[test]
    fn frames_that_memory_cannot_bear_are_not_read_at_random() {
        let file = packed(Compression::Zstd(1)).0;
        let within = |limit| {
            let mut unnamed = tempfile::tempfile().unwrap();
            unnamed.write_all(&file).unwrap();
            SeekableStore::open(Box::new(FileStore::new(unnamed).unwrap()), FrameFormat::Zstd, limit).is_ok()
        };
        assert!(within(2 << 20) && !within(1 << 20));
    }

    #[test]
    fn a_table_that_lies_is_none() {
        let (file, table) = packed(Compression::Zstd(1));
        let body = &file[..file.len() - encode(&table).len()];
        for lie in
            [vec![], vec![(1, 1)], vec![(0, 0); 1000], vec![(u32::MAX, 1); 3], vec![(body.len() as u32, u32::MAX)]]
        {
            assert!(open(&[body, &encode(&lie)].concat()).is_err(), "{lie:?}");
        }
        assert!(open(body).is_err() && open(&file[..file.len() - 1]).is_err());
        let wrong = vec![(body.len() as u32, 10_499)];
        let store = open(&[body, &encode(&wrong)].concat()).unwrap();
        assert!(store.reader().read(0, 1).is_err(), "frames of another size");
    }
}
