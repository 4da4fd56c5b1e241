//! One worker's job where the output is a stream: take a stretch of the planned ELF core, and compress it as one frame.
//!
//! Must not know where the frames go: they go to a sink through the caller.

use super::{Fate, Packed, PackedPage};
use crate::{
    codec::{Compression, frame::FrameCoder},
    plan::{FRAME, PlannedElf, Stretches},
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

/// A worker's state: its reader, its coder and room for a frame.
pub struct FramePacker<'a> {
    stretches: Stretches<'a>,
    size: u64,
    coder: Result<FrameCoder, String>,
    plain: Vec<u8>,
}

impl<'a> FramePacker<'a> {
    /// Makes a worker.
    #[must_use]
    pub fn new(elf: PlannedElf<'a>, compression: Compression) -> Self {
        let coder = FrameCoder::new(compression).map_err(|error| error.to_string());
        Self { stretches: elf.stretches(), size: elf.plan.size, coder, plain: Vec::new() }
    }

    /// Makes frame `index` of the file; what `out` held is forgotten.
    pub fn pack(&mut self, index: u64, out: &mut PackedFrame) {
        let start = index * FRAME;
        let end = (start + FRAME).min(self.size);
        out.pages.clear();
        out.data.clear();
        out.fault = None;
        self.plain.clear();
        self.plain.resize((end - start) as usize, 0);
        self.stretches.fill(start, &mut self.plain, &mut |pfn, got| {
            let fate = got.map_or_else(Fate::Lost, |()| Fate::Stored { len: 0, flags: 0 });
            out.pages.push(PackedPage { pfn, fate });
        });
        out.plain = self.plain.len() as u32;
        let packed = match &mut self.coder {
            Ok(coder) => coder.compress(&self.plain, &mut out.data).map_err(|error| error.to_string()),
            Err(cause) => Err(cause.clone()),
        };
        out.fault = packed.err();
    }
}
