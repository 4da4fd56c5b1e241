//! The two bitmaps of a kdump-compressed file, as runs of frames.
//!
//! Knows bits. Must not hold a bitmap: it may be larger than memory. The runs become the maps of memory that a `Source`
//! has.

use super::set::Part;
use crate::{
    error::{Error, Result},
    source::{Piece, RamMap, store::StoreReader},
};

/// More runs than a dump of any machine has; bounds what a hostile bitmap makes us hold (512 MiB).
const MAX_RUNS: usize = 16 << 20;
/// Of each bitmap, so many bytes are looked at together.
const CHUNK: u64 = 256 << 10;

/// What the bitmaps say.
#[derive(Debug)]
pub(super) struct Planes {
    /// The dumped frames. A piece's offset counts dumped pages only: it is the number of the page's descriptor, in bytes
    /// of pages.
    pub(super) dumped: RamMap,
    /// The frames that exist.
    pub(super) existing: RamMap,
    /// Frames that exist and are not dumped.
    pub(super) excluded: u64,
}

/// Reads both planes in one pass. A dumped frame exists, whatever the first plane says.
pub(super) fn read(part: &Part) -> Result<Planes> {
    let head = &part.head;
    let (mut first, mut second) = (part.file.store.reader(), part.file.store.reader());
    let mut dumped = Runs::new(head.page_shift, true);
    let mut existing = Runs::new(head.page_shift, false);
    let len = head.max_mapnr.div_ceil(8);
    let mut at = 0;
    while at < len {
        let step = CHUNK.min(len - at);
        let chunk = |reader: &mut Box<dyn StoreReader + '_>, plane: u64| {
            let bytes = reader.read(plane + at, step as usize).map(words);
            bytes.map_err(|error| part.file.unreadable("the bitmaps", &error))
        };
        let exist = chunk(&mut first, head.bitmap1)?;
        let have = chunk(&mut second, head.bitmap2)?;
        for (pfn, (exist, have)) in (at * 8..).step_by(64).zip(exist.into_iter().zip(have)) {
            let mask = match head.max_mapnr - pfn {
                bits @ 0..64 => (1 << bits) - 1,
                _ => u64::MAX,
            };
            dumped.add(pfn, have & mask);
            existing.add(pfn, (exist | have) & mask);
        }
        if dumped.pieces.len().max(existing.pieces.len()) > MAX_RUNS {
            return Err(Error::input(format!("cannot use {}", part.file.path.display()))
                .because(format!("its bitmaps scatter memory over more than {MAX_RUNS} runs of page frames"))
                .next_step("the file is damaged: copy the dump again"));
        }
        at += step;
    }
    if dumped.pages == 0 {
        return Err(part.file.damaged("its bitmap says that no page was dumped"));
    }
    let excluded = existing.pages - dumped.pages;
    Ok(Planes { dumped: RamMap::from_pieces(dumped.pieces), existing: RamMap::from_pieces(existing.pieces), excluded })
}

/// The bytes as words, the last one filled up with zeros.
fn words(bytes: &[u8]) -> Vec<u64> {
    let word = |chunk: &[u8]| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_le_bytes(word)
    };
    bytes.chunks(8).map(word).collect()
}

struct Runs {
    page_shift: u32,
    numbered: bool,
    pieces: Vec<Piece>,
    pages: u64,
}

impl Runs {
    fn new(page_shift: u32, numbered: bool) -> Self {
        Self { page_shift, numbered, pieces: Vec::new(), pages: 0 }
    }

    /// Adds the frames whose bits are set in `word`, of which the lowest stands for `pfn`.
    fn add(&mut self, pfn: u64, mut word: u64) {
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
    }

    fn push(&mut self, pfn: u64, count: u64) {
        let (paddr, len) = (pfn << self.page_shift, count << self.page_shift);
        match self.pieces.last_mut() {
            Some(last) if last.end() == paddr => last.len += len,
            _ => {
                let offset = self.numbered.then_some(self.pages << self.page_shift);
                self.pieces.push(Piece { paddr, len, offset });
            }
        }
        self.pages += count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_become_runs_across_their_borders() {
        let mut runs = Runs::new(12, true);
        for (pfn, word) in [(0, 0b110 | 1 << 63), (64, u64::MAX), (128, 1), (192, 1 << 5)] {
            runs.add(pfn, word);
        }
        let flat: Vec<_> = runs.pieces.iter().map(|p| (p.paddr >> 12, p.len >> 12, p.offset.unwrap() >> 12)).collect();
        assert_eq!(flat, [(1, 2, 0), (63, 66, 2), (197, 1, 68)]);
        assert_eq!(runs.pages, 69);
    }

    #[test]
    fn a_last_word_may_be_short() {
        assert_eq!(words(&[1, 0, 0, 0, 0, 0, 0, 0, 2]), [1, 2]);
    }
}
