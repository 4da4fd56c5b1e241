//! ELF core headers as kexec-tools or the kernel (kexec_file_load) lay them out for a capture kernel.
//!
//! Knows that their offsets are physical addresses in the old memory, and that a backup region lies elsewhere than it
//! came from. Must not know what the notes say. Makes what `raw` needs.

use std::{fs::File, path::Path};

use super::{Given, Raw, check_end};
use crate::{
    error::{Error, Result},
    source::{
        Load, MAX_READ, Notes, NotesReader, RamMap,
        elf::{self, Core, Headers},
        store::{FileStore, Part, Store, StoreError, read_all, read_start},
    },
    sys::file::open_regular,
};

/// Headers at a physical address, with `size` bytes at most.
pub(super) fn at(path: &Path, store: &dyn Store, address: u64, size: Option<u64>) -> Result<Raw> {
    let left = store.size().saturating_sub(address);
    let part = Part { whole: store, start: address, len: size.unwrap_or(left).min(left) };
    let cannot = |cause: String| {
        Error::input(format!("cannot find ELF core headers at {address:#x} of {}", path.display()))
            .because(cause)
            .next_step("the capture kernel's command line says where they are: elfcorehdr=[SIZE@]ADDR")
    };
    let magic = read_start(&part, 4).map_err(|error| match error {
        StoreError::Failed(cause) => Error::input(format!("cannot read {address:#x} of {}", path.display()))
            .because(cause)
            .next_step("if it is /dev/mem: kernels with CONFIG_STRICT_DEVMEM give no memory; use /proc/vmcore"),
        StoreError::Truncated(_) => cannot("it ends there".to_owned()),
    })?;
    if magic != b"\x7fELF" {
        let cause = if left == 0 {
            format!("it has only {:#x} bytes", store.size())
        } else {
            "no ELF header is there".to_owned()
        };
        return Err(cannot(cause));
    }
    let name = format!("the ELF core headers at {address:#x} of {}", path.display());
    let headers = Core { name, store: &part }.headers()?;
    let given = Given { by: format!("RAM as the core headers at {address:#x} say"), remarks: Vec::new() };
    physical(path, store, headers, given, Vec::new())
}

/// Headers in `file`.
pub(super) fn in_file(path: &Path, store: &dyn Store, file: &Path) -> Result<Raw> {
    let cannot = |error: &std::io::Error| {
        Error::io(file, "read the ELF core headers in", error)
            .next_step("give a file, or a physical address: 0x..., or a number with K, M or G")
    };
    let opened = open_regular(file).map_err(|error| cannot(&error))?;
    let held = FileStore::new(opened.try_clone().map_err(|error| cannot(&error))?).map_err(|error| cannot(&error))?;
    let core = Core { name: format!("the ELF core headers {}", file.display()), store: &held };
    if read_start(&held, 4).is_ok_and(|magic| magic != b"\x7fELF") {
        return Err(core
            .damaged("it is no ELF file")
            .next_step("give the core headers of a capture kernel, or a saved /proc/iomem with --iomem"));
    }
    let headers = core.headers()?;
    let mut given = Given { by: format!("RAM as the core headers {} say", file.display()), remarks: Vec::new() };
    if offsets_are_addresses(&headers.loads, held.size()) {
        return physical(path, store, headers, given, vec![opened]);
    }
    given.remarks.push(format!(
        "{} is a core of its own, whose offsets are its own too: what it says about RAM and its notes were taken, \
         contents come from {}",
        file.display(),
        path.display()
    ));
    let loads: Vec<Load> = headers.loads.iter().map(|load| Load { offset: load.paddr, ..*load }).collect();
    let segments = headers.notes.iter().map(|(offset, filesz, _)| (*offset, *filesz));
    let notes = notes(&core, segments, false, &mut given);
    raw(path, store, Headers { loads, ..headers }, notes, given, vec![opened])
}

/// Whether offsets lead into old memory. In the headers of a capture kernel they are the physical addresses themselves,
/// but for a backup region; and a file of headers does not have what they lead to.
fn offsets_are_addresses(loads: &[Load], file_size: u64) -> bool {
    let in_file = |load: &Load| load.offset.checked_add(load.filesz).is_some_and(|end| end <= file_size);
    loads.iter().any(|load| load.offset == load.paddr) && !loads.iter().all(in_file)
}

