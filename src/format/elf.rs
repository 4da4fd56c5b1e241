//! ELF cores of 64 and 32 bits: the constants and the headers that we write.
//!
//! Knows the header sizes and the escape for many program headers. Must not do I/O. The structures themselves are the
//! `object` crate's. Used by the ELF source and the ELF sink.

use object::{
    LittleEndian as LE, U16, U32, U64,
    elf::{
        self, FileHeader32, FileHeader64, Ident, ProgramHeader32, ProgramHeader64, SectionHeader32, SectionHeader64,
    },
    pod::bytes_of,
};

/// Size of a program header of a 64-bit core, bytes.
pub const PHDR_SIZE: u64 = size_of::<ProgramHeader64<LE>>() as u64;
/// `e_flags` bit 0, by which makedumpfile marks an ELF dump that ends early.
pub const FLAG_INCOMPLETE: elf::FileFlags = elf::FileFlags(1);
/// No `e_flags`: the dump is whole.
pub const FLAG_NONE: elf::FileFlags = elf::FileFlags(0);

/// `p_paddr` of a segment that describes virtual memory only, as in Linux's `/proc/kcore` (fs/proc/kcore.c).
pub const NO_PADDR: u64 = u64::MAX;

/// One `PT_LOAD` to write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Load {
    /// Physical address of the first byte, or [`NO_PADDR`].
    pub paddr: u64,
    /// Virtual address of the first byte.
    pub vaddr: u64,
    /// File offset of the data.
    pub offset: u64,
    /// Bytes in the file.
    pub filesz: u64,
    /// Bytes in memory; what lies past `filesz` is zero.
    pub memsz: u64,
}

/// Width of a core's addresses and offsets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// `ELFCLASS32`
    Elf32,
    /// `ELFCLASS64`
    Elf64,
}

impl Class {
    /// Size of the file header, of a program header and of a section header, bytes.
    const fn sizes(self) -> (u64, u64, u64) {
        match self {
            Self::Elf32 => (
                size_of::<FileHeader32<LE>>() as u64,
                size_of::<ProgramHeader32<LE>>() as u64,
                size_of::<SectionHeader32<LE>>() as u64,
            ),
            Self::Elf64 => (
                size_of::<FileHeader64<LE>>() as u64,
                size_of::<ProgramHeader64<LE>>() as u64,
                size_of::<SectionHeader64<LE>>() as u64,
            ),
        }
    }

    /// Where the program header of load `index` begins, bytes.
    #[must_use]
    pub const fn load_at(self, index: usize) -> u64 {
        let (ehdr, phdr, _) = self.sizes();
        ehdr + (index as u64 + 1) * phdr
    }

    /// Where in a program header its sizes are: `p_filesz` at the first number, `p_memsz` at the second, up to the third.
    #[must_use]
    pub const fn sizes_at(self) -> (u64, u64, u64) {
        match self {
            Self::Elf32 => (16, 20, 24),
            Self::Elf64 => (32, 40, 48),
        }
    }

    /// Whether a core of this class can have `loads` in a file of `size` bytes. crash takes extended numbering (`PN_XNUM`)
    /// from 64-bit cores alone.
    #[must_use]
    pub fn holds(self, loads: &[Load], size: u64) -> bool {
        const END: u64 = 1 << 32;
        let fits = |load: &Load| {
            let end = |start: u64| start.checked_add(load.memsz).is_some_and(|end| end <= END);
            end(load.vaddr) && (load.paddr == NO_PADDR || end(load.paddr))
        };
        self == Self::Elf64 || size < END && !needs_xnum(loads.len() as u64 + 1) && loads.iter().all(fits)
    }
}

/// What a core's headers say besides its loads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head {
    /// Width of all addresses.
    pub class: Class,
    /// `e_machine`
    pub machine: elf::Machine,
    /// `e_flags`
    pub flags: elf::FileFlags,
    /// `e_entry`, which means nothing in a core: while the dump is being written its final size in bytes, then 0.
    pub planned: u64,
    /// Offset and size of the notes, bytes.
    pub notes: (u64, u64),
}

/// Bytes in front of the notes for `loads` segments: file header, program headers, and the section header that carries
/// their number where it does not fit the 16-bit field (`PN_XNUM`).
#[must_use]
pub fn headers_len(class: Class, loads: usize) -> u64 {
    let phdrs = loads as u64 + 1;
    let (_, _, shdr) = class.sizes();
    class.load_at(loads) + if needs_xnum(phdrs) { shdr } else { 0 }
}

