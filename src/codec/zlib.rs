//! zlib streams (RFC 1950), made by libdeflate.
//!
//! Knows one page at a time. Must not stream. Used for readers built without anything newer.

use libdeflater::{CompressionLvl, Compressor};

use super::Codec;
use crate::format::diskdump::flags;

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
