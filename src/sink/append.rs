//! Bytes one after the other, in whole pages where they go to a file.

use std::path::PathBuf;

use super::{Medium, pages::PAGE};
use crate::error::Result;

/// An output that is written from its first byte to its last. A file is written in whole pages, and never has more than was
/// appended: one whose writer is killed ends in the middle of its data and not in zeros.
#[derive(Debug)]
pub(super) struct Appender {
    medium: Box<dyn Medium>,
    written: u64,
    /// What follows that, and is not written yet: less than a page, and nothing of what is no file.
    held: Vec<u8>,
}

impl Appender {
    pub(super) fn new(medium: Box<dyn Medium>) -> Self {
        Self { medium, written: 0, held: Vec::new() }
    }

    /// Appends all of `bytes`.
    ///
    /// # Errors
    /// As [`Medium::write`]; what a file then has besides is overwritten or cut off.
    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<()> {
        let Some(file) = self.medium.random() else {
            self.medium.announce(self.written, bytes.len() as u64)?;
            self.medium.write(bytes, self.written)?;
            self.written += bytes.len() as u64;
            return Ok(());
        };
        file.settle();
        let begun = self.held.len();
        let (first, rest) = bytes.split_at(if begun == 0 { 0 } else { bytes.len().min(PAGE - begun) });
        self.held.extend_from_slice(first);
        if begun > 0 {
            if self.held.len() < PAGE {
                return Ok(());
            }
            self.medium.write(&self.held, self.written)?;
            self.written += PAGE as u64;
            self.held.clear();
        }
        let (whole, last) = rest.split_at(rest.len() / PAGE * PAGE);
        self.medium.write(whole, self.written)?;
        self.written += whole.len() as u64;
        self.held.extend_from_slice(last);
        Ok(())
    }

    /// Ends it. Returns its length with what the medium has around it, bytes.
    ///
    /// # Errors
    /// As [`Medium::finish`].
    pub(super) fn finish(&mut self) -> Result<u64> {
        if !self.held.is_empty() {
            self.medium.write(&self.held, self.written)?;
            self.written += self.held.len() as u64;
            self.held.clear();
        }
        self.medium.finish()?;
        Ok(self.written + self.medium.overhead())
    }

    /// Cuts a file back to `len` and appends `end`. What is no file cannot be cut.
    ///
    /// # Errors
    /// As [`Appender::append`].
    pub(super) fn cut(&mut self, len: u64, end: &[u8]) -> Result<()> {
        let Some(file) = self.medium.random() else { return Ok(()) };
        let held = len.saturating_sub(self.written).min(self.held.len() as u64);
        file.write(&self.held[..held as usize], self.written)?;
        file.set_len(len)?;
        file.write(end, len)?;
        self.written = len + end.len() as u64;
        self.held.clear();
        Ok(())
    }

    pub(super) fn remarks(&mut self) -> Vec<String> {
        self.medium.remarks()
    }

    pub(super) fn discard(&mut self) {
        self.medium.discard();
    }

    pub(super) fn stays(&self, keep: bool) -> bool {
        self.medium.stays(keep)
    }

    pub(super) fn abandon(&mut self, keep: bool) -> Option<PathBuf> {
        self.medium.abandon(keep)
    }
}
