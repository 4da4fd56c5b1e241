//! What lies in front of a kdump file's descriptors: headers, notes, and the two bitmaps of frames.
//!
//! Knows their bytes, in order of offset. Must not know whether they go to a file or a pipe.

use vdump_filters::{DumpLevel, PfnRange};
use zerocopy::{FromZeros as _, IntoBytes as _};

use crate::{
    bitmap::PageBitmap,
    error::{Error, Kind, Result},
    format::diskdump::{Areas, Header, SIGNATURE, STATUS_INCOMPLETE, SubHeader, UTS_LEN, VERSION},
    pipeline::is_zero,
    source::OutputNotes,
};

/// What goes into the headers.
#[derive(Clone, Debug)]
pub struct KdumpFacts<'a> {
    /// The crashed kernel's identity: sysname, nodename, release, version, machine, domainname.
    pub utsname: [[u8; UTS_LEN]; 6],
    /// When it crashed, seconds since 1970; 0 if unknown.
    pub crash_time: u64,
    /// Physical minus link address of its image.
    pub phys_base: u64,
    /// The dump level.
    pub level: DumpLevel,
    /// `status` bits of the codec.
    pub codec_flags: u32,
    /// CPUs with saved registers.
    pub cpus: u32,
    /// All notes.
    pub notes: OutputNotes<'a>,
    /// Offset and length of the VMCOREINFO text in the notes.
    pub vmcoreinfo: Option<(u64, u64)>,
    /// makedumpfile's list of what was erased on purpose; it goes behind the notes.
    pub erased: Vec<u8>,
    /// Whether pages are missing because the input ends early: readers are to say so of the output too.
    pub partial: bool,
}

/// Written at a time where the bitmap is made from something smaller.
const CHUNK_PFNS: u64 = 8 << 20;
/// Zeros of this length at least are not written, bytes.
const HOLE: usize = 64 << 10;

/// Where everything goes, with descriptors for `stored` of the frames of `dumped`.
pub(super) fn areas(page_size: u64, facts: &KdumpFacts<'_>, dumped: &PageBitmap, stored: u64) -> Result<Areas> {
    let notes = facts.notes.len() + facts.erased.len() as u64;
    let areas = Areas::place(page_size, notes, dumped.len(), stored);
    areas.ok_or_else(|| {
        Error::new(Kind::Output, "the dump's tables would not fit the kdump format")
            .next_step("write an ELF dump instead: -f elf")
    })
}

/// Hands everything to `put`, in order of offset; what is not handed over is zeros. `part`: the frames of one part of a
/// split set, which has both bitmaps whole.
pub(super) fn write(
    areas: &Areas,
    header: &Header,
    facts: &KdumpFacts<'_>,
    part: Option<PfnRange>,
    ram: impl Iterator<Item = PfnRange>,
    dumped: &PageBitmap,
    mut put: impl FnMut(&[u8], u64) -> Result<()>,
) -> Result<()> {
    put(header.as_bytes(), 0)?;
    // Who puts a set together puts its parts' lists together.
    let erased: &[u8] = if part.is_some_and(|part| part.start > 0) { &[] } else { &facts.erased };
    let mut sub = sub_header(facts, areas, part, dumped.len());
    let behind_notes = areas.notes + facts.notes.len();
    if !erased.is_empty() {
        (sub.offset_eraseinfo, sub.size_eraseinfo) = (behind_notes.into(), (erased.len() as u64).into());
    }
    put(sub.as_bytes(), areas.block_size)?;
    facts.notes.each(&mut |bytes, place| put(bytes, areas.notes + place))?;
    put(erased, behind_notes)?;
    write_ram(ram, dumped.len(), areas.bitmap1, &mut put)?;
    write_bits(dumped, dumped.len(), areas.bitmap2, &mut put)
}

type Put<'a> = &'a mut dyn FnMut(&[u8], u64) -> Result<()>;

/// The bitmap of existing frames, written in parts: it is never held as a whole.
fn write_ram(ram: impl Iterator<Item = PfnRange>, frames: u64, offset: u64, put: Put<'_>) -> Result<()> {
    let mut part = PageBitmap::new(CHUNK_PFNS.min(frames));
    let mut start = 0;
    for mut range in ram {
        while !range.is_empty() {
            let here = range.intersect(PfnRange::new(start, start + part.len()));
            if here.is_empty() {
                write_bits(&part, frames - start, offset + start / 8, put)?;
                part.fill(PfnRange::new(0, part.len()), false);
                start += part.len();
                continue;
            }
            part.fill(PfnRange::new(here.start - start, here.end - start), true);
            range.start = here.end;
        }
    }
    write_bits(&part, frames - start, offset + start / 8, put)
}

/// Writes the first `frames` bits of a bitmap. What is all zeros stays out: most of a sparse machine's bitmaps is.
fn write_bits(bitmap: &PageBitmap, frames: u64, offset: u64, put: Put<'_>) -> Result<()> {
    let bytes = bitmap.as_bytes();
    let bytes = &bytes[..bytes.len().min(frames.div_ceil(8) as usize)];
    for (block, at) in bytes.chunks(HOLE).zip((offset..).step_by(HOLE)) {
        if !is_zero(block) {
            put(block, at)?;
        }
    }
    Ok(())
}

/// The header, marked if the dump is incomplete or its input was.
pub(super) fn header(facts: &KdumpFacts<'_>, areas: &Areas, max_pfn: u64, incomplete: bool) -> Header {
    let mut header = Header::new_zeroed();
    header.signature = SIGNATURE;
    header.header_version = VERSION.into();
    header.utsname = facts.utsname;
    header.tv_sec = facts.crash_time.into();
    let mark = if incomplete || facts.partial { STATUS_INCOMPLETE } else { 0 };
    header.status = (facts.codec_flags | mark).into();
    header.block_size = (areas.block_size as u32).into();
    header.sub_hdr_size = areas.sub_hdr_blocks().into();
    header.bitmap_blocks = areas.bitmap_blocks().into();
    header.max_mapnr = u32::try_from(max_pfn).unwrap_or(u32::MAX).into();
    header.nr_cpus = facts.cpus.max(1).into();
    header
}

fn sub_header(facts: &KdumpFacts<'_>, areas: &Areas, part: Option<PfnRange>, max_pfn: u64) -> SubHeader {
    let (start, end) = part.map_or((0, 0), |part| (part.start, part.end));
    let (vmcoreinfo, vmcoreinfo_len) = match facts.vmcoreinfo {
        Some((offset, len)) => (areas.notes + offset, len),
        None => (0, 0),
    };
    SubHeader {
        phys_base: facts.phys_base.into(),
        dump_level: u32::from(facts.level.bits()).into(),
        split: u32::from(part.is_some()).into(),
        start_pfn: start.into(),
        end_pfn: end.into(),
        offset_vmcoreinfo: vmcoreinfo.into(),
        size_vmcoreinfo: vmcoreinfo_len.into(),
        offset_note: areas.notes.into(),
        size_note: facts.notes.len().into(),
        start_pfn_64: start.into(),
        end_pfn_64: end.into(),
        max_mapnr_64: max_pfn.into(),
        ..SubHeader::default()
    }
}
