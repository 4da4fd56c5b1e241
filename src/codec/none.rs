//! No compression.
//!
//! Knows nothing. Must not touch the page. Used where the device is faster than any codec.

use super::Codec;
use crate::format::diskdump::flags;

pub(super) struct None;

impl Codec for None {
    fn flags(&self) -> u32 {
        flags::RAW
    }

    fn compress(&mut self, _page: &[u8], _out: &mut [u8]) -> Option<usize> {
        Option::None
    }
}
