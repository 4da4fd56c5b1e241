//! kdump-compressed dumps, whole or in parts: what makedumpfile, QEMU and this program write.
//!
//! Knows how headers, bitmaps and descriptors make memory. Must not know what the kernel put in it. Makes a `Source`.

mod header;
mod notes;
mod pages;
mod planes;
mod set;

use object::elf::{EM_386, EM_AARCH64, EM_ARM, EM_NONE, EM_PPC64, EM_RISCV, EM_S390, EM_X86_64, Machine};

use super::{RamMap, store::Store};
use crate::{
    error::Result,
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
    pub(super) machine: Machine,
    pub(super) store: Box<dyn Store>,
    /// The dumped frames; offsets are into `store`.
    pub(super) ram: RamMap,
    /// The frames that exist.
    pub(super) existing: RamMap,
    pub(super) notes: Vec<u8>,
    pub(super) recorded: Recorded,
}

/// Opens one dump that lies in `files`, given in any order.
pub(super) fn open(files: Vec<File>) -> Result<Kdump> {
    let parts = set::parts(files)?;
    // The set is never empty; every part has all of this, byte for byte.
    let first = parts.first().ok_or_else(|| crate::error::Error::input("no dump was named"))?;
    let planes = planes::read(first)?;
    let notes = notes::read(first)?;
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
        excluded: planes.excluded,
    };
    let (machine, status) = (machine(&recorded.utsname[4]), head.header.status.get());
    let pages = Pages { page_shift: head.page_shift, shares: shares(parts, &planes.dumped) };
    // Old writers did not set the header's flags.
    recorded.codec_flags = (status | pages.sample_flags()) & ALL_CODECS;
    recorded.codecs = codecs(recorded.codec_flags);
    let (ram, existing) = (planes.dumped, planes.existing);
    Ok(Kdump { machine, store: Box::new(pages), ram, existing, notes, recorded })
}

/// Each part has the descriptors of its own frames only, counted from its first one.
fn shares(parts: Vec<Part>, dumped: &RamMap) -> Vec<Share> {
    let mut from = 0;
    let mut shares = Vec::with_capacity(parts.len());
    for Part { file, head, frames } in parts {
        let to = dumped_below(dumped, frames.end << head.page_shift, head.page_shift);
        shares.push(Share { file, pages: from..to, descs: head.descs() });
        from = to;
    }
    shares
}

/// How many dumped pages lie below `paddr`.
fn dumped_below(dumped: &RamMap, paddr: u64, page_shift: u32) -> u64 {
    let pieces = dumped.pieces();
    let above = pieces.partition_point(|piece| piece.paddr < paddr);
    let Some(last) = above.checked_sub(1).and_then(|index| pieces.get(index)) else {
        return 0;
    };
    (last.offset.unwrap_or(0) + last.len.min(paddr - last.paddr)) >> page_shift
}

const CODECS: [(u32, &str); 4] =
    [(flags::ZLIB, "zlib"), (flags::LZO, "lzo"), (flags::SNAPPY, "snappy"), (flags::ZSTD, "zstd")];
const ALL_CODECS: u32 = flags::ZLIB | flags::LZO | flags::SNAPPY | flags::ZSTD;

fn codecs(flags: u32) -> Vec<&'static str> {
    CODECS.iter().filter(|(flag, _)| flags & flag != 0).map(|(_, name)| *name).collect()
}

/// `e_machine` by the name that the kernel has for it.
fn machine(name: &[u8]) -> Machine {
    match header::machine_name(name) {
        b"x86_64" => EM_X86_64,
        b"i386" | b"i486" | b"i586" | b"i686" => EM_386,
        b"aarch64" => EM_AARCH64,
        name if name.starts_with(b"armv") => EM_ARM,
        b"ppc64" | b"ppc64le" => EM_PPC64,
        b"riscv64" => EM_RISCV,
        b"s390x" => EM_S390,
        _ => EM_NONE,
    }
}

impl Recorded {
    /// The codecs in words.
    #[must_use]
    pub fn compression(&self) -> String {
        if self.codecs.is_empty() { "not compressed".to_owned() } else { self.codecs.join(" and ") }
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
