//! Reads kdump-compressed files (version 6, pages of any size) and lists which writer rules they break.
//!
//! Knows offsets as measured on files of others. Must not know levels or classes.

use std::collections::{BTreeSet, HashMap};
use std::ops::Range;
use std::path::Path;

use super::{PAGE, int};

pub const ZLIB: u32 = 0x1;
pub const LZO: u32 = 0x2;
pub const SNAPPY: u32 = 0x4;
pub const ZSTD: u32 = 0x20;
pub const INCOMPLETE: u64 = 0x8;

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Desc {
    pub offset: u64,
    pub size: u32,
    pub flags: u32,
    pub page_flags: u64,
}

pub struct Kdump {
    pub bytes: Vec<u8>,
    ram: BTreeSet<u64>,
    kept: BTreeSet<u64>,
    rank: HashMap<u64, usize>,
}

/// Fields of the two headers by name: (offset in the file, width).
const FIELDS: [(&str, usize, usize); 24] = [
    ("version", 8, 4),
    ("tv_sec", 408, 8),
    ("tv_usec", 416, 8),
    ("status", 424, 4),
    ("block_size", 428, 4),
    ("sub_hdr_size", 432, 4),
    ("bitmap_blocks", 436, 4),
    ("max_mapnr", 440, 4),
    ("current_cpu", 456, 4),
    ("nr_cpus", 460, 4),
    ("phys_base", 4096, 8),
    ("dump_level", 4104, 4),
    ("split", 4108, 4),
    ("start_pfn", 4112, 8),
    ("end_pfn", 4120, 8),
    ("offset_vmcoreinfo", 4128, 8),
    ("size_vmcoreinfo", 4136, 8),
    ("offset_note", 4144, 8),
    ("size_note", 4152, 8),
    ("offset_eraseinfo", 4160, 8),
    ("size_eraseinfo", 4168, 8),
    ("start_pfn_64", 4176, 8),
    ("end_pfn_64", 4184, 8),
    ("max_mapnr_64", 4192, 8),
];

impl Kdump {
    pub fn open(path: &Path) -> Kdump {
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert_eq!(&bytes[..8], b"KDUMP   ", "signature");
        let mut dump = Kdump { bytes, ram: BTreeSet::new(), kept: BTreeSet::new(), rank: HashMap::new() };
        dump.ram = dump.bitmap(0);
        dump.kept = dump.bitmap(1);
        // A part of a split set has descriptors of its own frames, counted from its first one.
        let own = dump.own();
        dump.rank = dump.kept.range(own).enumerate().map(|(n, pfn)| (*pfn, n)).collect();
        dump
    }

    pub fn field(&self, name: &str) -> u64 {
        let (_, at, width) = FIELDS.iter().find(|f| f.0 == name).unwrap_or_else(|| panic!("no field {name}"));
        // The sub header is the second block, whatever their size.
        let at = if *at < PAGE { *at } else { at - PAGE + self.block() };
        int(&self.bytes, at, *width)
    }

    /// Size of a page.
    pub fn block(&self) -> usize {
        int(&self.bytes, 428, 4) as usize
    }

    /// The frames whose pages are in this file.
    pub fn own(&self) -> Range<u64> {
        if self.field("split") == 0 {
            return 0..u64::MAX;
        }
        self.field("start_pfn_64")..self.field("end_pfn_64")
    }

    /// The erased data's list.
    pub fn erased(&self) -> &[u8] {
        let at = self.field("offset_eraseinfo") as usize;
        &self.bytes[at..at + self.field("size_eraseinfo") as usize]
    }

    pub fn uts(&self) -> Vec<String> {
        let fields = self.bytes[12..12 + 6 * 65].chunks(65);
        fields.map(|f| String::from_utf8_lossy(f).trim_end_matches('\0').to_owned()).collect()
    }

    fn bitmap_at(&self) -> usize {
        ((1 + self.field("sub_hdr_size")) * self.field("block_size")) as usize
    }

    fn bitmap_len(&self) -> usize {
        (self.field("bitmap_blocks") * self.field("block_size")) as usize / 2
    }

