//! Knows where a message's block lies in the text ring of the lockless log, from its two logical positions.
//! Must not read memory: the positions come out of the dump, and nothing is read before they make sense together.
//! The offsets go to the ring reader.

use super::Loss;
use crate::arch::Words;

/// Positions of a record with an empty text: NO_LPOS up to v6.1 at least, EMPTY_LINE_LPOS by v6.12, the value never
/// changed. All other odd positions mean that the text was lost (FAILED_LPOS, 1).
const EMPTY_LINE: u64 = 3;

/// Offsets in the text ring.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Block {
    pub id_at: u64,
    pub text_at: u64,
    /// Bytes for text, padding included.
    pub room: u64,
}

/// Where the block from `begin` up to `next` lies; `None` for a record that is an empty line.
pub(super) fn locate(begin: u64, next: u64, size_bits: u32, words: Words) -> Result<Option<Block>, Loss> {
    let align = words.long_size() as u64;
    if begin & 1 == 1 && next & 1 == 1 {
        return if begin == EMPTY_LINE && next == EMPTY_LINE { Ok(None) } else { Err(Loss::NoRoom) };
    }
    if !begin.is_multiple_of(align) || !next.is_multiple_of(align) {
        return Err(Loss::Damaged);
    }
    let size = 1u64 << size_bits;
    let index = |lpos: u64| lpos & (size - 1);
    let wrap = |lpos: u64| (lpos & words.long_mask()) >> size_bits;
    // `next` is the first byte after the block. Since kernel commit 67e1b0052f6b ("printk_ringbuffer: don't needlessly
    // wrap data blocks around"), v6.19, a block may end exactly at the end of the ring; `next` then lies in the next
    // round, though nothing wrapped. Older kernels never leave such a pair, so looking at the last byte fits both.
    let last = next.wrapping_sub(1) & words.long_mask();
    let (start, end) = if wrap(begin) == wrap(last) && begin < last {
        (index(begin), index(last) + 1)
    } else if wrap(begin.wrapping_add(size)) == wrap(last) && index(last) < index(begin) {
        (0, index(last) + 1)
    } else {
        return Err(Loss::Damaged);
    };
    let room = end.checked_sub(start + align).ok_or(Loss::Damaged)?;
    Ok(Some(Block { id_at: index(begin), text_at: start + align, room }))
}
