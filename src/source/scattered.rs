//! A map of memory that is a bitmap in the dump: for scattered pages a run of frames is worth one bit, and a list of runs takes
//! 32 bytes for each. The bitmap stays in the file, and what is held is how many frames lie before each block of it.

use std::{ops::Range, sync::Arc};

use vdump_filters::ranges::Ranges;

use super::{
    Piece,
    store::{Store, StoreError, StoreReader},
};

/// Blocks that a bitmap is counted in at most: 2 MiB of counts.
const MOST_BLOCKS: u64 = 1 << 18;
/// The smallest block, frames: 4 KiB of the bitmap are read at once.
const SMALLEST_BLOCK: u64 = 1 << 15;
/// An offset that no store has: pages of a block that cannot be read any more exist, but nobody knows where.
const NOWHERE: u64 = 1 << 62;

/// Where the bits are.
#[derive(Clone, Debug)]
pub(super) struct Bits {
    pub(super) store: Arc<dyn Store>,
    /// Offsets of bitmaps, bytes: a frame is there if any of them has its bit.
    pub(super) bitmaps: Vec<u64>,
    /// Bits in each, bit 0 of byte 0 first.
    pub(super) frames: u64,
}

/// The frames whose bits are set, counted.
#[derive(Debug)]
pub(super) struct Scattered {
    bits: Bits,
    page_shift: u32,
    /// Whether pieces have offsets: the number of frames before them, in bytes of pages.
    numbered: bool,
    /// Log2 of the frames in a block.
    block_shift: u32,
    /// Frames before each block, and all of them at the end.
    before: Vec<u64>,
    /// One past the last frame.
    end: u64,
    /// Physical ranges whose frames are not shown, sorted, and how many bytes there would be of them.
    hidden: Ranges<Range<u64>>,
    hidden_bytes: u64,
}

impl Bits {
    /// Frames in a block, so that there are not too many.
    pub(super) fn block(&self) -> u64 {
        self.frames.div_ceil(MOST_BLOCKS).next_power_of_two().max(SMALLEST_BLOCK)
    }

    pub(super) fn readers(&self) -> Vec<Box<dyn StoreReader + '_>> {
        self.bitmaps.iter().map(|_| self.store.reader()).collect()
    }

    /// Reads the bits of `count` frames from `first` on, a multiple of 64, as words.
    pub(super) fn read(
        &self,
        readers: &mut [Box<dyn StoreReader + '_>],
        first: u64,
        count: u64,
        words: &mut Vec<u64>,
    ) -> Result<(), StoreError> {
        let count = count.min(self.frames.saturating_sub(first));
        words.clear();
        words.resize(count.div_ceil(64) as usize, 0);
        for (reader, bitmap) in readers.iter_mut().zip(&self.bitmaps) {
            let bytes = reader.read(bitmap + first / 8, count.div_ceil(8) as usize)?;
            for (word, chunk) in words.iter_mut().zip(bytes.chunks(8)) {
                let mut whole = [0; 8];
                whole[..chunk.len()].copy_from_slice(chunk);
                *word |= u64::from_le_bytes(whole);
            }
        }
        trim(words, count);
        Ok(())
    }

    /// The first frame from `first` on that may be there: what files and streams have no data for are zeros.
    pub(super) fn next_data(&self, first: u64) -> u64 {
        let next = self.bitmaps.iter().map(|bitmap| {
            let at = bitmap + first / 8;
            self.store.next_data(at).saturating_sub(at)
        });
        next.min().map_or(first, |bytes| first.saturating_add(bytes.saturating_mul(8)).min(self.frames))
    }
}

/// Clears the bits of the last word that are past the end.
fn trim(words: &mut [u64], count: u64) {
    if let (Some(last), rest @ 1..) = (words.last_mut(), count % 64) {
        *last &= (1 << rest) - 1;
    }
}

impl Scattered {
    /// Takes the counts of each block, in order.
    pub(super) fn new(bits: Bits, page_shift: u32, numbered: bool, counts: &[u32], end: u64) -> Self {
        let block_shift = bits.block().trailing_zeros();
        let mut before = Vec::with_capacity(counts.len() + 1);
        let mut all = 0;
        before.push(0);
        before.extend(counts.iter().map(|count| {
            all += u64::from(*count);
            all
        }));
        Self { bits, page_shift, numbered, block_shift, before, end, hidden: Ranges::default(), hidden_bytes: 0 }
    }

    /// One past the last frame.
    pub(super) fn end(&self) -> u64 {
        self.end << self.page_shift
    }

    /// Bytes of memory that is there.
    pub(super) fn bytes(&self) -> u64 {
        self.before.last().map_or(0, |pages| pages << self.page_shift).saturating_sub(self.hidden_bytes)
    }