    fn bitmap(&self, which: usize) -> BTreeSet<u64> {
        let at = self.bitmap_at() + which * self.bitmap_len();
        let bytes = &self.bytes[at..at + self.bitmap_len()];
        let mut pfns = BTreeSet::new();
        // Most of a bitmap is empty: whole blocks of it are skipped at once.
        for (n, block) in (0u64..).zip(bytes.chunks(PAGE)).filter(|(_, block)| **block != [0; PAGE]) {
            for (byte, at) in block.iter().zip((n * PAGE as u64..).map(|byte| byte * 8)) {
                pfns.extend((0..8).filter(|bit| byte >> bit & 1 == 1).map(|bit| at + bit));
            }
        }
        pfns
    }

    /// PFNs of bitmap 1: memory that exists.
    pub fn ram(&self) -> BTreeSet<u64> {
        self.ram.clone()
    }

    /// PFNs of bitmap 2: pages that were to be in the dump.
    pub fn bits(&self) -> BTreeSet<u64> {
        self.kept.clone()
    }

    /// Those of them that are in it: lost ones have an empty descriptor.
    pub fn kept(&self) -> BTreeSet<u64> {
        let lost = |pfn: &u64| self.desc(*pfn).is_some_and(|desc| desc.offset == 0);
        self.kept.iter().copied().filter(|pfn| !lost(pfn)).collect()
    }

    fn descs_at(&self) -> usize {
        self.bitmap_at() + 2 * self.bitmap_len()
    }

    pub fn desc(&self, pfn: u64) -> Option<Desc> {
        let at = self.descs_at() + self.rank.get(&pfn)? * 24;
        let word = |from, width| int(&self.bytes, at + from, width);
        Some(Desc { offset: word(0, 8), size: word(8, 4) as u32, flags: word(12, 4) as u32, page_flags: word(16, 8) })
    }

    /// The page's bytes; `Err` says what a reader would choke on.
    pub fn page(&self, pfn: u64) -> Result<Vec<u8>, String> {
        let desc = self.desc(pfn).ok_or("not in the dump")?;
        if desc.offset == 0 {
            return Err("lost: descriptor without data".into());
        }
        let (from, size) = (desc.offset as usize, desc.size as usize);
        let stored = self.bytes.get(from..from + size).ok_or(format!("{desc:?} lies outside the file"))?;
        let page = decode(stored, desc.flags, self.block()).map_err(|e| format!("{desc:?}: {e}"))?;
        if page.len() == self.block() { Ok(page) } else { Err(format!("{desc:?} decodes to {} bytes", page.len())) }
    }

    pub fn notes(&self) -> &[u8] {
        let at = self.field("offset_note") as usize;
        &self.bytes[at..at + self.field("size_note") as usize]
    }

    pub fn vmcoreinfo(&self) -> &[u8] {
        let at = self.field("offset_vmcoreinfo") as usize;
        &self.bytes[at..at + self.field("size_vmcoreinfo") as usize]
    }

    /// What readers of this format would refuse or misread; empty if the file is sound.
    pub fn faults(&self) -> Vec<String> {
        self.faults_of("x86_64", PAGE)
    }

