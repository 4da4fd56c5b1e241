//! Raw snappy blocks (google/snappy, format_description.txt).
//!
//! Knows one page at a time. Must not use the frame format: no dump reader knows it. Used for the fastest dumps.

use snap::raw::{Encoder, max_compress_len};

use super::Codec;
use crate::format::diskdump::flags;

pub(super) struct Snappy {
    encoder: Encoder,
    /// The encoder wants room for the worst case before it starts.
    worst: Vec<u8>,
}

impl Snappy {
    pub(super) fn new() -> Self {
        Self { encoder: Encoder::new(), worst: Vec::new() }
    }
}

impl Codec for Snappy {
    fn flags(&self) -> u32 {
        flags::SNAPPY
    }

    fn compress(&mut self, page: &[u8], out: &mut [u8]) -> Option<usize> {
        self.worst.resize(max_compress_len(page.len()), 0);
        let len = self.encoder.compress(page, &mut self.worst).ok()?;
        out.get_mut(..len)?.copy_from_slice(&self.worst[..len]);
        Some(len)
    }
}
