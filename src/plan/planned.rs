//! The planned ELF core as a store: any stretch of the file that would be written can be read, and nothing is written for it.
//!
//! Where everything goes the plan says; here the bytes are fetched. The frames of a compressed core are stretches of it, and
//! whoever wants to show a core that nobody wrote reads it from here.

use vdump_filters::{Pfn, PfnRange};

use super::ElfPlan;
use crate::{
    bitmap::PageBitmap,
    source::{
        MAX_READ, Mask, OutputNotes, OutputReader, Source,
        store::{Store, StoreError, StoreReader},
    },
};

/// An ELF core that is planned.
#[derive(Clone, Copy, Debug)]
pub struct PlannedElf<'a> {
    /// Where everything goes.
    pub plan: &'a ElfPlan,
    /// The first bytes of the file: headers.
    pub front: &'a [u8],
    /// The notes, whose place the plan has.
    pub notes: &'a OutputNotes<'a>,
    /// The pages to read; the others that have room in the file are zeros.
    pub pages: &'a PageBitmap,
    /// Where the pages come from.
    pub source: &'a Source,
    /// What must not be shown of them.
    pub mask: &'a Mask,
    /// Log2 of the page size.
    pub page_shift: u32,
}

/// What became of a page in a stretch: why it could not be read.
pub type Seen<'a> = dyn FnMut(u64, Result<(), String>) + 'a;

impl<'a> PlannedElf<'a> {
    /// A reader of its own for one thread.
    #[must_use]
    pub fn stretches(self) -> Stretches<'a> {
        Stretches { elf: self, memory: self.source.output_reader(self.mask), bytes: Vec::new() }
    }
}

impl Store for PlannedElf<'_> {
    fn size(&self) -> u64 {
        self.plan.size
    }

    fn reader(&self) -> Box<dyn StoreReader + '_> {
        Box::new(self.stretches())
    }

    fn memory(&self) -> (u64, u64) {
        (0, 2 * MAX_READ as u64)
    }
}

/// Makes stretches of a planned core, one after the other.
#[derive(Debug)]
pub struct Stretches<'a> {
    elf: PlannedElf<'a>,
    memory: OutputReader<'a>,
    /// What was read last as from a store.
    bytes: Vec<u8>,
}

impl Stretches<'_> {
    /// Makes the bytes of `room`, which is all zeros and has its place in the file at `start`. Each page that begins in it is
    /// told to `seen`, and each that could not be read wherever it begins; in order. What could not be read stays zeros.
    pub fn fill(&mut self, start: u64, room: &mut [u8], seen: &mut Seen<'_>) {
        let PlannedElf { plan, front, notes, page_shift, .. } = self.elf;
        let end = start + room.len() as u64;
        if let Some(front) = front.get(start as usize..) {
            let len = front.len().min(room.len());
            room[..len].copy_from_slice(&front[..len]);
        }
        let (from, to) = (plan.notes.max(start), (plan.notes + notes.len()).min(end));
        if from < to {
            notes.fill(from - plan.notes, &mut room[(from - start) as usize..(to - start) as usize]);
        }
        let first = plan.extents.partition_point(|extent| extent.offset + (extent.stored << page_shift) <= start);
        for extent in plan.extents[first..].iter().take_while(|extent| extent.offset < end) {
            let stored_end = extent.offset + (extent.stored << page_shift);
            let (from, to) = (extent.offset.max(start), stored_end.min(end));
            if from >= to {
                continue;
            }
            // A page may begin in the stretch before.
            let frames = PfnRange::new(
                extent.range.start + ((from - extent.offset) >> page_shift),
                extent.range.start + ((to - 1 - extent.offset) >> page_shift) + 1,
            );
            let at = |pfn| extent.offset + ((pfn - extent.range.start) << page_shift);
            for run in self.elf.pages.runs_in(frames) {
                self.run(run, &at, start, room, seen);
            }
        }
    }

    /// Reads a run of pages that lie at `at` at once; where that fails, page by page, so that one bad page loses only itself.
    fn run(&mut self, run: PfnRange, at: &dyn Fn(u64) -> u64, start: u64, room: &mut [u8], seen: &mut Seen<'_>) {
        let (page_shift, end) = (self.elf.page_shift, start + room.len() as u64);
        let mut read = |first: u64, behind: u64| {
            let (from, to) = (at(first).max(start), at(behind).min(end));
            let room = &mut room[(from - start) as usize..(to - start) as usize];
            let paddr = Pfn(first).paddr(page_shift) + (from - at(first));
            self.memory.read(paddr, room.len()).map(|bytes| room.copy_from_slice(bytes))
        };
        if read(run.start, run.end).is_ok() {
            return (run.start..run.end).filter(|pfn| at(*pfn) >= start).for_each(|pfn| seen(pfn, Ok(())));
        }
        for pfn in run.start..run.end {
            let got = read(pfn, pfn + 1).map_err(|error| error.to_string());
            if at(pfn) >= start || got.is_err() {
                seen(pfn, got);
            }
        }
    }
}

