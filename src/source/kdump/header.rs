//! The two headers of a kdump-compressed file, versions 0 to 6, of 64-bit and 32-bit little-endian machines.
//!
//! Knows which version has which field, and what cannot be true. Must not read bitmaps or pages. The [`Head`] goes to the
//! other files of this folder.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use vdump_filters::PfnRange;
use zerocopy::{FromBytes as _, little_endian::U64};

use crate::{
    error::{Error, Result},
    format::{
        diskdump::{Header, SIGNATURE, SIGNATURE_DISKDUMP, SubHeader, VERSION},
        diskdump32::{Header32, PackedSubHeader, PaddedSubHeader},
    },
    source::store::{Store, StoreError, read_all},
};

/// Page sizes of all kernels that are read, bytes.
const BLOCK_SIZES: std::ops::RangeInclusive<u32> = 4096..=65536;

/// What the widest physical addresses of any machine that is read can reach: 52 bits (x86_64 and arm64; POWER has 51).
const MOST_MEMORY: u64 = 1 << 52;

/// How long a `long` is on the machine that wrote the headers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Layout {
    Wide,
    Narrow,
}

/// One file of the input.
#[derive(Debug)]
pub(in crate::source) struct File {
    pub(in crate::source) path: PathBuf,
    pub(in crate::source) store: Arc<dyn Store>,
}

/// What the headers say, checked against the file's size.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) header: Header,
    /// Fields that the version does not have are zero.
    pub(super) sub: SubHeader,
    pub(super) page_shift: u32,
    /// One past the highest frame.
    pub(super) max_mapnr: u64,
    /// File offset of the bitmap of frames that exist.
    pub(super) bitmap1: u64,
    /// File offset of the bitmap of dumped frames; the same as `bitmap1` where there is only one.
    pub(super) bitmap2: u64,
    /// Bytes of both bitmaps together.
    pub(super) bitmaps_len: u64,
}

impl File {
    pub(super) fn damaged(&self, cause: impl std::fmt::Display) -> Error {
        Error::input(format!("cannot use {}", self.path.display()))
            .because(cause)
            .or_next_step("the file is damaged or of another kind: copy the dump again")
    }

    /// Reads `len` bytes at `offset` after checking that the store has them, so that nothing is allocated for a lie.
    pub(super) fn bytes(&self, what: &str, offset: u64, len: u64) -> Result<Vec<u8>> {
        self.must_have(what, offset, len)?;
        read_all(self.store.as_ref(), offset, len).map_err(|error| self.unreadable(what, &error))
    }

    pub(super) fn must_have(&self, what: &str, offset: u64, len: u64) -> Result<()> {
        let end = offset.checked_add(len);
        if end.is_some_and(|end| end <= self.store.size()) {
            return Ok(());
        }
        let end = end.map_or_else(|| "past any file's end".to_owned(), |end| format!("at byte {end}"));
        Err(self
            .damaged(format!("{what} would end {end}, but the file has {} bytes", self.store.size()))
            .next_step("the copy was truncated or the header is damaged: copy the dump again"))
    }

    pub(super) fn unreadable(&self, what: &str, error: &StoreError) -> Error {
        Error::input(format!("cannot read {what} of {}", self.path.display())).because(error)
    }

    /// Parses the headers, in the layout that they fit. libkdumpfile takes the first layout whose page size is possible,
    /// and so some microseconds of the crash for a page size; here the 64-bit one counts unless it cannot be, and the
    /// 32-bit one only if all of it can be.
    pub(super) fn head(&self) -> Result<Head> {
        let bytes = self.bytes("the kdump header", 0, size_of::<Header>() as u64)?;
        let unreadable = || self.damaged("its header cannot be read");
        let header = Header::read_from_bytes(&bytes).map_err(|_| unreadable())?;
        let wide = self.head_as(Layout::Wide, header);
        if wide.is_ok() || is_wide_machine(&header.utsname[4]) {
            return wide;
        }
        let (narrow, _) = Header32::read_from_prefix(&bytes).map_err(|_| unreadable())?;
        let (narrow, fits) = (narrow.widen(), self.block_size(&header).is_ok());
        match self.head_as(Layout::Narrow, narrow) {
            Ok(head) => Ok(head),
            // Which of the two it is damaged as.
            Err(error) if !fits && self.block_size(&narrow).is_ok() => Err(error),
            Err(error) if is_big_endian(&narrow) => Err(error),
            Err(_) => wide,
        }
    }

