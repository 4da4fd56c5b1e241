//! The ELF core headers: what the capture kernel shows as the dead kernel's memory.
//!
//! Knows which memory is dumped and how ELF says so. Must not place anything. The capture kernel's `/proc/vmcore` is made
//! of these headers (fs/proc/vmcore.c).

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    host::{Host, cpus::NoteArea},
    image::Machine,
    range::{Range, subtract},
};

/// Width of the headers.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum Class {
    /// ELF64.
    #[default]
    #[serde(rename = "64")]
    Elf64,
    /// ELF32: for capture tools that read nothing else.
    #[serde(rename = "32")]
    Elf32,
}

/// One PT_LOAD.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Load {
    /// Physical address in the dead kernel.
    pub physical: u64,
    /// Where the bytes are after the crash; other than `physical` only for the backup.
    pub offset: u64,
    /// Virtual address in the dead kernel.
    pub virtual_address: u64,
    /// Bytes.
    pub size: u64,
}

/// All headers.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct CoreHeaders {
    /// Notes of the CPUs, then VMCOREINFO.
    pub notes: Vec<NoteArea>,
    /// The kernel's text first, where its place is known, then RAM in order.
    pub loads: Vec<Load>,
}

/// Where an x86_64 kernel without KASLR maps all RAM, with four and five levels of page tables.
const PAGE_OFFSET: [u64; 2] = [0xffff_8880_0000_0000, 0xff11_0000_0000_0000];
/// `e_phnum` has 16 bits, and the capture kernel does not know the extension for more.
const MOST_HEADERS: usize = 0xfffe;
/// "No such address", in the 32 bits of a header that cannot hold it.
const NO_ADDRESS: u32 = u32::MAX;

impl CoreHeaders {
    /// Describes the machine's memory. `low` says where the lowest memory is after the crash, if it is copied aside; else
    /// the first MiB is left out on x86_64, where a capture kernel overwrites it. What cannot be said is noted.
    ///
    /// # Errors
    /// When there are too many ranges.
    pub fn describe(host: &Host, machine: Machine, low: Option<Range>, notes: &mut Vec<String>) -> Result<Self> {
        let ram = dumped(host, machine, low);
        let offset = match host.kcore.as_ref().and_then(crate::host::kcore::Kcore::page_offset) {
            Some(offset) => offset,
            None => {
                notes.push(
                    "/proc/kcore does not say where the kernel maps its memory: the headers' virtual addresses are guessed \
                     (dump tools take them from VMCOREINFO)"
                        .to_owned(),
                );
                PAGE_OFFSET[usize::from(host.five_levels)]
            }
        };
        let load = |range: &Range| Load {
            physical: range.start,
            offset: range.start,
            virtual_address: range.start.wrapping_add(offset),
            size: range.len(),
        };
        let mut loads: Vec<Load> = text(host, notes).into_iter().collect();
        loads.extend(ram.iter().map(load));
        let mut areas = host.cpu_notes.clone();
        if areas.is_empty() {
            notes.push("no CPU says where it leaves its registers: the dump will have no CPU notes".to_owned());
        }
        match host.vmcoreinfo {
            Some(area) => areas.push(area),
            None => {
                notes.push("/sys/kernel/vmcoreinfo is missing: the dump cannot be filtered above level 1".to_owned());
            }
        }
        let headers = Self { notes: areas, loads };
        if headers.count() > MOST_HEADERS {
            return Err(Error::input(format!(
                "cannot describe the memory: {} headers are needed, the capture kernel takes {MOST_HEADERS}",
                headers.count()
            )));
        }
        Ok(headers)
    }

    /// Says where the backup of `source` lies.
    pub fn move_backup(&mut self, source: Range, destination: u64) {
        let inside = |load: &&mut Load| source.contains(&Range::with_len(load.physical, load.size));
        for load in self.loads.iter_mut().filter(inside) {
            load.offset = load.physical - source.start + destination;
        }
    }

    fn count(&self) -> usize {
        self.notes.len() + self.loads.len()
    }

    /// Bytes of the headers.
    #[must_use]
    pub fn size(&self, class: Class) -> u64 {
        let (header, entry) = match class {
            Class::Elf64 => (64, 56),
            Class::Elf32 => (52, 32),
        };
        header + entry * self.count() as u64
    }

    /// The headers as the capture kernel reads them.
    #[must_use]
    pub fn bytes(&self, class: Class, machine: Machine) -> Vec<u8> {
        match class {
            Class::Elf64 => self.elf64(machine),
            Class::Elf32 => self.elf32(),
        }
    }

