//! An uncompressed x86_64 kernel, the ELF file `vmlinux`.
//!
//! Knows its program headers. Such a kernel says it wants to lie at 16 MiB, but its entry code takes any physical address
//! that is 2 MiB-aligned away from that (`__startup_64` in arch/x86/kernel/head64.c corrects its page tables by the
//! difference), so the plan may move it.

use object::{
    LittleEndian as LE,
    elf::{ELFCLASS64, ELFDATA2LSB, EM_X86_64, ET_DYN, ET_EXEC, FileHeader64, PT_LOAD, ProgramHeader64},
    pod,
};

/// No kernel is larger in memory; bounds what a damaged header makes us allocate.
const MOST: u64 = 512 << 20;
/// What `__startup_64` demands of the distance.
pub const ALIGNMENT: u64 = 2 << 20;

/// The kernel as it lies in memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vmlinux {
    /// Its bytes, up to the last one that the file has.
    pub bytes: Vec<u8>,
    /// Bytes of memory that it takes, its bss included.
    pub memory: u64,
    /// Where it would like to lie: the physical address of its first byte.
    pub preferred: u64,
    /// Its entry, from its first byte.
    pub entry: u64,
}

impl Vmlinux {
    /// Bytes of the file that are loaded, from its beginning; `None` where `head`, the file's first bytes, does not say. What
    /// follows is debug information.
    #[must_use]
    pub fn needed(head: &[u8]) -> Option<u64> {
        let (header, _) = pod::from_bytes::<FileHeader64<LE>>(head).ok()?;
        let table = head.get(usize::try_from(header.e_phoff.get(LE)).ok()?..)?;
        let (headers, _) =
            pod::slice_from_bytes::<ProgramHeader64<LE>>(table, usize::from(header.e_phnum.get(LE))).ok()?;
        let loads = headers.iter().filter(|header| header.p_type.get(LE) == PT_LOAD);
        loads.map(|load| load.p_offset.get(LE).saturating_add(load.p_filesz.get(LE))).max()
    }

    /// Lays out the segments of `file` as they will lie in memory.
    ///
    /// # Errors
    /// When it is no x86_64 kernel, or damaged.
    pub fn parse(file: &[u8]) -> Result<Self, String> {
        let damaged = |what: &str| format!("its ELF header is damaged: {what}");
        let (header, _) = pod::from_bytes::<FileHeader64<LE>>(file).map_err(|()| damaged("it is truncated"))?;
        if header.e_ident.class != ELFCLASS64 || header.e_ident.data != ELFDATA2LSB {
            return Err("it is not a 64-bit little-endian ELF file".to_owned());
        }
        if header.e_machine.get(LE) != EM_X86_64 {
            return Err(format!("it is an ELF file for another machine ({})", header.e_machine.get(LE).0));
        }
        let kind = header.e_type.get(LE);
        if kind != ET_EXEC && kind != ET_DYN {
            return Err("it is an ELF file, but not an executable one (a module, or a core?)".to_owned());
        }
        let table = usize::try_from(header.e_phoff.get(LE)).ok().and_then(|at| file.get(at..));
        let count = usize::from(header.e_phnum.get(LE));
        let (headers, _) = table
            .and_then(|table| pod::slice_from_bytes::<ProgramHeader64<LE>>(table, count).ok())
            .ok_or_else(|| damaged("its program headers are missing"))?;
        let is_load = |header: &&ProgramHeader64<LE>| header.p_type.get(LE) == PT_LOAD && header.p_memsz.get(LE) > 0;
        if !headers.iter().filter(is_load).any(|header| header.p_vaddr.get(LE) >> 63 == 1) {
            return Err("it is a program, not a kernel".to_owned());
        }
        let loads: Vec<_> = headers
            .iter()
            .filter(is_load)
            .map(|header| Load::of(header, file).ok_or_else(|| damaged("a segment lies outside of the file")))
            .collect::<Result<_, _>>()?;
        let start = loads.iter().map(|load| load.at).min().ok_or_else(|| damaged("it has no segment to load"))?;
        let end = loads.iter().filter_map(|load| load.at.checked_add(load.memory)).max().unwrap_or(start);
        let (start, memory) = (start & !(ALIGNMENT - 1), end.saturating_sub(start & !(ALIGNMENT - 1)));
        if memory > MOST || loads.iter().any(|load| load.at.checked_add(load.memory).is_none()) {
            return Err(format!("it would take {memory} bytes of memory: it is no kernel, or damaged"));
        }
        let entry = header.e_entry.get(LE);
        let inside = loads.iter().any(|load| (load.at..load.at + load.memory).contains(&entry));
        if !inside {
            return Err(format!("its entry {entry:#x} is not in what it loads: the file is damaged"));
        }
        Ok(Self { bytes: lay_out(&loads, start), memory, preferred: start, entry: entry - start })
    }
}

struct Load<'a> {
    /// Physical address.
    at: u64,
    memory: u64,
    bytes: &'a [u8],
}

impl<'a> Load<'a> {
    fn of(header: &ProgramHeader64<LE>, file: &'a [u8]) -> Option<Self> {
        let start = usize::try_from(header.p_offset.get(LE)).ok()?;
        let end = start.checked_add(usize::try_from(header.p_filesz.get(LE)).ok()?)?;
        let memory = header.p_memsz.get(LE);
        let bytes = file.get(start..end).filter(|bytes| bytes.len() as u64 <= memory)?;
        Some(Self { at: header.p_paddr.get(LE), memory, bytes })
    }
}

/// The caller has checked that everything lies within [`MOST`] of `start`.
fn lay_out(loads: &[Load<'_>], start: u64) -> Vec<u8> {
    let in_file = || loads.iter().filter(|load| !load.bytes.is_empty());
    let end = in_file().map(|load| load.at - start + load.bytes.len() as u64).max().unwrap_or(0);
    let mut bytes = vec![0; end as usize];
    for load in in_file() {
        let at = (load.at - start) as usize;
        bytes[at..at + load.bytes.len()].copy_from_slice(load.bytes);
    }
    bytes
}
