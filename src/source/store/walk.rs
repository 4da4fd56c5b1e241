//! Finding the frames of a compressed file that has no seek table, from frame to frame.
//!
//! Knows the headers of frames and blocks (RFC 8878, the LZ4 frame format) that tell a frame's length without
//! decompressing it. Must not know what is in them. Its table makes a seekable store of a file that was truncated.

use super::{Store, StoreReader};
use crate::codec::frame::FrameFormat;

/// Larger frames are no way to read at random: such a file is decompressed as a whole.
const LARGEST: u64 = 8 << 20;
/// As many frames as 16 TiB in frames of a mebibyte; bounds the time for them.
const MOST: u64 = 16 << 20;
/// So many frames may be tiny; more of them would take more time than they are worth.
const FEW: u64 = 1024;
/// Bytes that a frame makes on average, at the least.
const MEAN: u64 = 4 << 10;

/// Where a frame ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct End {
    /// In the file, bytes.
    pub(super) stored: u64,
    /// In what the frames make, bytes.
    pub(super) plain: u64,
    pub(super) checksum: Option<u32>,
}

/// Hands over where the whole frames from the start of the file begin and end, up to where it ends or something else follows. `None`
/// where frames do not say how long they are, or are too large or too small to be read at random.
pub(super) fn frames(store: &dyn Store, format: FrameFormat, mut put: impl FnMut(End, End)) -> Option<()> {
    let mut walk = Walk::new(store, format, START);
    let mut count = 0;
    loop {
        let start = walk.end;
        match walk.step() {
            Found::Frame(..) => put(start, walk.end),
            Found::Nothing => break,
            Found::Unfit => return None,
        }
        count += 1;
        let tiny = count > FEW && walk.end.plain / count < MEAN;
        if count > MOST || tiny {
            return None;
        }
    }
    (walk.end.plain > 0).then_some(())
}

/// Where `count` frames end, or fewer, the first of which begins at `start`.
pub(super) fn some_frames(store: &dyn Store, format: FrameFormat, start: End, count: usize) -> Vec<End> {
    let mut walk = Walk::new(store, format, start);
    let step = |_| matches!(walk.step(), Found::Frame(..)).then_some(walk.end);
    (0..count).map_while(step).collect()
}

const START: End = End { stored: 0, plain: 0, checksum: None };

struct Walk<'a> {
    bytes: Bytes<'a>,
    format: FrameFormat,
    /// Where the last frame ended.
    end: End,
}

impl<'a> Walk<'a> {
    fn new(store: &'a dyn Store, format: FrameFormat, end: End) -> Self {
        Self { bytes: Bytes { reader: store.reader(), size: store.size() }, format, end }
    }

    /// Passes over the next frame.
    fn step(&mut self) -> Found {
        let found = match self.format {
            FrameFormat::Zstd => zstd(&mut self.bytes, self.end.stored),
            FrameFormat::Lz4 => lz4(&mut self.bytes, self.end.stored),
        };
        if let Found::Frame(stored, plain) = found {
            self.end = End { stored, plain: self.end.plain.saturating_add(plain), checksum: None };
        }
        found
    }
}

enum Found {
    /// Its end and what it makes.
    Frame(u64, u64),
    /// No whole frame.
    Nothing,
    /// A frame that cannot be in a table.
    Unfit,
}

struct Bytes<'a> {
    reader: Box<dyn StoreReader + 'a>,
    size: u64,
}

impl Bytes<'_> {
    /// A little-endian number of up to eight bytes.
    fn number(&mut self, at: u64, len: usize) -> Option<u64> {
        at.checked_add(len as u64).filter(|end| *end <= self.size)?;
        let bytes = self.reader.read(at, len).ok()?;
        Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn frame(&self, end: Option<u64>, plain: u64) -> Found {
        end.filter(|end| *end <= self.size).map_or(Found::Nothing, |end| Found::Frame(end, plain))
    }

    /// Frames that decompressors pass over; the same for both formats.
    fn skippable(&mut self, at: u64) -> Found {
        let len = self.number(at.saturating_add(4), 4).unwrap_or(u64::MAX);
        self.frame(at.checked_add(8).and_then(|at| at.checked_add(len)), 0)
    }
}

const ZSTD: u64 = 0xFD2F_B528;
const LZ4: u64 = 0x184D_2204;
/// The first of sixteen.
const SKIPPABLE: u64 = 0x184D_2A50;

