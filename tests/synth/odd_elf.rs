//! ELF cores of either class with segments wherever one wants them, sound or broken on purpose.
//!
//! Knows ELF32 and ELF64 headers. Must not share code with the product. Goes to the tests as bytes, and as what each page
//! of memory holds by the rules of the format.

use std::collections::BTreeMap;

use super::kdump::note;

/// One PT_LOAD.
#[derive(Clone, Debug)]
pub struct Segment {
    pub paddr: u64,
    pub vaddr: u64,
    /// What the file has of it.
    pub bytes: Vec<u8>,
    pub memsz: u64,
}

/// Where the notes are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Notes {
    Front,
    Back,
    None,
}

#[derive(Clone, Debug)]
pub struct OddElf {
    /// 32 or 64.
    pub class: u32,
    pub big_endian: bool,
    pub machine: u16,
    pub flags: u32,
    pub notes: Notes,
    pub info: String,
    pub segments: Vec<Segment>,
    /// The data of each segment starts at a multiple of this.
    pub align: usize,
    /// The number of program headers is in a section header.
    pub xnum: bool,
    /// Program headers come last.
    pub headers_last: bool,
}

/// What a page of memory is, byte by byte.
#[derive(Clone, Debug, PartialEq)]
pub enum Byte {
    Absent,
    /// In a segment beyond its file bytes.
    Tail,
    Stored(u8),
    /// In a segment's file bytes, which the file has not.
    Lost,
}

impl OddElf {
    fn number(&self, value: u64, width: usize) -> Vec<u8> {
        let bytes = &value.to_le_bytes()[..width];
        if self.big_endian { bytes.iter().rev().copied().collect() } else { bytes.to_vec() }
    }

    /// An address or offset in this class's width.
    fn word(&self, value: u64) -> Vec<u8> {
        self.number(value, self.class as usize / 8)
    }

    fn phdr(&self, kind: u64, at: u64, (vaddr, paddr): (u64, u64), (filesz, memsz): (u64, u64)) -> Vec<u8> {
        let (kind, flags) = (self.number(kind, 4), self.number(7, 4));
        let [at, vaddr, paddr, filesz, memsz, align] =
            [at, vaddr, paddr, filesz, memsz, 0].map(|value| self.word(value));
        match self.class {
            64 => [kind, flags, at, vaddr, paddr, filesz, memsz, align].concat(),
            _ => [kind, at, vaddr, paddr, filesz, memsz, flags, align].concat(),
        }
    }

    /// The bytes of the file, and the offset of each segment's data.
    pub fn build(&self) -> (Vec<u8>, Vec<u64>) {
        let (ehdr, phdr, shdr) = if self.class == 64 { (64, 56, 64) } else { (52, 32, 40) };
        let noted = self.notes != Notes::None;
        let phnum = self.segments.len() + usize::from(noted);
        let table = phnum * phdr + if self.xnum { shdr } else { 0 };
        let notes = if self.info.is_empty() { Vec::new() } else { note("VMCOREINFO", self.info.as_bytes()) };
        let mut bytes = vec![0; ehdr + if self.headers_last { 0 } else { table }];
        let mut put = |what: &[u8], align: usize| {
            bytes.resize(bytes.len().next_multiple_of(align), 0);
            let at = bytes.len() as u64;
            bytes.extend(what);
            at
        };
        let front = (self.notes == Notes::Front).then(|| put(&notes, 4));
        let offsets: Vec<u64> = self.segments.iter().map(|segment| put(&segment.bytes, self.align)).collect();
        let notes_at = front.unwrap_or_else(|| put(if noted { &notes } else { b"" }, 4));
        let phoff = if self.headers_last { put(&vec![0; table], 8) } else { ehdr as u64 };
        let mut headers = Vec::new();
        if noted {
            let len = notes.len() as u64;
            headers.extend(self.phdr(4, notes_at, (0, 0), (len, len)));
        }
        for (segment, at) in self.segments.iter().zip(&offsets) {
            let sizes = (segment.bytes.len() as u64, segment.memsz);
            headers.extend(self.phdr(1, *at, (segment.vaddr, segment.paddr), sizes));
        }
        let shoff = if self.xnum { phoff + headers.len() as u64 } else { 0 };
        if self.xnum {
            let mut section = vec![0; shdr];
            let info = if self.class == 64 { 44 } else { 28 };
            section[info..info + 4].copy_from_slice(&self.number(phnum as u64, 4));
            headers.extend(section);
        }
        bytes[phoff as usize..][..headers.len()].copy_from_slice(&headers);
        let class = if self.class == 64 { 2 } else { 1 };
        let mut ident = vec![0x7f, b'E', b'L', b'F', class, if self.big_endian { 2 } else { 1 }, 1];
        ident.resize(16, 0);
        let half = |value: usize| self.number(value as u64, 2);
        let sections = usize::from(self.xnum);
        let header = [
            ident,
            half(4),
            half(self.machine.into()),
            self.number(1, 4),
            self.word(0),
            self.word(phoff),
            self.word(shoff),
            self.number(self.flags.into(), 4),
            half(ehdr),
            half(phdr),
            half(if self.xnum { 0xffff } else { phnum }),
            half(shdr * sections),
            half(sections),
            half(0),
        ]
        .concat();
        bytes[..header.len()].copy_from_slice(&header);
        (bytes, offsets)
    }

    /// Memory by pieces of 4 KiB, of a file that has `size` bytes: of segments that overlap, bytes that are stored count
    /// most, then lost ones, then tails.
    pub fn memory(&self, offsets: &[u64], size: u64) -> BTreeMap<u64, Vec<Byte>> {
        let mut memory: BTreeMap<u64, Vec<Byte>> = BTreeMap::new();
        for (segment, offset) in self.segments.iter().zip(offsets) {
            for into in 0..segment.memsz {
                let address = segment.paddr + into;
                let byte = &mut memory.entry(address & !4095).or_insert_with(|| vec![Byte::Absent; 4096])
                    [(address & 4095) as usize];
                let new = match segment.bytes.get(into as usize) {
                    None => Byte::Tail,
                    Some(_) if offset + into >= size => Byte::Lost,
                    Some(stored) => Byte::Stored(*stored),
                };
                let better = matches!(
                    (&byte, &new),
                    (Byte::Absent, _) | (Byte::Tail, Byte::Stored(_) | Byte::Lost) | (Byte::Lost, Byte::Stored(_))
                );
                if better {
                    *byte = new;
                }
            }
        }
        memory
    }
}