    fn head_as(&self, layout: Layout, header: Header) -> Result<Head> {
        let block = self.block_size(&header)?;
        let sub = self.sub_header(layout, &header, block)?;
        let max_mapnr = match sub.max_mapnr_64.get() {
            0 => header.max_mapnr.get().into(),
            frames => frames,
        };
        let page_shift = block.trailing_zeros();
        if max_mapnr == 0 || max_mapnr > MOST_MEMORY >> page_shift {
            return Err(self.damaged(format!("its header claims {max_mapnr:#x} page frames")));
        }
        let (blocks, needed) = (u64::from(header.bitmap_blocks.get()), max_mapnr.div_ceil(8).div_ceil(block));
        if blocks < needed {
            let cause = format!("its bitmaps have {blocks} blocks, but {max_mapnr} page frames need {needed}");
            return Err(self.damaged(cause));
        }
        let (bitmap1, bitmaps_len) = (block * (1 + u64::from(header.sub_hdr_size.get())), blocks * block);
        self.must_have("the bitmaps", bitmap1, bitmaps_len)?;
        // The oldest writers had one bitmap: what exists is dumped. crash tells it by the same sum.
        let bitmap2 = if blocks / 2 >= needed { bitmap1 + bitmaps_len / 2 } else { bitmap1 };
        Ok(Head { header, sub, page_shift, max_mapnr, bitmap1, bitmap2, bitmaps_len })
    }

    fn block_size(&self, header: &Header) -> Result<u64> {
        let (version, block) = (header.header_version.get(), header.block_size.get());
        if version <= VERSION && is_block(block) && header.bitmap_blocks.get() > 0 {
            return Ok(block.into());
        }
        let (cause, next) = if is_big_endian(header) {
            let next = "dumps of s390x, big-endian POWER and MIPS are not read: use makedumpfile or crash there";
            ("it is a dump of a big-endian machine".to_owned(), next)
        } else if version > VERSION {
            (format!("its header has version {version}, and versions up to {VERSION} are known"), "update vdump")
        } else {
            let next = "the file is damaged: copy the dump again";
            (format!("its header claims blocks of {block} bytes and {} bitmap blocks", header.bitmap_blocks), next)
        };
        Err(self.damaged(cause).next_step(next))
    }

    fn sub_header(&self, layout: Layout, header: &Header, block: u64) -> Result<SubHeader> {
        let version = header.header_version.get();
        // What diskdump itself put there depends on its machine.
        if version == 0 || header.sub_hdr_size.get() == 0 || header.signature == SIGNATURE_DISKDUMP {
            return Ok(SubHeader::default());
        }
        let bytes = self.bytes("the kdump sub header", block, size_of::<SubHeader>() as u64)?;
        let all = match layout {
            Layout::Wide => SubHeader::read_from_bytes(&bytes).ok(),
            Layout::Narrow => Self::narrow_sub_header(&bytes, header, block),
        };
        let all = all.ok_or_else(|| self.damaged("its sub header fits no layout of this kind of machine"))?;
        let none = SubHeader::default();
        // Older writers left what follows their last field as it was in memory.
        let since = |first: u32, field: U64| if version >= first { field } else { 0.into() };
        let (start, end) = if version >= 6 && all.end_pfn_64.get() != 0 {
            (all.start_pfn_64, all.end_pfn_64)
        } else {
            (since(2, all.start_pfn), since(2, all.end_pfn))
        };
        Ok(SubHeader {
            phys_base: all.phys_base,
            dump_level: all.dump_level,
            split: if version >= 2 { all.split } else { none.split },
            offset_vmcoreinfo: since(3, all.offset_vmcoreinfo),
            size_vmcoreinfo: since(3, all.size_vmcoreinfo),
            offset_note: since(4, all.offset_note),
            size_note: since(4, all.size_note),
            offset_eraseinfo: since(5, all.offset_eraseinfo),
            size_eraseinfo: since(5, all.size_eraseinfo),
            start_pfn_64: start,
            end_pfn_64: end,
            max_mapnr_64: since(6, all.max_mapnr_64),
            ..none
        })
    }

