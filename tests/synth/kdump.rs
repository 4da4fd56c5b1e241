//! Kdump-compressed files of every version, sound or broken on purpose.
//!
//! Knows offsets as makedumpfile's headers have them. Must not share code with the product. Goes to the tests as bytes and
//! as the places of the parts in them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// How a page is stored.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stored {
    Raw,
    Zlib,
    Lzo,
    Snappy,
    Zstd,
    /// A descriptor without data, as in a dump that ended early.
    Lost,
    /// A descriptor that leads past the file's end.
    Outside,
    /// A descriptor with a size larger than a page.
    TooLarge,
    /// A descriptor whose flags mean nothing.
    Unknown,
    /// A zlib stream cut in the middle.
    Broken,
    /// A zstd frame of less than a page.
    Short,
    /// A snappy block of more than a page.
    Long,
}

/// Whose `struct`s the headers are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Layout {
    /// 64-bit machines.
    Wide,
    /// i386: 64-bit numbers on multiples of four.
    Packed,
    /// ARM: 64-bit numbers on multiples of eight.
    Padded,
}

/// In which order page data follows the descriptors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Order {
    Forwards,
    Backwards,
    /// Even pages first.
    Mixed,
}

#[derive(Clone, Debug)]
pub struct Spec {
    pub signature: [u8; 8],
    pub version: u32,
    pub block: u64,
    /// Blocks of the sub header; more are added if the notes need them.
    pub sub_blocks: u64,
    pub max_mapnr: u64,
    pub status: u32,
    pub machine: &'static str,
    pub tv_sec: u64,
    pub phys_base: u64,
    pub level: u32,
    pub info: String,
    /// Notes in front of VMCOREINFO's.
    pub notes: Vec<u8>,
    pub pages: BTreeMap<u64, (Vec<u8>, Stored)>,
    pub excluded: BTreeSet<u64>,
    pub part: Option<Range<u64>>,
    /// One bitmap, as the oldest writers had.
    pub one_plane: bool,
    pub layout: Layout,
    pub big_endian: bool,
    pub tv_usec: u64,
    /// What the 32-bit field has instead of `max_mapnr`.
    pub max32: Option<u32>,
    /// More blocks in each bitmap than it needs.
    pub extra_blocks: u64,
    /// Bits behind the last frame are set.
    pub junk: bool,
    pub order: Order,
    /// Pages with the same bytes have the same data.
    pub share: bool,
    /// Unused bytes in front of each page's data.
    pub gap: usize,
    /// The notes are the end of the file.
    pub notes_last: bool,
    /// What was erased on purpose, as makedumpfile lists it.
    pub eraseinfo: String,
    /// Bytes behind everything.
    pub trailing: usize,
}

/// Where the parts of a file lie.
#[derive(Clone, Copy, Debug)]
pub struct Areas {
    pub notes: usize,
    pub bitmap1: usize,
    pub bitmap2: usize,
    pub descs: usize,
    pub data: usize,
}

fn put(bytes: &mut Vec<u8>, at: usize, what: &[u8]) {
    bytes.resize(bytes.len().max(at + what.len()), 0);
    bytes[at..at + what.len()].copy_from_slice(what);
}

