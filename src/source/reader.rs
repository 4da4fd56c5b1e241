//! Reading physical memory, one reader for each thread.
//!
//! Knows mapped windows, reads, and when to use which. Must not know what the pages are. The bytes go to `memory` and to
//! `pipeline`.

use std::{fs::File, io, path::Path};

use super::{MAX_READ, Piece, RamMap, read_some_at};
use crate::{error, sys::map::Window};

/// Size of a mapped window of `/proc/vmcore`: large enough that the cost of mapping vanishes (makedumpfile measured 28
/// GiB/s at 512 KiB), small enough to be cheap where only a few pages of it are wanted.
const WINDOW: u64 = 4 << 20;
/// The largest page size of any host we run on; window offsets are multiples of it.
const HOST_PAGE: u64 = 64 << 10;

/// Why physical memory could not be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReadError {
    /// The dump holds no byte of this range.
    #[error("physical address {0:#x} is not in the dump")]
    Absent(u64),
    /// The operating system refused.
    #[error("{1} at physical address {0:#x}")]
    Io(u64, String),
    /// The file ends before the data does.
    #[error("the file ends before physical address {0:#x}")]
    Truncated(u64),
}

/// Reads physical memory through mapped windows or plain reads. Not shared between threads.
#[derive(Debug)]
pub struct PageReader<'a> {
    path: &'a Path,
    file: &'a File,
    ram: &'a RamMap,
    /// `None`: never map.
    windows: Option<Windows>,
    buffer: Vec<u8>,
}

#[derive(Debug, Default)]
struct Windows {
    current: Option<Window>,
    /// Start of the last window that could not be mapped, so that it is not tried again for each of its pages.
    refused: Option<u64>,
}

impl<'a> PageReader<'a> {
    pub(super) fn new(path: &'a Path, file: &'a File, ram: &'a RamMap, mapped: bool) -> Self {
        Self { path, file, ram, windows: mapped.then(Windows::default), buffer: Vec::new() }
    }

    /// The input's path, for messages.
    #[must_use]
    pub fn path(&self) -> &'a Path {
        self.path
    }

    /// The `len` bytes of memory at `paddr` (at most [`MAX_READ`]). Bytes that the dump does not hold inside a range
    /// that it holds in part are zero: firmware may end a RAM range in the middle of a page.
    ///
    /// # Errors
    /// [`ReadError`]; nothing was read.
    pub fn read(&mut self, paddr: u64, len: usize) -> Result<&[u8], ReadError> {
        debug_assert!(len <= MAX_READ);
        let end = paddr.checked_add(len as u64).ok_or(ReadError::Absent(paddr))?;
        let first = self.ram.overlapping(paddr, end).next().copied().ok_or(ReadError::Absent(paddr))?;
        let whole = first.paddr <= paddr && first.end() >= end;
        match (whole, first.offset) {
            (true, Some(offset)) => self.read_file(paddr, offset + (paddr - first.paddr), len),
            _ => self.read_in_parts(paddr, len),
        }
    }

    /// As [`PageReader::read`], but fails where the dump lacks any byte of the range: for the kernel's own structures, where
    /// zeros instead of what is missing would be believed.
    ///
    /// # Errors
    /// [`ReadError`]; nothing was read.
    pub fn read_whole(&mut self, paddr: u64, len: usize) -> Result<&[u8], ReadError> {
        let end = paddr.checked_add(len as u64).ok_or(ReadError::Absent(paddr))?;
        let mut at = paddr;
        for piece in self.ram.overlapping(paddr, end) {
            if piece.paddr > at {
                break;
            }
            at = piece.end();
        }
        if at < end { Err(ReadError::Absent(at)) } else { self.read(paddr, len) }
    }

    fn read_file(&mut self, paddr: u64, offset: u64, len: usize) -> Result<&[u8], ReadError> {
        if let Some(windows) = &mut self.windows
            && windows.hold(self.file, offset, len)
        {
            return windows.current.as_ref().and_then(|window| window.get(offset, len)).ok_or(ReadError::Absent(paddr));
        }
        self.buffer.resize(len.max(self.buffer.len()), 0);
        fill(self.file, paddr, offset, &mut self.buffer[..len])?;
        Ok(&self.buffer[..len])
    }

    fn read_in_parts(&mut self, paddr: u64, len: usize) -> Result<&[u8], ReadError> {
        let end = paddr + len as u64;
        let pieces: Vec<Piece> = self.ram.overlapping(paddr, end).copied().collect();
        let mut whole = vec![0u8; len];
        for piece in pieces {
            let Some(offset) = piece.offset else { continue };
            let (from, to) = (piece.paddr.max(paddr), piece.end().min(end));
            let part = &mut whole[(from - paddr) as usize..(to - paddr) as usize];
            fill(self.file, from, offset + (from - piece.paddr), part)?;
        }
        self.buffer = whole;
        Ok(&self.buffer)
    }
}

impl Windows {
    /// Makes sure that the current window covers the bytes; `false` where it cannot be mapped.
    fn hold(&mut self, file: &File, offset: u64, len: usize) -> bool {
        if self.current.as_ref().is_some_and(|window| window.get(offset, len).is_some()) {
            return true;
        }
        let start = offset & !(HOST_PAGE - 1);
        if self.refused == Some(start) {
            return false;
        }
        let size = file.metadata().map_or(0, |meta| meta.len());
        let wanted = (offset - start + len as u64).max(WINDOW).min(size.saturating_sub(start));
        self.current = None;
        match Window::of_proc_file(file, start, wanted as usize) {
            Ok(window) if window.get(offset, len).is_some() => {
                self.current = Some(window);
                true
            }
            _ => {
                self.refused = Some(start);
                false
            }
        }
    }
}

fn fill(file: &File, paddr: u64, offset: u64, buf: &mut [u8]) -> Result<(), ReadError> {
    match read_some_at(file, buf, offset) {
        Ok(got) if got == buf.len() => Ok(()),
        Ok(got) => Err(ReadError::Truncated(paddr + got as u64)),
        Err(io) => Err(ReadError::Io(paddr, describe(&io))),
    }
}

fn describe(io: &io::Error) -> String {
    error::plain_io(io)
}
