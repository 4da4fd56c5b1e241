//! What a container needs of the place where its bytes go. The places themselves are in `medium`.
//!
//! What may be done at a place is a property of it, and a container is written by what its place can do: a kdump file where
//! bytes may be written again shows its pages as they come, in a stream its descriptors come last.

use std::{fmt, io, path::PathBuf};

use crate::error::{Error, Result};

/// In which order bytes may come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// One after the other.
    Forward,
    /// Every offset once, in stretches that are announced.
    Once,
    /// Any offset, and again.
    Any,
}

/// A place for one output.
pub trait Medium: fmt::Debug + Send + Sync {
    /// What may be done here.
    fn order(&self) -> Order;

    /// Says that the next `len` bytes belong to `offset` and behind it. They come in order; what is left out is zeros. Nothing
    /// need be announced where any offset may be written.
    ///
    /// # Errors
    /// As [`Medium::write`].
    fn announce(&mut self, offset: u64, len: u64) -> Result<()>;

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// The place is full or fails, its limit is reached, its reader is gone, or a signal came meanwhile.
    fn write(&mut self, bytes: &[u8], offset: u64) -> Result<()>;

    /// Ends it: what was written is where it will stay, under its own name.
    ///
    /// # Errors
    /// As [`Medium::write`].
    fn finish(&mut self) -> Result<()>;

    /// Bytes that it takes around those that were written.
    fn overhead(&self) -> u64 {
        0
    }

    /// What was done otherwise than it should be, and not told yet.
    fn remarks(&mut self) -> Vec<String>;

    /// Whether what was written stays when it is given up. `keep`: it is worth keeping.
    fn stays(&self, _keep: bool) -> bool {
        false
    }

    /// Gives up; returns what it is called if it stays.
    fn abandon(&mut self, _keep: bool) -> Option<PathBuf> {
        None
    }

    /// Gives up and leaves nothing: it will be written again.
    fn discard(&mut self) {}

    /// The same, where any offset may be written.
    fn random(&mut self) -> Option<&mut dyn RandomWrites> {
        None
    }

    /// The same for good.
    ///
    /// # Errors
    /// The medium, where that may not be.
    fn into_random(self: Box<Self>) -> Result<Box<dyn RandomWrites>, Box<dyn Medium>>;
}

/// A place where any offset may be written, and again: a file.
pub trait RandomWrites: Medium {
    /// From here on it is worth something: under a name that the caller chose it stays whatever happens.
    fn settle(&mut self);

    /// Makes sure that there is room for `bytes` at least; `what` is what takes them.
    ///
    /// # Errors
    /// There is not; says how much there is.
    fn require(&self, bytes: u64, what: &str) -> Result<()>;

    /// Reserves room for a part.
    ///
    /// # Errors
    /// There is none.
    fn reserve(&mut self, offset: u64, len: u64) -> Result<()>;

    /// Sets the length. What was not written is zeros.
    ///
    /// # Errors
    /// It may not be so long.
    fn set_len(&mut self, len: u64) -> Result<()>;

    /// Writes `bytes`, which begin a page, with zeros up to the end of their page. Zeros past the limit are left out.
    ///
    /// # Errors
    /// As [`Medium::write`].
    fn write_page(&mut self, bytes: &[u8], offset: u64) -> Result<()>;

    /// Brings what was written to where it outlasts a reset.
    ///
    /// # Errors
    /// As [`Medium::write`]: some places say so only now.
    fn sync(&mut self) -> Result<()>;

    /// The same place, for a thread that syncs it.
    ///
    /// # Errors
    /// There can be none.
    fn syncer(&self) -> Result<Box<dyn Syncer>>;

    /// The second part of [`Medium::finish`], after [`RandomWrites::sync`]: of several, none takes its name before all are
    /// on the disk.
    ///
    /// # Errors
    /// Somebody took the name meanwhile.
    fn take_name(&mut self) -> Result<()>;

    /// The last part: brings the name to where it outlasts a reset.
    ///
    /// # Errors
    /// The device fails.
    fn sync_name(&self) -> Result<()>;

    /// Takes the name back, where another of a set could not get its own.
    fn give_name_back(&mut self);

    /// What is said of a write that failed.
    fn failed(&self, error: &io::Error) -> Error;
}

/// What the thread needs that waits for the disk.
pub trait Syncer: fmt::Debug + Send {
    /// Brings what was written to the disk; where the place cannot say so, it is taken to be there.
    ///
    /// # Errors
    /// The device is full or fails.
    fn sync_data(&self) -> io::Result<()>;

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// The device is full or fails.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Another one.
    ///
    /// # Errors
    /// There can be no more.
    fn another(&self) -> io::Result<Box<dyn Syncer>>;
}
