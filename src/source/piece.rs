//! A stretch of physical memory, and where a file has it.

/// A stretch of physical memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Piece {
    /// First physical address.
    pub paddr: u64,
    /// Length, bytes; never 0.
    pub len: u64,
    /// Where it lies in the file; `None`: all zeros, not stored.
    pub offset: Option<u64>,
}

impl Piece {
    /// One past the last physical address.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.paddr + self.len
    }
}
