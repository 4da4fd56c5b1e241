//! zlib streams (RFC 1950), made by libdeflate, and where little is to be packed by zlib-rs.
//!
//! Knows one page at a time. Must not stream. Used for readers built without anything newer.

use flate2::{Compress, FlushCompress, Status};
use libdeflater::{CompressionLvl, Compressor};

use super::{
    Codec,
    sample::{is_noise, values, zero_words},
};
use crate::format::diskdump::flags;

/// One level for all pages.
pub(super) struct Zlib(Compressor);

impl Zlib {
    pub(super) fn new(level: i32) -> Self {
        Self(Compressor::new(CompressionLvl::new(level).unwrap_or_else(|_| CompressionLvl::fastest())))
    }
}

impl Codec for Zlib {
    fn flags(&self) -> u32 {
        flags::ZLIB
    }

    fn compress(&mut self, page: &[u8], out: &mut [u8]) -> Option<usize> {
        self.0.zlib_compress(page, out).ok()
    }
}

/// A level for each page: as small as zlib's own level 1 makes a dump, in the least time.
pub(super) struct Adaptive {
    quick: Quick,
    fast: Zlib,
    good: Zlib,
}

impl Adaptive {
    pub(super) fn new() -> Self {
        Self { quick: Quick::new(), fast: Zlib::new(1), good: Zlib::new(2) }
    }
}

impl Codec for Adaptive {
    fn flags(&self) -> u32 {
        flags::ZLIB
    }

    fn compress(&mut self, page: &[u8], out: &mut [u8]) -> Option<usize> {
        match effort(page) {
            Effort::None => None,
            Effort::Quick => self.quick.compress(page, out),
            Effort::Fast => self.fast.compress(page, out),
            Effort::Good => self.good.compress(page, out),
        }
    }
}

/// What a page is worth.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Effort {
    /// Stored as it is.
    None,
    /// zlib-rs level 1: fixed codes, and runs are stepped over. libdeflate works codes out, and enters every byte of a run into
    /// its tables, which takes it four times as long for a page that is all but empty.
    Quick,
    /// libdeflate level 1.
    Fast,
    /// libdeflate level 2.
    Good,
}

/// Chosen by what the slower level gains for its time, measured on the kept pages of two small guests and of a busy server
/// with and without its users' pages. Level 2 gains 2 to 3 percent of a page of slab for 2 to 4 µs, or for 1 where two words of
/// three are zero; of text hardly anything for 5; and 5 to 10 percent for 7 to 9 where a page is full of code or tables, which
/// is what it is for.
fn effort(page: &[u8]) -> Effort {
    match zero_words(page) {
        0..=2 if is_noise(page) => Effort::None,
        // Text has fewer values.
        0..=2 if values(page) >= 64 => Effort::Good,
        0..=19 => Effort::Fast,
        20..=24 => Effort::Good,
        _ => Effort::Quick,
    }
}

/// zlib-rs level 1.
struct Quick(Compress);

impl Quick {
    fn new() -> Self {
        Self(Compress::new(flate2::Compression::fast(), true))
    }

    fn compress(&mut self, page: &[u8], out: &mut [u8]) -> Option<usize> {
        self.0.reset();
        match self.0.compress(page, out, FlushCompress::Finish) {
            Ok(Status::StreamEnd) => usize::try_from(self.0.total_out()).ok(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::pages::{page, random};

    #[test]
    fn each_page_gets_the_effort_that_it_is_worth() {
        for (effort_of, page) in [
            (Effort::None, random(1, 256)),
            (Effort::Good, random(1, 160)),
            (Effort::Fast, random(1, 40)),
            (Effort::Fast, page(|word| word % 3 == 0)),
            (Effort::Good, page(|word| word % 3 != 0)),
            (Effort::Quick, page(|word| word % 8 != 0)),
        ] {
            assert_eq!(effort(&page), effort_of);
            let (mut one, mut other) = ([0; 4095], [0; 4095]);
            let len = Adaptive::new().compress(&page, &mut one);
            let like = match effort_of {
                Effort::None => None,
                Effort::Quick => Quick::new().compress(&page, &mut other),
                Effort::Fast => Zlib::new(1).compress(&page, &mut other),
                Effort::Good => Zlib::new(2).compress(&page, &mut other),
            };
            assert_eq!(len, like);
            assert_eq!(one[..len.unwrap_or(0)], other[..like.unwrap_or(0)]);
        }
    }
}
