//! VMCOREINFO in memory, for a dump that has no note of it: by its address, or by its content.
//!
//! Knows how the note looks. Must not choose between two kernels' notes: that is `run`'s, which can ask their page tables.

use super::{
    MAX_READ, PageReader, RamMap,
    vmcoreinfo::{FIRST_KEY, is_whole},
};
use crate::{
    error::printable,
    format::note::{self, VMCOREINFO},
};

/// Everything up to the text: three words, the name, its padding.
const HEADER: usize = 24;
/// A page of 64 KiB; the kernel gives the text one page.
const MOST_TEXT: usize = 64 << 10;
const PAGE: u64 = 4096;
/// So many different notes are remembered; bounds what a hostile memory makes us hold.
const MOST_FOUND: usize = 16;
/// So many places that only look like a note are looked at closely, besides those where a page begins.
const MOST_LOOKS: usize = 4096;

/// A VMCOREINFO note in memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FoundNote {
    /// Physical address of the note.
    pub paddr: u64,
    /// What it says.
    pub(super) text: Vec<u8>,
}

impl FoundNote {
    /// Where it is and which kernel wrote it, in words.
    #[must_use]
    pub fn describe(&self) -> String {
        let release = self.text[FIRST_KEY.len()..].split(|byte| *byte == b'\n').next().unwrap_or_default();
        format!("{:#x} ({})", self.paddr, printable(&String::from_utf8_lossy(release)))
    }

    /// What it says.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// The kernel's own note begins a page since 4.13 (`crash_save_vmcoreinfo_init`); others may be copies in files, or the
    /// note of an old kernel.
    #[must_use]
    pub fn begins_page(&self) -> bool {
        self.paddr.is_multiple_of(PAGE)
    }
}

/// The note at `paddr`, if a whole and believable one is there.
pub(super) fn at(reader: &mut PageReader<'_>, paddr: u64) -> Option<FoundNote> {
    text_at(reader, paddr).map(|text| FoundNote { paddr, text })
}

/// All notes in `ram` that say different things, those that begin a page first. `reader` and `close` read the same memory:
/// a closer look does not take what is gone through out of the reader's caches.
pub(super) fn find(reader: PageReader<'_>, close: PageReader<'_>, ram: &RamMap) -> Vec<FoundNote> {
    let mut search = Search { close, looks: 0, at_pages: Vec::new(), elsewhere: Vec::new() };
    search.run(reader, ram);
    let Search { at_pages, elsewhere, .. } = search;
    at_pages.into_iter().chain(elsewhere).collect()
}

struct Search<'a> {
    close: PageReader<'a>,
    looks: usize,
    at_pages: Vec<FoundNote>,
    elsewhere: Vec<FoundNote>,
}

impl Search<'_> {
    /// Zeros that the dump does not store are passed over: a segment may claim terabytes of them.
    fn run(&mut self, mut reader: PageReader<'_>, ram: &RamMap) {
        for piece in ram.pieces().filter(|piece| piece.offset.is_some()) {
            let mut at = piece.paddr.next_multiple_of(4);
            while at < piece.end() {
                let end = (at - at % MAX_READ as u64 + MAX_READ as u64).min(piece.end());
                self.look_through(&mut reader, at, end);
                at = end;
            }
        }
    }

    /// Where a stretch cannot be read at once, page by page.
    fn look_through(&mut self, reader: &mut PageReader<'_>, start: u64, end: u64) {
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
        if let Some(text) = text_at(&mut self.close, paddr)
            && !found.iter().any(|known| known.text == text)
        {
            found.push(FoundNote { paddr, text });
        }
    }
}

fn text_at(reader: &mut PageReader<'_>, paddr: u64) -> Option<Vec<u8>> {
    let head = reader.read_whole(paddr, HEADER).ok()?;
    let len = u32::from_le_bytes(head.get(4..8)?.try_into().ok()?) as usize;
    if len > MOST_TEXT {
        return None;
    }
    let bytes = reader.read_whole(paddr, HEADER + len).ok()?;
    let note = note::notes(bytes).next().filter(|note| note.name == VMCOREINFO && note.kind == 0)?;
    is_whole(note.desc).then(|| note.desc.to_vec())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::source::{
        Piece,
        store::{FileStore, Store as _},
    };

    const TEXT: &[u8] = b"OSRELEASE=6.1.0\nPAGESIZE=4096\nNUMBER(phys_base)=4096\n";

    fn noted(text: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        note::push(&mut bytes, VMCOREINFO, 0, text);
        bytes
    }

    /// What is found in 3 MiB of memory with these bytes in it, which are read in pieces of any size.
    fn search(placed: &[(usize, Vec<u8>)]) -> Vec<(u64, Vec<u8>)> {
        let mut bytes = vec![0u8; 3 << 20];
        for (at, what) in placed {
            bytes[*at..at + what.len()].copy_from_slice(what);
        }
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&bytes).unwrap();
        let piece = |start: u64, end: u64| Piece { paddr: start, len: end - start, offset: Some(start) };
        let ram = RamMap::from_pieces(vec![piece(0x1000, 0x8000), piece(0x8000, 3 << 20)]);
        let store = FileStore::new(file).unwrap();
        let reader = || PageReader::new(store.reader(), &ram);
        find(reader(), reader(), &ram).into_iter().map(|found| (found.paddr, found.text)).collect()
    }

    #[test]
    fn one_note_is_found_wherever_it_lies() {
        // Also across the edge of a piece and of what is read at once, cut in each part of it.
        for at in [0x1000, 0x5004, 0x7ff0, (1 << 20) - 4, (1 << 20) - 8, (1 << 20) - 16, (1 << 20) - 40, (3 << 20) - 80]
        {
            assert_eq!(search(&[(at, noted(TEXT))]), [(at as u64, TEXT.to_vec())]);
        }
        assert!(search(&[]).is_empty());
        // Outside RAM, or not at a multiple of 4.
        assert!(search(&[(0, noted(TEXT)), (0x2002, noted(TEXT))]).is_empty());
    }

    #[test]
    fn notes_that_begin_a_page_come_first() {
        let other = [TEXT, b"CRASHTIME=5\n"].concat();
        let found = search(&[(0x3004, noted(&other)), (0x8000, noted(TEXT)), (0x9000, noted(TEXT))]);
        assert_eq!(found, [(0x8000, TEXT.to_vec()), (0x3004, other)]);
    }

    #[test]
    fn what_only_looks_like_a_note_is_none() {
        let huge = [&11u32.to_le_bytes()[..], &u32::MAX.to_le_bytes(), &[0; 4], b"VMCOREINFO\0\0", TEXT].concat();
        let mut other_kind = noted(TEXT);
        other_kind[8] = 1;
        for bytes in [huge, other_kind, noted(b"OSRELEASE=1\n"), noted(&[TEXT, b"\x01=\n"].concat()), noted(&TEXT[1..])]
        {
            assert!(search(&[(0x4000, bytes)]).is_empty());
        }
    }
}
