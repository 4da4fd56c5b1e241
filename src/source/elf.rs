//! ELF cores of 64 and 32 bits: `/proc/vmcore`, copies of it, and QEMU's dump-guest-memory.
//!
//! Knows file, program and section headers, wherever they lie in the file. Must not know what the kernel put in its
//! memory. Makes a `Source`.

use std::path::Path;

use object::{
    LittleEndian as LE,
    elf::{self, FileHeader32, FileHeader64, Machine},
    pod,
    read::elf::{FileHeader, ProgramHeader as _, SectionHeader as _},
};

use super::{
    Load, Notes, NotesReader, RamMap,
    store::{Store, StoreError, read_all},
};
use crate::{
    arch,
    error::{Error, Result},
    format::{
        elf::{Class, FLAG_INCOMPLETE, NO_PADDR},
        note,
    },
};

/// More segments than any machine has (a LOAD for every page of 4 GiB); bounds what a hostile file can make us hold.
const MAX_LOADS: u64 = 1 << 20;

/// Pages of any machine are a multiple of this, bytes.
const SMALLEST_PAGE: u64 = 4096;

/// What an ELF core says about itself.
#[derive(Debug)]
pub(super) struct Elf {
    pub(super) class: Class,
    pub(super) machine: Machine,
    pub(super) loads: Vec<Load>,
    pub(super) notes: Notes,
    /// What is to be said about them.
    pub(super) remarks: Vec<String>,
    /// Its writer marked it as incomplete.
    pub(super) incomplete: bool,
    /// What the writer did not come to, if it left a plan.
    unwritten: Option<Unwritten>,
}

/// The plan of a core whose writer was ended before it was done.
#[derive(Debug)]
struct Unwritten {
    /// Where the file would end, bytes.
    end: u64,
    /// The memory that the file would have data of, with the place of that.
    loads: Vec<Load>,
}

impl Elf {
    /// One past the last byte of the file that a segment has; [`Elf::loads`] may reach past the end of a file that was cut
    /// short.
    pub(super) fn end(&self) -> u64 {
        let planned = self.unwritten.as_ref().map_or(0, |unwritten| unwritten.end);
        self.shown_end().max(planned)
    }

    fn shown_end(&self) -> u64 {
        self.loads.iter().map(|load| load.offset.saturating_add(load.filesz)).max().unwrap_or(0)
    }

    /// What `size` bytes of the file hold, as the map of what is there and the map of what was there. The page in which the
    /// file ends is lost whole.
    ///
    /// `None`: nothing is missing.
    pub(super) fn cut(&self, size: u64) -> Option<(RamMap, RamMap)> {
        if let Some(unwritten) = &self.unwritten {
            // What is shown was on the disk before; a copy may have lost some of it again.
            let there = self.cut_copy(size).map_or_else(|| RamMap::from_loads(&self.loads), |(there, _)| there);
            let all: Vec<Load> = self.loads.iter().chain(&unwritten.loads).copied().collect();
            return Some((there, RamMap::from_loads(&all)));
        }
        self.cut_copy(size)
    }

    fn cut_copy(&self, size: u64) -> Option<(RamMap, RamMap)> {
        // Other machines have pages of up to 64 KiB, and only the notes tell.
        let shift = arch::named(self.machine).and_then(|named| named.page_shift);
        let page = shift.map_or(64 << 10, |shift| 1 << shift);
        (self.shown_end() > size).then(|| RamMap::from_cut_loads(&self.loads, size, page))
    }
}

/// What the headers alone say: nothing that they lead to was looked at.
#[derive(Debug)]
pub(super) struct Headers {
    pub(super) machine: Machine,
    /// `e_flags`
    pub(super) flags: u32,
    pub(super) class: Class,
    /// `e_entry`: in a core that is being written, its final size in bytes.
    pub(super) planned: u64,
    pub(super) loads: Vec<Load>,
    /// Segments that show nothing yet: physical address and file offset.
    pub(super) empty: Vec<(u64, u64)>,
    /// Offset, bytes in the file and bytes in memory of each `PT_NOTE`.
    pub(super) notes: Vec<(u64, u64, u64)>,
}

