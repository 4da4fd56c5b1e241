//! Small ELF cores field by field, sound or broken on purpose.
//!
//! Knows ELF headers of both classes. Must not share code with the product. Goes to the tests as bytes.

/// A program header; fields are as wide as the class.
#[derive(Clone, Debug)]
pub struct Segment {
    pub kind: u32,
    pub offset: u64,
    pub vaddr: u64,
    pub paddr: u64,
    pub filesz: u64,
    pub memsz: u64,
    pub align: u64,
}

#[derive(Clone, Debug)]
pub struct Core {
    pub wide: bool,
    pub order: u8,
    pub class: Option<u8>,
    pub kind: u16,
    pub machine: u16,
    pub flags: u32,
    pub phoff: u64,
    pub phentsize: Option<u16>,
    /// What the header says, if that is not the number of segments.
    pub phnum: Option<u16>,
    /// The section header for more segments than the header can count: entry size, number, `sh_info`.
    pub section: Option<(u16, u16, u32)>,
    pub segments: Vec<Segment>,
    pub notes: Vec<u8>,
    /// Data at a file offset.
    pub data: Vec<(u64, Vec<u8>)>,
    pub len: usize,
}

pub const PAGE: u64 = 4096;
const KERNEL: u64 = 0xffff_8880_0000_0000;

pub fn load(offset: u64, paddr: u64, pages: u64) -> Segment {
    let size = pages * PAGE;
    Segment { kind: 1, offset, vaddr: KERNEL + paddr, paddr, filesz: size, memsz: size, align: 0 }
}

impl Core {
    /// A note, and two segments of four pages at 1 and 16 MiB.
    pub fn new(notes: Vec<u8>) -> Core {
        let note =
            Segment { kind: 4, offset: 0x1000, filesz: notes.len() as u64, memsz: 0, vaddr: 0, paddr: 0, align: 0 };
        let page = |n: u8| vec![n; 4 * PAGE as usize];
        Core {
            wide: true,
            order: 1,
            class: None,
            kind: 4,
            machine: 62,
            flags: 0,
            phoff: 64,
            phentsize: None,
            phnum: None,
            section: None,
            segments: vec![note, load(0x4000, 1 << 20, 4), load(0x8000, 16 << 20, 4)],
            notes,
            data: vec![(0x4000, page(1)), (0x8000, page(2))],
            len: 0xc000,
        }
    }

    /// The same with headers of 32 bits.
    pub fn narrow(notes: Vec<u8>) -> Core {
        let mut core = Core { wide: false, machine: 3, phoff: 52, ..Core::new(notes) };
        core.segments.iter_mut().for_each(|segment| segment.vaddr = 0xc000_0000 + segment.paddr);
        core
    }

    pub fn build(&self) -> Vec<u8> {
        let mut out = vec![0; self.len];
        let mut put = |at: u64, bytes: &[u8]| {
            let at = at as usize;
            if out.len() < at + bytes.len() {
                out.resize(at + bytes.len(), 0);
            }
            out[at..at + bytes.len()].copy_from_slice(bytes);
        };
        for (at, data) in &self.data {
            put(*at, data);
        }
        if let Some(note) = self.segments.iter().find(|segment| segment.kind == 4) {
            put(note.offset.min(1 << 20), &self.notes);
        }
        let word = |value: u64| {
            if self.wide { value.to_le_bytes().to_vec() } else { (value as u32).to_le_bytes().to_vec() }
        };
        let entry: u16 = if self.wide { 56 } else { 32 };
        let shoff = self.phoff + self.segments.len() as u64 * u64::from(entry);
        let class = self.class.unwrap_or(if self.wide { 2 } else { 1 });
        let mut header = [&b"\x7fELF"[..], &[class, self.order, 1], &[0; 9]].concat();
        header.extend([self.kind.to_le_bytes(), self.machine.to_le_bytes()].concat());
        header.extend(1u32.to_le_bytes());
        header.extend([word(0), word(self.phoff), word(if self.section.is_some() { shoff } else { 0 })].concat());
        header.extend(self.flags.to_le_bytes());
        let (shentsize, shnum, info) = self.section.unwrap_or_default();
        let ehsize: u16 = if self.wide { 64 } else { 52 };
        let phnum = self.phnum.unwrap_or(self.segments.len().min(0xffff) as u16);
        for half in [ehsize, self.phentsize.unwrap_or(entry), phnum, shentsize, shnum, 0] {
            header.extend(half.to_le_bytes());
        }
        put(0, &header);
        let table: Vec<u8> = self.segments.iter().flat_map(|segment| self.phdr(segment)).collect();
        put(self.phoff, &table);
        if self.section.is_some() {
            let at = shoff + if self.wide { 44 } else { 28 };
            put(at, &info.to_le_bytes());
            put(shoff + u64::from(shentsize.max(1)) - 1, &[0]);
        }
        out
    }

    fn phdr(&self, segment: &Segment) -> Vec<u8> {
        let Segment { kind, offset, vaddr, paddr, filesz, memsz, align } = *segment;
        let flags = if kind == 1 { 7u32 } else { 0 };
        if self.wide {
            let words = [offset, vaddr, paddr, filesz, memsz, align].map(u64::to_le_bytes).concat();
            [&kind.to_le_bytes()[..], &flags.to_le_bytes(), &words].concat()
        } else {
            let words = [offset, vaddr, paddr, filesz, memsz].map(|value| (value as u32).to_le_bytes()).concat();
            [&kind.to_le_bytes()[..], &words, &flags.to_le_bytes(), &(align as u32).to_le_bytes()].concat()
        }
    }
}
