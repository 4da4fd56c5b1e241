//! The headers of the kdump-compressed format as 32-bit machines have them.
//!
//! Knows where their fields lie: `struct timeval` is half as long, and so is each `unsigned long`; i386 packs 64-bit
//! numbers, ARM aligns them. Must not do I/O. Both become the headers of [`super::diskdump`]; descriptors are the same.

use zerocopy::{
    FromBytes, Immutable, KnownLayout,
    little_endian::{U32, U64},
};

use super::diskdump::{Header, SubHeader, UTS_LEN};

/// `struct disk_dump_header` where `long` has 32 bits, 452 bytes at offset 0.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header32 {
    signature: [u8; 8],
    header_version: U32,
    utsname: [[u8; UTS_LEN]; 6],
    _pad: [u8; 2],
    tv_sec: U32,
    tv_usec: U32,
    status: U32,
    block_size: U32,
    sub_hdr_size: U32,
    bitmap_blocks: U32,
    max_mapnr: U32,
    total_ram_blocks: U32,
    device_blocks: U32,
    written_blocks: U32,
    current_cpu: U32,
    nr_cpus: U32,
}

impl Header32 {
    /// The same in the layout of 64-bit machines.
    #[must_use]
    pub fn widen(&self) -> Header {
        Header {
            signature: self.signature,
            header_version: self.header_version,
            utsname: self.utsname,
            pad: [0; 6],
            tv_sec: u64::from(self.tv_sec).into(),
            tv_usec: u64::from(self.tv_usec).into(),
            status: self.status,
            block_size: self.block_size,
            sub_hdr_size: self.sub_hdr_size,
            bitmap_blocks: self.bitmap_blocks,
            max_mapnr: self.max_mapnr,
            total_ram_blocks: self.total_ram_blocks,
            device_blocks: self.device_blocks,
            written_blocks: self.written_blocks,
            current_cpu: self.current_cpu,
            nr_cpus: self.nr_cpus,
        }
    }
}

/// `struct kdump_sub_header` of i386, where 64-bit numbers are aligned to 4 bytes: 80 bytes at the second block.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PackedSubHeader {
    phys_base: U32,
    dump_level: U32,
    split: U32,
    start_pfn: U32,
    end_pfn: U32,
    offset_vmcoreinfo: U64,
    size_vmcoreinfo: U32,
    offset_note: U64,
    size_note: U32,
    offset_eraseinfo: U64,
    size_eraseinfo: U32,
    start_pfn_64: U64,
    end_pfn_64: U64,
    max_mapnr_64: U64,
}

/// `struct kdump_sub_header` of ARM and others, where 64-bit numbers are aligned to 8 bytes: 96 bytes.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PaddedSubHeader {
    phys_base: U32,
    dump_level: U32,
    split: U32,
    start_pfn: U32,
    end_pfn: U32,
    _pad: [U32; 1],
    offset_vmcoreinfo: U64,
    size_vmcoreinfo: U32,
    _pad_vmcoreinfo: U32,
    offset_note: U64,
    size_note: U32,
    _pad_note: U32,
    offset_eraseinfo: U64,
    size_eraseinfo: U32,
    _pad_eraseinfo: U32,
    start_pfn_64: U64,
    end_pfn_64: U64,
    max_mapnr_64: U64,
}

const _: () = assert!(size_of::<Header32>() == 452);
const _: () = assert!(size_of::<PackedSubHeader>() == 80);
const _: () = assert!(size_of::<PaddedSubHeader>() == 96);

macro_rules! widen {
    ($narrow:ty) => {
        impl $narrow {
            /// The same in the layout of 64-bit machines.
            #[must_use]
            pub fn widen(&self) -> SubHeader {
                let wide = |number: U32| U64::from(u64::from(number));
                SubHeader {
                    phys_base: wide(self.phys_base),
                    dump_level: self.dump_level,
                    split: self.split,
                    start_pfn: wide(self.start_pfn),
                    end_pfn: wide(self.end_pfn),
                    offset_vmcoreinfo: self.offset_vmcoreinfo,
                    size_vmcoreinfo: wide(self.size_vmcoreinfo),
                    offset_note: self.offset_note,
                    size_note: wide(self.size_note),
                    offset_eraseinfo: self.offset_eraseinfo,
                    size_eraseinfo: wide(self.size_eraseinfo),
                    start_pfn_64: self.start_pfn_64,
                    end_pfn_64: self.end_pfn_64,
                    max_mapnr_64: self.max_mapnr_64,
                }
            }
        }
    };
}

widen!(PackedSubHeader);
widen!(PaddedSubHeader);
