//! The LZO1X decoder, for hostile input.
//!
//! Knows the stream's bytes. Must not allocate or panic. Checks the encoder, and reads other programs' dumps.

use std::fmt;

use super::{MID_DISTANCE, NEAR_DISTANCE};

/// Why a stream was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LzoError {
    /// The stream ends before its end marker.
    InputOverrun,
    /// The stream holds more bytes than `dst`.
    OutputOverrun,
    /// A match refers to bytes before the start of the output.
    LookbehindOverrun,
    /// Bytes follow the end marker.
    TrailingInput,
}

impl fmt::Display for LzoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InputOverrun => "the LZO stream ends before its end marker",
            Self::OutputOverrun => "the LZO stream holds more bytes than expected",
            Self::LookbehindOverrun => "the LZO stream refers to bytes before its start",
            Self::TrailingInput => "bytes follow the LZO stream's end marker",
        })
    }
}

impl std::error::Error for LzoError {}

/// Decompresses the whole of `src` to the start of `dst` and returns the number of bytes written.
///
/// For any input: no panic, no write outside `dst`, time in proportion to both lengths. After an error, and past the
/// returned length, the content of `dst` is unspecified.
pub fn decompress(src: &[u8], dst: &mut [u8]) -> Result<usize, LzoError> {
    let mut input = Input { rest: src };
    let mut op = 0;
    // lzo.rst's `state`: literals copied by the instruction before, 4 for a run of four or more.
    let mut state = 0;
    if let Some((&first @ 18.., rest)) = src.split_first() {
        input.rest = rest;
        op = input.literals(dst, op, usize::from(first) - 17)?;
        state = (first - 17).min(4);
    }
    loop {
        let code = input.byte()?;
        let t = usize::from(code);
        let (distance, len, trailing) = match code {
            0..=15 if state == 0 => {
                let n = 3 + input.length(t, 15)?;
                op = input.literals(dst, op, n)?;
                state = 4;
                continue;
            }
            0..=15 => {
                let (nearest, len) = if state == 4 { (NEAR_DISTANCE + 1, 3) } else { (1, 2) };
                ((usize::from(input.byte()?) << 2) + (t >> 2) + nearest, len, code & 3)
            }
            16..=31 => {
                let len = 2 + input.length(t & 7, 7)?;
                let (d, trailing) = input.distance()?;
                let d = d + ((t & 8) << 11);
                if d == 0 {
                    return if input.rest.is_empty() { Ok(op) } else { Err(LzoError::TrailingInput) };
                }
                (MID_DISTANCE + d, len, trailing)
            }
            32..=63 => {
                let len = 2 + input.length(t & 31, 31)?;
                let (d, trailing) = input.distance()?;
                (d + 1, len, trailing)
            }
            64.. => ((usize::from(input.byte()?) << 3) + ((t >> 2) & 7) + 1, (t >> 5) + 1, code & 3),
        };
        op = copy_match(dst, op, distance, len)?;
        op = input.literals(dst, op, usize::from(trailing))?;
        state = trailing;
    }
}

struct Input<'a> {
    rest: &'a [u8],
}

impl Input<'_> {
    #[inline(always)]
    fn byte(&mut self) -> Result<u8, LzoError> {
        let (&byte, rest) = self.rest.split_first().ok_or(LzoError::InputOverrun)?;
        self.rest = rest;
        Ok(byte)
    }

    /// A length whose instruction says `bits`: 0 stands for `most` and more bytes (lzo.rst, "Description").
    #[inline(always)]
    fn length(&mut self, bits: usize, most: usize) -> Result<usize, LzoError> {
        if bits != 0 {
            return Ok(bits);
        }
        let mut length = most;
        loop {
            match self.byte()? {
                // Kept far from overflow (a 32-bit host): no buffer is that large, so the copy refuses it.
                0 => length = length.saturating_add(255).min(usize::MAX / 2),
                last => return Ok(length + usize::from(last)),
            }
        }
    }

    /// The little-endian word after a long match: 14 bits of distance, 2 bits of literal count.
    #[inline(always)]
    fn distance(&mut self) -> Result<(usize, u8), LzoError> {
        let (word, rest) = self.rest.split_first_chunk::<2>().ok_or(LzoError::InputOverrun)?;
        self.rest = rest;
        Ok((usize::from(u16::from_le_bytes(*word) >> 2), word[0] & 3))
    }

    /// Copies `n` literals to `dst[op..]` and returns the position after them.
    #[inline(always)]
    fn literals(&mut self, dst: &mut [u8], op: usize, n: usize) -> Result<usize, LzoError> {
        let room = dst.get_mut(op..).ok_or(LzoError::OutputOverrun)?;
        if let (Some(from), Some(to)) = (self.rest.first_chunk::<16>(), room.first_chunk_mut::<16>())
            && n <= 16
        {
            *to = *from;
            self.rest = self.rest.get(n..).ok_or(LzoError::InputOverrun)?;
            return Ok(op + n);
        }
        let (from, rest) = self.rest.split_at_checked(n).ok_or(LzoError::InputOverrun)?;
        room.get_mut(..n).ok_or(LzoError::OutputOverrun)?.copy_from_slice(from);
        self.rest = rest;
        Ok(op + n)
    }
}

/// Repeats the `len` bytes that lie `distance` before `op` and returns the position after them.
#[inline(always)]
fn copy_match(dst: &mut [u8], op: usize, distance: usize, len: usize) -> Result<usize, LzoError> {
    let from = op.checked_sub(distance).ok_or(LzoError::LookbehindOverrun)?;
    let (done, room) = dst.split_at_mut_checked(op).ok_or(LzoError::OutputOverrun)?;
    if len <= 16
        && let (Some(chunk), Some(to)) = (done.get(from..).and_then(<[u8]>::first_chunk), room.first_chunk_mut::<16>())
    {
        *to = *chunk;
        return Ok(op + len);
    }
    let end = op.checked_add(len).filter(|&end| end <= dst.len()).ok_or(LzoError::OutputOverrun)?;
    // A match may run into its own output; each round doubles what can be copied at once.
    let mut at = op;
    while at < end {
        let step = (at - from).min(end - at);
        dst.copy_within(from..from + step, at);
        at += step;
    }
    Ok(end)
}