/// Takes offsets as addresses in `store`.
fn physical(path: &Path, store: &dyn Store, mut headers: Headers, mut given: Given, files: Vec<File>) -> Result<Raw> {
    let moved = headers.loads.iter_mut().filter(|load| load.offset != load.paddr);
    for load in moved.take(MOST_BACKUPS).filter(|load| awaits_backup(store, load)) {
        given.remarks.push(format!(
            "the backup of {:#x} bytes of memory at {:#x} is empty: the kernel had not crashed yet, and they were taken \
             from where they are",
            load.memsz, load.paddr
        ));
        load.offset = load.paddr;
    }
    let contents = Core { name: path.display().to_string(), store };
    let segments = headers.notes.iter().map(|(offset, _, memsz)| (*offset, *memsz));
    let notes = notes(&contents, segments, true, &mut given);
    raw(path, store, headers, notes, given, files)
}

/// More than any backup region has: 640 KiB.
const MOST_BACKUP: u64 = MAX_READ as u64;
/// kexec-tools makes one; bounds what hostile headers make us read.
const MOST_BACKUPS: usize = 16;

/// Whether a segment leads to a backup region that is still empty: purgatory fills it on the way to the capture kernel, and
/// before a crash kexec leaves zeros there.
fn awaits_backup(store: &dyn Store, load: &Load) -> bool {
    let is_zero = |offset| read_all(store, offset, load.memsz).is_ok_and(|bytes| bytes.iter().all(|byte| *byte == 0));
    load.memsz <= MOST_BACKUP && is_zero(load.offset) && !is_zero(load.paddr)
}

/// The notes in all segments. One that cannot be read loses only itself: the memory is worth more than the registers of a CPU.
/// Large ones stay where they are if that `is_memory`, which outputs are written from.
fn notes(core: &Core<'_>, segments: impl Iterator<Item = (u64, u64)>, is_memory: bool, given: &mut Given) -> Notes {
    let mut notes = NotesReader::new(is_memory);
    let mut failed = (0u64, None);
    for (offset, len) in segments {
        if let Err(error) = core.notes(&mut notes, offset, len) {
            failed.0 += 1;
            failed.1.get_or_insert(error);
        }
    }
    if let (count, Some(error)) = failed {
        given.remarks.push(format!("{count} segments of notes are missing: {error}"));
    }
    let (mut notes, remarks) = notes.finish();
    given.remarks.extend(remarks);
    notes.trim();
    notes
}

fn raw(path: &Path, store: &dyn Store, headers: Headers, notes: Notes, given: Given, files: Vec<File>) -> Result<Raw> {
    // All of a segment is there: memory has no part that a file could leave out.
    let whole = |load: Load| Load { filesz: load.memsz, ..load };
    let loads: Vec<Load> = headers.loads.into_iter().map(whole).collect();
    let mut last = Some(0);
    for load in &loads {
        last = last.zip(load.offset.checked_add(load.memsz)).map(|(last, end)| end.max(last));
    }
    check_end(path, store, last, "the memory that the core headers describe")?;
    let elf::Elf { machine, loads, notes, .. } = elf::finish(headers.class, headers.machine, loads, notes);
    let ram = RamMap::from_loads(&loads);
    Ok(Raw { machine, loads, ram, notes, given, files })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(paddr: u64, offset: u64) -> Load {
        Load { paddr, vaddr: 0, offset, filesz: 0x1000, memsz: 0x1000 }
    }

    #[test]
    fn a_core_of_its_own_is_told_from_headers() {
        // A backup region lies elsewhere; the others are where they were.
        assert!(offsets_are_addresses(&[load(0, 0x3000_0000), load(0x10_0000, 0x10_0000)], 4096));
        assert!(!offsets_are_addresses(&[load(0, 0x2000), load(0x10_0000, 0x3000)], 0x4000));
        // The front of a core, cut off behind its headers.
        assert!(!offsets_are_addresses(&[load(0, 0x2000), load(0x10_0000, 0x3000)], 0x1000));
        // By chance one offset is an address; but the file has all the memory.
        assert!(!offsets_are_addresses(&[load(0x2000, 0x2000), load(0x10_0000, 0x3000)], 0x4000));
    }
}