impl StoreReader for Stretches<'_> {
    fn read(&mut self, offset: u64, len: usize) -> Result<&[u8], StoreError> {
        let left = self.elf.plan.size.saturating_sub(offset);
        if len as u64 > left {
            return Err(StoreError::Truncated(left as usize));
        }
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        bytes.resize(len, 0);
        let mut lost = None;
        self.fill(offset, &mut bytes, &mut |pfn, got| {
            if let (Err(cause), None) = (got, &lost) {
                lost = Some(format!("page {pfn:#x}: {cause}"));
            }
        });
        self.bytes = bytes;
        lost.map_or(Ok(self.bytes.as_slice()), |cause| Err(StoreError::damaged(cause)))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        format::elf::{Class, FLAG_NONE, Head, Load, encode_headers},
        source,
    };

    const PAGE: u64 = 4096;

    /// A core of 64 pages at 1 MiB, each with bytes of its own.
    fn dump(path: &std::path::Path) -> Vec<u8> {
        let memory: Vec<u8> = (0..64 * PAGE).map(|at| (at / PAGE * 7 + at % 251) as u8 | 1).collect();
        let load = Load { paddr: 1 << 20, vaddr: 0xffff << 48, offset: PAGE, filesz: 64 * PAGE, memsz: 64 * PAGE };
        let machine = object::elf::EM_X86_64;
        let head = Head { class: Class::Elf64, machine, flags: FLAG_NONE, planned: 0, notes: (0, 0) };
        let mut file = encode_headers(&head, &[load]);
        file.resize(PAGE as usize, 0);
        file.extend_from_slice(&memory);
        fs::write(path, file).unwrap();
        memory
    }

    fn bitmap(ranges: &[(u64, u64)]) -> PageBitmap {
        let mut bitmap = PageBitmap::new(256 + 64);
        ranges.iter().for_each(|(start, end)| bitmap.fill(PfnRange::new(256 + start, 256 + end), true));
        bitmap
    }

    #[test]
    fn any_stretch_is_what_the_file_would_have() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("core");
        let memory = dump(&path);
        let source = Source::open(&path).unwrap();
        // Gaps, zeros within and at the ends of extents, and a page whose first half nobody may see.
        let (mut kept, zero) = (bitmap(&[(0, 9), (12, 30), (50, 62)]), bitmap(&[(3, 4), (28, 30), (50, 51)]));
        let masked = source::Masked { start: (1 << 20) + 5 * PAGE, end: (1 << 20) + 5 * PAGE + PAGE / 2, fill: b'X' };
        let mask = Mask::new(vec![masked]);
        let mut held = source::Notes::default();
        held.push(b"VMCOREINFO", 0, b"OSRELEASE=x\n");
        let notes = OutputNotes::of_held(held.clone());
        let plan = ElfPlan::make(&kept, &zero, source.loads(), notes.len(), 12, Class::Elf64).unwrap();
        let (machine, place) = (object::elf::EM_X86_64, (plan.notes, notes.len()));
        let head = Head { class: plan.class, machine, flags: FLAG_NONE, planned: 0, notes: place };
        let front = encode_headers(&head, &plan.loads);
        kept.subtract(&zero);
        let elf = PlannedElf {
            plan: &plan,
            front: &front,
            notes: &notes,
            pages: &kept,
            source: &source,
            mask: &mask,
            page_shift: 12,
        };

        let mut expected = vec![0; plan.size as usize];
        expected[..front.len()].copy_from_slice(&front);
        expected[plan.notes as usize..][..held.held().len()].copy_from_slice(held.held());
        for pfn in (256..256 + 64).filter(|pfn| kept.get(*pfn)) {
            let at = plan.offset_of(pfn, 12).unwrap() as usize;
            expected[at..at + PAGE as usize].copy_from_slice(&memory[((pfn - 256) * PAGE) as usize..][..PAGE as usize]);
            if pfn == 256 + 5 {
                expected[at..at + PAGE as usize / 2].fill(b'X');
            }
        }
        let mut reader = elf.reader();
        assert!(reader.read(0, expected.len()).unwrap() == expected);
        for len in [1, 7, 4095, 4096, 4097, 70_000] {
            for start in (0..expected.len() - len).step_by(1361) {
                assert!(reader.read(start as u64, len).unwrap() == &expected[start..start + len], "{start} {len}");
            }
        }
        assert_eq!(reader.read(elf.size() - 5, 6), Err(StoreError::Truncated(5)));
        assert_eq!(reader.read(u64::MAX, 1), Err(StoreError::Truncated(0)));
    }

    #[test]
    fn a_page_that_is_lost_is_no_zeros() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("core");
        dump(&path);
        let source = Source::open(&path).unwrap();
        // The file is cut while it is read.
        fs::File::options().write(true).open(&path).unwrap().set_len(63 * PAGE).unwrap();
        let kept = bitmap(&[(60, 64)]);
        let plan = ElfPlan::make(&kept, &bitmap(&[]), source.loads(), 0, 12, Class::Elf64).unwrap();
        let (notes, mask) = (OutputNotes::default(), Mask::default());
        let elf = PlannedElf {
            plan: &plan,
            front: &[],
            notes: &notes,
            pages: &kept,
            source: &source,
            mask: &mask,
            page_shift: 12,
        };
        let at = plan.offset_of(256 + 62, 12).unwrap();
        assert!(elf.reader().read(at - PAGE, PAGE as usize).is_ok());
        let error = elf.reader().read(at - 1, 2).unwrap_err().to_string();
        assert!(error.starts_with("page 0x13e: "), "{error}");
        let (mut seen, mut room) = (Vec::new(), vec![0; 3 * PAGE as usize]);
        elf.stretches().fill(at - PAGE / 2, &mut room, &mut |pfn, got| seen.push((pfn - 256, got.is_ok())));
        assert_eq!(seen, [(62, false), (63, false)], "the page before begins outside");
    }
}
