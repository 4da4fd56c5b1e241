//! kdump-compressed dumps, whole or in parts: what makedumpfile, QEMU and this program write.
//!
//! Knows how headers, bitmaps and descriptors make memory. Must not know what the kernel put in it. Makes a `Source`.

mod bitmaps;
mod header;
mod notes;
mod pages;
mod set;

use vdump_filters::{PfnRange, ranges::Ranges};

use super::{Notes, RamMap, store::Store};
use crate::{
    arch::by_uname,
    error::{Error, Result},
    format::diskdump::{STATUS_INCOMPLETE, UTS_LEN, flags},
};

pub(super) use header::{File, is_kdump, is_part};

use pages::{Pages, Share};
use set::Part;

/// What a kdump-compressed dump's headers say about the crash and about the dump itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recorded {
    /// Header version.
    pub version: u32,
    /// Codecs of its pages, by name.
    pub codecs: Vec<&'static str>,
    /// The same as the header's bits.
    pub codec_flags: u32,
    /// Files that it lies in.
    pub parts: usize,
    /// sysname, nodename, release, version, machine, domainname of the crashed kernel.
    pub utsname: [[u8; UTS_LEN]; 6],
    /// When it crashed, seconds since 1970; 0 if unknown.
    pub crash_time: u64,
    /// Physical minus link address of the kernel image; `None` before version 1.
    pub phys_base: Option<u64>,
    /// What was dropped, as makedumpfile's sum.
    pub dump_level: u32,
    /// CPUs with saved registers.
    pub cpus: u32,
    /// The dump ended early.
    pub incomplete: bool,
    /// Some data was erased on purpose, and the file lists it.
    pub erased: bool,
    /// That list, of all parts; empty if it cannot be read.
    pub erase_info: Vec<u8>,
    /// Log2 of the page size.
    pub page_shift: u32,
    /// Frames that exist and are not in the dump.
    pub excluded: u64,
}

/// A kdump-compressed dump.
#[derive(Debug)]
pub(super) struct Kdump {
    pub(super) machine: object::elf::Machine,
    pub(super) store: Box<dyn Store>,
    /// The dumped frames; offsets are into `store`.
    pub(super) ram: RamMap,
    /// The frames that exist.
    pub(super) existing: RamMap,
    /// Parts that were not named.
    pub(super) missing: Option<Missing>,
    pub(super) notes: Notes,
    /// What is to be said about them.
    pub(super) remarks: Vec<String>,
    pub(super) recorded: Recorded,
}

/// Opens one dump that lies in `files`, given in any order.
pub(super) fn open(files: Vec<File>) -> Result<Kdump> {
    let (parts, gaps) = set::parts(files)?;
    // The set is never empty; every part has all of this, byte for byte.
    let first = parts.first().ok_or_else(|| crate::error::Error::input("no dump was named"))?;
    let mut bitmaps = bitmaps::read(first)?;
    let (notes, remarks) = notes::read(first)?;
    let head = &first.head;
    let mut recorded = Recorded {
        version: head.version(),
        codecs: Vec::new(),
        codec_flags: 0,
        parts: parts.len(),
        utsname: head.header.utsname,
        crash_time: head.header.tv_sec.get(),
        phys_base: (head.version() >= 1 && head.bitmap1 > 1 << head.page_shift).then(|| head.sub.phys_base.get()),
        dump_level: head.sub.dump_level.get(),
        cpus: head.header.nr_cpus.get(),
        incomplete: head.header.status.get() & STATUS_INCOMPLETE != 0,
        erased: parts.iter().any(|part| part.head.sub.size_eraseinfo.get() != 0),
        erase_info: notes::erase_info(&parts),
        page_shift: head.page_shift,
        excluded: bitmaps.excluded,
    };
    let (machine, status) = (by_uname(header::machine_name(&recorded.utsname[4])), head.header.status.get());
    let page_shift = head.page_shift;
    let pages = Pages { page_shift, shares: shares(parts, &bitmaps.dumped) };
    let missing = Missing::of(gaps, &mut bitmaps.dumped, page_shift);
    if bitmaps.dumped.pieces().next().is_none() {
        return Err(missing.nothing_else());
    }
    // Old writers did not set the header's flags.
    recorded.codec_flags = (status | pages.sample_flags()) & ALL_CODECS;
    recorded.codecs = codecs(recorded.codec_flags);
    let (ram, existing) = (bitmaps.dumped, bitmaps.existing);
    let missing = (missing.pages > 0).then_some(missing);
    Ok(Kdump { machine, store: Box::new(pages), ram, existing, missing, notes, remarks, recorded })
}