fn needs_xnum(phdrs: u64) -> bool {
    phdrs >= u64::from(elf::PN_XNUM)
}

/// Encodes all headers of a core file: one `PT_NOTE` first, as crash demands, then the loads.
#[must_use]
pub fn encode_headers(head: &Head, loads: &[Load]) -> Vec<u8> {
    let mut out = Vec::with_capacity(headers_len(head.class, loads.len()) as usize);
    out.extend(encode_head(head, loads.len()));
    out.extend(encode_loads(head.class, loads.iter().copied()));
    out.extend(encode_escape(head.class, loads.len()));
    out
}

/// The first part of [`encode_headers`]: the file header and the `PT_NOTE`, with `loads` loads to follow.
#[must_use]
pub fn encode_head(head: &Head, loads: usize) -> Vec<u8> {
    let mut out = Vec::new();
    file_header(&mut out, head, loads as u64 + 1);
    let (offset, len) = head.notes;
    let note = Load { paddr: 0, vaddr: 0, offset, filesz: len, memsz: len };
    program_header(&mut out, head.class, elf::PT_NOTE, elf::ProgramFlags(0), note);
    out
}

/// The second part of [`encode_headers`], for some loads.
#[must_use]
pub fn encode_loads(class: Class, loads: impl ExactSizeIterator<Item = Load>) -> Vec<u8> {
    let mut out = Vec::with_capacity(loads.len() * size_of::<ProgramHeader64<LE>>());
    for load in loads {
        program_header(&mut out, class, elf::PT_LOAD, elf::PF_R | elf::PF_W | elf::PF_X, load);
    }
    out
}

/// The third part of [`encode_headers`]: where there are too many loads for the file header, what has their number.
#[must_use]
pub fn encode_escape(class: Class, loads: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let phdrs = loads as u64 + 1;
    if needs_xnum(phdrs) {
        section_header(&mut out, class, phdrs as u32);
    }
    out
}

fn file_header(out: &mut Vec<u8>, head: &Head, phdrs: u64) {
    let (ehdr, phdr, shdr) = head.class.sizes();
    let xnum = needs_xnum(phdrs);
    let shoff = if xnum { ehdr + phdrs * phdr } else { 0 };
    let (e_phnum, e_shentsize) = if xnum { (elf::PN_XNUM, shdr as u16) } else { (phdrs as u16, 0) };
    let e_ident = Ident {
        magic: elf::ELFMAG,
        class: if head.class == Class::Elf64 { elf::ELFCLASS64 } else { elf::ELFCLASS32 },
        data: elf::ELFDATA2LSB,
        version: elf::EV_CURRENT,
        os_abi: elf::ELFOSABI_NONE,
        abi_version: 0,
        padding: [0; 7],
    };
    let e_version = U32::new(LE, u32::from(elf::EV_CURRENT.0));
    match head.class {
        Class::Elf64 => out.extend(bytes_of(&FileHeader64::<LE> {
            e_ident,
            e_type: U16::new(LE, elf::ET_CORE),
            e_machine: U16::new(LE, head.machine),
            e_version,
            e_entry: U64::new(LE, head.planned),
            e_phoff: U64::new(LE, ehdr),
            e_shoff: U64::new(LE, shoff),
            e_flags: U32::new(LE, head.flags),
            e_ehsize: U16::new(LE, ehdr as u16),
            e_phentsize: U16::new(LE, phdr as u16),
            e_phnum: U16::new(LE, e_phnum),
            e_shentsize: U16::new(LE, e_shentsize),
            e_shnum: U16::new(LE, u16::from(xnum)),
            e_shstrndx: U16::new(LE, elf::SymbolSection(0)),
        })),
        Class::Elf32 => out.extend(bytes_of(&FileHeader32::<LE> {
            e_ident,
            e_type: U16::new(LE, elf::ET_CORE),
            e_machine: U16::new(LE, head.machine),
            e_version,
            e_entry: U32::new(LE, head.planned as u32),
            e_phoff: U32::new(LE, ehdr as u32),
            e_shoff: U32::new(LE, shoff as u32),
            e_flags: U32::new(LE, head.flags),
            e_ehsize: U16::new(LE, ehdr as u16),
            e_phentsize: U16::new(LE, phdr as u16),
            e_phnum: U16::new(LE, e_phnum),
            e_shentsize: U16::new(LE, e_shentsize),
            e_shnum: U16::new(LE, u16::from(xnum)),
            e_shstrndx: U16::new(LE, elf::SymbolSection(0)),
        })),
    }
}

