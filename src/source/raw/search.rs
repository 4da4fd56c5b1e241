//! The VMCOREINFO note in memory that nobody described: by its address, or by its content.
//!
//! Knows how the note looks. Must not choose between two kernels' notes. What is found goes to `raw`.

use std::path::Path;

use object::elf::{EM_AARCH64, EM_NONE, EM_RISCV, EM_X86_64, Machine};

use crate::{
    error::{Error, Result},
    format::note::{self, VMCOREINFO},
    source::{
        MAX_READ, RamMap,
        store::{Store, StoreReader},
    },
};

/// Everything up to the text: three words, the name, its padding.
const HEADER: usize = 24;
/// The first key of every kernel since 2.6.24.
const FIRST_KEY: &[u8] = b"OSRELEASE=";
/// A page of 64 KiB; the kernel gives the text one page.
const MOST_TEXT: usize = 64 << 10;
const PAGE: u64 = 4096;
/// So many different notes are remembered; bounds what a hostile memory makes us hold.
const MOST_FOUND: usize = 16;
/// So many places that only look like a note are looked at closely, besides those where a page begins.
const MOST_LOOKS: usize = 4096;

/// A VMCOREINFO note.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Found {
    /// Physical address of the note.
    paddr: u64,
    /// What it says.
    pub(super) text: Vec<u8>,
    /// Other notes that were passed over.
    others: usize,
}

impl Found {
    /// What to tell the user about it.
    pub(super) fn remark(&self, named: bool) -> Option<String> {
        let others = match self.others {
            0 => String::new(),
            count => format!("; {count} others that do not begin a page were passed over"),
        };
        (!named).then(|| format!("VMCOREINFO was found by its content at {:#x}{others}", self.paddr))
    }
}

/// The note at `address`.
pub(super) fn at(path: &Path, store: &dyn Store, address: u64) -> Result<Found> {
    let text = text_at(store.reader().as_mut(), store.size(), address);
    text.map(|text| Found { paddr: address, text, others: 0 }).ok_or_else(|| {
        Error::input(format!("cannot use {}", path.display()))
            .because(format!("there is no VMCOREINFO note at {address:#x}"))
            .next_step("the kernel's own /sys/kernel/vmcoreinfo has the right address, as its first number")
    })
}

/// Searches all RAM. A note that begins a page is the kernel's own (since 4.13, `crash_save_vmcoreinfo_init`) and is preferred
/// to others, which may be copies in files or the note of an old kernel.
pub(super) fn find(path: &Path, store: &dyn Store, ram: &RamMap) -> Result<Option<Found>> {
    let mut search = Search { store, close: store.reader(), looks: 0, at_pages: Vec::new(), elsewhere: Vec::new() };
    search.run(ram);
    let Search { at_pages, elsewhere, .. } = search;
    let others = if at_pages.is_empty() { 0 } else { elsewhere.len() };
    let mut found = if at_pages.is_empty() { elsewhere } else { at_pages };
    match found.len() {
        0 | 1 => Ok(found.pop().map(|(paddr, text)| Found { paddr, text, others })),
        _ => {
            let one = |(paddr, text): &(u64, Vec<u8>)| {
                let release = text[FIRST_KEY.len()..].split(|byte| *byte == b'\n').next().unwrap_or_default();
                format!("{paddr:#x} ({})", String::from_utf8_lossy(release))
            };
            let all: Vec<String> = found.iter().map(one).collect();
            Err(Error::input(format!("cannot tell which VMCOREINFO note in {} is the kernel's", path.display()))
                .because(format!("there are different ones at {}", all.join(", ")))
                .next_step("name one with --vmcoreinfo ADDR"))
        }
    }
}

struct Search<'a> {
    store: &'a dyn Store,
    /// For a closer look while the memory is gone through with another reader.
    close: Box<dyn StoreReader + 'a>,
    looks: usize,
    at_pages: Vec<(u64, Vec<u8>)>,
    elsewhere: Vec<(u64, Vec<u8>)>,
}

impl Search<'_> {
    fn run(&mut self, ram: &RamMap) {
        let mut reader = self.store.reader();
        for piece in ram.pieces() {
            let mut at = piece.paddr.next_multiple_of(4);
            while at < piece.end() {
                let end = (at - at % MAX_READ as u64 + MAX_READ as u64).min(piece.end());
                self.look_through(reader.as_mut(), at, end);
                at = end;
            }
        }
    }

    /// Where a stretch cannot be read at once, page by page.
    fn look_through(&mut self, reader: &mut dyn StoreReader, start: u64, end: u64) {
        if let Ok(bytes) = reader.read(start, (end - start) as usize) {
            return self.look_at(start, bytes);
        }
        let mut at = start;
        while at < end {
            let stop = (at - at % PAGE + PAGE).min(end);
            if let Ok(bytes) = reader.read(at, (stop - at) as usize) {
                self.look_at(at, bytes);
            }
            at = stop;
        }
    }

    /// `bytes` are the memory at `start`, a multiple of 4.
    fn look_at(&mut self, start: u64, bytes: &[u8]) {
        let name_len = (VMCOREINFO.len() as u32 + 1).to_le_bytes();
        for (index, _) in bytes.chunks_exact(4).enumerate().filter(|(_, word)| *word == name_len) {
            let paddr = start + index as u64 * 4;
            let name = bytes.get(index * 4 + 12..).unwrap_or_default();
            let known = name.len().min(VMCOREINFO.len());
            // What a stretch ends in the middle of gets its look too.
            if name[..known] == VMCOREINFO[..known] {
                self.look_closely(paddr);
            }
        }
    }

    fn look_closely(&mut self, paddr: u64) {
        let begins_page = paddr.is_multiple_of(PAGE);
        if !begins_page {
            self.looks += 1;
        }
        let found = if begins_page { &mut self.at_pages } else { &mut self.elsewhere };
        if found.len() >= MOST_FOUND || !begins_page && self.looks > MOST_LOOKS {
            return;
        }
        if let Some(text) = text_at(self.close.as_mut(), self.store.size(), paddr)
            && !found.iter().any(|(_, known)| *known == text)
        {
            found.push((paddr, text));
        }
    }
}

