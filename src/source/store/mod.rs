//! Bytes by offset, whatever holds them: a file, or something unpacked from one.
//!
//! Knows how to read at random, one reader for each thread. Must not know what the bytes mean. The containers (`elf` ...)
//! are parsed from stores, and pages are read through them.

mod file;

use std::fmt;

pub use file::FileStore;

use super::MAX_READ;

/// Why a store could not be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused, or the stored form is damaged; why.
    #[error("{0}")]
    Failed(String),
    /// The store has only so many of the bytes asked for.
    #[error("the data ends after {0} bytes")]
    Truncated(usize),
}

/// Bytes by offset.
pub trait Store: Send + Sync + fmt::Debug {
    /// Length, bytes.
    fn size(&self) -> u64;

    /// A reader of its own for one thread.
    fn reader(&self) -> Box<dyn StoreReader + '_>;

    /// Whether the bytes are the crashed machine's memory itself, `/proc/vmcore`.
    fn is_live(&self) -> bool {
        false
    }
}

/// One thread's reader.
pub trait StoreReader: Send + fmt::Debug {
    /// The `len` bytes at `offset`, at most [`MAX_READ`].
    ///
    /// # Errors
    /// [`StoreError`]; nothing was read.
    fn read(&mut self, offset: u64, len: usize) -> Result<&[u8], StoreError>;
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
