//! LZO1X-1 streams: an encoder as quick as liblzo2's lzo1x_1_compress.
//!
//! Knows the stream's bytes. Must not know pages or dumps: bytes in, bytes out, no allocation per call. Used where the
//! reader is old and the processor slow.
//!
//! Written from the stream's description, the kernel's `Documentation/staging/lzo.rst` (here "lzo.rst"), version 0 of
//! the bitstream, which is the one that liblzo2 reads. lzo.rst puts first bytes 18..=21 in one group; by its own
//! `byte - 17` rule 21 is a run of four, after which `state` is 4, and liblzo2 reads it so.

mod decode;
#[cfg(test)]
mod tests;

pub use decode::decompress;

use super::Codec;
use crate::format::diskdump::flags;

/// Longest match and farthest distance of `1LLDDDSS`/`01LDDDSS` (lzo.rst, "Instruction encoding", 64..255), in bytes.
const NEAR_LEN: usize = 8;
const NEAR_DISTANCE: usize = 0x800;
/// Farthest distance of `001LLLLL`, and the longest length that fits its first byte (lzo.rst, 32..63).
const MID_DISTANCE: usize = 0x4000;
const MID_LEN: usize = 33;
/// Longest length that fits the first byte of `0001HLLL` (lzo.rst, 16..31).
const FAR_LEN: usize = 9;
/// Distance 0x4000 of `0001HLLL` ends the stream (lzo.rst, "Description"); its shortest spelling.
const END: [u8; 3] = [0x11, 0, 0];
/// Longest run of literals that the first byte can announce as `17 + n` (lzo.rst, "First byte encoding").
const FIRST_RUN: usize = 238;
/// Longest run of literals that fits `0000LLLL` (lzo.rst, 0..15, state 0); 0..=3 go into the instruction before.
const SHORT_RUN: usize = 18;

/// Bytes covered by one table: positions fit in a `u16`, and no distance exceeds `0001HLLL`'s farthest, 0xbfff.
const BLOCK: usize = 0xc000;
/// Entries (log2) of the table for a 4 KiB page and for all else. Clearing and caching more costs more than it finds.
const PAGE_BITS: u32 = 12;
const FULL_BITS: u32 = 13;
/// Bytes that a match must have. The stream allows less; on kernel pages, 4 takes 15 % more time to save 1 to 4 %.
const MIN_MATCH: u32 = 5;
/// The search steps by 1 + literals / 2^5, so that data without matches is left behind quickly.
const SKIP: u32 = 5;
/// A search reads 8 bytes, so it stops this far from the end; what is left becomes literals.
const GUARD: usize = 8;
/// Short literal runs are copied as one chunk of this size where both buffers have the room.
const CHUNK: usize = 32;

/// An LZO1X-1 encoder with its hash table (16 KiB), made once per worker and reused.
///
/// What it writes depends on the input alone, never on calls before: the part of the table in use starts as zeros.
pub struct Lzo1x1 {
    table: Box<[u16; 1 << FULL_BITS]>,
}

impl Default for Lzo1x1 {
    fn default() -> Self {
        Self::new()
    }
}

impl Lzo1x1 {
    /// Allocates the table.
    pub fn new() -> Self {
        Self { table: Box::new([0; 1 << FULL_BITS]) }
    }

    /// Compresses `src`, of any length, to the start of `dst` and returns the stream's length in bytes.
    ///
    /// `None` if the stream does not fit: with `dst` one byte shorter than `src`, that means "did not shrink".
    /// `src.len() + src.len() / 255 + 6` bytes always suffice. Bytes of `dst` past the stream may be overwritten.
    pub fn compress(&mut self, src: &[u8], dst: &mut [u8]) -> Option<usize> {
        let (small, _) = self.table.split_first_chunk_mut::<{ 1 << PAGE_BITS }>()?;
        match src.first_chunk::<4096>() {
            // The usual page has a copy of the loop of its own: a length known to the compiler is worth 8 %.
            Some(page) if src.len() == page.len() => encode::<_, true>(small, page, dst),
            _ if src.len() <= BLOCK => encode::<_, true>(&mut self.table, src, dst),
            _ => encode::<_, false>(&mut self.table, src, dst),
        }
    }
}

