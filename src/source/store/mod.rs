//! Bytes by offset, whatever holds them: a file, or something unpacked from one.
//!
//! Knows how to read at random, one reader for each thread. Must not know what the bytes mean. The containers (`elf` ...)
//! are parsed from stores, and pages are read through them.

mod device;
mod file;
mod flattened;
mod frame_index;
mod seekable;
mod walk;

use std::{fmt, io};

pub use device::DeviceStore;
pub use file::FileStore;
pub(crate) use flattened::most_records;
pub use flattened::{FlattenedStore, Unusable};
pub use seekable::SeekableStore;

use super::MAX_READ;
use crate::error::plain_io;

/// What kept stored bytes from being read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// The operating system refused.
    System,
    /// The stored form is damaged.
    Damaged,
    /// They are not in the file: the writer had lost them, or the file ends before.
    Lost,
}

/// The same with its words.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// What kept the bytes from being read.
    pub cause: Cause,
    /// The words.
    pub text: String,
}

/// Why a store could not be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused, or the stored form is damaged; why.
    #[error("{0}")]
    Failed(Failure),
    /// The store has only so many of the bytes asked for.
    #[error("the data ends after {0} bytes")]
    Truncated(usize),
}

impl StoreError {
    /// The operating system refused.
    #[must_use]
    pub fn system(error: &io::Error) -> Self {
        Self::Failed(Failure { cause: Cause::System, text: plain_io(error) })
    }

    /// The stored form is damaged.
    #[must_use]
    pub fn damaged(text: String) -> Self {
        Self::Failed(Failure { cause: Cause::Damaged, text })
    }
}

/// Bytes by offset.
pub trait Store: Send + Sync + fmt::Debug {
    /// Length, bytes.
    fn size(&self) -> u64;

    /// A reader of its own for one thread.
    fn reader(&self) -> Box<dyn StoreReader + '_>;

    /// Memory that the store takes, and that each of its readers takes, bytes: for the budget.
    fn memory(&self) -> (u64, u64) {
        (0, 0)
    }

    /// The first byte from `offset` on that may not be zero, as far as that is known without reading: files have holes.
    fn next_data(&self, offset: u64) -> u64 {
        offset
    }

    /// The store that has headers and notes, where this one has only pages.
    fn front(&self) -> Option<&dyn Store> {
        None
    }

    /// A reader of pages as they are stored, for one thread; `None` where they are not compressed one by one.
    fn stored_pages(&self) -> Option<Box<dyn StoredPages + '_>> {
        None
    }
}

/// Takes a page as it is stored: the flags that name its codec, and the data.
pub type PutStored<'a> = &'a mut dyn FnMut(Result<(u32, &[u8]), StoreError>);

/// One thread's reader of pages as they are stored.
pub trait StoredPages: Send {
    /// Hands over the pages numbered from `first` on, `count` of them in order, or why there is none.
    fn each(&mut self, first: u64, count: u64, put: PutStored<'_>);
}

/// One thread's reader.
pub trait StoreReader: Send + fmt::Debug {
    /// The `len` bytes at `offset`, at most [`MAX_READ`].
    ///
    /// # Errors
    /// [`StoreError`]; nothing was read.
    fn read(&mut self, offset: u64, len: usize) -> Result<&[u8], StoreError>;
}

/// A part of a store, as a store of its own.
#[derive(Clone, Copy, Debug)]
pub struct Part<'a> {
    /// What it is a part of.
    pub whole: &'a dyn Store,
    /// Where it starts there.
    pub start: u64,
    /// Its length, bytes; not more than `whole` has.
    pub len: u64,
}

impl Store for Part<'_> {
    fn size(&self) -> u64 {
        self.len
    }

    fn reader(&self) -> Box<dyn StoreReader + '_> {
        Box::new(PartReader { part: *self, reader: self.whole.reader() })
    }
}

#[derive(Debug)]
struct PartReader<'a> {
    part: Part<'a>,
    reader: Box<dyn StoreReader + 'a>,
}

impl StoreReader for PartReader<'_> {
    fn read(&mut self, offset: u64, len: usize) -> Result<&[u8], StoreError> {
        let left = self.part.len.saturating_sub(offset);
        if len as u64 > left {
            return Err(StoreError::Truncated(left as usize));
        }
        self.reader.read(self.part.start.saturating_add(offset), len)
    }
}

/// Reads what there is of the first `len` bytes, to find out what they are.
///
/// # Errors
/// [`StoreError`]
pub fn read_start(store: &dyn Store, len: usize) -> Result<Vec<u8>, StoreError> {
    read_all(store, 0, store.size().min(len as u64))
}

/// Reads a store from its start to its end.
#[derive(Debug)]
pub struct Sequential<'a> {
    reader: Box<dyn StoreReader + 'a>,
    at: u64,
    size: u64,
}

impl<'a> Sequential<'a> {
    /// From the first byte.
    #[must_use]
    pub fn new(store: &'a dyn Store) -> Self {
        Self { reader: store.reader(), at: 0, size: store.size() }
    }

    /// How far it is.
    #[must_use]
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Goes on so many bytes further.
    pub fn skip(&mut self, bytes: u64) {
        self.at = self.at.saturating_add(bytes).min(self.size);
    }
}

impl io::Read for Sequential<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let len = (self.size - self.at).min(buf.len().min(MAX_READ) as u64) as usize;
        if len > 0 {
            buf[..len].copy_from_slice(self.reader.read(self.at, len).map_err(io::Error::other)?);
            self.at += len as u64;
        }
        Ok(len)
    }
}

/// Reads a whole structure of any length that the store surely has.
///
/// # Errors
/// [`StoreError`]
pub fn read_all(store: &dyn Store, offset: u64, len: u64) -> Result<Vec<u8>, StoreError> {
    let end = offset.checked_add(len).filter(|end| *end <= store.size());
    // Checked before anything is allocated: a header may claim any length.
    end.ok_or_else(|| StoreError::Truncated(store.size().saturating_sub(offset) as usize))?;
    let mut reader = store.reader();
    let mut bytes = Vec::with_capacity(len as usize);
    while (bytes.len() as u64) < len {
        let part = (len - bytes.len() as u64).min(MAX_READ as u64) as usize;
        bytes.extend_from_slice(reader.read(offset + bytes.len() as u64, part)?);
    }
    Ok(bytes)
}