/// Parses the headers and notes of the ELF core in `store`; `path` is for messages.
pub(super) fn parse(path: &Path, store: &dyn Store) -> Result<Elf> {
    let core = Core { name: path.display().to_string(), store };
    let Headers { machine, flags, class, planned, loads, empty, notes: segments } = core.headers()?;
    let marked = flags & FLAG_INCOMPLETE.0 != 0;
    let unwritten = (marked && planned > 0).then(|| unwritten(planned, &loads, &empty));
    let mut notes = NotesReader::new(true);
    for (offset, len, _) in segments {
        core.notes(&mut notes, offset, len)?;
    }
    let (notes, remarks) = notes.finish();
    let mut found = finish(class, machine, loads, notes);
    found.remarks = remarks;
    // Other machines have flags of their own there; but no other core has an entry point.
    let known = arch::named(found.machine).is_some_and(|named| named.has_no_flags);
    found.incomplete = marked && (known || unwritten.is_some());
    found.unwritten = unwritten;
    Ok(found)
}

/// What the writer would have written: data follows data, so each segment's goes on to where the next one's begins.
fn unwritten(end: u64, loads: &[Load], empty: &[(u64, u64)]) -> Unwritten {
    let begun = loads.iter().map(|load| (load.paddr, load.offset));
    let mut places: Vec<(u64, u64)> = begun.chain(empty.iter().copied()).collect();
    places.sort_unstable_by_key(|(_, offset)| *offset);
    let mut loads = Vec::with_capacity(places.len());
    let mut next = end;
    for same in places.chunk_by(|one, other| one.1 == other.1).rev() {
        let offset = same[0].1;
        let len = next.saturating_sub(offset);
        let load =
            |(paddr, offset): &(u64, u64)| Load { paddr: *paddr, vaddr: 0, offset: *offset, filesz: len, memsz: len };
        // Segments without data of their own have the next one's place.
        let last = same.iter().filter(|(paddr, _)| paddr.checked_add(len).is_some()).max_by_key(|(paddr, _)| *paddr);
        loads.extend(last.map(load).filter(|load| load.memsz > 0));
        next = next.min(offset);
    }
    Unwritten { end, loads }
}

/// Puts together what was read, after a look at who wrote it.
pub(super) fn finish(class: Class, machine: Machine, mut loads: Vec<Load>, notes: Notes) -> Elf {
    let info = note::notes(notes.held()).find(|note| note.name == note::VMCOREINFO);
    let truly = info.map_or(machine, |info| arch::true_machine(machine, info.desc));
    if truly != machine {
        // The upper half of each virtual address was cut off.
        loads.iter_mut().for_each(|load| load.vaddr = load.paddr);
    }
    // Only the headers are narrow there.
    let class = if truly == machine { class } else { Class::Elf64 };
    Elf { class, machine: truly, loads, notes, remarks: Vec::new(), incomplete: false, unwritten: None }
}

/// A store that has an ELF core, or what its headers lead to, and what to call it.
pub(super) struct Core<'a> {
    pub(super) name: String,
    pub(super) store: &'a dyn Store,
}