    /// Shows the frames of these ranges no more. The others keep their numbers.
    pub(super) fn hide(&mut self, ranges: &Ranges<Range<u64>>) {
        let mut hidden_bytes = 0;
        for range in ranges.as_slice() {
            let (mut cursor, mut at) = (Cursor::new(self), range.start);
            while let Some(piece) = cursor.next(at, range.end) {
                hidden_bytes += piece.len;
                at = piece.end();
            }
        }
        self.hidden_bytes += hidden_bytes;
        self.hidden.add_where_free(ranges.as_slice().to_vec());
    }

    /// Bytes that are held.
    pub(super) fn held(&self) -> u64 {
        (self.before.capacity() * size_of::<u64>()) as u64
    }
}

/// One reader's place in the bitmap.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    map: &'a Scattered,
    readers: Vec<Box<dyn StoreReader + 'a>>,
    /// Number of the block whose bits are in `words`.
    block: Option<u64>,
    words: Vec<u64>,
    /// How many bits are set below one of them: runs are mostly asked for in order.
    counted: (u64, u64),
    /// The block cannot be read any more, or not as it was: all its frames may be there, and none can be found.
    lost: bool,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(map: &'a Scattered) -> Self {
        Self { map, readers: map.bits.readers(), block: None, words: Vec::new(), counted: (0, 0), lost: false }
    }

    /// The first stretch of `paddr..end` that is there. Touching stretches follow one another where a block ends.
    pub(super) fn next(&mut self, paddr: u64, end: u64) -> Option<Piece> {
        let mut at = paddr;
        loop {
            let piece = self.next_set(at, end)?;
            match self.map.hidden.overlapping(piece.paddr, piece.end()).next() {
                Some(hidden) if hidden.start <= piece.paddr => at = hidden.end,
                Some(hidden) => return Some(Piece { len: hidden.start - piece.paddr, ..piece }),
                None => return Some(piece),
            }
        }
    }

    /// The same with what is hidden.
    fn next_set(&mut self, paddr: u64, end: u64) -> Option<Piece> {
        let shift = self.map.page_shift;
        let last = (end.checked_sub(1)? >> shift).min(self.map.end.checked_sub(1)?);
        let mut pfn = paddr >> shift;
        while pfn <= last {
            let block = pfn >> self.map.block_shift;
            let (first, next) = (block << self.map.block_shift, (block + 1) << self.map.block_shift);
            let before = self.map.before.get(block as usize)?;
            if self.map.before.get(block as usize + 1)? > before {
                self.load(block);
                if let Some((start, stop)) = run(&self.words, pfn - first, (last + 1).min(next) - first) {
                    let offset = self.map.numbered.then(|| match self.lost {
                        true => NOWHERE,
                        false => (before + self.rank(start)) << shift,
                    });
                    return Some(Piece { paddr: (first + start) << shift, len: (stop - start) << shift, offset });
                }
            }
            pfn = next;
        }
        None
    }

    /// How many bits of the block are set below `at`.
    fn rank(&mut self, at: u64) -> u64 {
        let (from, below) = if self.counted.0 <= at { self.counted } else { (0, 0) };
        self.counted = (at, below + ones(&self.words, from, at));
        self.counted.1
    }

    fn load(&mut self, block: u64) {
        if self.block == Some(block) {
            return;
        }
        let Scattered { bits, block_shift, before, .. } = self.map;
        let first = block << block_shift;
        let read = bits.read(&mut self.readers, first, 1 << block_shift, &mut self.words);
        let counted = before[block as usize + 1] - before[block as usize];
        self.lost = read.is_err() || ones(&self.words, 0, u64::MAX) != counted;
        if self.lost {
            let count = (1 << block_shift).min(bits.frames.saturating_sub(first));
            self.words.clear();
            self.words.resize(count.div_ceil(64) as usize, u64::MAX);
            trim(&mut self.words, count);
        }
        (self.block, self.counted) = (Some(block), (0, 0));
    }
}

/// Bits set in `from..end`.
fn ones(words: &[u64], from: u64, end: u64) -> u64 {
    let end = end.min(words.len() as u64 * 64);
    let word = |index: u64| words.get(index as usize).copied().unwrap_or(0);
    let below = |at: u64| u64::from((word(at / 64) & ((1 << (at % 64)) - 1)).count_ones());
    let whole: u64 = (from / 64..end / 64).map(|index| u64::from(word(index).count_ones())).sum();
    (whole + below(end)).saturating_sub(below(from))
}