pub fn note(name: &str, desc: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend((name.len() as u32 + 1).to_le_bytes());
    out.extend((desc.len() as u32).to_le_bytes());
    out.extend(0u32.to_le_bytes());
    out.extend(name.as_bytes());
    out.resize(out.len().next_multiple_of(4).max(12 + (name.len() + 1).next_multiple_of(4)), 0);
    out.extend(desc);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

impl Spec {
    pub fn new(version: u32, block: u64, max_mapnr: u64) -> Spec {
        Spec {
            signature: *b"KDUMP   ",
            version,
            block,
            sub_blocks: 1,
            max_mapnr,
            status: 0,
            machine: "x86_64",
            tv_sec: 1_751_328_000,
            phys_base: 0x1234_5000,
            level: 0,
            info: format!("OSRELEASE=5.14.0-synthetic\nPAGESIZE={block}\n"),
            notes: Vec::new(),
            pages: BTreeMap::new(),
            excluded: BTreeSet::new(),
            part: None,
            one_plane: false,
            layout: Layout::Wide,
            big_endian: false,
            tv_usec: 0,
            max32: None,
            extra_blocks: 0,
            junk: false,
            order: Order::Forwards,
            share: false,
            gap: 0,
            notes_last: false,
            eraseinfo: String::new(),
            trailing: 0,
        }
    }

    /// Puts text into the pages of a range, in turns with these ways to store it.
    pub fn with_pages(mut self, pfns: Range<u64>, ways: &[Stored]) -> Spec {
        for (pfn, way) in pfns.zip(ways.iter().cycle()) {
            let text = format!("page {pfn:#x} of a synthetic dump; ").repeat(self.block as usize / 20);
            self.pages.insert(pfn, (text.as_bytes()[..self.block as usize].to_vec(), *way));
        }
        self
    }

    /// The bytes of the file, and where what lies in them.
    pub fn build(&self) -> (Vec<u8>, Areas) {
        let block = self.block as usize;
        let mut bytes = Vec::new();
        let has_info = self.version >= 3 && !self.info.is_empty();
        // Version 3 has the text alone.
        let area = match self.version {
            3 => self.info.clone().into_bytes(),
            4.. if has_info => [self.notes.clone(), note("VMCOREINFO", self.info.as_bytes())].concat(),
            4.. => self.notes.clone(),
            _ => Vec::new(),
        };
        let notes = block + self.sub_header_len();
        let needs = if self.notes_last { self.sub_header_len() } else { self.sub_header_len() + area.len() };
        let needs = if self.sub_blocks == 0 { 0 } else { needs.div_ceil(block) as u64 };
        let sub_blocks = self.sub_blocks.max(needs);
        let plane = ((self.max_mapnr.div_ceil(8).div_ceil(self.block) + self.extra_blocks) * self.block) as usize;
        let planes = if self.one_plane { 1 } else { 2 };
        let bitmap1 = block * (1 + sub_blocks as usize);
        let bitmap2 = bitmap1 + plane * (planes - 1);
        let descs = bitmap1 + plane * planes;
        let data = descs + 24 * self.pages.len();
        put(&mut bytes, data, b"padding");
        self.put_header(&mut bytes, sub_blocks, plane * planes);
        for pfn in self.pages.keys().chain(&self.excluded) {
            bytes[bitmap1 + (pfn / 8) as usize] |= 1 << (pfn % 8);
        }
        for pfn in self.pages.keys() {
            bytes[bitmap2 + (pfn / 8) as usize] |= 1 << (pfn % 8);
        }
        for bit in (self.max_mapnr as usize..plane * 8).filter(|_| self.junk) {
            bytes[bitmap1 + bit / 8] |= 1 << (bit % 8);
            bytes[bitmap2 + bit / 8] |= 1 << (bit % 8);
        }
        self.put_pages(&mut bytes, descs);
        let erase = if self.eraseinfo.is_empty() { 0 } else { bytes.len() };
        bytes.extend(self.eraseinfo.as_bytes());
        let notes = if self.notes_last { bytes.len() } else { notes };
        if self.sub_blocks > 0 && self.version > 0 {
            self.put_sub_header(&mut bytes, notes, area.len(), erase);
            put(&mut bytes, notes, &area);
        }
        bytes.extend((0..self.trailing).map(|at| (at * 7 + 1) as u8));
        (bytes, Areas { notes, bitmap1, bitmap2, descs, data })
    }

    fn sub_header_len(&self) -> usize {
        match self.layout {
            Layout::Wide => 104,
            Layout::Packed => 80,
            Layout::Padded => 96,
        }
    }

    /// A number in the order of the machine's bytes.
    fn number(&self, value: u64, width: usize) -> Vec<u8> {
        let bytes = &value.to_le_bytes()[..width];
        if self.big_endian { bytes.iter().rev().copied().collect() } else { bytes.to_vec() }
    }

    fn put_header(&self, bytes: &mut Vec<u8>, sub_blocks: u64, bitmaps: usize) {
        put(bytes, 0, &self.signature);
        put(bytes, 8, &self.number(self.version.into(), 4));
        for (n, text) in
            ["Linux", "synthetic-host", "5.14.0-synthetic", "#1 SMP", self.machine, "(none)"].iter().enumerate()
        {
            put(bytes, 12 + n * 65, text.as_bytes());
        }
        let (time, width) = if self.layout == Layout::Wide { (408, 8) } else { (404, 4) };
        put(bytes, time, &self.number(self.tv_sec, width));
        put(bytes, time + width, &self.number(self.tv_usec, width));
        let frames = self.max32.unwrap_or(self.max_mapnr.min(u64::from(u32::MAX)) as u32);
        let blocks = bitmaps as u64 / self.block;
        let words = [self.status.into(), self.block, sub_blocks, blocks, frames.into(), 0, 0, 0, 0, 2];
        for (n, word) in words.iter().enumerate() {
            put(bytes, time + 2 * width + n * 4, &self.number(*word, 4));
        }
    }

    /// `notes` and `erase` are file offsets, `len` is the size of what is there.
    fn put_sub_header(&self, bytes: &mut Vec<u8>, notes: usize, len: usize, erase: usize) {
        let range = self.part.clone().unwrap_or(0..0);
        let info_at = match self.version {
            3 => notes,
            _ => notes + len.saturating_sub(self.info.len().next_multiple_of(4)),
        };
        let info_at = if self.info.is_empty() { 0 } else { info_at };
        let notes = if len == 0 { 0 } else { notes };
        let values = [
            (1, self.phys_base),
            (1, self.level.into()),
            (1, u64::from(self.part.is_some())),
            (2, range.start),
            (2, range.end),
            (3, info_at as u64),
            (3, self.info.len() as u64),
            (4, notes as u64),
            (4, len as u64),
            (5, erase as u64),
            (5, self.eraseinfo.len() as u64),
            (6, range.start),
            (6, range.end),
            (6, self.max_mapnr),
        ];
        // Offset and width of each.
        let places: [(usize, usize); 14] = match self.layout {
            Layout::Wide => {
                let long = [16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96].map(|at| (at, 8));
                let mut all = vec![(0, 8), (8, 4), (12, 4)];
                all.extend(long);
                all.try_into().unwrap()
            }
            Layout::Packed => [
                (0, 4),
                (4, 4),
                (8, 4),
                (12, 4),
                (16, 4),
                (20, 8),
                (28, 4),
                (32, 8),
                (40, 4),
                (44, 8),
                (52, 4),
                (56, 8),
                (64, 8),
                (72, 8),
            ],
            Layout::Padded => [
                (0, 4),
                (4, 4),
                (8, 4),
                (12, 4),
                (16, 4),
                (24, 8),
                (32, 4),
                (40, 8),
                (48, 4),
                (56, 8),
                (64, 4),
                (72, 8),
                (80, 8),
                (88, 8),
            ],
        };
        for ((since, value), (at, width)) in values.into_iter().zip(places) {
            // What an old writer's file has there is anything.
            let value = if self.version >= since { value } else { 0xdead_beef_dead_beef };
            put(bytes, self.block as usize + at, &self.number(value, width));
        }
    }

    /// Descriptors from `descs` on, in order of frames, and the data at the end in its own order.
    fn put_pages(&self, bytes: &mut Vec<u8>, descs: usize) {
        let own: Vec<_> =
            self.pages.iter().filter(|(pfn, _)| self.part.as_ref().is_none_or(|part| part.contains(pfn))).collect();
        let mut order: Vec<usize> = (0..own.len()).collect();
        match self.order {
            Order::Forwards => {}
            Order::Backwards => order.reverse(),
            Order::Mixed => order.sort_by_key(|n| (n % 2, *n)),
        }
        let mut seen: BTreeMap<(Vec<u8>, u32), u64> = BTreeMap::new();
        for n in order {
            let (_, (page, way)) = own[n];
            let (stored, flags) = store(page, *way);
            let len = stored.len() as u32;
            let known = seen.get(&(stored.clone(), flags)).copied().filter(|_| self.share);
            let at = known.unwrap_or_else(|| {
                bytes.resize(bytes.len() + self.gap, 0xee);
                let at = bytes.len() as u64;
                bytes.extend(&stored);
                seen.insert((stored, flags), at);
                at
            });
            let (offset, size) = match way {
                Stored::Lost => (0, 0),
                Stored::Outside => (1 << 40, len),
                Stored::TooLarge => (at, self.block as u32 + 1),
                _ => (at, len),
            };
            let desc = descs + n * 24;
            put(bytes, desc, &self.number(offset, 8));
            put(bytes, desc + 8, &self.number(size.into(), 4));
            put(bytes, desc + 12, &self.number(flags.into(), 4));
        }
    }

    /// The same dump in parts that end at these frames.
    pub fn split(&self, ends: &[u64]) -> Vec<Vec<u8>> {
        let mut start = 0;
        let mut parts = Vec::new();
        for end in ends {
            parts.push(Spec { part: Some(start..*end), ..self.clone() }.build().0);
            start = *end;
        }
        parts
    }
}

/// What does not shrink is stored as it is, as every writer does.
fn store(page: &[u8], way: Stored) -> (Vec<u8>, u32) {
    let (stored, flags) = packed(page, way);
    if stored.len() >= page.len() && flags != 0x40 { (page.to_vec(), 0) } else { (stored, flags) }
}

fn packed(page: &[u8], way: Stored) -> (Vec<u8>, u32) {
    let zlib = || {
        let mut out = vec![0; page.len() * 2];
        let len = libdeflater::Compressor::new(libdeflater::CompressionLvl::default()).zlib_compress(page, &mut out);
        out.truncate(len.unwrap());
        out
    };
    match way {
        Stored::Raw | Stored::Outside | Stored::TooLarge | Stored::Lost => (page.to_vec(), 0),
        Stored::Unknown => (page.to_vec(), 0x40),
        Stored::Zlib => (zlib(), 1),
        Stored::Lzo => (lzokay_native::compress(page).unwrap(), 2),
        Stored::Snappy => (snap::raw::Encoder::new().compress_vec(page).unwrap(), 4),
        Stored::Zstd => (zstd::bulk::compress(page, 3).unwrap(), 0x20),
        Stored::Short => (zstd::bulk::compress(&page[..page.len() - 1], 3).unwrap(), 0x20),
        Stored::Long => (snap::raw::Encoder::new().compress_vec(&[page, b"!"].concat()).unwrap(), 4),
        Stored::Broken => {
            let whole = zlib();
            (whole[..whole.len() / 2].to_vec(), 1)
        }
    }
}