    /// The same for a dump of this machine with pages of this size.
    pub fn faults_of(&self, machine: &str, page: usize) -> Vec<String> {
        let mut faults = Vec::new();
        let mut must = |holds: bool, what: &str| {
            if !holds {
                faults.push(what.to_owned());
            }
        };
        let f = |name| self.field(name);
        let bits = self.bitmap_len() as u64 * 8;
        must(f("version") == 6, "header_version is not 6");
        must(f("tv_usec") == 0, "tv_usec is not 0: libkdumpfile may take the file for a 32-bit one");
        must(f("block_size") == page as u64, "block_size is not the page size");
        must(((1 + f("sub_hdr_size")) * f("block_size")).is_multiple_of(65536), "bitmap not at a multiple of 64 KiB");
        must(f("bitmap_blocks").is_multiple_of(2), "bitmap_blocks is odd");
        let blocks = f("max_mapnr_64").div_ceil(8).div_ceil(f("block_size"));
        must(f("bitmap_blocks") == 2 * blocks, "bitmap_blocks is not what max_mapnr needs");
        must(f("max_mapnr_64") <= bits, "bitmap shorter than max_mapnr");
        must(f("max_mapnr") == f("max_mapnr_64").min(u64::from(u32::MAX)), "max_mapnr differs from max_mapnr_64");
        must(f("nr_cpus") > 0, "nr_cpus is 0");
        let erased = f("offset_eraseinfo")..f("offset_eraseinfo") + f("size_eraseinfo");
        must((erased.start == 0) == erased.is_empty(), "eraseinfo of nothing");
        let room = f("offset_note") + f("size_note")..self.bitmap_at() as u64;
        must(
            erased.is_empty() || room.start <= erased.start && erased.end <= room.end,
            "eraseinfo lies in other things",
        );
        must(self.uts().iter().all(|u| !u.is_empty()), "an empty utsname field");
        must(self.uts()[4] == machine, &format!("utsname.machine is not {machine}"));
        must(f("offset_note") + f("size_note") <= self.bitmap_at() as u64, "notes reach into the bitmaps");
        must(self.kept.last().is_none_or(|p| *p < f("max_mapnr_64")), "a bit above max_mapnr");
        must(self.ram().is_superset(&self.kept()), "a kept page that is no memory");
        let data_at = (self.descs_at() + 24 * self.rank.len()) as u64;
        let zero = self.bytes.len() as u64;
        for pfn in &self.kept {
            let Some(d) = self.desc(*pfn) else { continue };
            if f("status") & INCOMPLETE != 0 && (d.offset, d.size, d.flags) == (0, 0, 0) {
                continue;
            }
            let known = [0, ZLIB, LZO, SNAPPY, ZSTD].contains(&d.flags);
            must(known, &format!("page {pfn:#x}: unknown flags {:#x}", d.flags));
            must(d.size as usize <= page, &format!("page {pfn:#x}: larger than a page"));
            must(
                (d.flags == 0) == (d.size as usize == page),
                &format!("page {pfn:#x}: {d:?} not raw exactly when full"),
            );
            must(
                d.offset >= data_at && d.offset + u64::from(d.size) <= zero,
                &format!("page {pfn:#x}: {d:?} misplaced"),
            );
        }
        faults
    }
}

/// What readers of a split set ask of its parts, which are given in order.
pub fn set_faults(parts: &[Kdump]) -> Vec<String> {
    let mut faults: Vec<String> = parts.iter().flat_map(Kdump::faults).collect();
    let (first, last) = (&parts[0], &parts[parts.len() - 1]);
    let mut at = 0;
    for (n, part) in parts.iter().enumerate() {
        let f = |name| part.field(name);
        let mut must = |holds: bool, what: &str| {
            if !holds {
                faults.push(format!("part {n}: {what}"));
            }
        };
        must(f("split") == 1, "split is not 1");
        must(part.bytes[..464] == first.bytes[..464], "another header");
        must(part.ram == first.ram && part.kept == first.kept, "other bitmaps");
        must(f("offset_note") == first.field("offset_note"), "notes at another offset");
        must(part.notes() == first.notes() && part.vmcoreinfo() == first.vmcoreinfo(), "other notes");
        must((f("start_pfn"), f("end_pfn")) == (f("start_pfn_64"), f("end_pfn_64")), "two opinions about its frames");
        must(f("start_pfn_64") == at && at.is_multiple_of(64), "does not begin where the one before ends, at a word");
        must(f("start_pfn_64") < f("end_pfn_64"), "has no frames");
        at = f("end_pfn_64");
    }
    if at != last.field("max_mapnr_64") {
        faults.push("the last part ends too early".to_owned());
    }
    faults
}

fn decode(stored: &[u8], flags: u32, size: usize) -> Result<Vec<u8>, String> {
    match flags {
        0 => Ok(stored.to_vec()),
        ZLIB => {
            let mut page = vec![0; size];
            let n = libdeflater::Decompressor::new().zlib_decompress(stored, &mut page).map_err(|e| e.to_string())?;
            page.truncate(n);
            Ok(page)
        }
        LZO => lzokay_native::decompress_all(stored, Some(size)).map_err(|e| format!("{e:?}")),
        SNAPPY => snap::raw::Decoder::new().decompress_vec(stored).map_err(|e| e.to_string()),
        ZSTD => zstd::bulk::decompress(stored, size + 1).map_err(|e| e.to_string()),
        _ => Err("unknown codec".into()),
    }
}
