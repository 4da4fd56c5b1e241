//! Writing kdump-compressed files.
//!
//! Knows in which order the parts must reach the disk, so that a dump that ends early opens all the same. Must not know how
//! pages were compressed. Its bytes are read by crash, drgn and libkdumpfile.

use vdump_filters::{DumpLevel, PfnRange};
use zerocopy::{FromZeros as _, IntoBytes as _};

use super::{Sink, Target, Written};
use crate::{
    bitmap::PageBitmap,
    error::{Error, Kind, Result},
    format::diskdump::{Areas, DESC_SIZE, Header, PageDesc, SIGNATURE, STATUS_INCOMPLETE, SubHeader, UTS_LEN, VERSION},
    pipeline::{Fate, PackedBatch, is_zero},
};

/// What goes into the headers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KdumpFacts {
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
    pub notes: Vec<u8>,
    /// Offset and length of the VMCOREINFO text in the notes.
    pub vmcoreinfo: Option<(usize, usize)>,
}

/// A kdump file in the making.
#[derive(Debug)]
pub struct KdumpSink {
    target: Target,
    areas: Areas,
    header: Header,
    /// Where the next descriptor goes.
    next_desc: u64,
    /// One past the descriptors' area.
    end_descs: u64,
    /// Where the next page's data goes.
    next_data: u64,
    descs: Vec<PageDesc>,
    written: Written,
}

/// Written at a time where the file is made from something smaller.
const CHUNK_PFNS: u64 = 8 << 20;
/// Zeros of this length at least are not written, bytes.
const HOLE: usize = 64 << 10;

impl KdumpSink {
    /// Writes everything in front of the page data. `ram` are the frames that exist, `dumped` those that will be committed.
    ///
    /// # Errors
    /// The device is full or fails, or the sizes leave the format's fields.
    pub fn create(
        target: Target,
        facts: &KdumpFacts,
        page_size: u64,
        ram: impl Iterator<Item = PfnRange>,
        dumped: &PageBitmap,
    ) -> Result<Self> {
        let areas = Areas::place(page_size, facts.notes.len() as u64, dumped.len(), dumped.count());
        let areas = areas.ok_or_else(|| {
            Error::new(Kind::Output, "the dump's tables would not fit the kdump format")
                .next_step("write an ELF dump instead: -f elf")
        })?;
        target.require(areas.data, "the dump's headers")?;
        let header = header(facts, &areas, dumped.len());
        let mut sink = Self {
            target,
            areas,
            header,
            next_desc: areas.descs,
            end_descs: areas.data,
            next_data: areas.data,
            descs: Vec::new(),
            written: Written::default(),
        };
        sink.write_front(facts, ram, dumped)?;
        Ok(sink)
    }

    fn write_front(
        &mut self,
        facts: &KdumpFacts,
        ram: impl Iterator<Item = PfnRange>,
        dumped: &PageBitmap,
    ) -> Result<()> {
        let Areas { block_size, notes, bitmap1, bitmap2, descs, .. } = self.areas;
        // Reserved first, so that a full disk later costs data but never the way to the data before it.
        self.target.reserve(0, self.end_descs)?;
        self.target.set_len(self.end_descs)?;
        self.target.write(self.header.as_bytes(), 0)?;
        self.target.write(sub_header(facts, &self.areas, dumped.len()).as_bytes(), block_size)?;
        self.target.write(&facts.notes, notes)?;
        self.write_ram_bitmap(ram, dumped.len(), bitmap1)?;
        self.write_bits(dumped, dumped.len(), bitmap2)?;
        debug_assert_eq!(descs, self.next_desc);
        // All zero pages share this one.
        let zero = vec![0; block_size as usize];
        self.target.write(&zero, self.next_data)?;
        self.next_data += block_size;
        self.target.settle();
        Ok(())
    }

    /// The plane of existing frames, written in parts: it is never held as a whole.
    fn write_ram_bitmap(&self, ram: impl Iterator<Item = PfnRange>, frames: u64, offset: u64) -> Result<()> {
        let mut part = PageBitmap::new(CHUNK_PFNS.min(frames));
        let mut start = 0;
        for mut range in ram {
            while !range.is_empty() {
                let here = range.intersect(PfnRange::new(start, start + part.len()));
                if here.is_empty() {
                    self.write_bits(&part, frames - start, offset + start / 8)?;
                    part.fill(PfnRange::new(0, part.len()), false);
                    start += part.len();
                    continue;
                }
                part.fill(PfnRange::new(here.start - start, here.end - start), true);
                range.start = here.end;
            }
        }
        self.write_bits(&part, frames - start, offset + start / 8)
    }

