//! Zstandard frames (RFC 8878), one for each page.
//!
//! Knows one page at a time. Must not use dictionaries: no dump reader has them. The default codec.

use zstd::bulk::Compressor;

use super::Codec;
use crate::format::diskdump::flags;

pub(super) struct Zstd {
    /// `None` where the library could not give a context: then pages are stored as they are.
    context: Option<Compressor<'static>>,
}

impl Zstd {
    pub(super) fn new(level: i32) -> Self {
        Self { context: Compressor::new(level).ok() }
    }
}

impl Codec for Zstd {
    fn flags(&self) -> u32 {
        flags::ZSTD
    }

    fn compress(&mut self, page: &[u8], out: &mut [u8]) -> Option<usize> {
        self.context.as_mut()?.compress_to_buffer(page, out).ok()
    }
}
