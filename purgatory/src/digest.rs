//! The digest that a segment must have when the blob looks at it.
//!
//! Knows bytes and their zero fill. Must not know where they go. The digest goes into a `Region`.

use sha2::{Digest, Sha256};

/// SHA-256 of a segment as it lies in memory: `data`, then zeros up to `mem_size` bytes.
///
/// Data beyond `mem_size` is digested as well; the kernel refuses such a segment.
pub fn sha256_of_segment(data: &[u8], mem_size: u64) -> [u8; 32] {
    const ZEROS: [u8; 4096] = [0; 4096];
    let mut hash = Sha256::new();
    hash.update(data);
    let mut left = mem_size.saturating_sub(data.len() as u64);
    while left > 0 {
        let now = left.min(ZEROS.len() as u64);
        hash.update(ZEROS.get(..now as usize).unwrap_or(&ZEROS));
        left -= now;
    }
    hash.finalize().into()
}
