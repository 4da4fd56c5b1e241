//! Writes a fixture's memory as an ELF core, in the manner of /proc/vmcore or of QEMU.
//!
//! Knows ELF64 headers, notes and program headers. Must not know kernels.
//! Goes to disk as a sparse file.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::image::{Image, PAGE};

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Style {
    /// Program headers at 64, kernel addresses, page-aligned data.
    ProcVmcore,
    /// Section headers first, program headers at 192, physical addresses only, data unaligned.
    Qemu,
}

#[derive(Clone, Debug)]
pub struct Note {
    pub name: &'static str,
    pub kind: u32,
    pub desc: Vec<u8>,
}

/// One PT_NOTE: notes, and zero bytes after the last one.
#[derive(Clone, Debug)]
pub struct NoteSegment {
    pub notes: Vec<Note>,
    pub padding: usize,
}

/// One PT_LOAD: bytes of physical memory, and the address the kernel sees them at.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    pub vaddr: u64,
    pub paddr: u64,
    pub len: u64,
}

/// Where things came to lie in the file.
#[derive(Clone, Debug)]
pub struct Placed {
    pub phoff: u64,
    pub phnum: u64,
    /// The raw bytes of all notes, in order, without padding between segments.
    pub notes: Vec<u8>,
    pub note_offset: u64,
    pub data_offset: u64,
    pub len: u64,
    /// Each PT_LOAD with the offset of its bytes.
    pub loads: Vec<(Load, u64)>,
}

pub const PHDR: u64 = 56;
const EHDR: u64 = 64;
const SHDR: u64 = 64;
const PT_LOAD: u32 = 1;
const PT_NOTE: u32 = 4;
const PN_XNUM: u64 = 0xffff;

