//! ELF64 cores: the constants and the headers that we write.
//!
//! Knows the header sizes and the escape for many program headers. Must not do I/O. The structures themselves are the
//! `object` crate's. Used by the ELF source and the ELF sink.

use object::{
    LittleEndian as LE, U16, U32, U64,
    elf::{self, FileHeader64, Ident, ProgramHeader64, SectionHeader64},
    pod::bytes_of,
};

/// Size of the file header, bytes.
pub const EHDR_SIZE: u64 = size_of::<FileHeader64<LE>>() as u64;
/// Size of a program header, bytes.
pub const PHDR_SIZE: u64 = size_of::<ProgramHeader64<LE>>() as u64;
/// Size of a section header, bytes.
pub const SHDR_SIZE: u64 = size_of::<SectionHeader64<LE>>() as u64;
/// `e_flags` bit 0, by which makedumpfile marks an ELF dump that ends early.
pub const FLAG_INCOMPLETE: elf::FileFlags = elf::FileFlags(1);
/// No `e_flags`: the dump is whole.
pub const FLAG_NONE: elf::FileFlags = elf::FileFlags(0);

/// `p_paddr` of a segment that describes virtual memory only, as in Linux's `/proc/kcore` (fs/proc/kcore.c).
pub const NO_PADDR: u64 = u64::MAX;

/// The machines that `e_machine` names, as their users call them (include/uapi/linux/elf-em.h).
#[must_use]
pub fn family(machine: elf::Machine) -> String {
    let name = match machine {
        elf::EM_X86_64 => "x86_64",
        elf::EM_386 => "i386",
        elf::EM_ARM => "32-bit ARM",
        elf::EM_AARCH64 => "arm64",
        elf::EM_PPC64 => "64-bit POWER",
        elf::EM_RISCV => "RISC-V",
        elf::EM_S390 => "s390x",
        elf::EM_MIPS => "MIPS",
        elf::EM_LOONGARCH => "LoongArch",
        elf::EM_NONE => return "a machine that the dump does not name".to_owned(),
        other => return format!("ELF machine {}", other.0),
    };
    format!("{name} (ELF machine {})", machine.0)
}

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

/// Bytes in front of the notes for `loads` segments: file header, program headers, and the section header that carries
/// their number where it does not fit the 16-bit field (`PN_XNUM`).
#[must_use]
pub fn headers_len(loads: usize) -> u64 {
    let phdrs = loads as u64 + 1;
    EHDR_SIZE + phdrs * PHDR_SIZE + if needs_xnum(phdrs) { SHDR_SIZE } else { 0 }
}

fn needs_xnum(phdrs: u64) -> bool {
    phdrs >= u64::from(elf::PN_XNUM)
}

/// Encodes all headers of a core file: one `PT_NOTE` first, as crash demands, then the loads.
///
/// `machine` is `e_machine`, `notes` the file range (offset, size) of the notes, `flags` is `e_flags`.
#[must_use]
pub fn encode_headers(machine: elf::Machine, flags: elf::FileFlags, notes: (u64, u64), loads: &[Load]) -> Vec<u8> {
    let phdrs = loads.len() as u64 + 1;
    let xnum = needs_xnum(phdrs);
    let shoff = if xnum { EHDR_SIZE + phdrs * PHDR_SIZE } else { 0 };
    let ehdr = FileHeader64::<LE> {
        e_ident: Ident {
            magic: elf::ELFMAG,
            class: elf::ELFCLASS64,
            data: elf::ELFDATA2LSB,
            version: elf::EV_CURRENT,
            os_abi: elf::ELFOSABI_NONE,
            abi_version: 0,
            padding: [0; 7],
        },
        e_type: U16::new(LE, elf::ET_CORE),
        e_machine: U16::new(LE, machine),
        e_version: U32::new(LE, u32::from(elf::EV_CURRENT.0)),
        e_entry: U64::new(LE, 0),
        e_phoff: U64::new(LE, EHDR_SIZE),
        e_shoff: U64::new(LE, shoff),
        e_flags: U32::new(LE, flags),
        e_ehsize: U16::new(LE, EHDR_SIZE as u16),
        e_phentsize: U16::new(LE, PHDR_SIZE as u16),
        e_phnum: U16::new(LE, if xnum { elf::PN_XNUM } else { phdrs as u16 }),
        e_shentsize: U16::new(LE, if xnum { SHDR_SIZE as u16 } else { 0 }),
        e_shnum: U16::new(LE, u16::from(xnum)),
        e_shstrndx: U16::new(LE, elf::SymbolSection(0)),
    };
    let mut out = Vec::with_capacity(headers_len(loads.len()) as usize);
    out.extend(bytes_of(&ehdr));
    let note = Load { paddr: 0, vaddr: 0, offset: notes.0, filesz: notes.1, memsz: notes.1 };
    out.extend(bytes_of(&program_header(elf::PT_NOTE, elf::ProgramFlags(0), note)));
    for load in loads {
        out.extend(bytes_of(&program_header(elf::PT_LOAD, elf::PF_R | elf::PF_W | elf::PF_X, *load)));
    }
    if xnum {
        out.extend(bytes_of(&section_header(phdrs as u32)));
    }
    out
}

/// `p_align` stays 0: with a page-aligned offset and any other value crash takes the file for another format.
fn program_header(kind: elf::ProgramType, flags: elf::ProgramFlags, load: Load) -> ProgramHeader64<LE> {
    ProgramHeader64 {
        p_type: U32::new(LE, kind),
        p_flags: U32::new(LE, flags),
        p_offset: U64::new(LE, load.offset),
        p_vaddr: U64::new(LE, load.vaddr),
        p_paddr: U64::new(LE, load.paddr),
        p_filesz: U64::new(LE, load.filesz),
        p_memsz: U64::new(LE, load.memsz),
        p_align: U64::new(LE, 0),
    }
}

/// Section header 0, whose `sh_info` holds the true number of program headers (System V ABI, "Extended numbering").
fn section_header(phdrs: u32) -> SectionHeader64<LE> {
    SectionHeader64 {
        sh_name: U32::new(LE, 0),
        sh_type: U32::new(LE, elf::SHT_NULL),
        sh_flags: U64::new(LE, elf::SectionFlags(0)),
        sh_addr: U64::new(LE, 0),
        sh_offset: U64::new(LE, 0),
        sh_size: U64::new(LE, 0),
        sh_link: U32::new(LE, 0),
        sh_info: U32::new(LE, phdrs),
        sh_addralign: U64::new(LE, 0),
        sh_entsize: U64::new(LE, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_is_known_before_the_headers_are_made() {
        let load = Load { paddr: 0, vaddr: 0, offset: 4096, filesz: 0, memsz: 4096 };
        for count in [1, 7, 65_533, 65_534, 70_000] {
            let bytes = encode_headers(elf::EM_X86_64, FLAG_NONE, (64, 0), &vec![load; count]);
            assert_eq!(bytes.len() as u64, headers_len(count), "{count} loads");
        }
    }

    #[test]
    fn many_segments_use_the_escape() {
        let load = Load { paddr: 0, vaddr: 0, offset: 4096, filesz: 0, memsz: 4096 };
        let bytes = encode_headers(elf::EM_X86_64, FLAG_NONE, (64, 0), &vec![load; 70_000]);
        assert_eq!(&bytes[56..58], &0xffff_u16.to_le_bytes());
        let section = bytes.len() - SHDR_SIZE as usize;
        assert_eq!(&bytes[section + 44..section + 48], &70_001_u32.to_le_bytes());
    }
}
