//! Writing compact ELF cores.
//!
//! Knows that the plan has placed everything, and that the file must say at any moment what it has: it grows as data comes,
//! and its headers show what is on the disk. Must not know what a page held. Its bytes are read by gdb, crash and drgn.

use object::elf::{FileFlags, Machine};

use super::{RandomWrites, Sink, Written, publish::Publisher, shown::Shown};
use crate::{
    error::Result,
    format::elf::{FLAG_INCOMPLETE, Head, encode_escape, encode_head},
    pipeline::{Fate, PackedBatch},
    plan::ElfPlan,
    report::human_bytes,
    source::OutputNotes,
};

/// An ELF core in the making.
#[derive(Debug)]
pub struct ElfSink {
    target: Box<dyn RandomWrites>,
    plan: ElfPlan,
    head: Head,
    page_shift: u32,
    /// `e_flags` of the finished file.
    flags: FileFlags,
    written: Written,
    /// One past the last frame that was committed.
    next_pfn: u64,
    /// The file's length so far, bytes.
    len: u64,
    shown: Shown,
    publisher: Publisher,
}

impl ElfSink {
    /// Writes headers and notes; the headers show zeros that need no data, and nothing else yet.
    ///
    /// # Errors
    /// The device is full or fails.
    pub fn create(
        target: Box<dyn RandomWrites>,
        plan: ElfPlan,
        machine: Machine,
        notes: &OutputNotes<'_>,
        page_shift: u32,
        flags: FileFlags,
    ) -> Result<Self> {
        let notes_at = (plan.notes, notes.len());
        let head = Head { class: plan.class, machine, flags: FLAG_INCOMPLETE, planned: plan.size, notes: notes_at };
        let publisher = Publisher::new(target.syncer()?);
        let mut sink = Self {
            target,
            plan,
            head,
            page_shift,
            flags,
            written: Written::default(),
            next_pfn: 0,
            len: notes_at.0 + notes_at.1,
            shown: Shown::default(),
            publisher,
        };
        sink.target.require(sink.len, "the dump's headers")?;
        // Only to see whether the file may become so long.
        sink.target.set_len(sink.plan.size).map_err(|error| {
            let size = human_bytes(sink.plan.size);
            error.or_next_step(format!(
                "the file would end at {size}, more than this file system may allow: leave out zero pages (-d 1), write the \
                 kdump format (-f kdump), or choose another device"
            ))
        })?;
        sink.target.set_len(0)?;
        notes.each(&mut |bytes, place| sink.target.write(bytes, sink.plan.notes + place))?;
        sink.write_headers(sink.head, 0)?;
        sink.target.settle();
        Ok(sink)
    }

    fn write(&mut self, data: &[u8], offset: u64) -> Result<()> {
        self.target.write(data, offset)?;
        self.publisher.wrote(data.len() as u64);
        self.len = self.len.max(offset + data.len() as u64);
        Ok(())
    }

    fn lose(&mut self, pfn: u64, cause: &str) {
        self.written.lose(pfn, cause);
        let offset = self.plan.offset_of(pfn, self.page_shift);
        if let (Some(extent), Some(offset)) = (self.plan.extent_of(pfn), offset) {
            self.shown.lose(extent, offset, self.page_shift);
        }
    }

    /// Has the headers show what was committed, as soon as it is on the disk.
    fn publish(&mut self) -> Result<()> {
        let end = self.plan.end_below(self.next_pfn, self.page_shift);
        // Zeros at its end are a hole, which takes no write.
        if end > self.len {
            self.target.set_len(end)?;
            self.len = end;
        }
        let leads = self.shown.advance(&self.plan, end);
        if leads.is_empty() {
            return Ok(());
        }
        self.publisher.publish(leads).map_err(|error| self.target.failed(&error))
    }

    /// All headers, as they are when all data up to file offset `end` is there.
    fn write_headers(&mut self, head: Head, end: u64) -> Result<()> {
        let loads = self.plan.loads.len();
        self.target.write(&encode_head(&head, loads), 0)?;
        for lead in self.shown.table(&self.plan, end) {
            self.target.write(&lead.bytes, lead.offset)?;
        }
        self.target.write(&encode_escape(head.class, loads), head.class.load_at(loads))
    }

    /// The same now, with nothing left out.
    fn publish_all(&mut self) -> Result<()> {
        // What comes a step later comes with the second one.
        self.publish()?;
        self.publish()?;
        self.publisher.settle().map_err(|error| self.target.failed(&error))
    }
}

