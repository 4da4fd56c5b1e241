//! What a page is made of, from a fifth of its words: enough to choose a level by, at a hundredth of a codec's time.
//!
//! Knows bytes. Must not know codecs. Used by those that choose a level for each page.

/// Of the words one in so many is looked at; odd, so that the fields of objects in a slab take turns.
const STRIDE: usize = 5;

/// How many of `page`'s words of eight bytes are zero, in 32nds.
pub(super) fn zero_words(page: &[u8]) -> usize {
    let (words, _) = page.as_chunks::<8>();
    let zero = words.iter().step_by(STRIDE).filter(|word| u64::from_ne_bytes(**word) == 0).count();
    (zero * STRIDE * 32).div_ceil(words.len().max(1))
}

/// How many of the 256 values the page's bytes have.
pub(super) fn values(page: &[u8]) -> usize {
    let (words, _) = page.as_chunks::<8>();
    values_of(words.iter().step_by(STRIDE))
}

/// Whether the page's bytes are spread as those of packed or encrypted data: no codec makes them fewer. A page of which a
/// long part is repeated could be taken for noise; it is stored as it is, then: larger, but whole.
pub(super) fn is_noise(page: &[u8]) -> bool {
    let (words, _) = page.as_chunks::<8>();
    let looked_at = || words.iter().step_by(STRIDE);
    // 64 random bytes have 57 values, give or take 2. That is the end for all but a few pages.
    if values_of(looked_at().take(8)) < 48 {
        return false;
    }
    let mut counts = [0u32; 256];
    for byte in looked_at().flatten() {
        counts[usize::from(*byte)] += 1;
    }
    // Pairs of equal bytes (each counted twice), of which random bytes have n (n - 1) / 256, and of 4 KiB once in two million
    // times a ninth more: as much as if one value were 2 percent of all.
    let all: u32 = counts.iter().sum();
    let pairs: u64 = counts.iter().map(|count| u64::from(*count) * u64::from(count.saturating_sub(1))).sum();
    pairs * 256 * 9 <= u64::from(all) * u64::from(all.saturating_sub(1)) * 10
}

fn values_of<'w>(words: impl Iterator<Item = &'w [u8; 8]>) -> usize {
    let mut seen = [0u64; 4];
    for byte in words.flatten() {
        seen[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }
    seen.iter().map(|seen| seen.count_ones() as usize).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::pages::{page, random};

    #[test]
    fn zero_words_are_counted_by_their_share() {
        for (share, page) in [
            (0, page(|_| false)),
            (1, page(|word| word % 32 == 0)),
            (4, page(|word| word % 8 == 0)),
            (16, page(|word| word % 2 == 0)),
            (32, page(|_| true)),
        ] {
            assert!(zero_words(&page).abs_diff(share) <= 1, "{} of {share}", zero_words(&page));
        }
        assert_eq!(zero_words(&[]), 0);
    }

    #[test]
    fn values_are_counted_once_each() {
        assert_eq!(values(&page(|_| false)), 23);
        assert_eq!(values(&page(|_| true)), 1);
        assert_eq!(values(&random(1, 100)), 100);
        assert!(values(&random(1, 256)) > 230);
    }

    #[test]
    fn noise_is_what_no_codec_makes_smaller() {
        for seed in 0..1000 {
            let noise = random(seed, 256);
            assert!(is_noise(&noise), "seed {seed}");
            assert_eq!(
                zstd::bulk::Compressor::new(1).unwrap().compress_to_buffer(&noise, &mut [0; 4080][..]).ok(),
                None
            );
            assert!(!is_noise(&random(seed, 128)), "seed {seed}");
            for every in [4, 8, 16] {
                let mut numbers = noise.clone();
                numbers.iter_mut().step_by(every).for_each(|byte| *byte = 0xff);
                assert!(!is_noise(&numbers), "seed {seed}: every byte of {every} is the same");
            }
        }
        for page in [page(|_| false), page(|_| true), Vec::new()] {
            assert!(!is_noise(&page));
        }
    }
}