/// The text of the note at `paddr`, if a whole and believable one is there.
fn text_at(reader: &mut dyn StoreReader, size: u64, paddr: u64) -> Option<Vec<u8>> {
    let head = reader.read(paddr, HEADER).ok()?;
    let len = u32::from_le_bytes(head.get(4..8)?.try_into().ok()?) as usize;
    let end = paddr.checked_add((HEADER + len) as u64)?;
    if len > MOST_TEXT || end > size {
        return None;
    }
    let bytes = reader.read(paddr, HEADER + len).ok()?;
    let note = note::notes(bytes).next().filter(|note| note.name == VMCOREINFO && note.kind == 0)?;
    believable(note.desc).then(|| note.desc.to_vec())
}

/// Lines of `KEY=VALUE` in plain characters, as the kernel prints them.
fn believable(text: &[u8]) -> bool {
    let used = text.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let text = &text[..used];
    let mut lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    text.starts_with(FIRST_KEY)
        && text.iter().all(|byte| matches!(byte, b'\n' | b' '..=b'~'))
        && lines.clone().any(|line| line.starts_with(b"PAGESIZE="))
        && lines.all(|line| line.contains(&b'='))
}

/// The machine whose kernel says this: by what only one architecture exports (`arch_crash_save_vmcoreinfo`).
pub(super) fn machine(text: &[u8]) -> Machine {
    let exports = |key: &[u8]| text.split(|byte| *byte == b'\n').any(|line| line.starts_with(key));
    match () {
        () if exports(b"NUMBER(phys_base)=") || exports(b"SYMBOL(phys_base)=") => EM_X86_64,
        () if exports(b"NUMBER(kimage_voffset)=") => EM_AARCH64,
        () if exports(b"NUMBER(va_kernel_pa_offset)=") => EM_RISCV,
        () => EM_NONE,
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::source::{Piece, store::FileStore};

    const TEXT: &[u8] = b"OSRELEASE=6.1.0\nPAGESIZE=4096\nNUMBER(phys_base)=4096\n";

    fn noted(text: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        note::push(&mut bytes, VMCOREINFO, 0, text);
        bytes
    }

    /// 3 MiB of memory with these bytes in it.
    fn search(placed: &[(usize, Vec<u8>)]) -> Result<Option<Found>> {
        let mut bytes = vec![0u8; 3 << 20];
        for (at, what) in placed {
            bytes[*at..at + what.len()].copy_from_slice(what);
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let ram = RamMap::from_pieces(vec![Piece { paddr: 0x1000, len: (3 << 20) - 0x1000, offset: Some(0x1000) }]);
        find(Path::new("mem"), &FileStore::new(file).unwrap(), &ram)
    }

    #[test]
    fn one_note_is_found_wherever_it_lies() {
        // Also across the edge of what is read at once, cut in each part of it.
        for at in [0x1000, 0x5004, (1 << 20) - 4, (1 << 20) - 8, (1 << 20) - 16, (1 << 20) - 40, (3 << 20) - 80] {
            let found = search(&[(at, noted(TEXT))]).unwrap().unwrap();
            assert_eq!((found.paddr, found.text.as_slice(), found.others), (at as u64, TEXT, 0));
        }
        assert_eq!(search(&[]).unwrap(), None);
        // Outside RAM, or not at a multiple of 4.
        assert_eq!(search(&[(0, noted(TEXT)), (0x2002, noted(TEXT))]).unwrap(), None);
    }

    #[test]
    fn the_kernels_own_note_begins_a_page() {
        let other = [TEXT, b"CRASHTIME=5\n"].concat();
        let found = search(&[(0x3004, noted(&other)), (0x8000, noted(TEXT)), (0x9000, noted(TEXT))]).unwrap().unwrap();
        assert_eq!((found.paddr, found.others), (0x8000, 1));
        let error = search(&[(0x3000, noted(&other)), (0x8000, noted(TEXT))]).unwrap_err().to_string();
        assert!(error.contains("0x3000 (6.1.0), 0x8000 (6.1.0)"), "{error}");
    }

    #[test]
    fn what_only_looks_like_a_note_is_none() {
        let huge = [&11u32.to_le_bytes()[..], &u32::MAX.to_le_bytes(), &[0; 4], b"VMCOREINFO\0\0", TEXT].concat();
        let mut other_kind = noted(TEXT);
        other_kind[8] = 1;
        for bytes in [huge, other_kind, noted(b"OSRELEASE=1\n"), noted(&[TEXT, b"\x01=\n"].concat()), noted(&TEXT[1..])]
        {
            assert_eq!(search(&[(0x4000, bytes)]).unwrap(), None);
        }
    }

    #[test]
    fn machines_are_told_by_what_they_export() {
        assert_eq!(machine(TEXT), EM_X86_64);
        assert_eq!(machine(b"OSRELEASE=6\nNUMBER(kimage_voffset)=0xffff\n"), EM_AARCH64);
        assert_eq!(machine(b"OSRELEASE=6\n"), EM_NONE);
    }
}