    /// i386 packs the sub header, ARM aligns its 64-bit numbers; the header does not say which. `None`: it is neither.
    fn narrow_sub_header(bytes: &[u8], header: &Header, block: u64) -> Option<SubHeader> {
        let packed = PackedSubHeader::read_from_prefix(bytes).ok()?.0.widen();
        let padded = PaddedSubHeader::read_from_prefix(bytes).ok()?.0.widen();
        let arm = machine_name(&header.utsname[4]).starts_with(b"arm");
        let candidates = if arm { [padded, packed] } else { [packed, padded] };
        candidates.into_iter().find(|sub| is_possible(sub, header, block))
    }
}

/// Whether all that the sub header leads to can be there.
fn is_possible(sub: &SubHeader, header: &Header, block: u64) -> bool {
    let (version, bitmaps) = (header.header_version.get(), block * (1 + u64::from(header.sub_hdr_size.get())));
    let inside = |offset: U64, size: U64, limit: u64| {
        let end = offset.get().checked_add(size.get());
        (offset.get() == 0 && size.get() == 0) || (offset.get() > block && end.is_some_and(|end| end <= limit))
    };
    let frames = sub.max_mapnr_64.get();
    (version < 3 || inside(sub.offset_vmcoreinfo, sub.size_vmcoreinfo, bitmaps))
        && (version < 4 || inside(sub.offset_note, sub.size_note, bitmaps))
        // The list of erased symbols is at the end of the file, which may have been cut off.
        && (version < 5 || inside(sub.offset_eraseinfo, sub.size_eraseinfo, u64::MAX))
        && (version < 6 || (frames > 0 && frames.min(u32::MAX.into()) == u64::from(header.max_mapnr.get())))
}

fn is_block(size: u32) -> bool {
    size.is_power_of_two() && BLOCK_SIZES.contains(&size)
}

fn is_big_endian(header: &Header) -> bool {
    is_block(header.block_size.get().swap_bytes()) && header.header_version.get().swap_bytes() <= VERSION
}

/// A field of `utsname`, without what fills it up.
pub(super) fn machine_name(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    &field[..end]
}

/// Whether the name is that of a machine whose headers have the 64-bit layout.
fn is_wide_machine(field: &[u8]) -> bool {
    let name = machine_name(field);
    name.windows(2).any(|digits| digits == b"64") || name == b"s390x" || name == b"alpha"
}

impl Head {
    pub(super) fn version(&self) -> u32 {
        self.header.header_version.get()
    }

    /// Start of the descriptors in the file.
    pub(super) fn descs(&self) -> u64 {
        self.bitmap1 + self.bitmaps_len
    }

    /// The frames whose pages the file has, if it is a part of a split set.
    pub(super) fn split(&self) -> Option<PfnRange> {
        let (start, end) = (self.sub.start_pfn_64.get(), self.sub.end_pfn_64.get());
        (self.sub.split.get() != 0).then_some(PfnRange { start, end })
    }

    /// Whether the file says that it is not alone; for names on the command line.
    pub(super) fn is_partial(&self) -> bool {
        self.split().is_some_and(|frames| frames.start > 0 || frames.end < self.max_mapnr)
    }
}

/// Whether a file with these first bytes is of this format.
pub(in crate::source) fn is_kdump(magic: &[u8]) -> bool {
    magic.starts_with(&SIGNATURE) || magic.starts_with(&SIGNATURE_DISKDUMP)
}

/// Whether `file` is one part of a split dump; `false` also where it cannot be read.
pub(in crate::source) fn is_part(path: &Path, store: Box<dyn Store>) -> bool {
    File { path: path.to_owned(), store: store.into() }.head().is_ok_and(|head| head.is_partial())
}
