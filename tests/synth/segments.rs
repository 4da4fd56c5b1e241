//! The segments of a machine's core: which notes it carries and which PT_LOADs describe its RAM.
//!
//! Knows what kernels, kexec and QEMU put there. Must not know how ELF stores it.
//! Goes to `elf`.

use std::ops::Range;

use super::elf::{Load, Note, NoteSegment, Style};
use super::image::PAGE;
use super::machine::{IMAGE_LEN, Loads, MIB, Machine};

const NT_PRSTATUS: u32 = 1;
const PR_PID: usize = 32;
const PR_REG: usize = 112;

fn prstatus(cpu: usize) -> Note {
    let mut desc = vec![0u8; 336];
    desc[PR_PID..PR_PID + 4].copy_from_slice(&(cpu as u32 + 1).to_le_bytes());
    desc[PR_REG..PR_REG + 8].copy_from_slice(&(cpu as u64).to_le_bytes());
    Note { name: "CORE", kind: NT_PRSTATUS, desc }
}

impl Machine {
    pub fn note_segments(&self, info: &[u8]) -> Vec<NoteSegment> {
        let note = |name, kind, desc: &[u8]| Note { name, kind, desc: desc.to_vec() };
        let mut notes: Vec<Note> = (0..self.cpus).map(prstatus).collect();
        if self.style == Style::Qemu {
            notes.extend((0..self.cpus).map(|_| note("QEMU", 0, &[0x51; 440])));
        }
        if self.running {
            notes.push(note("CORE", 3, &[0; 136]));
        }
        if self.odd_notes {
            notes.push(note("LINUX", 0x202, &[7; 13]));
            notes.push(note("", 99, &[]));
            notes.push(note("VMCOREINFOX", 0, b"OSRELEASE=wrong\n"));
        }
        if self.vmcoreinfo {
            notes.push(note("VMCOREINFO", 0, &[info, &vec![0; self.info_padding]].concat()));
        }
        if self.odd_notes {
            notes.push(note("UNKNOWN_VENDOR", 0x0bad_cafe, &[0xee; 5000]));
        }
        let per = notes.len().div_ceil(self.note_segments).max(1);
        let segment = |notes: &[Note]| NoteSegment { notes: notes.to_vec(), padding: self.note_padding };
        let mut segments: Vec<NoteSegment> = notes.chunks(per).map(segment).collect();
        segments.last_mut().into_iter().for_each(|last| last.padding = 0);
        segments
    }

    fn direct(&self, range: &Range<u64>) -> Load {
        let vaddr = if self.style == Style::Qemu { range.start } else { self.page_offset + range.start };
        Load { vaddr, paddr: range.start, len: range.end - range.start }
    }

    /// One range of RAM as the machine's PT_LOADs have it.
    fn cut(&self, Range { start, end }: Range<u64>) -> Vec<Range<u64>> {
        let middle = start + (end - start) / 2 / PAGE * PAGE;
        let large = end - start > MIB;
        match self.loads {
            Loads::Overlapping if large => vec![start..middle + 64 * PAGE, middle - 64 * PAGE..end],
            Loads::MidPage if large => vec![start..middle + 0x400, middle + 0x400..end],
            Loads::PerPage => (start..end).step_by(PAGE as usize).map(|at| at..(at + PAGE).min(end)).collect(),
            Loads::Reversed => vec![start..end, start..start],
            _ => vec![start..end],
        }
    }

    pub fn pt_loads(&self) -> Vec<Load> {
        let mut loads = Vec::new();
        if self.style == Style::ProcVmcore {
            loads.push(Load { vaddr: self.image_va(), paddr: self.image_pa, len: IMAGE_LEN });
        }
        loads.extend(self.ram_bytes().into_iter().flat_map(|range| self.cut(range)).map(|range| self.direct(&range)));
        loads.extend(&self.views);
        if self.loads == Loads::Reversed {
            loads.reverse();
        }
        loads
    }
}