fn pad4(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

pub fn note_bytes(note: &Note) -> Vec<u8> {
    let mut out = Vec::new();
    for word in [note.name.len() as u32 + 1, note.desc.len() as u32, note.kind] {
        out.extend(word.to_le_bytes());
    }
    out.extend(note.name.as_bytes());
    out.push(0);
    pad4(&mut out);
    out.extend(&note.desc);
    pad4(&mut out);
    out
}

fn phdr(kind: u32, offset: u64, vaddr: u64, paddr: u64, len: u64) -> Vec<u8> {
    let flags: u32 = if kind == PT_LOAD { 7 } else { 0 };
    let mut out = Vec::with_capacity(PHDR as usize);
    out.extend(kind.to_le_bytes());
    out.extend(flags.to_le_bytes());
    for word in [offset, vaddr, paddr, len, len, 0] {
        out.extend(word.to_le_bytes());
    }
    out
}

fn ehdr(phoff: u64, phnum: u64, shoff: u64, shnum: u16) -> Vec<u8> {
    let mut out = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    out.extend(4u16.to_le_bytes()); // ET_CORE
    out.extend(62u16.to_le_bytes()); // EM_X86_64
    out.extend(1u32.to_le_bytes());
    for word in [0, phoff, shoff] {
        out.extend(word.to_le_bytes());
    }
    out.extend(0u32.to_le_bytes());
    let shentsize = if shnum == 0 { 0 } else { SHDR as u16 };
    let shstrndx = shnum.saturating_sub(1);
    for half in [EHDR as u16, PHDR as u16, phnum.min(PN_XNUM) as u16, shentsize, shnum, shstrndx] {
        out.extend(half.to_le_bytes());
    }
    out
}

/// A null section header, which carries the count when it does not fit into e_phnum.
fn null_shdr(phnum: u64) -> Vec<u8> {
    let mut out = vec![0; SHDR as usize];
    if phnum >= PN_XNUM {
        out[44..48].copy_from_slice(&(phnum as u32).to_le_bytes());
    }
    out
}

fn strtab_shdr(offset: u64) -> Vec<u8> {
    let mut out = vec![0; SHDR as usize];
    out[4..8].copy_from_slice(&3u32.to_le_bytes());
    out[24..32].copy_from_slice(&offset.to_le_bytes());
    out[32..40].copy_from_slice(&1u64.to_le_bytes());
    out
}

/// Writes the core. `segments` are the PT_NOTEs.
pub fn write(path: &Path, style: Style, segments: &[NoteSegment], loads: &[Load], image: &Image) -> Placed {
    let phnum = (segments.len() + loads.len()) as u64;
    let xnum = phnum >= PN_XNUM;
    let mut segment_bytes: Vec<Vec<u8>> =
        segments.iter().map(|segment| segment.notes.iter().flat_map(note_bytes).collect()).collect();
    let notes: Vec<u8> = segment_bytes.concat();
    for (bytes, segment) in segment_bytes.iter_mut().zip(segments) {
        bytes.resize(bytes.len() + segment.padding, 0);
    }
    let padded = segment_bytes.concat();
    let (phoff, headers) = match style {
        Style::ProcVmcore => (EHDR, EHDR + phnum * PHDR + if xnum { SHDR } else { 0 }),
        Style::Qemu => (EHDR + 2 * SHDR, EHDR + 2 * SHDR + phnum * PHDR),
    };
    let align = |at: u64| {
        if style == Style::ProcVmcore { at.next_multiple_of(PAGE) } else { at }
    };
    let note_offset = align(headers);
    let data_offset = align(note_offset + padded.len() as u64);

    let mut table = Vec::new();
    let mut at = note_offset;
    for bytes in &segment_bytes {
        table.extend(phdr(PT_NOTE, at, 0, 0, bytes.len() as u64));
        at += bytes.len() as u64;
    }
    let mut offsets = Vec::new();
    at = data_offset;
    for load in loads {
        table.extend(phdr(PT_LOAD, at, load.vaddr, load.paddr, load.len));
        offsets.push(at);
        at = align(at + load.len);
    }

    let (shoff, shdrs) = match style {
        Style::ProcVmcore if xnum => (EHDR + phnum * PHDR, null_shdr(phnum)),
        Style::ProcVmcore => (0, Vec::new()),
        Style::Qemu => (EHDR, [null_shdr(phnum), strtab_shdr(at)].concat()),
    };
    let len = at + u64::from(style == Style::Qemu);
    let file = File::create(path).expect("create the fixture");
    file.set_len(len).expect("size the fixture");
    let put = |bytes: &[u8], at: u64| file.write_all_at(bytes, at).expect("write the fixture");
    put(&ehdr(phoff, phnum, shoff, (shdrs.len() as u64 / SHDR) as u16), 0);
    put(&shdrs, shoff);
    put(&table, phoff);
    put(&padded, note_offset);
    for (load, offset) in loads.iter().zip(&offsets) {
        write_load(load, *offset, image, &put);
    }
    let loads = loads.iter().copied().zip(offsets).collect();
    Placed { phoff, phnum, notes, note_offset, data_offset, len, loads }
}

/// Writes what is not zero, neighbours in one go.
fn write_load(load: &Load, offset: u64, image: &Image, put: &dyn Fn(&[u8], u64)) {
    let end = load.paddr + load.len;
    let mut pending: Vec<u8> = Vec::new();
    let mut pending_at = 0;
    for pfn in image.touched(load.paddr / PAGE, end.div_ceil(PAGE)) {
        let start = (pfn * PAGE).max(load.paddr);
        let stop = ((pfn + 1) * PAGE).min(end);
        let page = image.page(pfn);
        let at = offset + start - load.paddr;
        if pending_at + pending.len() as u64 != at {
            put(&pending, pending_at);
            pending.clear();
            pending_at = at;
        }
        pending.extend(&page[(start - pfn * PAGE) as usize..(stop - pfn * PAGE) as usize]);
    }
    put(&pending, pending_at);
}
