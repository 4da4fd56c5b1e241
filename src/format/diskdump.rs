//! The kdump-compressed format, up to version 6, in the LP64 little-endian layout.
//!
//! Knows the headers and descriptors that makedumpfile writes (its `diskdump_mod.h` and IMPLEMENTATION file) and what
//! crash, drgn and libkdumpfile demand of them. Must not do I/O. Used by the kdump source and
//! sink.
//!
//! File: header (block 0), sub header (block 1) with the notes behind it, bitmap of RAM pages, bitmap of dumped pages,
//! one descriptor for each dumped page in PFN order, page data.

use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout,
    little_endian::{U32, U64},
};

/// First eight bytes of the file.
pub const SIGNATURE: [u8; 8] = *b"KDUMP   ";
/// The same in the files of diskdump, the format's ancestor.
pub const SIGNATURE_DISKDUMP: [u8; 8] = *b"DISKDUMP";
/// Header version with 64-bit PFNs; the newest one that any reader knows.
pub const VERSION: u32 = 6;
/// `status`: the dump ends early; readers warn and report missing pages as incomplete.
pub const STATUS_INCOMPLETE: u32 = 0x8;

/// Blocks of the sub header, so that the bitmaps start at 64 KiB: crash maps them at that offset and refuses one that is
/// not a multiple of the *analysing* host's page size (crash a334423, 8.0.1), which is 64 KiB on some arm64 and ppc64.
pub const BITMAP_ALIGNMENT: u64 = 64 << 10;

/// `page_desc.flags`: how the page's data is stored. Any other value is silent garbage in crash.
pub mod flags {
    /// As it was.
    pub const RAW: u32 = 0;
    /// A zlib stream.
    pub const ZLIB: u32 = 0x1;
    /// An LZO1X stream.
    pub const LZO: u32 = 0x2;
    /// A raw snappy block.
    pub const SNAPPY: u32 = 0x4;
    /// A zstd frame.
    pub const ZSTD: u32 = 0x20;
}

/// Length of each `utsname` field, terminating zero included (`__NEW_UTS_LEN + 1`).
pub const UTS_LEN: usize = 65;

/// `struct disk_dump_header`, 464 bytes at offset 0.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// [`SIGNATURE`].
    pub signature: [u8; 8],
    /// [`VERSION`].
    pub header_version: U32,
    /// sysname, nodename, release, version, machine, domainname of the crashed kernel.
    pub utsname: [[u8; UTS_LEN]; 6],
    /// Alignment of the time stamp; zero.
    pub pad: [u8; 6],
    /// When the kernel crashed, seconds since 1970.
    pub tv_sec: U64,
    /// Always zero: libkdumpfile tries the 32-bit layout first, where this is `block_size`, so that some values make it
    /// take a 64-bit dump for a 32-bit one.
    pub tv_usec: U64,
    /// Compression in use and [`STATUS_INCOMPLETE`].
    pub status: U32,
    /// The crashed kernel's page size, bytes.
    pub block_size: U32,
    /// Size of sub header and notes, blocks.
    pub sub_hdr_size: U32,
    /// Size of both bitmaps together, blocks.
    pub bitmap_blocks: U32,
    /// One past the highest PFN, capped at `u32::MAX`.
    pub max_mapnr: U32,
    /// Unused, zero.
    pub total_ram_blocks: U32,
    /// Unused, zero.
    pub device_blocks: U32,
    /// Unused, zero.
    pub written_blocks: U32,
    /// Unused, zero.
    pub current_cpu: U32,
    /// CPUs with saved registers; crash warns about zero.
    pub nr_cpus: U32,
}

/// `struct kdump_sub_header`, 104 bytes at the second block.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct SubHeader {
    /// Physical minus link address of the kernel image, bytes.
    pub phys_base: U64,
    /// The dump level, 0 to 31.
    pub dump_level: U32,
    /// 1 in a part of a split set.
    pub split: U32,
    /// First PFN of the part (32-bit field of old readers).
    pub start_pfn: U64,
    /// One past the last PFN of the part.
    pub end_pfn: U64,
    /// File offset of the VMCOREINFO text, bytes.
    pub offset_vmcoreinfo: U64,
    /// Its size, bytes.
    pub size_vmcoreinfo: U64,
    /// File offset of all ELF notes.
    pub offset_note: U64,
    /// Their size, bytes.
    pub size_note: U64,
    /// File offset of the list of erased symbols; 0 for none.
    pub offset_eraseinfo: U64,
    /// Its size, bytes.
    pub size_eraseinfo: U64,
    /// First PFN of the part.
    pub start_pfn_64: U64,
    /// One past the last PFN of the part.
    pub end_pfn_64: U64,
    /// One past the highest PFN.
    pub max_mapnr_64: U64,
}