impl Core<'_> {
    pub(super) fn damaged(&self, cause: impl std::fmt::Display) -> Error {
        Error::input(format!("cannot use {}", self.name)).because(cause)
    }

    fn truncated(&self, what: &str, end: Option<u64>) -> Error {
        let end = end.map_or_else(|| "past any file's end".to_owned(), |end| format!("at byte {end}"));
        self.damaged(format!("{what} would end {end}, but the file has {} bytes", self.store.size()))
            .next_step("the copy was truncated or the header is damaged: copy the dump again")
    }

    /// Reads `len` bytes at `offset` after checking that the store has them, so that nothing is allocated for a lie.
    fn bytes(&self, what: &str, offset: u64, len: u64) -> Result<Vec<u8>> {
        read_all(self.store, offset, len).map_err(|error| self.unread(what, offset.checked_add(len), error))
    }

    fn unread(&self, what: &str, end: Option<u64>, error: StoreError) -> Error {
        match error {
            StoreError::Truncated(_) => self.truncated(what, end),
            StoreError::Failed(cause) => Error::input(format!("cannot read {what} of {}", self.name)).because(cause),
        }
    }

    /// Adds the notes in `len` bytes at `offset` to `notes`.
    pub(super) fn notes(&self, notes: &mut NotesReader, offset: u64, len: u64) -> Result<()> {
        notes.append(self.store, offset, len).map_err(|error| self.unread("the notes", offset.checked_add(len), error))
    }

    fn structure<T: pod::Pod>(&self, what: &str, offset: u64) -> Result<T> {
        let bytes = self.bytes(what, offset, size_of::<T>() as u64)?;
        pod::from_bytes::<T>(&bytes)
            .map(|(value, _)| *value)
            .map_err(|()| self.damaged(format!("{what} cannot be read")))
    }

    /// Reads the headers, of 64 or 32 bits.
    pub(super) fn headers(&self) -> Result<Headers> {
        let ident: elf::FileHeader32<LE> = self.structure("the ELF header", 0)?;
        let ident = ident.e_ident;
        if ident.data != elf::ELFDATA2LSB {
            return Err(self
                .damaged("it is a big-endian ELF file")
                .next_step("dumps of s390x and big-endian POWER machines are not read"));
        }
        match ident.class {
            elf::ELFCLASS64 => self.parse::<FileHeader64<LE>>(),
            elf::ELFCLASS32 => self.parse::<FileHeader32<LE>>(),
            other => Err(self
                .damaged(format!("its ELF class {} is neither 32 nor 64 bits", other.0))
                .next_step("the header is damaged: copy the dump again")),
        }
    }

    fn parse<E: FileHeader<Endian = LE>>(&self) -> Result<Headers> {
        let header: E = self.structure("the ELF header", 0)?;
        if header.e_type(LE) != elf::ET_CORE {
            return Err(self
                .damaged("it is an ELF program or library, not a core")
                .next_step("give /proc/vmcore or a copy of it, not vmlinux"));
        }
        let (mut loads, mut empty) = (Vec::new(), Vec::new());
        let mut notes = Vec::new();
        for phdr in self.program_headers(&header)? {
            match phdr.p_type(LE) {
                elf::PT_LOAD if phdr.p_memsz(LE).into() == 0 => {
                    let place = (phdr.p_paddr(LE).into(), phdr.p_offset(LE).into());
                    empty.extend(Some(place).filter(|(paddr, _)| *paddr != no_address::<E>()));
                }
                elf::PT_LOAD => loads.extend(self.load::<E>(&phdr, loads.len())?),
                elf::PT_NOTE => {
                    notes.push((phdr.p_offset(LE).into(), phdr.p_filesz(LE).into(), phdr.p_memsz(LE).into()));
                }
                _ => {}
            }
        }
        let flags = header.e_flags(LE).0;
        if loads.is_empty() && !empty.is_empty() && flags & FLAG_INCOMPLETE.0 != 0 {
            return Err(self
                .damaged("its writer was ended before any page of memory was on the disk")
                .next_step("there is nothing in it: look for another copy of the dump"));
        }
        if loads.is_empty() {
            return Err(self
                .damaged("it has no PT_LOAD segment")
                .next_step("this is not a dump of a machine's memory"));
        }
        let class = if E::is_type_64_sized() { Class::Elf64 } else { Class::Elf32 };
        let (machine, planned) = (header.e_machine(LE), header.e_entry(LE).into());
        Ok(Headers { machine, flags, class, planned, loads, empty, notes })
    }

    fn program_headers<E: FileHeader<Endian = LE>>(&self, header: &E) -> Result<Vec<E::ProgramHeader>> {
        let count = self.program_header_count(header)?;
        let (entry, expected) = (header.e_phentsize(LE), size_of::<E::ProgramHeader>());
        if usize::from(entry) != expected {
            return Err(self.damaged(format!("its program headers have {entry} bytes each, not {expected}")));
        }
        if count == 0 || count > MAX_LOADS {
            return Err(self.damaged(format!("it claims {count} program headers")));
        }
        let bytes = self.bytes("the program header table", header.e_phoff(LE).into(), count * expected as u64)?;
        let (headers, _) = pod::slice_from_bytes::<E::ProgramHeader>(&bytes, count as usize)
            .map_err(|()| self.damaged("the program header table cannot be read"))?;
        Ok(headers.to_vec())
    }

    fn program_header_count<E: FileHeader<Endian = LE>>(&self, header: &E) -> Result<u64> {
        let count = header.e_phnum(LE);
        if count != elf::PN_XNUM {
            return Ok(count.into());
        }
        let section: E::SectionHeader = self.structure("the first section header", header.e_shoff(LE).into())?;
        Ok(section.sh_info(LE).into())
    }

    fn load<E: FileHeader<Endian = LE>>(&self, phdr: &E::ProgramHeader, index: usize) -> Result<Option<Load>> {
        let mut load = Load {
            paddr: phdr.p_paddr(LE).into(),
            vaddr: phdr.p_vaddr(LE).into(),
            offset: phdr.p_offset(LE).into(),
            filesz: phdr.p_filesz(LE).into(),
            memsz: phdr.p_memsz(LE).into(),
        };
        // These describe virtual memory only: in /proc/kcore, and in dumps made with --virtual.
        if load.paddr == no_address::<E>() {
            return Ok(None);
        }
        if load.filesz > load.memsz || load.paddr.checked_add(load.memsz).is_none() {
            return Err(self
                .damaged(format!("PT_LOAD segment {index} has impossible sizes"))
                .next_step("the header is damaged: copy the dump again"));
        }
        // A producer that does not know the address writes 0 (QEMU) or -1.
        let unknown = load.vaddr == 0 && !load.paddr.is_multiple_of(SMALLEST_PAGE);
        if unknown || load.vaddr == no_address::<E>() {
            load.vaddr = load.paddr;
        }
        // What lies past the end of the file is lost; a copy that was truncated may be the only one.
        if load.offset.checked_add(load.filesz).is_none() {
            let what = format!("PT_LOAD segment {index} (physical address {:#x})", load.paddr);
            return Err(self.truncated(&what, None));
        }
        Ok(Some(load))
    }
}

