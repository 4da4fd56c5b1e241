//! Knows how to serve small, mostly ascending reads of one kernel array from pieces of 64 KiB.
//! Must not know what the array holds, and never allocates by a size that came out of the dump.
//! The bytes go to the log reader and the kallsyms reader.

use crate::memory::{ReadVirt, ReadVirtError};

/// Largest piece read at once, and the largest range [`Window::get`] serves; bytes.
pub const PIECE: usize = 64 * 1024;

/// Smallest page of any architecture; holes in a dump are whole pages.
const PAGE: u64 = 4096;

/// Why a range of the array could not be served.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WindowError {
    /// The range leaves the array, or is larger than one piece.
    #[error("bytes {at:#x}+{len:#x} are outside the array at {base:#x}")]
    Outside {
        /// Address of the array.
        base: u64,
        /// Offset of the range in the array.
        at: u64,
        /// Length of the range; bytes.
        len: usize,
    },
    /// The memory behind the range cannot be read.
    #[error(transparent)]
    Read(#[from] ReadVirtError),
}

/// A cached view of `len` bytes of kernel memory at `base`.
pub struct Window<'m> {
    mem: &'m dyn ReadVirt,
    base: u64,
    len: u64,
    /// Offset in the array of the bytes held, and how many of `piece` are held.
    start: u64,
    held: usize,
    piece: Vec<u8>,
}

impl<'m> Window<'m> {
    /// A view of `len` bytes at the virtual address `base`; reads nothing yet.
    #[must_use]
    pub fn new(mem: &'m dyn ReadVirt, base: u64, len: u64) -> Self {
        let piece = vec![0; usize::try_from(len).map_or(PIECE, |len| len.min(PIECE))];
        Self { mem, base, len, start: 0, held: 0, piece }
    }

    /// How many bytes of the array from offset `at` on are on the same 4 KiB page of virtual memory; at least 1.
    #[must_use]
    pub fn to_page_end(&self, at: u64) -> u64 {
        PAGE - self.base.wrapping_add(at) % PAGE
    }

    /// The `n` bytes at offset `at` of the array.
    ///
    /// # Errors
    /// [`WindowError::Outside`] when the range is not in the array or `n` exceeds [`PIECE`];
    /// [`WindowError::Read`] when the memory cannot be read.
    pub fn get(&mut self, at: u64, n: usize) -> Result<&[u8], WindowError> {
        self.at_least(at, n).map(|held| &held[..n])
    }

    /// The `n` bytes at offset `at` of the array, and those behind them that were read with them: to go through many small
    /// things at once.
    ///
    /// # Errors
    /// As [`Window::get`].
    pub fn at_least(&mut self, at: u64, n: usize) -> Result<&[u8], WindowError> {
        let outside = WindowError::Outside { base: self.base, at, len: n };
        let Some(vaddr) = self.base.checked_add(at) else {
            return Err(outside);
        };
        if at.checked_add(n as u64).is_none_or(|end| end > self.len) {
            return Err(outside);
        }
        let ahead = at.checked_sub(self.start).and_then(|from| usize::try_from(from).ok());
        if let Some(from) = ahead.filter(|from| from.checked_add(n).is_some_and(|end| end <= self.held)) {
            return self.piece.get(from..self.held).ok_or(outside);
        }
        // A hole must cost only the ranges that touch it: after the whole piece, try up to the end of the page, then
        // the range alone.
        (self.start, self.held) = (at, 0);
        let left = usize::try_from(self.len - at).unwrap_or(PIECE);
        let mut failed = None;
        for want in [PIECE, usize::try_from(self.to_page_end(at)).unwrap_or(n), n] {
            let want = want.clamp(n, n.max(left));
            let Some(piece) = self.piece.get_mut(..want) else {
                continue;
            };
            match self.mem.read_virt(vaddr, piece) {
                Ok(()) => {
                    self.held = want;
                    return self.piece.get(..want).ok_or(outside);
                }
                Err(error) => failed = Some(error),
            }
        }
        Err(failed.map_or(outside, WindowError::Read))
    }
}
