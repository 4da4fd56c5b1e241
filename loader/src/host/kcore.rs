//! The headers of `/proc/kcore`: where the running kernel mapped its memory.
//!
//! Knows the program headers and the VMCOREINFO note in it. Must not read memory through it. Gives the virtual addresses
//! for the core headers.

use std::{fs::File, io::Read as _, os::unix::fs::FileExt as _, path::Path};

use object::{
    LittleEndian as LE,
    elf::{FileHeader64, PT_LOAD, PT_NOTE, ProgramHeader64},
    pod,
};

use crate::range::Range;

/// The program headers of a machine with many ranges of memory and its notes fit in this; bounds what is read.
const MOST: u64 = 4 << 20;
/// Where x86_64 maps its image: `__START_KERNEL_map`, and the size of that window.
const IMAGE_WINDOW: Range = Range { start: 0xffff_ffff_8000_0000, end: 0xffff_ffff_c000_0000 };

/// One mapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapping {
    /// Virtual address.
    pub vaddr: u64,
    /// Physical address; all ones where the kernel says none.
    pub paddr: u64,
    /// Bytes.
    pub size: u64,
}

/// What the headers say.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Kcore {
    /// The mappings.
    pub mappings: Vec<Mapping>,
    /// The text of the VMCOREINFO note (kernels since 4.19).
    pub vmcoreinfo: String,
}

impl Kcore {
    /// Reads the headers; `None` if there is no such file, it may not be read, or it is not an ELF core of 64 bits.
    #[must_use]
    pub fn read(path: &Path) -> Option<Self> {
        let file = File::open(path).ok()?;
        let mut head = Vec::new();
        // Reading on would read memory; the headers come first.
        (&file).take(64).read_to_end(&mut head).ok()?;
        let (header, _) = pod::from_bytes::<FileHeader64<LE>>(&head).ok()?;
        if !head.starts_with(b"\x7fELF\x02\x01") || header.e_phentsize.get(LE) != 56 {
            return None;
        }
        let table = read_at(&file, header.e_phoff.get(LE), u64::from(header.e_phnum.get(LE)) * 56)?;
        let count = usize::from(header.e_phnum.get(LE));
        let (headers, _) = pod::slice_from_bytes::<ProgramHeader64<LE>>(&table, count).ok()?;
        let loads = headers.iter().filter(|header| header.p_type.get(LE) == PT_LOAD);
        let note = headers.iter().find(|header| header.p_type.get(LE) == PT_NOTE);
        let notes = note.and_then(|note| read_at(&file, note.p_offset.get(LE), note.p_filesz.get(LE)));
        Some(Self {
            mappings: loads
                .map(|header| Mapping {
                    vaddr: header.p_vaddr.get(LE),
                    paddr: header.p_paddr.get(LE),
                    size: header.p_memsz.get(LE),
                })
                .collect(),
            vmcoreinfo: notes.as_deref().and_then(vmcoreinfo).unwrap_or_default(),
        })
    }

    /// The mapping of the kernel's image, whose text lies at `code`.
    #[must_use]
    pub fn image(&self, code: u64) -> Option<Mapping> {
        let in_window = |mapping: &&Mapping| IMAGE_WINDOW.start <= mapping.vaddr && mapping.vaddr < IMAGE_WINDOW.end;
        let exact = self.mappings.iter().filter(in_window).find(|mapping| mapping.paddr == code);
        // Kernels before 4.19 leave the physical address out of the image's mapping; the first one in the window is it.
        let guess = || {
            let first = self.mappings.iter().filter(in_window).min_by_key(|mapping| mapping.vaddr)?;
            (first.paddr == 0 || first.paddr == u64::MAX).then_some(Mapping { paddr: code, ..*first })
        };
        exact.copied().or_else(guess)
    }

    /// The virtual address of physical address 0 in the mapping of all RAM.
    #[must_use]
    pub fn page_offset(&self) -> Option<u64> {
        let direct = |mapping: &&Mapping| mapping.vaddr < IMAGE_WINDOW.start && mapping.vaddr >> 63 == 1;
        let told = self.mappings.iter().filter(direct).filter(|mapping| mapping.paddr < 1 << 52);
        // The vmalloc and vmemmap areas have no physical address, or none that fits: the direct mapping is the lowest.
        let told = told.map(|mapping| mapping.vaddr.wrapping_sub(mapping.paddr)).min();
        told.or_else(|| {
            Some(self.mappings.iter().filter(direct).map(|mapping| mapping.vaddr).min()? & !((1 << 30) - 1))
        })
    }

    /// The value of `NAME=` in VMCOREINFO.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        self.vmcoreinfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    }
}

fn read_at(file: &File, offset: u64, len: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(len).ok().filter(|_| len <= MOST)?];
    file.read_exact_at(&mut bytes, offset).ok()?;
    Some(bytes)
}

/// The text of the note called VMCOREINFO.
fn vmcoreinfo(mut notes: &[u8]) -> Option<String> {
    let word = |bytes: &[u8], at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?) as usize);
    loop {
        let (name, desc) = (word(notes, 0)?, word(notes, 4)?);
        let desc_at = 12usize.checked_add(name.checked_next_multiple_of(4)?)?;
        let end = desc_at.checked_add(desc)?;
        if notes.get(12..)?.starts_with(b"VMCOREINFO\0") {
            return Some(String::from_utf8_lossy(notes.get(desc_at..end)?).into_owned());
        }
        notes = notes.get(end.checked_next_multiple_of(4)?..)?;
    }
}
