//! SHA-256 (FIPS 180-4) over physical memory.
//!
//! Knows bytes and digests. Must not know what they mean. Addresses are numbers here: 0 is memory like any other.

use crate::sha_extensions;

/// A digest as eight big-endian words.
pub type Digest = [u32; 8];

/// How blocks are taken in.
#[derive(Clone, Copy)]
pub enum Engine {
    /// With general registers, which every processor has.
    General,
    /// With the SHA extensions.
    Extensions,
}

const BLOCK: u64 = 64;

const START: Digest = [0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19];

#[rustfmt::skip]
static K: [u32; 64] = [
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
];

/// A digest's bytes as words.
pub fn load(bytes: &[u8; 32]) -> Digest {
    let at = bytes.as_ptr() as u64;
    let mut words = START;
    for (word, offset) in words.iter_mut().zip((0..32).step_by(4)) {
        // SAFETY: eight words of four bytes are the 32 bytes.
        *word = unsafe { word_at(at.wrapping_add(offset)) };
    }
    words
}

/// Whether two digests are the same. `==` would call memcmp.
pub fn same(a: &Digest, b: &Digest) -> bool {
    a.iter().zip(b).fold(0, |differing, (a, b)| differing | (a ^ b)) == 0
}

/// The first eight bytes of a digest, as they are written.
pub fn first_bytes(digest: &Digest) -> u64 {
    let [high, low, ..] = *digest;
    u64::from(high) << 32 | u64::from(low)
}

/// The digest of `len` bytes at `start`.
///
/// # Safety
/// The range is memory.
pub unsafe fn digest(engine: Engine, start: u64, len: u64) -> Digest {
    let mut state = START;
    let whole = len / BLOCK;
    let tail = start.wrapping_add(whole * BLOCK);
    // SAFETY: the caller's.
    unsafe { blocks(engine, &mut state, start, whole) };
    // What is left, the end mark 0x80, zeros, and the length in bits fill one block or two.
    let left = len % BLOCK;
    let padded = if left < BLOCK - 8 { BLOCK } else { 2 * BLOCK };
    let mut buffer = [0_u64; 16];
    let at = &raw mut buffer as u64;
    let mut offset = 0;
    while offset < left {
        // SAFETY: the caller's for the source; the buffer has two blocks.
        unsafe { poke(at.wrapping_add(offset), peek(tail.wrapping_add(offset))) };
        offset += 1;
    }
    // SAFETY: the buffer has two blocks, and the length's eight bytes are the last of the first or the second.
    unsafe {
        poke(at.wrapping_add(left), 0x80);
        let bits = len.wrapping_mul(8).swap_bytes();
        ((at.wrapping_add(padded - 8)) as *mut u64).write_volatile(bits);
        blocks(engine, &mut state, at, padded / BLOCK);
    }
    state
}

/// One byte at an address.
///
/// # Safety
/// The address is memory.
unsafe fn peek(at: u64) -> u8 {
    // SAFETY: the caller's.
    unsafe { (at as *const u8).read_volatile() }
}

/// Writes one byte at an address.
///
/// # Safety
/// The address is ours.
unsafe fn poke(at: u64, byte: u8) {
    // SAFETY: the caller's.
    unsafe { (at as *mut u8).write_volatile(byte) }
}

/// Four bytes at any address, as a big-endian word.
///
/// # Safety
/// The address is memory.
unsafe fn word_at(at: u64) -> u32 {
    // SAFETY: the caller's.
    u32::from_be(unsafe { (at as *const u32).read_unaligned() })
}

/// One round; the caller rotates the names.
macro_rules! round {
    ($a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident, $kw:expr) => {
        let one = $h
            .wrapping_add($e.rotate_right(6) ^ $e.rotate_right(11) ^ $e.rotate_right(25))
            .wrapping_add(($e & $f) ^ (!$e & $g))
            .wrapping_add($kw);
        let two = ($a.rotate_right(2) ^ $a.rotate_right(13) ^ $a.rotate_right(22))
            .wrapping_add(($a & $b) ^ ($a & $c) ^ ($b & $c));
        $d = $d.wrapping_add(one);
        $h = one.wrapping_add(two);
    };
}

/// Eight rounds with the sixteen words from `$n`.
macro_rules! eight {
    ($w:ident $k:ident $n:literal, $a:ident $b:ident $c:ident $d:ident $e:ident $f:ident $g:ident $h:ident) => {
        round!($a $b $c $d $e $f $g $h, $w[$n].wrapping_add($k[$n]));
        round!($h $a $b $c $d $e $f $g, $w[$n + 1].wrapping_add($k[$n + 1]));
        round!($g $h $a $b $c $d $e $f, $w[$n + 2].wrapping_add($k[$n + 2]));
        round!($f $g $h $a $b $c $d $e, $w[$n + 3].wrapping_add($k[$n + 3]));
        round!($e $f $g $h $a $b $c $d, $w[$n + 4].wrapping_add($k[$n + 4]));
        round!($d $e $f $g $h $a $b $c, $w[$n + 5].wrapping_add($k[$n + 5]));
        round!($c $d $e $f $g $h $a $b, $w[$n + 6].wrapping_add($k[$n + 6]));
        round!($b $c $d $e $f $g $h $a, $w[$n + 7].wrapping_add($k[$n + 7]));
    };
}

/// Takes `count` blocks at `start` into the state.
///
/// # Safety
/// The range is memory, and the processor has what the engine needs.
unsafe fn blocks(engine: Engine, state: &mut Digest, start: u64, count: u64) {
    // SAFETY: the caller's.
    unsafe {
        match engine {
            Engine::General => general(state, start, count),
            Engine::Extensions => sha_extensions::blocks(state, start, count, &K),
        }
    }
}

/// [`blocks`] with general registers.
///
/// # Safety
/// The range is memory.
unsafe fn general(state: &mut Digest, start: u64, count: u64) {
    let mut at = start;
    let mut left = count;
    while left > 0 {
        let mut w = [0_u32; 16];
        for (word, offset) in w.iter_mut().zip((0..BLOCK).step_by(4)) {
            // SAFETY: the caller's; sixteen words are one block.
            *word = unsafe { word_at(at.wrapping_add(offset)) };
        }
        let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = *state;
        for k in K.as_chunks::<16>().0 {
            if !core::ptr::eq(k, K.as_ptr().cast()) {
                extend(&mut w);
            }
            eight!(w k 0, a b c d e f g h);
            eight!(w k 8, a b c d e f g h);
        }
        for (word, add) in state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
            *word = word.wrapping_add(add);
        }
        at = at.wrapping_add(BLOCK);
        left -= 1;
    }
}

/// The next sixteen words of the message schedule, in place.
#[inline(always)]
fn extend(w: &mut [u32; 16]) {
    let mut t = 0;
    while t < 16 {
        let (two, fifteen) = (w[(t + 14) & 15], w[(t + 1) & 15]);
        let low = fifteen.rotate_right(7) ^ fifteen.rotate_right(18) ^ (fifteen >> 3);
        let high = two.rotate_right(17) ^ two.rotate_right(19) ^ (two >> 10);
        w[t] = w[t].wrapping_add(low).wrapping_add(w[(t + 9) & 15]).wrapping_add(high);
        t += 1;
    }
}
