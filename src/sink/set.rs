//! Writing split sets: one kdump file for each part, each with its own frames and all of the planes.
//!
//! Knows when all parts are whole, and that they are one dump: no part gets its name, or loses the mark that it is
//! incomplete, before the others could. Must not know how pages come. Each part is written by a thread of its own.

use std::path::PathBuf;

use vdump_filters::PfnRange;

use super::{KdumpFacts, KdumpSink, Sink as _, Target, Written};
use crate::{bitmap::PageBitmap, error::Result};

/// The parts of a split set in the making, in order of their frames.
#[derive(Debug)]
pub struct KdumpSet {
    parts: Vec<KdumpSink>,
    frames: Vec<PfnRange>,
}

impl KdumpSet {
    /// Writes everything in front of the page data of every part. `frames` has the share of each target.
    ///
    /// # Errors
    /// As [`KdumpSink::create`].
    pub fn create<R: Iterator<Item = PfnRange>>(
        targets: Vec<Target>,
        frames: Vec<PfnRange>,
        facts: &KdumpFacts,
        page_size: u64,
        ram: impl Fn() -> R,
        dumped: &PageBitmap,
    ) -> Result<Self> {
        let parts = targets.into_iter().zip(&frames);
        let parts = parts.map(|(target, part)| KdumpSink::create(target, facts, page_size, ram(), dumped, Some(*part)));
        Ok(Self { parts: parts.collect::<Result<_>>()?, frames })
    }

    /// The parts, to be written to.
    pub fn parts(&mut self) -> &mut [KdumpSink] {
        &mut self.parts
    }

    /// What was written so far, to all parts together.
    #[must_use]
    pub fn written(&self) -> Written {
        self.parts.iter().map(|part| part.written().clone()).fold(Written::default(), Written::and)
    }

    /// Completes all parts and gives them their names. Returns their sizes, bytes.
    ///
    /// # Errors
    /// As [`super::Sink::finish`]. No part has its name then.
    pub fn finish(&mut self) -> Result<Vec<u64>> {
        self.share_losses()?;
        let sizes = self.parts.iter_mut().map(KdumpSink::complete).collect::<Result<_>>()?;
        for part in &mut self.parts {
            part.mark(false)?;
            part.target().sync()?;
        }
        for index in 0..self.parts.len() {
            let named = self.parts[index].target().take_name();
            if named.is_err() {
                self.parts[..index].iter_mut().for_each(|part| part.target().give_name_back());
                return named.map(|()| Vec::new());
            }
        }
        Ok(sizes)
    }

    /// Gives up, as [`super::Sink::abandon`]: returns the names of the parts that stay.
    pub fn abandon(&mut self, keep: bool) -> Vec<PathBuf> {
        // What cannot be said any more on a device that fails makes readers refuse the set, or miss these pages.
        let _ = self.share_losses();
        self.parts.iter_mut().filter_map(|part| part.abandon(keep)).collect()
    }

    /// Gives up and leaves nothing.
    pub fn discard(&mut self) {
        self.parts.iter_mut().for_each(super::Sink::discard);
    }

    /// A page that could not be read loses its bit in its own part at once; here in the others.
    fn share_losses(&mut self) -> Result<()> {
        for (index, frames) in self.frames.iter().enumerate() {
            let part = &self.parts[index];
            if part.written().lost == 0 {
                continue;
            }
            for (other, sink) in self.parts.iter().enumerate() {
                if other != index {
                    sink.copy_bits(part, *frames)?;
                }
            }
        }
        Ok(())
    }
}
