//! One worker's job where the output is a stream: make a stretch of the ELF core, and compress it as one frame.
//!
//! Knows the plan of the file and how its bytes come about. Must not know where the frames go: they go to a sink through
//! the caller.

use vdump_filters::{Pfn, PfnRange};

use super::{Fate, Packed, PackedPage};
use crate::{
    bitmap::PageBitmap,
    codec::{Compression, frame::FrameCoder},
    plan::{ElfPlan, FRAME},
    source::{OutputNotes, OutputReader},
};

/// A frame after the work; reused from frame to frame.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PackedFrame {
    /// The pages whose bytes begin in it, and those that could not be read, in order.
    pub pages: Vec<PackedPage>,
    /// Its bytes, compressed.
    pub data: Vec<u8>,
    /// Its length before that.
    pub plain: u32,
    /// Why it could not be made at all.
    pub fault: Option<String>,
}

impl Packed for PackedFrame {
    fn pages(&self) -> &[PackedPage] {
        &self.pages
    }
}

/// What every worker looks at.
#[derive(Clone, Copy, Debug)]
pub struct FrameJob<'a> {
    /// Where everything goes.
    pub plan: &'a ElfPlan,
    /// The first bytes of the file: headers.
    pub front: &'a [u8],
    /// The notes, whose place the plan has.
    pub notes: &'a OutputNotes<'a>,
    /// The pages to read; the others that have room in the file are zeros.
    pub pages: &'a PageBitmap,
    /// How frames are compressed.
    pub compression: Compression,
    /// Log2 of the page size.
    pub page_shift: u32,
}

/// A worker's state: its reader, its coder and room for a frame.
pub struct FramePacker<'a> {
    job: FrameJob<'a>,
    reader: OutputReader<'a>,
    coder: Result<FrameCoder, String>,
    plain: Vec<u8>,
}

impl<'a> FramePacker<'a> {
    /// Makes a worker.
    #[must_use]
    pub fn new(job: FrameJob<'a>, reader: OutputReader<'a>) -> Self {
        let coder = FrameCoder::new(job.compression).map_err(|error| error.to_string());
        Self { job, reader, coder, plain: Vec::new() }
    }

    /// Makes frame `index` of the file; what `out` held is forgotten.
    pub fn pack(&mut self, index: u64, out: &mut PackedFrame) {
        let start = index * FRAME;
        let end = (start + FRAME).min(self.job.plan.size);
        out.pages.clear();
        out.data.clear();
        out.fault = None;
        self.plain.clear();
        self.plain.resize((end - start) as usize, 0);
        if let Some(front) = self.job.front.get(start as usize..) {
            let len = front.len().min(self.plain.len());
            self.plain[..len].copy_from_slice(&front[..len]);
        }
        self.put_notes(start, end);
        self.fill(start, end, out);
        out.plain = self.plain.len() as u32;
        let packed = match &mut self.coder {
            Ok(coder) => coder.compress(&self.plain, &mut out.data).map_err(|error| error.to_string()),
            Err(cause) => Err(cause.clone()),
        };
        out.fault = packed.err();
    }

    fn put_notes(&mut self, start: u64, end: u64) {
        let FrameJob { plan, notes, .. } = self.job;
        let (from, to) = (plan.notes.max(start), (plan.notes + notes.len()).min(end));
        if from < to {
            notes.fill(from - plan.notes, &mut self.plain[(from - start) as usize..(to - start) as usize]);
        }
    }

    fn fill(&mut self, start: u64, end: u64, out: &mut PackedFrame) {
        let FrameJob { plan, pages, page_shift, .. } = self.job;
        let first = plan.extents.partition_point(|extent| extent.offset + (extent.stored << page_shift) <= start);
        for extent in plan.extents[first..].iter().take_while(|extent| extent.offset < end) {
            let stored_end = extent.offset + (extent.stored << page_shift);
            let (from, to) = (extent.offset.max(start), stored_end.min(end));
            if from >= to {
                continue;
            }
            // Large pages may begin in the frame before.
            let frames = PfnRange::new(
                extent.range.start + ((from - extent.offset) >> page_shift),
                extent.range.start + ((to - 1 - extent.offset) >> page_shift) + 1,
            );
            for run in pages.runs_in(frames) {
                let at = |pfn| extent.offset + ((pfn - extent.range.start) << page_shift);
                let (from, to) = (at(run.start).max(start), at(run.end).min(end));
                let paddr = Pfn(run.start).paddr(page_shift) + (from - at(run.start));
                let room = &mut self.plain[(from - start) as usize..(to - start) as usize];
                if let Ok(bytes) = self.reader.read(paddr, room.len()) {
                    room.copy_from_slice(bytes);
                    let stored = Fate::Stored { len: 0, flags: 0 };
                    let mine = (run.start..run.end).filter(|pfn| at(*pfn) >= start);
                    out.pages.extend(mine.map(|pfn| PackedPage { pfn, fate: stored.clone() }));
                    continue;
                }
                for pfn in run.start..run.end {
                    let (from, to) = (at(pfn).max(start), at(pfn + 1).min(end));
                    let room = &mut self.plain[(from - start) as usize..(to - start) as usize];
                    let fate = match self.reader.read(Pfn(pfn).paddr(page_shift) + (from - at(pfn)), room.len()) {
                        Ok(bytes) => {
                            room.copy_from_slice(bytes);
                            Fate::Stored { len: 0, flags: 0 }
                        }
                        Err(error) => Fate::Lost(error.to_string()),
                    };
                    if at(pfn) >= start || matches!(fate, Fate::Lost(_)) {
                        out.pages.push(PackedPage { pfn, fate });
                    }
                }
            }
        }
    }
}
