//! Writing compact ELF cores.
//!
//! Knows that the plan has placed everything. Must not know what a page held. Its bytes are read by gdb, crash and drgn.

use object::elf::{FileFlags, Machine};

use super::{Sink, Target, Written};
use crate::{
    error::Result,
    format::elf::{FLAG_INCOMPLETE, encode_headers},
    pipeline::{Fate, PackedBatch},
    plan::ElfPlan,
    report::human_bytes,
};

/// An ELF core in the making.
#[derive(Debug)]
pub struct ElfSink {
    target: Target,
    plan: ElfPlan,
    machine: Machine,
    notes_len: u64,
    page_shift: u32,
    /// `e_flags` of the finished file.
    flags: FileFlags,
    written: Written,
    /// One past the last frame that was committed.
    next_pfn: u64,
}

impl ElfSink {
    /// Writes headers and notes. The file gets its full length at once: what is not written yet is a hole.
    ///
    /// # Errors
    /// The device is full or fails.
    pub fn create(
        target: Target,
        plan: ElfPlan,
        machine: Machine,
        notes: &[u8],
        page_shift: u32,
        flags: FileFlags,
    ) -> Result<Self> {
        let mut sink = Self {
            target,
            plan,
            machine,
            notes_len: notes.len() as u64,
            page_shift,
            flags,
            written: Written::default(),
            next_pfn: 0,
        };
        sink.target.require(sink.plan.notes + sink.notes_len, "the dump's headers")?;
        sink.target.set_len(sink.plan.size).map_err(|error| {
            let size = human_bytes(sink.plan.size);
            error.or_next_step(format!(
                "the file would end at {size}, more than this file system may allow: leave out zero pages (-d 1), write the \
                 kdump format (-f kdump), or choose another device"
            ))
        })?;
        sink.write_headers(FLAG_INCOMPLETE)?;
        sink.target.write(notes, sink.plan.notes)?;
        sink.target.settle();
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
        if let Some((start, from, to)) = run {
            self.target.write(&batch.data[from..to], start)?;
        }
        self.next_pfn = batch.pages.last().map_or(self.next_pfn, |page| page.pfn + 1);
        Ok(())
    }

    fn written(&self) -> &Written {
        &self.written
    }

    fn finish(&mut self) -> Result<u64> {
        // The mark goes only when everything else is on the disk.
        self.target.sync()?;
        self.write_headers(self.flags)?;
        self.target.finish()?;
        Ok(self.plan.size)
    }

    /// What stays shows the pages that were written, and no others: headers that promised more would show zeros for them.
    fn abandon(&mut self, keep: bool) -> Option<std::path::PathBuf> {
        if self.target.stays(keep) {
            let end = self.plan.cut(self.next_pfn, self.page_shift);
            let _ = self.write_headers(FLAG_INCOMPLETE);
            let _ = self.target.set_len(end);
        }
        self.target.abandon(keep)
    }

    fn discard(&mut self) {
        self.target.discard();
    }
}

#[cfg(test)]
mod tests {
    use vdump_filters::PfnRange;

    use super::*;
    use crate::sink::Inputs;
    use crate::{bitmap::PageBitmap, format::elf::FLAG_NONE, pipeline::PackedPage, source::Load};

    /// Ctrl-C keeps nothing, but a file under a name that the caller chose stays: then it must not promise what is not there.
    #[test]
    fn what_stays_unasked_promises_nothing_either() {
        let room = tempfile::tempdir().unwrap();
        let mut kept = PageBitmap::new(100);
        kept.fill(PfnRange::new(0, 100), true);
        for (name, stays) in [("core-incomplete", true), ("other", false)] {
            let memory = Load { offset: 0x1000, vaddr: 0, paddr: 0, filesz: 100 << 12, memsz: 100 << 12 };
            let plan = ElfPlan::make(&kept, &PageBitmap::new(100), &[memory], 8, 12).unwrap();
            let end = plan.offset_of(2, 12).unwrap();
            let target = Target::create(&room.path().join(name), false, &Inputs::default()).unwrap();
            let mut sink = ElfSink::create(target, plan, object::elf::EM_X86_64, &[0; 8], 12, FLAG_NONE).unwrap();
            let page = |pfn| PackedPage { pfn, fate: Fate::Stored { len: 4096, flags: 0 } };
            let batch = PackedBatch { pages: vec![page(0), page(1)], data: vec![7; 8192], ..PackedBatch::default() };
            sink.commit(&batch).unwrap();
            let left = sink.abandon(false);
            assert_eq!(left.is_some(), stays, "{name}");
            assert!(left.is_none_or(|path| std::fs::metadata(path).unwrap().len() == end));
        }
    }
}
