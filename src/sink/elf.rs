//! Writing compact ELF cores.
//!
//! Knows that the plan has placed everything. Must not know what a page held. Its bytes are read by gdb, crash and drgn.

use object::elf::{FileFlags, Machine};

use super::{Sink, Target, Written};
use crate::{
    error::Result,
    format::elf::{FLAG_INCOMPLETE, FLAG_NONE, encode_headers},
    pipeline::{Fate, PackedBatch},
    plan::ElfPlan,
};

/// An ELF core in the making.
#[derive(Debug)]
pub struct ElfSink {
    target: Target,
    plan: ElfPlan,
    machine: Machine,
    notes_len: u64,
    page_shift: u32,
    written: Written,
}

impl ElfSink {
    /// Writes headers and notes. The file gets its full length at once: what is not written yet is a hole.
    ///
    /// # Errors
    /// The device is full or fails.
    pub fn create(target: Target, plan: ElfPlan, machine: Machine, notes: &[u8], page_shift: u32) -> Result<Self> {
        let sink =
            Self { target, plan, machine, notes_len: notes.len() as u64, page_shift, written: Written::default() };
        sink.target.require(sink.plan.notes + sink.notes_len, "the dump's headers")?;
        sink.target.set_len(sink.plan.size)?;
        sink.write_headers(FLAG_INCOMPLETE)?;
        sink.target.write(notes, sink.plan.notes)?;
        Ok(sink)
    }

    fn write_headers(&self, flags: FileFlags) -> Result<()> {
        let notes = (self.plan.notes, self.notes_len);
        self.target.write(&encode_headers(self.machine, flags, notes, &self.plan.loads), 0)
    }
}

impl Sink for ElfSink {
    /// Neighbouring pages go out in one write; pages of zeros stay holes.
    fn commit(&mut self, batch: &PackedBatch) -> Result<()> {
        let mut run: Option<(u64, usize, usize)> = None;
        let mut at = 0;
        for page in &batch.pages {
            let len = match &page.fate {
                Fate::Stored { len, .. } => *len as usize,
                Fate::Zero => {
                    self.written.zero += 1;
                    continue;
                }
                Fate::Lost(cause) => {
                    self.written.lose(page.pfn, cause);
                    continue;
                }
            };
            self.written.stored += 1;
            let data = at..at + len;
            at = data.end;
            let Some(offset) = self.plan.offset_of(page.pfn, self.page_shift) else {
                continue;
            };
            run = match run {
                Some((start, from, to)) if start + (to - from) as u64 == offset => Some((start, from, data.end)),
                other => {
                    if let Some((start, from, to)) = other {
                        self.target.write(&batch.data[from..to], start)?;
                    }
                    Some((offset, data.start, data.end))
                }
            };
        }
        match run {
            Some((start, from, to)) => self.target.write(&batch.data[from..to], start),
            None => Ok(()),
        }
    }

    fn written(&self) -> &Written {
        &self.written
    }

    fn finish(self: Box<Self>) -> Result<u64> {
        self.write_headers(FLAG_NONE)?;
        self.target.finish().map(|()| self.plan.size)
    }

    fn abandon(self: Box<Self>, keep: bool) -> Option<std::path::PathBuf> {
        self.target.abandon(keep)
    }
}