fn zstd(bytes: &mut Bytes<'_>, at: u64) -> Found {
    match bytes.number(at, 4) {
        Some(ZSTD) => {}
        Some(magic) if magic & !0xf == SKIPPABLE => return bytes.skippable(at),
        _ => return Found::Nothing,
    }
    let Some(descriptor) = bytes.number(at + 4, 1) else { return Found::Nothing };
    let single = descriptor & 0x20 != 0;
    let (window, dictionary) = (u64::from(!single), [0, 1, 2, 4][descriptor as usize & 3]);
    let size_len = [usize::from(single), 2, 4, 8][descriptor as usize >> 6];
    let size_at = at + 5 + window + dictionary;
    let Some(size) = bytes.number(size_at, size_len) else { return Found::Nothing };
    let plain = if size_len == 2 { size + 256 } else { size };
    if size_len == 0 || plain > LARGEST {
        return Found::Unfit;
    }
    let mut block = size_at + size_len as u64;
    // A block is at most 128 KiB, but empty ones are allowed.
    for _ in 0..=LARGEST >> 10 {
        let Some(header) = bytes.number(block, 3) else { return Found::Nothing };
        let stored = match header >> 1 & 3 {
            0 | 2 => header >> 3,
            1 => 1,
            _ => return Found::Nothing,
        };
        block += 3 + stored;
        if header & 1 != 0 {
            return bytes.frame(Some(block + u64::from(descriptor & 4 != 0) * 4), plain);
        }
    }
    Found::Unfit
}

fn lz4(bytes: &mut Bytes<'_>, at: u64) -> Found {
    match bytes.number(at, 4) {
        Some(LZ4) => {}
        Some(magic) if magic & !0xf == SKIPPABLE => return bytes.skippable(at),
        _ => return Found::Nothing,
    }
    let Some(flags) = bytes.number(at + 4, 1) else { return Found::Nothing };
    let Some(plain) = bytes.number(at + 6, 8) else { return Found::Nothing };
    if flags & 0x08 == 0 || plain > LARGEST {
        return Found::Unfit;
    }
    let dictionary = flags & 1;
    let checksum = flags >> 4 & 1;
    let mut block = at + 6 + 8 + 4 * dictionary + 1;
    for _ in 0..=LARGEST >> 10 {
        let Some(size) = bytes.number(block, 4) else { return Found::Nothing };
        block += 4;
        if size == 0 {
            return bytes.frame(Some(block + (flags >> 2 & 1) * 4), plain);
        }
        block += (size & 0x7fff_ffff) + 4 * checksum;
    }
    Found::Unfit
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::{
        codec::{Compression, frame::FrameCoder},
        source::store::FileStore,
    };

    fn walked(bytes: &[u8]) -> Option<Vec<(u64, u64)>> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        let format = FrameFormat::of(bytes).unwrap();
        let mut ends = Vec::new();
        frames(&FileStore::new(file).unwrap(), format, |_, end| ends.push((end.stored, end.plain)))?;
        Some(ends)
    }

    fn frame(compression: Compression, len: usize) -> Vec<u8> {
        let plain: Vec<u8> = (0..len as u32).map(|at| (at.wrapping_mul(at) / 77) as u8).collect();
        let mut out = Vec::new();
        FrameCoder::new(compression).unwrap().compress(&plain, &mut out).unwrap();
        out
    }

    /// What a decompressor passes over, with three bytes in it.
    const SKIPPED: [u8; 11] = [0x53, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3];

    #[test]
    fn lengths_add_up_over_every_kind_of_frame() {
        for compression in [Compression::Zstd(1), Compression::Lz4] {
            let sizes = [1, 255, 256, 70_000, 1 << 20, 3 << 20];
            let (mut file, mut ends, mut plain) = (Vec::new(), Vec::new(), 0);
            for size in sizes {
                file.extend(frame(compression, size));
                plain += size as u64;
                ends.push((file.len() as u64, plain));
                file.extend(SKIPPED);
                ends.push((file.len() as u64, plain));
            }
            assert_eq!(walked(&file).unwrap(), ends);
            // In the middle of a frame nothing of it counts.
            for (at, pair) in ends.windows(2).enumerate() {
                assert_eq!(walked(&file[..pair[1].0 as usize - 1]).unwrap(), ends[..=at]);
            }
            assert_eq!(walked(&[&file[..], &[0; 100]].concat()).unwrap(), ends, "something else behind them");
        }
    }

    #[test]
    fn frames_that_cannot_be_read_at_random_are_none() {
        let zstd = frame(Compression::Zstd(1), 1000);
        assert_eq!(walked(&zstd[..zstd.len() - 1]), None, "no whole frame");
        assert_eq!(walked(&zstd::encode_all(&[7u8; 1000][..], 1).unwrap()), None, "of unknown length");
        assert_eq!(walked(&frame(Compression::Lz4, 9 << 20)), None, "too large");
        assert_eq!(walked(&frame(Compression::Lz4, 10).repeat(2000)), None, "too many small ones");
        let mut endless = zstd[..4].to_vec();
        endless.extend([0xe0, 0, 0, 1, 0, 0, 0, 0, 0]);
        endless.resize(1 << 20, 0);
        assert_eq!(walked(&endless), None, "blocks without end");
    }
}