/// `struct page_desc`, 24 bytes for each dumped page, in PFN order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PageDesc {
    /// File offset of the page's data; 0 in an incomplete dump: the page is lost.
    pub offset: U64,
    /// Size of the stored data, bytes; at most a block, and exactly a block when raw.
    pub size: U32,
    /// One of [`flags`].
    pub flags: U32,
    /// No reader uses it; zero.
    pub page_flags: U64,
}

/// Size of a [`PageDesc`], bytes.
pub const DESC_SIZE: u64 = size_of::<PageDesc>() as u64;

const _: () = assert!(size_of::<Header>() == 464);
const _: () = assert!(size_of::<SubHeader>() == 104);
const _: () = assert!(size_of::<PageDesc>() == 24);

/// Where the parts of a kdump file lie, all in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Areas {
    /// Page size.
    pub block_size: u64,
    /// Start of the notes.
    pub notes: u64,
    /// Start of the bitmap of RAM pages, a multiple of [`BITMAP_ALIGNMENT`].
    pub bitmap1: u64,
    /// Start of the bitmap of dumped pages.
    pub bitmap2: u64,
    /// Size of one bitmap, padded to blocks.
    pub bitmap_len: u64,
    /// Start of the descriptors.
    pub descs: u64,
    /// Start of page data.
    pub data: u64,
}

impl Areas {
    /// Places everything for `max_mapnr` page frames of which `dumped` are stored, with `notes_len` bytes of notes and what lies
    /// behind them.
    /// `None` where a size leaves 64 bits or a header field.
    #[must_use]
    pub fn place(block_size: u64, notes_len: u64, max_mapnr: u64, dumped: u64) -> Option<Self> {
        let notes = block_size.checked_add(size_of::<SubHeader>() as u64)?;
        let bitmap1 = super::align_up(notes.checked_add(notes_len)?, BITMAP_ALIGNMENT.max(block_size))?;
        let bitmap_len = super::align_up(max_mapnr.div_ceil(8), block_size)?;
        let bitmap2 = bitmap1.checked_add(bitmap_len)?;
        let descs = bitmap2.checked_add(bitmap_len)?;
        let data = descs.checked_add(dumped.checked_mul(DESC_SIZE)?)?;
        u32::try_from(bitmap_len.checked_mul(2)? / block_size).ok()?;
        u32::try_from(bitmap1 / block_size).ok()?;
        Some(Self { block_size, notes, bitmap1, bitmap2, bitmap_len, descs, data })
    }

    /// `sub_hdr_size` of the header, blocks.
    #[must_use]
    pub fn sub_hdr_blocks(&self) -> u32 {
        (self.bitmap1 / self.block_size - 1) as u32
    }

    /// `bitmap_blocks` of the header, blocks; always even.
    #[must_use]
    pub fn bitmap_blocks(&self) -> u32 {
        (2 * self.bitmap_len / self.block_size) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bitmaps_start_at_64_kib_and_come_in_pairs() {
        let areas = Areas::place(4096, 2000, 262_144 + 1, 10).unwrap();
        assert_eq!(areas.bitmap1, 64 << 10);
        assert_eq!(areas.sub_hdr_blocks(), 15);
        assert_eq!(areas.bitmap_len, 9 * 4096);
        assert_eq!(areas.bitmap_blocks(), 18);
        assert_eq!(areas.data, areas.descs + 240);
    }

    #[test]
    fn large_notes_move_the_bitmaps_by_whole_steps() {
        let areas = Areas::place(4096, 64 << 10, 8, 0).unwrap();
        assert_eq!(areas.bitmap1, 128 << 10);
        assert_eq!(areas.sub_hdr_blocks(), 31);
    }

    /// 64 TiB of 4 KiB pages, all of them stored; then the largest machine whose bitmaps the header's fields can tell.
    #[test]
    fn the_largest_machines_fit() {
        let areas = Areas::place(4096, 2000, 1 << 34, 1 << 34).unwrap();
        assert_eq!((areas.bitmap_len, areas.bitmap_blocks()), (2 << 30, 1 << 20));
        assert_eq!(areas.bitmap2, (64 << 10) + (2 << 30));
        assert_eq!(areas.data, (64 << 10) + (4 << 30) + (24 << 34));
        let more = Areas::place(4096, 2000, (1 << 34) + 1, 0).unwrap();
        assert_eq!(more.bitmap_len, areas.bitmap_len + 4096);
        let most = ((u64::from(u32::MAX) / 2) * 4096) * 8;
        assert_eq!(Areas::place(4096, 2000, most, most).unwrap().bitmap_blocks(), u32::MAX - 1);
        assert_eq!(Areas::place(4096, 2000, most + 1, 0), None);
    }

    #[test]
    fn impossible_sizes_are_refused() {
        assert_eq!(Areas::place(4096, u64::MAX, 8, 0), None);
        assert_eq!(Areas::place(4096, 0, u64::MAX, 0), None);
        assert_eq!(Areas::place(4096, 0, 8, u64::MAX), None);
    }
}