    /// Writes the first `frames` bits of a plane. What is all zeros stays a hole: most of a sparse machine's planes is.
    fn write_bits(&self, plane: &PageBitmap, frames: u64, offset: u64) -> Result<()> {
        let bytes = plane.as_bytes();
        let bytes = &bytes[..bytes.len().min(frames.div_ceil(8) as usize)];
        for (block, at) in bytes.chunks(HOLE).zip((offset..).step_by(HOLE)) {
            if !is_zero(block) {
                self.target.write(block, at)?;
            }
        }
        Ok(())
    }

    /// Takes a page out of the dump: the descriptors are packed, so a lost page must lose its bit too, and at once, or every
    /// later descriptor of a dump that ends early would stand for the wrong page.
    fn drop_page(&mut self, pfn: u64) -> Result<()> {
        let at = self.areas.bitmap2 + pfn / 8;
        let mut byte = [0];
        self.target.read(&mut byte, at)?;
        byte[0] &= !(1 << (pfn % 8));
        self.target.write(&byte, at)
    }

    fn collect_descs(&mut self, batch: &PackedBatch) -> Result<()> {
        self.descs.clear();
        let mut at = self.next_data;
        for page in &batch.pages {
            let (offset, size, flags) = match &page.fate {
                Fate::Stored { len, flags } => {
                    let offset = at;
                    at += u64::from(*len);
                    self.written.stored += 1;
                    (offset, *len, *flags)
                }
                Fate::Zero => {
                    self.written.zero += 1;
                    (self.areas.data, self.areas.block_size as u32, 0)
                }
                Fate::Lost(cause) => {
                    self.written.lose(page.pfn, cause);
                    self.drop_page(page.pfn)?;
                    continue;
                }
            };
            self.descs.push(PageDesc {
                offset: offset.into(),
                size: size.into(),
                flags: flags.into(),
                page_flags: 0.into(),
            });
        }
        Ok(())
    }
}

impl Sink for KdumpSink {
    fn commit(&mut self, batch: &PackedBatch) -> Result<()> {
        // Data first: a descriptor on the disk never leads to data that is not there.
        self.target.write(&batch.data, self.next_data)?;
        self.collect_descs(batch)?;
        let end = self.next_desc + self.descs.len() as u64 * DESC_SIZE;
        if end > self.end_descs {
            return Err(Error::new(Kind::Output, "internal error: more pages than planned")
                .next_step("please report this together with the output of 'vdump info'"));
        }
        self.target.write(self.descs.as_bytes(), self.next_desc)?;
        self.next_desc = end;
        self.next_data += batch.data.len() as u64;
        Ok(())
    }

    fn written(&self) -> &Written {
        &self.written
    }

    fn finish(&mut self) -> Result<u64> {
        // At least as long as the largest page of an analysing host, which reads that much as the header.
        let size = self.next_data.max(crate::format::diskdump::BITMAP_ALIGNMENT);
        self.target.set_len(size)?;
        // The mark goes only when everything else is on the disk.
        self.target.sync()?;
        self.header.status = (self.header.status.get() & !STATUS_INCOMPLETE).into();
        self.target.write(self.header.as_bytes(), 0)?;
        self.target.finish()?;
        Ok(size)
    }

    fn abandon(&mut self, keep: bool) -> Option<std::path::PathBuf> {
        // It may have gone already, in a `finish` that failed.
        self.header.status = (self.header.status.get() | STATUS_INCOMPLETE).into();
        let _ = self.target.write(self.header.as_bytes(), 0);
        self.target.abandon(keep)
    }
}

fn header(facts: &KdumpFacts, areas: &Areas, max_pfn: u64) -> Header {
    let mut header = Header::new_zeroed();
    header.signature = SIGNATURE;
    header.header_version = VERSION.into();
    header.utsname = facts.utsname;
    header.tv_sec = facts.crash_time.into();
    header.status = (facts.codec_flags | STATUS_INCOMPLETE).into();
    header.block_size = (areas.block_size as u32).into();
    header.sub_hdr_size = areas.sub_hdr_blocks().into();
    header.bitmap_blocks = areas.bitmap_blocks().into();
    header.max_mapnr = u32::try_from(max_pfn).unwrap_or(u32::MAX).into();
    header.nr_cpus = facts.cpus.max(1).into();
    header
}

fn sub_header(facts: &KdumpFacts, areas: &Areas, max_pfn: u64) -> SubHeader {
    let (vmcoreinfo, vmcoreinfo_len) = match facts.vmcoreinfo {
        Some((offset, len)) => (areas.notes + offset as u64, len as u64),
        None => (0, 0),
    };
    SubHeader {
        phys_base: facts.phys_base.into(),
        dump_level: u32::from(facts.level.bits()).into(),
        offset_vmcoreinfo: vmcoreinfo.into(),
        size_vmcoreinfo: vmcoreinfo_len.into(),
        offset_note: areas.notes.into(),
        size_note: (facts.notes.len() as u64).into(),
        max_mapnr_64: max_pfn.into(),
        ..SubHeader::default()
    }
}
