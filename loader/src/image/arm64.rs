//! arm64's Image: 64 bytes of header, then the kernel as it lies in memory.
//!
//! Knows Documentation/arch/arm64/booting.rst. Must not know where it will lie.

use super::le;

/// What Images before 3.17 mean by a size of 0.
const OLD_SIZE: u64 = 16 << 20;
/// What they mean by their text offset then.
const OLD_OFFSET: u64 = 0x8_0000;

/// An Image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Arm64 {
    /// The whole file.
    pub bytes: Vec<u8>,
    /// Bytes from a 2 MiB boundary to its start.
    pub text_offset: u64,
    /// Bytes of memory that it takes.
    pub memory: u64,
    /// Bytes of its pages; `None` where it does not say.
    pub page_size: Option<u64>,
}

/// Whether the file has the header.
#[must_use]
pub fn is(file: &[u8]) -> bool {
    file.get(56..60) == Some(b"ARM\x64".as_slice())
}

impl Arm64 {
    /// Reads the header.
    ///
    /// # Errors
    /// When the kernel is big-endian or the header is damaged.
    pub fn parse(file: Vec<u8>) -> Result<Self, String> {
        let cut = || "the file is truncated".to_owned();
        let word = |at| le::u64(&file, at).ok_or_else(cut);
        let (text_offset, size, flags) = (word(8)?, word(16)?, word(24)?);
        if flags & 1 != 0 {
            return Err("it is a big-endian kernel".to_owned());
        }
        let (text_offset, memory) = if size == 0 { (OLD_OFFSET, OLD_SIZE) } else { (text_offset, size) };
        if text_offset >= 2 << 20 || memory > 1 << 32 {
            return Err("its header is damaged".to_owned());
        }
        let page_size = [None, Some(4096), Some(16384), Some(65536)][(flags >> 1 & 3) as usize];
        Ok(Self { memory: memory.max(file.len() as u64), bytes: file, text_offset, page_size })
    }
}
