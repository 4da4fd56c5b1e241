//! The two bitmaps of a kdump-compressed file, as maps of memory: as runs of frames where there are few, else as bitmaps that stay
//! where they are.

use std::sync::Arc;

use super::set::Part;
use crate::{
    error::Result,
    source::{
        Piece, RamMap,
        scattered::{Bits, Scattered},
    },
};

/// Runs of frames that are held as such: 2 MiB. More are left in the bitmap.
const MOST_RUNS: usize = 1 << 16;
/// Frames that are looked at together: 256 KiB of each bitmap.
const STEP: u64 = 1 << 21;

/// What the bitmaps say.
#[derive(Debug)]
pub(super) struct Bitmaps {
    /// The dumped frames. A piece's offset counts dumped pages only: it is the number of the page's descriptor, in bytes
    /// of pages.
    pub(super) dumped: RamMap,
    /// The frames that exist.
    pub(super) existing: RamMap,
    /// Frames that exist and are not dumped.
    pub(super) excluded: u64,
}

/// Reads both bitmaps in one pass. A dumped frame exists, whatever the first bitmap says.
pub(super) fn read(part: &Part) -> Result<Bitmaps> {
    let head = &part.head;
    let bits = |bitmaps: &[u64]| Bits {
        store: Arc::clone(&part.file.store),
        bitmaps: bitmaps.to_vec(),
        frames: head.max_mapnr,
    };
    let (have, exist, both) = (bits(&[head.bitmap2]), bits(&[head.bitmap1]), bits(&[head.bitmap1, head.bitmap2]));
    let mut dumped = Runs::new(&have, head.page_shift, true);
    let mut existing = Runs::new(&both, head.page_shift, false);
    let (mut have_readers, mut exist_readers) = (have.readers(), exist.readers());
    let (mut have_words, mut exist_words) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < head.max_mapnr {
        // A header can claim any number of frames: what nobody has written is not gone through.
        let data = both.next_data(at);
        if data >= at + STEP {
            at = data - data % STEP;
            continue;
        }
        let unreadable = |error| part.file.unreadable("the bitmaps", &error);
        have.read(&mut have_readers, at, STEP, &mut have_words).map_err(unreadable)?;
        exist.read(&mut exist_readers, at, STEP, &mut exist_words).map_err(unreadable)?;
        for (pfn, (exist, have)) in (at..).step_by(64).zip(exist_words.iter().zip(&have_words)) {
            dumped.add(pfn, *have);
            existing.add(pfn, exist | have);
        }
        at += STEP;
    }
    if dumped.pages == 0 {
        return Err(part.file.damaged("its bitmap says that no page was dumped"));
    }
    let excluded = existing.pages - dumped.pages;
    drop((have_readers, exist_readers));
    Ok(Bitmaps { dumped: dumped.into_map(have), existing: existing.into_map(both), excluded })
}

struct Runs {
    page_shift: u32,
    numbered: bool,
    /// `None`: there are too many.
    pieces: Option<Vec<Piece>>,
    pages: u64,
    /// Frames in each block of the bitmap.
    counts: Vec<u32>,
    block_shift: u32,
    /// One past the last frame.
    end: u64,
}

impl Runs {
    fn new(bits: &Bits, page_shift: u32, numbered: bool) -> Self {
        let block = bits.block();
        let counts = vec![0; bits.frames.div_ceil(block) as usize];
        let block_shift = block.trailing_zeros();
        Self { page_shift, numbered, pieces: Some(Vec::new()), pages: 0, counts, block_shift, end: 0 }
    }

    /// Adds the frames whose bits are set in `word`, of which the lowest stands for `pfn`.
    fn add(&mut self, pfn: u64, word: u64) {
        if word == 0 {
            return;
        }
        self.end = pfn + 64 - u64::from(word.leading_zeros());
        if let Some(count) = self.counts.get_mut((pfn >> self.block_shift) as usize) {
            *count += word.count_ones();
        }
        if self.pieces.is_some() {
            self.add_runs(pfn, word);
        } else {
            self.pages += u64::from(word.count_ones());
        }
    }

    fn add_runs(&mut self, pfn: u64, mut word: u64) {
        let mut at = pfn;
        while word != 0 {
            let skip = word.trailing_zeros();
            word >>= skip;
            at += u64::from(skip);
            let count = word.trailing_ones();
            word = word.checked_shr(count).unwrap_or(0);
            self.push(at, count.into());
            at += u64::from(count);
        }
        if self.pieces.as_ref().is_some_and(|pieces| pieces.len() > MOST_RUNS) {
            self.pieces = None;
        }
    }

    fn push(&mut self, pfn: u64, count: u64) {
        let (paddr, len) = (pfn << self.page_shift, count << self.page_shift);
        let offset = self.numbered.then_some(self.pages << self.page_shift);
        self.pages += count;
        let Some(pieces) = &mut self.pieces else { return };
        match pieces.last_mut() {
            Some(last) if last.end() == paddr => last.len += len,
            _ => pieces.push(Piece { paddr, len, offset }),
        }
    }

    fn into_map(self, bits: Bits) -> RamMap {
        match self.pieces {
            Some(pieces) => RamMap::from_pieces(pieces),
            None => RamMap::from_bitmap(Scattered::new(bits, self.page_shift, self.numbered, &self.counts, self.end)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::store::FileStore;

    fn bits(frames: u64) -> Bits {
        Bits { store: Arc::new(FileStore::new(tempfile::tempfile().unwrap()).unwrap()), bitmaps: vec![0], frames }
    }

    #[test]
    fn words_become_runs_across_their_borders() {
        let mut runs = Runs::new(&bits(256), 12, true);
        for (pfn, word) in [(0, 0b110 | 1 << 63), (64, u64::MAX), (128, 1), (192, 1 << 5)] {
            runs.add(pfn, word);
        }
        let flat = |p: &Piece| (p.paddr >> 12, p.len >> 12, p.offset.unwrap() >> 12);
        let flat: Vec<_> = runs.pieces.as_ref().unwrap().iter().map(flat).collect();
        assert_eq!(flat, [(1, 2, 0), (63, 66, 2), (197, 1, 68)]);
        assert_eq!((runs.pages, runs.end, &runs.counts[..]), (69, 198, &[69][..]));
    }

    #[test]
    fn too_many_runs_are_only_counted() {
        let frames = 4 * MOST_RUNS as u64;
        let mut runs = Runs::new(&bits(frames), 12, true);
        (0..frames).step_by(64).for_each(|pfn| runs.add(pfn, 0x5555_5555_5555_5555));
        assert!(runs.pieces.is_none());
        assert_eq!((runs.pages, runs.end), (frames / 2, frames - 1));
        assert!(runs.counts.iter().map(|count| u64::from(*count)).eq((0..8).map(|_| frames / 16)));
    }
}
