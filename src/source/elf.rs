//! ELF64 cores: `/proc/vmcore`, copies of it, and QEMU's dump-guest-memory.
//!
//! Knows file, program and section headers, wherever they lie in the file. Must not know what the kernel put in its
//! memory. Makes a [`Source`].

use std::path::Path;

use object::{
    LittleEndian as LE,
    elf::{self, FileHeader64, Machine, ProgramHeader64, SectionHeader64},
    pod,
};

use super::{
    Load,
    store::{Store, StoreError, read_all},
};
use crate::{
    error::{Error, Result},
    format::{
        align_up,
        elf::{EHDR_SIZE, PHDR_SIZE, SHDR_SIZE},
        note,
    },
};

/// More segments than any machine has (a LOAD for every page of 4 GiB); bounds what a hostile file can make us hold.
const MAX_LOADS: u64 = 1 << 20;
/// 8192 CPUs need 3 MiB of notes; drivers' device dumps need more.
const MAX_NOTES: u64 = 64 << 20;

/// What an ELF core says about itself.
#[derive(Debug)]
pub(super) struct Elf {
    pub(super) machine: Machine,
    pub(super) loads: Vec<Load>,
    pub(super) notes: Vec<u8>,
}

/// Parses the headers and notes of the ELF core in `store`; `path` is for messages.
pub(super) fn parse(path: &Path, store: &dyn Store) -> Result<Elf> {
    let core = Core { path, store };
    let header = core.header()?;
    let mut loads = Vec::new();
    let mut notes = Vec::new();
    for phdr in core.program_headers(&header)? {
        match phdr.p_type.get(LE) {
            elf::PT_LOAD => loads.extend(core.load(&phdr, loads.len())?),
            elf::PT_NOTE => core.append_notes(&phdr, &mut notes)?,
            _ => {}
        }
    }
    if loads.is_empty() {
        return Err(core.damaged("it has no PT_LOAD segment").next_step("this is not a dump of a machine's memory"));
    }
    Ok(Elf { machine: header.e_machine.get(LE), loads, notes })
}

struct Core<'a> {
    path: &'a Path,
    store: &'a dyn Store,
}

impl Core<'_> {
    fn damaged(&self, cause: impl std::fmt::Display) -> Error {
        Error::input(format!("cannot use {}", self.path.display())).because(cause)
    }

    fn truncated(&self, what: &str, end: Option<u64>) -> Error {
        let end = end.map_or_else(|| "past any file's end".to_owned(), |end| format!("at byte {end}"));
        self.damaged(format!("{what} would end {end}, but the file has {} bytes", self.store.size()))
            .next_step("the copy was cut short or the header is damaged: copy the dump again")
    }

    /// Reads `len` bytes at `offset` after checking that the store has them, so that nothing is allocated for a lie.
    fn bytes(&self, what: &str, offset: u64, len: u64) -> Result<Vec<u8>> {
        let end = offset.checked_add(len);
        read_all(self.store, offset, len).map_err(|error| match error {
            StoreError::Truncated(_) => self.truncated(what, end),
            StoreError::Failed(cause) => {
                Error::input(format!("cannot read {what} of {}", self.path.display())).because(cause)
            }
        })
    }

    fn header(&self) -> Result<FileHeader64<LE>> {
        let bytes = self.bytes("the ELF header", 0, EHDR_SIZE)?;
        let (header, _) =
            pod::from_bytes::<FileHeader64<LE>>(&bytes).map_err(|()| self.damaged("the ELF header cannot be read"))?;
        if header.e_ident.data != elf::ELFDATA2LSB {
            return Err(self
                .damaged("it is a big-endian ELF file")
                .next_step("dumps of s390x and big-endian POWER machines are not read"));
        }
        if header.e_ident.class != elf::ELFCLASS64 {
            return Err(self
                .damaged("it is a 32-bit ELF file")
                .next_step("load the capture kernel with --elf64-core-headers to get 64-bit cores"));
        }
        if header.e_type.get(LE) != elf::ET_CORE {
            return Err(self
                .damaged("it is an ELF program or library, not a core")
                .next_step("give /proc/vmcore or a copy of it, not vmlinux"));
        }
        Ok(*header)
    }

    fn program_headers(&self, header: &FileHeader64<LE>) -> Result<Vec<ProgramHeader64<LE>>> {
        let count = self.program_header_count(header)?;
        let entry = u64::from(header.e_phentsize.get(LE));
        if entry != PHDR_SIZE {
            return Err(self.damaged(format!("its program headers have {entry} bytes each, not {PHDR_SIZE}")));
        }
        if count == 0 || count > MAX_LOADS {
            return Err(self.damaged(format!("it claims {count} program headers")));
        }
        let bytes = self.bytes("the program header table", header.e_phoff.get(LE), count * PHDR_SIZE)?;
        let (headers, _) = pod::slice_from_bytes::<ProgramHeader64<LE>>(&bytes, count as usize)
            .map_err(|()| self.damaged("the program header table cannot be read"))?;
        Ok(headers.to_vec())
    }

    fn program_header_count(&self, header: &FileHeader64<LE>) -> Result<u64> {
        let count = header.e_phnum.get(LE);
        if count != elf::PN_XNUM {
            return Ok(count.into());
        }
        let bytes = self.bytes("the first section header", header.e_shoff.get(LE), SHDR_SIZE)?;
        let (section, _) = pod::from_bytes::<SectionHeader64<LE>>(&bytes)
            .map_err(|()| self.damaged("the first section header cannot be read"))?;
        Ok(section.sh_info.get(LE).into())
    }

    fn load(&self, phdr: &ProgramHeader64<LE>, index: usize) -> Result<Option<Load>> {
        let load = Load {
            paddr: phdr.p_paddr.get(LE),
            vaddr: phdr.p_vaddr.get(LE),
            offset: phdr.p_offset.get(LE),
            filesz: phdr.p_filesz.get(LE),
            memsz: phdr.p_memsz.get(LE),
        };
        // Segments without a physical address (-1, as /proc/kcore has) describe virtual memory only.
        if load.memsz == 0 || load.paddr == u64::MAX {
            return Ok(None);
        }
        if load.filesz > load.memsz || load.paddr.checked_add(load.memsz).is_none() {
            return Err(self
                .damaged(format!("PT_LOAD segment {index} has impossible sizes"))
                .next_step("the header is damaged: copy the dump again"));
        }
        let end = load.offset.checked_add(load.filesz);
        if end.is_none_or(|end| end > self.store.size()) {
            let what = format!("PT_LOAD segment {index} (physical address {:#x})", load.paddr);
            return Err(self.truncated(&what, end));
        }
        Ok(Some(load))
    }

    fn append_notes(&self, phdr: &ProgramHeader64<LE>, notes: &mut Vec<u8>) -> Result<()> {
        let len = phdr.p_filesz.get(LE);
        let total = align_up(len, 4).and_then(|len| len.checked_add(notes.len() as u64));
        if total.is_none_or(|total| total > MAX_NOTES) {
            return Err(self
                .damaged(format!("its notes have more than {MAX_NOTES} bytes"))
                .next_step("the header is damaged, or device dumps fill it: boot the capture kernel with novmcoredd"));
        }
        // Padding after the last note would hide the next segment's notes.
        notes.truncate(note::notes(notes).last().map_or(0, |last| last.end));
        notes.extend(self.bytes("the notes", phdr.p_offset.get(LE), len)?);
        notes.resize(notes.len().next_multiple_of(4), 0);
        Ok(())
    }
}
