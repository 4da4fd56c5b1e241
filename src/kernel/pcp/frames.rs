//! A set of page frames, for few frames of many: a bit each, in blocks that exist only where there is one.

use std::collections::BTreeMap;

use vdump_filters::PfnRange;

/// Frames of a block, and words of 64 of them.
const BLOCK: u64 = 8192;
const WORDS: usize = (BLOCK / 64) as usize;

/// The set.
#[derive(Debug, Default)]
pub(super) struct Frames {
    blocks: BTreeMap<u64, Box<[u64; WORDS]>>,
    most_blocks: usize,
}

impl Frames {
    /// Bytes that a block takes, with its place in the tree.
    const BLOCK_BYTES: u64 = (WORDS * 8 + 64) as u64;

    /// Bytes that all frames below `max_pfn` take.
    pub(super) fn bytes_for(max_pfn: u64) -> u64 {
        max_pfn.div_ceil(BLOCK).saturating_mul(Self::BLOCK_BYTES)
    }

    /// An empty set that takes `most` bytes at the most.
    pub(super) fn new(most: u64) -> Self {
        Self { blocks: BTreeMap::new(), most_blocks: usize::try_from(most / Self::BLOCK_BYTES).unwrap_or(usize::MAX) }
    }

    fn has(&self, pfn: u64) -> bool {
        let (block, word, bit) = place(pfn);
        self.blocks.get(&block).is_some_and(|words| words[word] >> bit & 1 == 1)
    }

    /// Whether it has any frame of a range.
    pub(super) fn has_any(&self, range: PfnRange) -> bool {
        (range.start..range.end).any(|pfn| self.has(pfn))
    }

    /// Adds a range; `false` where that would take too much memory: then some of it may be in.
    #[must_use]
    pub(super) fn add(&mut self, range: PfnRange) -> bool {
        for pfn in range.start..range.end {
            let (block, word, bit) = place(pfn);
            if !self.blocks.contains_key(&block) && self.blocks.len() >= self.most_blocks {
                return false;
            }
            self.blocks.entry(block).or_insert_with(|| Box::new([0; WORDS]))[word] |= 1 << bit;
        }
        true
    }

    /// Takes a range out.
    pub(super) fn remove(&mut self, range: PfnRange) {
        for pfn in range.start..range.end {
            let (block, word, bit) = place(pfn);
            if let Some(words) = self.blocks.get_mut(&block) {
                words[word] &= !(1 << bit);
            }
        }
    }

    /// Its frames in a range, in order.
    pub(super) fn within(&self, range: PfnRange) -> impl Iterator<Item = u64> {
        let blocks = self.blocks.range(range.start / BLOCK..range.end.div_ceil(BLOCK).max(range.start / BLOCK));
        let words = blocks.flat_map(|(block, words)| (block * BLOCK..).step_by(64).zip(words.iter().copied()));
        let of_word =
            |(first, word): (u64, u64)| (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| first + bit);
        let frames = words.filter(|(_, word)| *word != 0).flat_map(of_word);
        frames.filter(move |pfn| range.contains(*pfn))
    }
}

fn place(pfn: u64) -> (u64, usize, u64) {
    (pfn / BLOCK, (pfn % BLOCK / 64) as usize, pfn % 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(frames: &Frames) -> usize {
        frames.within(PfnRange::new(0, u64::MAX)).count()
    }

    #[test]
    fn frames_come_and_go() {
        let mut frames = Frames::new(1 << 20);
        let range = PfnRange::new(8190, 8260);
        assert!(
            frames.add(range) && frames.add(PfnRange::new(0, 1)) && frames.add(PfnRange::new(1 << 40, 1 + (1 << 40)))
        );
        assert_eq!(count(&frames), 72);
        assert_eq!(frames.within(PfnRange::new(1, 8193)).collect::<Vec<_>>(), [8190, 8191, 8192]);
        assert!(frames.has_any(PfnRange::new(8259, 9000)) && !frames.has_any(PfnRange::new(8260, 9000)));
        frames.remove(PfnRange::new(8191, 9000));
        assert_eq!(frames.within(PfnRange::new(0, u64::MAX)).collect::<Vec<_>>(), [0, 8190, 1 << 40]);
        assert_eq!(frames.within(PfnRange::new(5, 5)).count(), 0);
    }

    #[test]
    fn memory_is_bounded() {
        let mut frames = Frames::new(Frames::bytes_for(2 * BLOCK));
        assert!(frames.add(PfnRange::new(0, 2 * BLOCK)));
        assert!(!frames.add(PfnRange::new(2 * BLOCK - 1, 2 * BLOCK + 1)));
        assert_eq!(count(&frames) as u64, 2 * BLOCK);
        assert!(!Frames::default().add(PfnRange::new(0, 1)));
    }
}