/// `p_align` stays 0: with a page-aligned offset and any other value crash takes the file for another format.
fn program_header(out: &mut Vec<u8>, class: Class, kind: elf::ProgramType, flags: elf::ProgramFlags, load: Load) {
    match class {
        Class::Elf64 => out.extend(bytes_of(&ProgramHeader64 {
            p_type: U32::new(LE, kind),
            p_flags: U32::new(LE, flags),
            p_offset: U64::new(LE, load.offset),
            p_vaddr: U64::new(LE, load.vaddr),
            p_paddr: U64::new(LE, load.paddr),
            p_filesz: U64::new(LE, load.filesz),
            p_memsz: U64::new(LE, load.memsz),
            p_align: U64::new(LE, 0),
        })),
        Class::Elf32 => out.extend(bytes_of(&ProgramHeader32 {
            p_type: U32::new(LE, kind),
            p_offset: U32::new(LE, load.offset as u32),
            p_vaddr: U32::new(LE, load.vaddr as u32),
            p_paddr: U32::new(LE, load.paddr as u32),
            p_filesz: U32::new(LE, load.filesz as u32),
            p_memsz: U32::new(LE, load.memsz as u32),
            p_flags: U32::new(LE, flags),
            p_align: U32::new(LE, 0),
        })),
    }
}

/// Section header 0, whose `sh_info` holds the true number of program headers (System V ABI, "Extended numbering").
fn section_header(out: &mut Vec<u8>, class: Class, phdrs: u32) {
    let (_, _, size) = class.sizes();
    let mut bytes = vec![0; size as usize];
    let info = match class {
        Class::Elf64 => std::mem::offset_of!(SectionHeader64<LE>, sh_info),
        Class::Elf32 => std::mem::offset_of!(SectionHeader32<LE>, sh_info),
    };
    bytes[info..info + 4].copy_from_slice(&phdrs.to_le_bytes());
    out.extend(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOAD: Load = Load { paddr: 0, vaddr: 0, offset: 4096, filesz: 0, memsz: 4096 };

    fn head(class: Class) -> Head {
        Head { class, machine: elf::EM_X86_64, flags: FLAG_NONE, planned: 0, notes: (64, 0) }
    }

    #[test]
    fn length_is_known_before_the_headers_are_made() {
        for class in [Class::Elf32, Class::Elf64] {
            for count in [1, 7, 65_533, 65_534, 70_000] {
                let bytes = encode_headers(&head(class), &vec![LOAD; count]);
                assert_eq!(bytes.len() as u64, headers_len(class, count), "{count} loads");
            }
        }
    }

    #[test]
    fn many_segments_use_the_escape() {
        let bytes = encode_headers(&head(Class::Elf64), &vec![LOAD; 70_000]);
        assert_eq!(&bytes[56..58], &0xffff_u16.to_le_bytes());
        let section = bytes.len() - size_of::<SectionHeader64<LE>>();
        assert_eq!(&bytes[section + 44..section + 48], &70_001_u32.to_le_bytes());
    }

    #[test]
    fn sizes_are_where_they_are_said_to_be() {
        for (class, width) in [(Class::Elf32, 4), (Class::Elf64, 8)] {
            let bytes = encode_headers(&head(class), &[LOAD, Load { filesz: 0x1234, memsz: 0x5678, ..LOAD }]);
            let (filesz, memsz, end) = class.sizes_at();
            let at = |within: u64| (class.load_at(1) + within) as usize;
            assert_eq!(&bytes[at(filesz)..at(filesz) + 2], &[0x34, 0x12]);
            assert_eq!(&bytes[at(memsz)..at(memsz) + 2], &[0x78, 0x56]);
            assert_eq!((memsz - filesz, end - memsz), (width, width));
        }
    }

    #[test]
    fn narrow_cores_hold_four_gib() {
        let at = |paddr: u64| Load { paddr, vaddr: paddr, ..LOAD };
        assert!(Class::Elf32.holds(&[at(0xffff_f000)], 1 << 31));
        assert!(!Class::Elf32.holds(&[at(1 << 32)], 1 << 31));
        assert!(!Class::Elf32.holds(&[at(0)], 1 << 32));
        assert!(!Class::Elf32.holds(&vec![at(0); 65_534], 1 << 31));
        assert!(Class::Elf64.holds(&[at(1 << 40)], 1 << 41));
    }
}
