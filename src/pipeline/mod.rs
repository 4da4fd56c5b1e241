//! The work itself: batches of pages are read and compressed on all threads and committed in order.
//!
//! Knows pages and threads. Must not know the output's layout: packed batches go to a sink through the caller.

mod copy;
mod frames;
mod ordered;
mod pack;
mod zeros;

pub use copy::Copier;
pub use frames::{FramePacker, PackedFrame};
pub use ordered::{in_lanes, in_order};
pub use pack::{Fate, Packed, PackedBatch, PackedPage, Packer, pack_page};
pub use zeros::find_zeros;

/// Whether a page is nothing but zeros.
#[must_use]
#[inline]
pub fn is_zero(page: &[u8]) -> bool {
    let (chunks, rest) = page.as_chunks::<64>();
    let zero = |chunk: &[u8; 64]| {
        let (words, _) = chunk.as_chunks::<8>();
        words.iter().fold(0, |all, word| all | u64::from_ne_bytes(*word)) == 0
    };
    chunks.iter().all(zero) && rest.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::is_zero;

    #[test]
    fn one_set_bit_anywhere_is_seen() {
        for len in [1, 63, 64, 100, 4096] {
            let mut page = vec![0u8; len];
            assert!(is_zero(&page));
            for at in 0..len {
                page[at] = 0x80;
                assert!(!is_zero(&page), "byte {at} of {len}");
                page[at] = 0;
            }
        }
    }
}