impl Sink<PackedBatch> for ElfSink {
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
                    self.lose(page.pfn, cause);
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
                        self.write(&batch.data[from..to], start)?;
                    }
                    Some((offset, data.start, data.end))
                }
            };
        }
        if let Some((start, from, to)) = run {
            self.write(&batch.data[from..to], start)?;
        }
        self.next_pfn = batch.pages.last().map_or(self.next_pfn, |page| page.pfn + 1);
        if self.publisher.is_due(0).map_err(|error| self.target.failed(&error))? { self.publish() } else { Ok(()) }
    }

    fn written(&self) -> &Written {
        &self.written
    }

    fn finish(&mut self) -> Result<u64> {
        self.next_pfn = u64::MAX;
        // The mark goes only when everything else is on the disk.
        self.publish_all()?;
        let (flags, planned) = if self.shown.has_gaps() { (FLAG_INCOMPLETE, self.plan.size) } else { (self.flags, 0) };
        self.written.lost += self.shown.hidden(self.page_shift);
        self.write_headers(Head { flags, planned, ..self.head }, self.plan.size)?;
        self.target.finish()?;
        Ok(self.plan.size)
    }

    fn remarks(&mut self) -> Vec<String> {
        self.target.remarks()
    }

    /// What stays shows the pages that were written, and no others, as a file does whose writer was killed.
    fn abandon(&mut self, keep: bool) -> Option<std::path::PathBuf> {
        if self.target.stays(keep) {
            let _ = self.publish_all();
            // `finish` may have failed after it had taken the mark away.
            let _ = self.target.write(&encode_head(&self.head, self.plan.loads.len()), 0);
            let end = self.plan.end_below(self.next_pfn, self.page_shift);
            let _ = self.target.set_len(end.max(self.plan.notes + self.head.notes.1));
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
    use crate::medium::{Inputs, Target};
    use crate::{
        bitmap::PageBitmap,
        format::elf::{Class, FLAG_NONE},
        pipeline::PackedPage,
        source::Load,
    };

    fn sink(name: &std::path::Path) -> ElfSink {
        let mut kept = PageBitmap::new(100);
        kept.fill(PfnRange::new(0, 100), true);
        let memory = Load { offset: 0x1000, vaddr: 0, paddr: 0, filesz: 100 << 12, memsz: 100 << 12 };
        let plan = ElfPlan::make(&kept, &PageBitmap::new(100), &[memory], 0, 12, Class::Elf64).unwrap();
        let target = Target::create(name, false, &Inputs::default()).unwrap();
        ElfSink::create(Box::new(target), plan, object::elf::EM_X86_64, &OutputNotes::default(), 12, FLAG_NONE).unwrap()
    }

    fn stored(pfn: u64) -> PackedPage {
        PackedPage { pfn, fate: Fate::Stored { len: 4096, flags: 0 } }
    }

    /// Ctrl-C keeps nothing, but a file under a name that the caller chose stays: then it must not promise what is not there.
    #[test]
    fn what_stays_unasked_promises_nothing_either() {
        let room = tempfile::tempdir().unwrap();
        for (name, stays) in [("core-incomplete", true), ("other", false)] {
            let mut sink = sink(&room.path().join(name));
            let end = sink.plan.offset_of(2, 12).unwrap();
            let batch = PackedBatch { pages: vec![stored(0), stored(1)], data: vec![7; 8192] };
            sink.commit(&batch).unwrap();
            let left = sink.abandon(false);
            assert_eq!(left.is_some(), stays, "{name}");
            assert!(left.is_none_or(|path| std::fs::metadata(path).unwrap().len() == end));
        }
    }

    #[test]
    fn a_page_that_is_lost_while_it_is_written_ends_its_segment() {
        let room = tempfile::tempdir().unwrap();
        let name = room.path().join("core");
        let mut sink = sink(&name);
        let lost = PackedPage { pfn: 1, fate: Fate::Lost("gone".to_owned()) };
        let pages = [stored(0), lost].into_iter().chain((2..100).map(stored)).collect();
        sink.commit(&PackedBatch { pages, data: vec![7; 99 << 12] }).unwrap();
        sink.finish().unwrap();
        let (written, bytes) = (sink.written().clone(), std::fs::read(name).unwrap());
        let word = |at: u64| u64::from_le_bytes(bytes[at as usize..at as usize + 8].try_into().unwrap());
        let (filesz, memsz, _) = Class::Elf64.sizes_at();
        let at = Class::Elf64.load_at(0);
        assert_eq!((bytes[48], word(at + filesz), word(at + memsz)), (1, 4096, 4096));
        assert_eq!((written.lost, written.lost_pages.len()), (99, 1));
    }
}
