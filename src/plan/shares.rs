//! Sharing the kept frames out to the parts of a split set.
//!
//! Knows how much each stretch of memory is likely to take in a file. Must not read pages: whoever calls has sampled them.
//! The shares go to the sinks.

use vdump_filters::PfnRange;

use crate::{bitmap::PageBitmap, format::diskdump::DESC_SIZE};

/// Parts begin at multiples of this: crash counts a part's bits in words from there.
pub const SHARE_FRAMES: u64 = 64;

/// What pages take in a file from one frame on, until the next sample says otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Density {
    /// The first frame.
    pub start: u64,
    /// Bytes of data that a kept page takes, on average.
    pub page_bytes: u64,
}

/// Cuts the frames below `kept.len()` into `count` shares that take about the same room. `samples` are sorted. Every share
/// has some frames, though not always a kept one; `None`: there are too few frames for that.
#[must_use]
pub fn shares(kept: &PageBitmap, samples: &[Density], count: usize) -> Option<Vec<PfnRange>> {
    let words = kept.len().div_ceil(SHARE_FRAMES);
    let count = count as u64;
    if count == 0 || words < count {
        return None;
    }
    let total: u128 = weights(kept, samples).map(u128::from).sum();
    let mut shares = Vec::new();
    let (mut start, mut sum) = (0, 0u128);
    for (word, weight) in (0..words).zip(weights(kept, samples)) {
        sum += u128::from(weight);
        let done = shares.len() as u64 + 1;
        let (after, behind) = (word + 1, count - done);
        let enough = sum * u128::from(count) >= total * u128::from(done);
        if behind > 0 && (enough || words - after == behind) {
            shares.push(PfnRange::new(start, after * SHARE_FRAMES));
            start = after * SHARE_FRAMES;
        }
    }
    shares.push(PfnRange::new(start, kept.len()));
    Some(shares)
}

/// Bytes that each word's frames take.
fn weights<'a>(kept: &'a PageBitmap, samples: &'a [Density]) -> impl Iterator<Item = u64> + 'a {
    let mut next = samples.iter().peekable();
    let mut page_bytes = samples.first().map_or(0, |sample| sample.page_bytes);
    (0..).step_by(SHARE_FRAMES as usize).zip(kept.words()).map(move |(pfn, word)| {
        while let Some(sample) = next.next_if(|sample| sample.start < pfn + SHARE_FRAMES) {
            page_bytes = sample.page_bytes;
        }
        u64::from(word.count_ones()) * page_bytes.saturating_add(DESC_SIZE)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bitmap(len: u64, ranges: &[(u64, u64)]) -> PageBitmap {
        let mut kept = PageBitmap::new(len);
        ranges.iter().for_each(|(start, end)| kept.fill(PfnRange::new(*start, *end), true));
        kept
    }

    fn cuts(kept: &PageBitmap, samples: &[Density], count: usize) -> Vec<u64> {
        let shares = shares(kept, samples, count).unwrap();
        assert_eq!(shares.len(), count);
        assert_eq!((shares[0].start, shares[count - 1].end), (0, kept.len()));
        for pair in shares.windows(2) {
            assert!(pair[0].end == pair[1].start && pair[1].start.is_multiple_of(64), "{shares:?}");
        }
        assert!(shares.iter().all(|share| share.start < share.end), "{shares:?}");
        shares[1..].iter().map(|share| share.start).collect()
    }

    #[test]
    fn kept_pages_are_shared_evenly() {
        assert_eq!(cuts(&bitmap(6400, &[(0, 6400)]), &[], 4), [1600, 3200, 4800]);
        // Half of the pages lie in the last tenth.
        assert_eq!(cuts(&bitmap(64_000, &[(0, 6400), (57_600, 64_000)]), &[], 2), [6400]);
        assert_eq!(cuts(&bitmap(64_000, &[(57_600, 64_000)]), &[], 2), [60_800]);
    }

    #[test]
    fn bytes_weigh_not_pages() {
        // Pages of zeros take a descriptor each; the others of these a hundred times as much.
        let samples = [Density { start: 0, page_bytes: 0 }, Density { start: 32_000, page_bytes: 2376 }];
        let [cut] = cuts(&bitmap(64_000, &[(0, 64_000)]), &samples, 2)[..] else { panic!() };
        assert!((47_700..48_000).contains(&cut), "{cut}");
    }

    #[test]
    fn few_pages_and_few_frames() {
        // One page for three parts: two have none.
        assert_eq!(cuts(&bitmap(1000, &[(0, 1)]), &[], 3), [64, 128]);
        assert_eq!(cuts(&bitmap(1000, &[(999, 1000)]), &[], 3), [832, 896].map(|start| start + 64));
        assert_eq!(cuts(&bitmap(1000, &[]), &[], 2), [64]);
        assert_eq!(cuts(&bitmap(129, &[(0, 129)]), &[], 3), [64, 128]);
        assert_eq!(shares(&bitmap(128, &[(0, 128)]), &[], 3), None);
        assert_eq!(cuts(&bitmap(1, &[(0, 1)]), &[], 1), [0u64; 0]);
    }
}