    fn elf64(&self, machine: Machine) -> Vec<u8> {
        let number = match machine {
            Machine::X86_64 => 62u16,
            Machine::Arm64 => 183,
        };
        let mut out = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        out.extend(4u16.to_le_bytes());
        out.extend(number.to_le_bytes());
        out.extend(1u32.to_le_bytes());
        // Entry, program headers, section headers.
        [0u64, 64, 0].iter().for_each(|word| out.extend(word.to_le_bytes()));
        out.extend(0u32.to_le_bytes());
        [64u16, 56, self.count() as u16, 0, 0, 0].iter().for_each(|half| out.extend(half.to_le_bytes()));
        let mut header = |kind: u32, flags: u32, words: [u64; 6]| {
            out.extend(kind.to_le_bytes());
            out.extend(flags.to_le_bytes());
            words.iter().for_each(|word| out.extend(word.to_le_bytes()));
        };
        for note in &self.notes {
            header(4, 0, [note.address, 0, note.address, note.size, note.size, 0]);
        }
        for load in &self.loads {
            header(1, 7, [load.offset, load.virtual_address, load.physical, load.size, load.size, 0]);
        }
        out
    }

    /// The caller has checked that everything is below 4 GiB. The machine stays x86_64: the capture kernel, which is of
    /// 64 bits, takes no other (`elf_check_arch` in fs/proc/vmcore.c).
    fn elf32(&self) -> Vec<u8> {
        let mut out = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
        out.extend(4u16.to_le_bytes());
        out.extend(62u16.to_le_bytes());
        [1u32, 0, 52, 0, 0].iter().for_each(|word| out.extend(word.to_le_bytes()));
        [52u16, 32, self.count() as u16, 0, 0, 0].iter().for_each(|half| out.extend(half.to_le_bytes()));
        let mut header = |words: [u32; 8]| words.iter().for_each(|word| out.extend(word.to_le_bytes()));
        for note in &self.notes {
            let (address, size) = (note.address as u32, note.size as u32);
            header([4, address, 0, address, size, size, 0, 0]);
        }
        for load in &self.loads {
            // A 64-bit kernel's virtual addresses do not fit.
            header([1, load.offset as u32, NO_ADDRESS, load.physical as u32, load.size as u32, load.size as u32, 7, 0]);
        }
        out
    }
}

/// Checks that ELF32 can say it all.
///
/// # Errors
/// Which memory lies too high.
pub fn check_elf32(host: &Host, hotplug: bool) -> Result<()> {
    let refuse = |cause: String| {
        Error::usage("the core headers cannot be ELF32").because(cause).next_step("leave out --core-headers 32")
    };
    let end = host.iomem.ram().last().map_or(0, |range| range.end);
    if end > 1 << 32 {
        return Err(refuse(format!("the machine has RAM up to {end:#x}, and 32 bits end at 4 GiB")));
    }
    let areas = host.cpu_notes.iter().chain(&host.vmcoreinfo);
    if let Some(area) = areas.map(|area| area.address.saturating_add(area.size)).find(|end| *end > 1 << 32) {
        return Err(refuse(format!("a CPU's notes end at {area:#x}, above 4 GiB")));
    }
    if hotplug {
        return Err(refuse(
            "the kernel rewrites the headers as ELF64 when CPUs or memory come and go (--hotplug)".to_owned(),
        ));
    }
    Ok(())
}

/// RAM that belongs into a dump.
fn dumped(host: &Host, machine: Machine, low: Option<Range>) -> Vec<Range> {
    let mut holes = host.iomem.crash_kernel();
    holes.extend(&host.crash_cma);
    holes.extend(host.iomem.gart());
    if machine == Machine::X86_64 {
        holes.push(Range::new(low.map_or(0, |low| low.end), 1 << 20));
    }
    subtract(&host.iomem.ram(), &holes)
}

/// The mapping of the kernel's image: gdb finds symbols by it.
fn text(host: &Host, notes: &mut Vec<String>) -> Option<Load> {
    let image = host.iomem.kernel_image();
    let mapping = image.and_then(|image| host.kcore.as_ref()?.image(image.start));
    let Some((mapping, image)) = mapping.zip(image) else {
        notes.push("the mapping of the kernel's image is not known: gdb will need crash's or drgn's help".to_owned());
        return None;
    };
    // /proc/kcore says how far the image goes; without it (an empty mapping) the end of its bss does.
    let size = if mapping.size == 0 { image.len() } else { mapping.size };
    Some(Load { physical: image.start, offset: image.start, virtual_address: mapping.vaddr, size })
}