/// Parts of a split set that were not named.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Missing {
    /// The page frames that they had, in order; some were dumped.
    pub frames: Vec<PfnRange>,
    /// Pages that they had.
    pub pages: u64,
}

impl Missing {
    /// Takes the pages of the frames in `gaps` out of `dumped`. What is left keeps its numbers: those of its descriptors.
    fn of(gaps: Vec<PfnRange>, dumped: &mut RamMap, page_shift: u32) -> Self {
        let pages = |gap: &PfnRange| {
            let below = |pfn: u64| dumped_below(dumped, pfn << page_shift, page_shift);
            below(gap.end) - below(gap.start)
        };
        let counted: Vec<_> = gaps.into_iter().map(|gap| (gap, pages(&gap))).filter(|(_, pages)| *pages > 0).collect();
        let pages = counted.iter().map(|(_, pages)| pages).sum();
        let frames: Vec<_> = counted.into_iter().map(|(gap, _)| gap).collect();
        let ranges = frames.iter().map(|gap| gap.start << page_shift..gap.end << page_shift);
        dumped.take_out(&Ranges::new(ranges.collect()));
        Self { frames, pages }
    }

    fn nothing_else(&self) -> Error {
        Error::input("cannot use this part of a split dump alone")
            .because(format!("{self}, and the rest of the dump has no page"))
            .next_step("name all parts, in any order")
    }
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        /// As many as a line bears.
        const LISTED: usize = 4;
        let ranges = |gap: &PfnRange| format!("{:#x} to {:#x}", gap.start, gap.end - 1);
        let listed: Vec<_> = self.frames.iter().take(LISTED).map(ranges).collect();
        let more = if self.frames.len() > LISTED { " and more" } else { "" };
        write!(f, "a part of the split dump is missing: no input has page frames {}{more}: ", listed.join(", "))?;
        write!(f, "{} pages are lost", self.pages)
    }
}

/// Each part has the descriptors of its own frames only, counted from its first one.
fn shares(parts: Vec<Part>, dumped: &RamMap) -> Vec<Share> {
    let share = |Part { file, head, frames }: Part| {
        let below = |pfn: u64| dumped_below(dumped, pfn << head.page_shift, head.page_shift);
        Share { file, pages: below(frames.start)..below(frames.end), descs: head.descs() }
    };
    parts.into_iter().map(share).collect()
}

/// How many dumped pages lie below `paddr`.
fn dumped_below(dumped: &RamMap, paddr: u64, page_shift: u32) -> u64 {
    let above = dumped.overlapping(paddr, u64::MAX).next();
    let below = above.map_or(dumped.bytes(), |piece| piece.offset.unwrap_or(0) + paddr.saturating_sub(piece.paddr));
    below >> page_shift
}

const CODECS: [(u32, &str); 4] =
    [(flags::ZLIB, "zlib"), (flags::LZO, "lzo"), (flags::SNAPPY, "snappy"), (flags::ZSTD, "zstd")];
const ALL_CODECS: u32 = flags::ZLIB | flags::LZO | flags::SNAPPY | flags::ZSTD;

fn codecs(flags: u32) -> Vec<&'static str> {
    CODECS.iter().filter(|(flag, _)| flags & flag != 0).map(|(_, name)| *name).collect()
}

impl Recorded {
    /// The codecs in words.
    #[must_use]
    pub fn compression(&self) -> String {
        if self.codecs.is_empty() { "uncompressed".to_owned() } else { self.codecs.join(" and ") }
    }

    /// The format in words, for reports.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut text = format!("kdump-compressed v{}, {}", self.version, self.compression());
        if self.parts > 1 {
            text += &format!(", split into {} parts", self.parts);
        }
        if self.incomplete {
            text += ", incomplete";
        }
        text
    }
}
