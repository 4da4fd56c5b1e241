//! A stretch of physical memory, and where a file has it.

use vdump_filters::ranges::Stretch;

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
    /// `len` bytes from `paddr` on, cut at the end of the address space.
    pub(super) fn with_len(paddr: u64, len: u64, offset: Option<u64>) -> Self {
        Self { paddr, len: paddr.saturating_add(len) - paddr, offset }
    }

    /// One past the last physical address.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.paddr + self.len
    }
}

impl Stretch for Piece {
    fn start(&self) -> u64 {
        self.paddr
    }

    fn end(&self) -> u64 {
        self.end()
    }

    fn part(&self, start: u64, end: u64) -> Self {
        let offset = self.offset.map(|offset| offset + (start - self.paddr));
        Self { paddr: start, len: end - start, offset }
    }

    /// Two segments stay two, whatever lies where.
    fn is_continued_by(&self, _next: &Self) -> bool {
        false
    }
}