/// The encoder proper. `ONE`: `src` is at most one [`BLOCK`], so positions count from its start.
#[inline(always)]
fn encode<const N: usize, const ONE: bool>(table: &mut [u16; N], src: &[u8], dst: &mut [u8]) -> Option<usize> {
    let end = src.len().saturating_sub(GUARD);
    let (mut op, mut anchor, mut base) = (0, 0, 0);
    while base < end {
        // Zero is a true candidate, the block's first byte, so entries need no mark for "empty".
        table.fill(0);
        let block_end = if ONE { end } else { end.min(base + BLOCK) };
        let mut i = if ONE { 1 } else { anchor.max(base + 1) };
        'block: loop {
            let (differ, mut candidate) = loop {
                if i >= block_end {
                    break 'block;
                }
                let here = u64_at(src, i)?;
                let slot = &mut table[slot_of::<N>(here)];
                let candidate = base + usize::from(*slot);
                *slot = (i - base) as u16;
                let differ = here ^ u64_at(src, candidate)?;
                if differ << (64 - 8 * MIN_MATCH) == 0 {
                    break (differ, candidate);
                }
                i += 1 + ((i - anchor) >> SKIP);
            };
            let next = i + match differ {
                0 => 8 + common(src, candidate + 8, i + 8),
                _ => (differ.trailing_zeros() / 8) as usize,
            };
            // Bytes before the hit that are alike too, which the stepping jumped over.
            while i > anchor && candidate > 0 && src.get(i - 1) == src.get(candidate - 1) {
                i -= 1;
                candidate -= 1;
            }
            op = put_literals(dst, op, src, anchor, i - anchor)?;
            op = put_match(dst, op, i - candidate, next - i)?;
            (i, anchor) = (next, next);
            if i < block_end {
                table[slot_of::<N>(u64_at(src, i - 2)?)] = (i - 2 - base) as u16;
            }
        }
        base = block_end;
    }
    op = put_literals(dst, op, src, anchor, src.len() - anchor)?;
    put(dst, op, END)
}

/// The table entry for the first [`MIN_MATCH`] bytes of `word`: Fibonacci hashing, the product's top bits.
#[inline(always)]
fn slot_of<const N: usize>(word: u64) -> usize {
    let hash = (word << (64 - 8 * MIN_MATCH)).wrapping_mul(0x9e37_79b1_85eb_ca87);
    (hash >> (64 - N.trailing_zeros())) as usize & (N - 1)
}

#[inline(always)]
fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|word| u64::from_le_bytes(*word))
}

/// How many bytes are the same from `a` on as from the later `b` on.
fn common(src: &[u8], a: usize, b: usize) -> usize {
    let mut n = 0;
    while let (Some(x), Some(y)) = (u64_at(src, a + n), u64_at(src, b + n)) {
        if x != y {
            return n + ((x ^ y).trailing_zeros() / 8) as usize;
        }
        n += 8;
    }
    n + (n..src.len() - b).take_while(|n| src.get(a + n) == src.get(b + n)).count()
}

#[inline(always)]
fn put<const K: usize>(dst: &mut [u8], op: usize, bytes: [u8; K]) -> Option<usize> {
    *dst.get_mut(op..)?.first_chunk_mut()? = bytes;
    Some(op + K)
}

/// The rest of a length that its instruction had no room for: 255 per zero byte, then 1..=255 (lzo.rst, "Description").
#[cold]
fn put_length(dst: &mut [u8], mut op: usize, mut rest: usize) -> Option<usize> {
    while rest > 255 {
        op = put(dst, op, [0])?;
        rest -= 255;
    }
    put(dst, op, [rest as u8])
}

#[inline(always)]
fn put_literals(dst: &mut [u8], mut op: usize, src: &[u8], from: usize, n: usize) -> Option<usize> {
    if n == 0 {
        return Some(op);
    }
    if op == 0 && n <= FIRST_RUN {
        op = put(dst, op, [17 + n as u8])?;
    } else if n <= 3 {
        // The low two bits of the match before: all three match forms keep them in their last byte but one.
        *dst.get_mut(op.wrapping_sub(2))? |= n as u8;
    } else if n <= SHORT_RUN {
        op = put(dst, op, [n as u8 - 3])?;
    } else {
        op = put(dst, op, [0])?;
        op = put_length(dst, op, n - SHORT_RUN)?;
    }
    let (chunk, room) = (src.get(from..)?.first_chunk::<CHUNK>(), dst.get_mut(op..)?.first_chunk_mut::<CHUNK>());
    match (chunk, room) {
        (Some(chunk), Some(room)) if n <= CHUNK => *room = *chunk,
        _ => dst.get_mut(op..op + n)?.copy_from_slice(src.get(from..from + n)?),
    }
    Some(op + n)
}

#[inline(always)]
fn put_match(dst: &mut [u8], op: usize, distance: usize, len: usize) -> Option<usize> {
    if len <= NEAR_LEN && distance <= NEAR_DISTANCE {
        // Both forms together are `len - 1` in the top three bits.
        let d = distance - 1;
        return put(dst, op, [((len - 1) << 5 | (d & 7) << 2) as u8, (d >> 3) as u8]);
    }
    let (code, d, short) = if distance <= MID_DISTANCE {
        (0x20, distance - 1, MID_LEN)
    } else {
        let d = distance - MID_DISTANCE;
        (0x10 | (d >> 14 << 3) as u8, d & 0x3fff, FAR_LEN)
    };
    let [low, high] = ((d << 2) as u16).to_le_bytes();
    if len <= short {
        return put(dst, op, [code | (len - 2) as u8, low, high]);
    }
    let op = put(dst, op, [code])?;
    let op = put_length(dst, op, len - short)?;
    put(dst, op, [low, high])
}

/// The encoder as a page codec.
pub(super) struct Lzo(Lzo1x1);

impl Lzo {
    pub(super) fn new() -> Self {
        Self(Lzo1x1::new())
    }
}

impl Codec for Lzo {
    fn flags(&self) -> u32 {
        flags::LZO
    }

    fn compress(&mut self, page: &[u8], out: &mut [u8]) -> Option<usize> {
        self.0.compress(page, out)
    }
}