/// The first run of set bits in `at..end`.
fn run(words: &[u64], at: u64, end: u64) -> Option<(u64, u64)> {
    let end = end.min(words.len() as u64 * 64);
    let find = |from: u64, set: bool| {
        let mut at = from;
        while at < end {
            let word = if set { words[(at / 64) as usize] } else { !words[(at / 64) as usize] };
            let rest = word >> (at % 64);
            if rest != 0 {
                return (at + u64::from(rest.trailing_zeros())).min(end);
            }
            at = (at / 64 + 1) * 64;
        }
        end
    };
    let start = find(at, true);
    (start < end).then(|| (start, find(start, false)))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::source::store::FileStore;

    /// Two bitmaps one after the other, each of `frames` bits.
    fn map(frames: u64, is_set: impl Fn(u64) -> bool, numbered: bool) -> Scattered {
        let bitmap = frames.div_ceil(8);
        let mut bytes = vec![0u8; 2 * bitmap as usize];
        for pfn in (0..frames).filter(|pfn| is_set(*pfn)) {
            bytes[(bitmap * (pfn % 2) + pfn / 8) as usize] |= 1 << (pfn % 8);
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let store = Arc::new(FileStore::new(file).unwrap());
        let bits = Bits { store, bitmaps: vec![0, bitmap], frames };
        let block = bits.block();
        let counts =
            |block_at: u64| (block_at..(block_at + block).min(frames)).filter(|pfn| is_set(*pfn)).count() as u32;
        let counts: Vec<u32> = (0..frames).step_by(block as usize).map(counts).collect();
        let end = (0..frames).rev().find(|pfn| is_set(*pfn)).map_or(0, |last| last + 1);
        Scattered::new(bits, 12, numbered, &counts, end)
    }

    #[test]
    fn every_frame_is_found_with_its_number() {
        let frames = 100_001;
        let is_set = |pfn: u64| pfn == 100_000 || !(30_000..66_000).contains(&pfn) && pfn % 7 < 3;
        let map = map(frames, is_set, true);
        let mut cursor = Cursor::new(&map);
        let (mut at, mut seen) = (0, Vec::new());
        while let Some(piece) = cursor.next(at, u64::MAX) {
            assert_eq!(piece.offset, Some((seen.len() as u64) << 12));
            seen.extend((piece.paddr >> 12..piece.end() >> 12).collect::<Vec<_>>());
            at = piece.end();
        }
        assert!(seen.iter().copied().eq((0..frames).filter(|pfn| is_set(*pfn))));
        assert_eq!((map.bytes(), map.end()), ((seen.len() as u64) << 12, frames << 12));
        // In the middle of a run, and not past what is asked for.
        let piece = cursor.next(701 << 12, (701 << 12) + 1).unwrap();
        assert_eq!((piece.paddr >> 12, piece.len >> 12, piece.offset), (701, 1, Some(301 << 12)));
        assert_eq!(cursor.next(703 << 12, 707 << 12), None);
    }

    #[test]
    fn what_is_hidden_is_passed_over_and_the_rest_keeps_its_numbers() {
        let mut map = map(100_000, |pfn| pfn % 10 < 5, true);
        map.hide(&Ranges::new(vec![2 << 12..14 << 12, 50_000 << 12..90_000 << 12]));
        assert_eq!(map.bytes() >> 12, 50_000 - 7 - 20_000);
        let mut cursor = Cursor::new(&map);
        let mut pieces = Vec::new();
        let mut at = 0;
        while let Some(piece) = cursor.next(at, u64::MAX) {
            pieces.push((piece.paddr >> 12, piece.len >> 12, piece.offset.unwrap() >> 12));
            at = piece.end();
        }
        assert_eq!(pieces[..3], [(0, 2, 0), (14, 1, 9), (20, 5, 10)]);
        assert_eq!(pieces.iter().map(|piece| piece.1).sum::<u64>(), map.bytes() >> 12);
        assert!(pieces.contains(&(90_000, 5, 45_000)));
    }

    #[test]
    fn a_bitmap_that_changes_loses_its_pages_and_no_others() {
        let mut map = map(100_000, |pfn| pfn % 2 == 0, true);
        map.before.iter_mut().skip(1).for_each(|count| *count += 1);
        let mut cursor = Cursor::new(&map);
        let piece = cursor.next(1 << 12, 3 << 12).unwrap();
        assert_eq!((piece.paddr, piece.len, piece.offset), (1 << 12, 2 << 12, Some(NOWHERE)));
        let piece = cursor.next(40_000 << 12, 40_002 << 12).unwrap();
        assert_eq!((piece.len, piece.offset), (1 << 12, Some(20_001 << 12)));
    }

    #[test]
    fn a_bitmap_of_any_size_is_held_in_few_megabytes() {
        let bits = |frames| Bits {
            store: Arc::new(FileStore::new(tempfile::tempfile().unwrap()).unwrap()),
            bitmaps: vec![],
            frames,
        };
        for frames in [1, 1 << 20, 1 << 34, 1 << 40] {
            let block = bits(frames).block();
            assert!(frames.div_ceil(block) <= MOST_BLOCKS && block / 8 <= crate::source::MAX_READ as u64, "{frames}");
        }
    }
}