/// No address.
fn no_address<E: FileHeader<Endian = LE>>() -> u64 {
    if E::is_type_64_sized() { NO_PADDR } else { u32::MAX.into() }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::source::store::FileStore;

    /// A 32-bit core of one page, with VMCOREINFO, laid out by hand.
    fn core32(vmcoreinfo: &str) -> FileStore {
        core32_at(0xc010_0000, vmcoreinfo)
    }

    fn core32_at(vaddr: u32, vmcoreinfo: &str) -> FileStore {
        let mut notes = Vec::new();
        note::push(&mut notes, note::VMCOREINFO, 0, vmcoreinfo.as_bytes());
        let half = |value: u16| value.to_le_bytes().to_vec();
        let word = |value: u32| value.to_le_bytes().to_vec();
        let mut bytes = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        bytes.extend([half(4), half(3), word(1), word(0), word(52), word(0), word(0)].concat());
        bytes.extend([half(52), half(32), half(2), half(0), half(0), half(0)].concat());
        let phdr = |kind, offset, vaddr, paddr, size| {
            [kind, offset, vaddr, paddr, size, size, 0, 0].map(u32::to_le_bytes).concat()
        };
        bytes.extend(phdr(4, 116, 0, 0, notes.len() as u32));
        bytes.extend(phdr(1, 4096, vaddr, 0x10_0000, 4096));
        bytes.extend(notes);
        bytes.resize(8192, 7);
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        FileStore::new(file).unwrap()
    }

    #[test]
    fn cores_of_32_bits_are_read() {
        let core = parse(Path::new("core"), &core32("OSRELEASE=6.1\nSYMBOL(swapper_pg_dir)=c1234000\n")).unwrap();
        assert_eq!(core.machine, elf::EM_386);
        let expected = Load { paddr: 0x10_0000, vaddr: 0xc010_0000, offset: 4096, filesz: 4096, memsz: 4096 };
        assert_eq!(core.loads, [expected]);
        assert_eq!(note::notes(core.notes.held()).count(), 1);
    }

    #[test]
    fn a_virtual_address_is_kept_wherever_it_begins() {
        for (vaddr, kept) in [(0xc010_0800, 0xc010_0800), (0, 0), (u32::MAX, 0x10_0000)] {
            let core = parse(Path::new("core"), &core32_at(vaddr, "OSRELEASE=3.10\n")).unwrap();
            assert_eq!(core.loads[0].vaddr, kept, "{vaddr:#x}");
        }
    }

    #[test]
    fn a_64_bit_kernel_behind_32_bit_headers_is_told_by_its_symbols() {
        let core = parse(Path::new("core"), &core32("SYMBOL(swapper_pg_dir)=ffffffff8a010000\n")).unwrap();
        assert_eq!(core.machine, elf::EM_X86_64);
        assert_eq!(core.loads[0].vaddr, core.loads[0].paddr);
    }
}
