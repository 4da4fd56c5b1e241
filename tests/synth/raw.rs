//! Writes a fixture's memory raw, each byte at its physical address, with core headers as they wait for a capture kernel.
//!
//! Knows how kexec-tools and the kernel lay core headers out. Must not know what the product makes of them.
//! Goes to the tests as a file, and the bytes of the headers.

use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::elf::{Load, note_bytes};
use super::image::PAGE;
use super::machine::{LOW_END, MIB};
use super::{Fixture, Machine};

/// `Machine::small` has no RAM here: the capture kernel's region.
pub const REGION: Range<u64> = 64 * MIB..80 * MIB;
const NOTES: u64 = 65 * MIB;
pub const HEADERS: u64 = 70 * MIB;
const BACKUP: u64 = 72 * MIB;
/// What a CPU's notes have room for, and how far apart they lie.
const ROOM: u64 = 1024;

/// The place that purgatory moves the low range to, before the capture kernel overwrites it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Backup {
    /// Newer loaders make none.
    None,
    /// There is one; the kernel has not crashed yet.
    Empty,
    /// The low range is there, and something else where it was.
    Full,
}

#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// 64 or 32.
    pub bits: u32,
    /// CPUs that could be and never were, each with an empty note buffer, before those that saved their registers and after.
    pub absent_cpus: usize,
    pub backup: Backup,
}

pub const PLAIN: Layout = Layout { bits: 64, absent_cpus: 0, backup: Backup::None };

pub struct Raw {
    pub path: PathBuf,
    pub headers: Vec<u8>,
    /// Where each program header starts in `headers`.
    pub phdrs: Vec<usize>,
}

struct Phdr {
    kind: u32,
    offset: u64,
    vaddr: u64,
    paddr: u64,
    len: u64,
}

impl Layout {
    fn encode(self, phdrs: &[Phdr]) -> (Vec<u8>, Vec<usize>) {
        let wide = self.bits == 64;
        let (ehdr, each) = if wide { (64u16, 56u16) } else { (52, 32) };
        let mut out = b"\x7fELF".to_vec();
        out.extend([if wide { 2 } else { 1 }, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let word = |out: &mut Vec<u8>, value: u64| {
            if wide { out.extend(value.to_le_bytes()) } else { out.extend((value as u32).to_le_bytes()) }
        };
        out.extend(4u16.to_le_bytes());
        // kexec-tools says EM_386 in the 32-bit headers of any x86.
        out.extend(if wide { 62u16 } else { 3 }.to_le_bytes());
        out.extend(1u32.to_le_bytes());
        for value in [0, u64::from(ehdr), 0] {
            word(&mut out, value);
        }
        out.extend(0u32.to_le_bytes());
        for half in [ehdr, each, phdrs.len() as u16, 0, 0, 0] {
            out.extend(half.to_le_bytes());
        }
        let mut at = Vec::new();
        for phdr in phdrs {
            at.push(out.len());
            let flags: u32 = if phdr.kind == 1 { 7 } else { 0 };
            out.extend(phdr.kind.to_le_bytes());
            if wide {
                out.extend(flags.to_le_bytes());
            }
            for value in [phdr.offset, phdr.vaddr, phdr.paddr, phdr.len, phdr.len] {
                word(&mut out, value);
            }
            if !wide {
                out.extend(flags.to_le_bytes());
            }
            word(&mut out, 0);
        }
        (out, at)
    }
}

/// Writes `fixture`, made of `machine`, beside its core.
pub fn write(machine: &Machine, fixture: &Fixture, layout: Layout) -> Raw {
    let path = fixture.path.with_file_name("memory.raw");
    let _ = fs::remove_file(&path);
    let file = File::options().create(true).truncate(true).write(true).open(&path).unwrap();
    file.set_len(machine.ram_bytes().iter().map(|range| range.end).max().unwrap().max(REGION.end)).unwrap();
    let put = |bytes: &[u8], at: u64| file.write_all_at(bytes, at).unwrap();
    for pfn in fixture.truth.pfns() {
        if !fixture.image.is_zero(pfn) {
            put(&fixture.image.page(pfn), pfn * PAGE);
        }
    }
    // Outside RAM there is anything.
    put(&[0x5a; 4096], REGION.start);
    let mut phdrs = Vec::new();
    let mut buffer = NOTES;
    let mut note_buffer = |phdrs: &mut Vec<Phdr>, bytes: &[u8]| {
        put(bytes, buffer);
        let len = (bytes.len() as u64).next_multiple_of(ROOM);
        phdrs.push(Phdr { kind: 4, offset: buffer, vaddr: 0, paddr: buffer, len: len.max(ROOM) });
        buffer += len.max(ROOM) + PAGE;
    };
    let notes = Machine { note_segments: 1, ..machine.clone() }.note_segments(fixture.info.as_bytes());
    for _ in 0..layout.absent_cpus {
        note_buffer(&mut phdrs, &[]);
    }
    for (n, note) in notes.iter().flat_map(|segment| &segment.notes).enumerate() {
        if n == 1 && layout.absent_cpus > 0 {
            note_buffer(&mut phdrs, &[]);
        }
        note_buffer(&mut phdrs, &note_bytes(note));
    }
    if layout.backup == Backup::Full {
        for pfn in 1..LOW_END.div_ceil(PAGE) {
            put(&fixture.image.page(pfn), BACKUP + pfn * PAGE);
            put(&[0xbb; PAGE as usize], pfn * PAGE);
        }
    }
    for Load { vaddr, paddr, len } in machine.pt_loads() {
        let moved = layout.backup != Backup::None && paddr < LOW_END;
        let offset = if moved { BACKUP + paddr } else { paddr };
        phdrs.push(Phdr { kind: 1, offset, vaddr, paddr, len });
    }
    let (headers, phdrs) = layout.encode(&phdrs);
    put(&headers, HEADERS);
    Raw { path, headers, phdrs }
}

/// The machine's /proc/iomem, as root reads it.
pub fn iomem(machine: &Machine) -> String {
    let mut lines = vec![(0u64, 0xfff, 0, "Reserved")];
    let ram = machine.ram_bytes();
    lines.extend([(0xa_0000, 0xf_ffff, 0, "PCI Bus 0000:00"), (0xf_0000, 0xf_ffff, 2, "System ROM")]);
    for range in &ram {
        lines.push((range.start, range.end - 1, 0, "System RAM"));
        if range.contains(&(16 * MIB)) {
            lines.extend([(16 * MIB, 17 * MIB - 1, 2, "Kernel code"), (18 * MIB, 19 * MIB - 1, 2, "Reserved")]);
        }
    }
    lines.push((REGION.start, REGION.end - 1, 0, "Crash kernel"));
    lines.push((0xfee0_0000, 0xfee0_0fff, 0, "Local APIC"));
    lines.sort_by_key(|line| (line.0, line.2));
    lines.iter().map(|(start, last, indent, name)| format!("{:indent$}{start:08x}-{last:08x} : {name}\n", "")).collect()
}

pub fn put(dir: &Path, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, bytes).unwrap();
    path
}
