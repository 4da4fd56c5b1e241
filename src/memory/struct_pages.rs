//! Reading struct pages in blocks.
//!
//! Knows how to gather the map's pages, mapped in pieces of 2 MiB or of 4 KiB. Must not know what they hold. The bytes go to
//! `classify`.

use vdump_filters::{Pfn, PfnRange};

use super::{MemMap, VirtReader};
use crate::{
    layout::KernelLayout,
    source::{MAX_READ, RamMap},
};

/// One thread's reader of struct pages.
#[derive(Debug)]
pub struct StructPages<'a> {
    virt: VirtReader<'a>,
    map: &'a MemMap,
    ram: &'a RamMap,
    page_shift: u32,
    page_size: usize,
    bytes: Vec<u8>,
    valid: Vec<bool>,
}

impl<'a> StructPages<'a> {
    /// Makes a reader for the memory in `ram`, what the machine had: heads of blocks may have been left out of the dump.
    #[must_use]
    pub fn new(virt: VirtReader<'a>, map: &'a MemMap, ram: &'a RamMap, layout: &KernelLayout) -> Self {
        let (page_shift, page_size) = (layout.page_shift, layout.page.size);
        Self { virt, map, ram, page_shift, page_size, bytes: Vec::new(), valid: Vec::new() }
    }

    /// The map from frames to struct pages.
    #[must_use]
    pub fn map(&self) -> &'a MemMap {
        self.map
    }

    /// Whether the machine had memory in the frame.
    #[must_use]
    pub fn is_ram(&self, pfn: u64) -> bool {
        let paddr = Pfn(pfn).paddr(self.page_shift);
        self.ram.overlapping(paddr, paddr.saturating_add(1 << self.page_shift)).next().is_some()
    }

    /// Whether the map has struct pages for any frame of `range`.
    #[must_use]
    pub fn exist(&self, range: PfnRange) -> bool {
        self.map.parts(range).any(|(_, place)| place.is_ok())
    }

    /// Says for each frame of `range` whether the machine had memory in it.
    pub fn present(&self, range: PfnRange, present: &mut Vec<bool>) {
        present.clear();
        present.resize(range.len() as usize, false);
        let (start, end) = (Pfn(range.start).paddr(self.page_shift), Pfn(range.end).paddr(self.page_shift));
        for piece in self.ram.overlapping(start, end) {
            let (first, last) = (piece.paddr >> self.page_shift, (piece.end() - 1) >> self.page_shift);
            let part = PfnRange::new(first, last + 1).intersect(range);
            present[(part.start - range.start) as usize..(part.end - range.start) as usize].fill(true);
        }
    }

    /// Hands over the struct pages of `range`, and for each of them whether it could be read.
    pub fn read<R>(&mut self, range: PfnRange, look: impl FnOnce(&[u8], &[bool]) -> R) -> R {
        let count = range.len() as usize;
        self.valid.clear();
        // Most blocks lie in one piece: these are looked at where the reader has them.
        if let Some(paddr) = self.in_one_piece(range) {
            self.valid.resize(count, true);
            if let Ok(bytes) = self.virt.phys(paddr, count * self.page_size) {
                return look(bytes, &self.valid);
            }
            self.valid.clear();
        }
        self.valid.resize(count, false);
        self.bytes.clear();
        self.bytes.resize(count * self.page_size, 0);
        for (part, place) in self.map.parts(range) {
            if let Ok(vaddr) = place {
                self.fill(range.start, part, vaddr);
            }
        }
        look(&self.bytes, &self.valid)
    }

    /// Where the struct pages of `range` lie, if they follow one another in physical memory and can be read at once.
    fn in_one_piece(&self, range: PfnRange) -> Option<u64> {
        let (part, place) = self.map.parts(range).next()?;
        let len = (range.len() as usize).checked_mul(self.page_size)?;
        let mapping = self.virt.translate(place.ok().filter(|_| part == range)?).ok()?;
        (len <= MAX_READ && len as u64 <= mapping.len).then_some(mapping.paddr)
    }

    fn fill(&mut self, first: u64, part: PfnRange, vaddr: u64) {
        let from = (part.start - first) as usize;
        let count = part.len() as usize;
        self.valid[from..from + count].fill(true);
        let offset = from * self.page_size;
        let mut done = 0;
        while done < count * self.page_size {
            let at = vaddr.wrapping_add(done as u64);
            let left = count * self.page_size - done;
            // To the end of the smallest page of any kernel: holes and bad spots are passed in steps of this.
            let small = left.min(4096 - (at & 4095) as usize);
            let (len, copied) = match self.virt.translate(at) {
                Ok(mapping) => {
                    let len = left.min(MAX_READ).min(usize::try_from(mapping.len).unwrap_or(MAX_READ));
                    let out = &mut self.bytes[offset + done..offset + done + len];
                    match self.virt.read_phys(mapping.paddr, out) {
                        Ok(()) => (len, true),
                        // One bad page must not cost its neighbours.
                        Err(_) if len > small => (small, self.virt.read_phys(mapping.paddr, &mut out[..small]).is_ok()),
                        Err(_) => (len, false),
                    }
                }
                Err(_) => (small, false),
            };
            if !copied {
                let lost = done / self.page_size..(done + len).div_ceil(self.page_size);
                self.valid[from..][lost].fill(false);
            }
            done += len;
        }
    }
}
