//! The size of a frame.
//!
//! Knows one number. Must not know codecs. The pipeline makes frames of it, the sink counts them.

/// Bytes of the plain file in each frame: enough to compress well, little enough to decompress for one page.
pub const FRAME: u64 = 1 << 20;

const _: () = assert!(FRAME as usize <= crate::source::MAX_READ);
