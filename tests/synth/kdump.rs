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
    /// What was erased on purpose, as makedumpfile lists it.
    pub erased: &'static str,
    /// One bitmap, as the oldest writers had.
    pub one_plane: bool,
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

fn note(name: &str, desc: &[u8]) -> Vec<u8> {
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
            erased: "",
            one_plane: false,
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
        let info_note = note("VMCOREINFO", self.info.as_bytes());
        let has_info = self.version >= 3 && !self.info.is_empty();
        let mut notes = self.notes.clone();
        if has_info && self.version >= 4 {
            notes.extend(&info_note);
        }
        // Version 3 has the text alone.
        let area = if self.version == 3 { self.info.clone().into_bytes() } else { notes };
        let area = if has_info { area } else { Vec::new() };
        let needs = if self.sub_blocks == 0 { 0 } else { (104 + area.len()).div_ceil(block) as u64 };
        let sub_blocks = self.sub_blocks.max(needs);
        let plane = (self.max_mapnr.div_ceil(8).div_ceil(self.block) * self.block) as usize;
        let planes = if self.one_plane { 1 } else { 2 };
        let bitmap1 = block * (1 + sub_blocks as usize);
        let bitmap2 = bitmap1 + plane * (planes - 1);
        let descs = bitmap1 + plane * planes;
        let own: Vec<_> = self.pages.iter().filter(|(p, _)| self.part.as_ref().is_none_or(|r| r.contains(p))).collect();
        let data = descs + 24 * self.pages.len();
        put(&mut bytes, data, b"padding");

        put(&mut bytes, 0, &self.signature);
        put(&mut bytes, 8, &self.version.to_le_bytes());
        for (n, text) in
            ["Linux", "synthetic-host", "5.14.0-synthetic", "#1 SMP", self.machine, "(none)"].iter().enumerate()
        {
            put(&mut bytes, 12 + n * 65, text.as_bytes());
        }
        put(&mut bytes, 408, &self.tv_sec.to_le_bytes());
        let frames = self.max_mapnr.min(u64::from(u32::MAX)) as u32;
        let words =
            [self.status, block as u32, sub_blocks as u32, (plane * planes / block) as u32, frames, 0, 0, 0, 0, 2];
        for (n, word) in words.iter().enumerate() {
            put(&mut bytes, 424 + n * 4, &word.to_le_bytes());
        }
        if self.sub_blocks > 0 && self.version > 0 {
            let garbage = 0xdead_beef_dead_beefu64;
            let at = block as u64 + 104;
            let range = self.part.clone().unwrap_or(0..0);
            let split = u64::from(self.part.is_some()) << 32;
            let info_at = if self.version == 3 {
                at
            } else {
                at + area.len().saturating_sub(self.info.len().next_multiple_of(4)) as u64
            };
            let fields = [
                (1, self.phys_base),
                (1, u64::from(self.level) | split),
                (2, range.start),
                (2, range.end),
                (3, info_at),
                (3, self.info.len() as u64),
                (4, at),
                (4, area.len() as u64),
                (5, 0),
                (5, 0),
                (6, range.start),
                (6, range.end),
                (6, self.max_mapnr),
            ];
            for (n, (since, value)) in fields.iter().enumerate() {
                // What an old writer's file has there is anything.
                let value = if self.version >= *since { *value } else { garbage };
                put(&mut bytes, block + n * 8, &value.to_le_bytes());
            }
            put(&mut bytes, block + 104, &area);
        }
        for pfn in self.pages.keys().chain(&self.excluded) {
            bytes[bitmap1 + (pfn / 8) as usize] |= 1 << (pfn % 8);
        }
        for pfn in self.pages.keys() {
            bytes[bitmap2 + (pfn / 8) as usize] |= 1 << (pfn % 8);
        }
        for (n, (_, (page, way))) in own.into_iter().enumerate() {
            let at = bytes.len() as u64;
            let (stored, flags) = store(page, *way);
            let (offset, size) = match way {
                Stored::Lost => (0, 0),
                Stored::Outside => (1 << 40, stored.len() as u32),
                Stored::TooLarge => (at, block as u32 + 1),
                _ => (at, stored.len() as u32),
            };
            bytes.extend(stored);
            let desc = descs + n * 24;
            put(&mut bytes, desc, &offset.to_le_bytes());
            put(&mut bytes, desc + 8, &size.to_le_bytes());
            put(&mut bytes, desc + 12, &u32::to_le_bytes(flags));
        }
        if !self.erased.is_empty() {
            let at = bytes.len() as u64;
            bytes.extend(self.erased.as_bytes());
            put(&mut bytes, block + 64, &at.to_le_bytes());
            put(&mut bytes, block + 72, &(self.erased.len() as u64).to_le_bytes());
        }
        (bytes, Areas { notes: block + 104, bitmap1, bitmap2, descs, data })
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
        Stored::Broken => {
            let whole = zlib();
            (whole[..whole.len() / 2].to_vec(), 1)
        }
    }
}
