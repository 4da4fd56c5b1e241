//! `/proc/iomem`: physical memory as the running kernel knows it.
//!
//! Knows the names in the file; its lines are read by the crate that both halves share. Must not decide where anything goes.

use std::fmt;

use serde::{Deserialize, Serialize};
use vdump_filters::iomem::{self, CRASH_KERNEL, GART, Ram};

use crate::{
    error::{Error, Result},
    range::{Range, merged, subtract},
};

/// One line of the file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resource {
    /// How deep it is nested; 0 at the top.
    pub depth: usize,
    /// Where it is.
    pub range: Range,
    /// Its name.
    pub name: String,
    /// Whose RAM it is, if it is RAM.
    pub ram: Option<Ram>,
}

impl From<iomem::Resource<'_>> for Resource {
    fn from(line: iomem::Resource<'_>) -> Self {
        let range = Range { start: line.start, end: line.end };
        Self { depth: line.depth, range, name: line.name.to_owned(), ram: line.ram() }
    }
}

/// What a firmware map says that memory is. The order is the strength: where two claim a byte, the later kind wins.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Usable.
    Ram,
    /// Persistent memory as old firmware reports it.
    Pram,
    /// Persistent memory.
    Pmem,
    /// ACPI tables, usable after they are read.
    Acpi,
    /// ACPI's own storage.
    Nvs,
    /// Not to be touched.
    Reserved,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ram => "ram",
            Self::Pram => "pram",
            Self::Pmem => "pmem",
            Self::Acpi => "acpi",
            Self::Nvs => "nvs",
            Self::Reserved => "reserved",
        })
    }
}

impl Kind {
    /// The kind of a name in `/proc/iomem` or `/sys/firmware/memmap`. RAM that a driver added has none: no firmware map has
    /// it.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        Some(match name {
            "System RAM" => Self::Ram,
            "ACPI Tables" => Self::Acpi,
            "ACPI Non-volatile Storage" => Self::Nvs,
            "Reserved" | "reserved" => Self::Reserved,
            "Persistent Memory (legacy)" => Self::Pram,
            "Persistent Memory" => Self::Pmem,
            _ => return None,
        })
    }
}

/// All of `/proc/iomem`.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Iomem {
    /// Its lines, in order.
    pub resources: Vec<Resource>,
}

impl Iomem {
    /// Parses the text; lines that are not resources are left out.
    ///
    /// # Errors
    /// When every address is zero, which is what the kernel shows to those who are not root, or no line is a resource.
    pub fn parse(text: &str) -> Result<Self> {
        let lines: Vec<_> = text.lines().filter_map(iomem::Resource::parse).collect();
        if lines.is_empty() {
            return Err(Error::input("cannot use /proc/iomem").because("it names no memory"));
        }
        if lines.iter().all(iomem::Resource::is_hidden) {
            return Err(Error::input("cannot read the addresses in /proc/iomem")
                .because("the kernel shows only zeros to those who are not root")
                .next_step("run this as root, with CAP_SYS_ADMIN"));
        }
        Ok(Self { resources: lines.into_iter().map(Resource::from).collect() })
    }

    fn named(&self, test: impl Fn(&str) -> bool) -> impl Iterator<Item = &Resource> {
        self.resources.iter().filter(move |resource| test(&resource.name))
    }

    /// All RAM, whoever added it, joined: what a dump shows, and what the running kernel has mapped.
    #[must_use]
    pub fn ram(&self) -> Vec<Range> {
        merged(self.resources.iter().filter(|line| line.ram.is_some()).map(|line| line.range).collect())
    }

    /// The RAM that the next kernel may be put to and may know from the start: not what a driver added, see [`Ram::Driver`].
    #[must_use]
    pub fn ram_of_the_machine(&self) -> Vec<Range> {
        let ram = self.resources.iter().filter(|line| line.ram == Some(Ram::Machine)).map(|line| line.range).collect();
        // A driver's memory may touch the machine's, but it never is the same.
        let added: Vec<Range> =
            self.resources.iter().filter(|line| line.ram == Some(Ram::Driver)).map(|line| line.range).collect();
        subtract(&merged(ram), &added)
    }

    /// What `crashkernel=` reserved, lowest first.
    #[must_use]
    pub fn crash_kernel(&self) -> Vec<Range> {
        let mut ranges: Vec<Range> = self.named(|name| name == CRASH_KERNEL).map(|resource| resource.range).collect();
        ranges.sort_unstable();
        ranges.dedup();
        ranges
    }

    /// The aperture of AMD's GART: reads of it may hang the machine.
    #[must_use]
    pub fn gart(&self) -> Vec<Range> {
        self.named(|name| name == GART).map(|resource| resource.range).collect()
    }

    /// Memory that is not RAM to the capture kernel, but that it must know: ACPI's, reserved, persistent.
    #[must_use]
    pub fn other(&self) -> Vec<(Range, Kind)> {
        let kinds = self.resources.iter().filter_map(|resource| Some((resource.range, Kind::of(&resource.name)?)));
        kinds.filter(|(_, kind)| *kind != Kind::Ram).collect()
    }

    /// RAM where nothing else than the running kernel's image and its crash memory is.
    #[must_use]
    pub fn plain_ram(&self) -> Vec<Range> {
        let taken = |resource: &&Resource| {
            let name = resource.name.as_str();
            resource.depth > 0
                && !name.starts_with("Kernel ")
                && name != CRASH_KERNEL
                && Kind::of(name) != Some(Kind::Ram)
        };
        let ram = self.ram_of_the_machine();
        let holes: Vec<Range> = self.resources.iter().filter(taken).map(|resource| resource.range).collect();
        subtract(&ram, &holes)
    }

    /// The running kernel's text, if it has exactly one.
    #[must_use]
    pub fn kernel_code(&self) -> Option<Range> {
        let mut found = self.named(|name| name == "Kernel code");
        found.next().map(|resource| resource.range).filter(|_| found.next().is_none())
    }

    /// The running kernel's whole image: from its text to the end of its bss.
    #[must_use]
    pub fn kernel_image(&self) -> Option<Range> {
        let start = self.kernel_code()?.start;
        let end = self.named(|name| name.starts_with("Kernel ")).map(|resource| resource.range.end).max()?;
        Some(Range::new(start, end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
00000000-00000fff : Reserved
00001000-0009fbff : System RAM
00100000-3ffdffff : System RAM
  02000000-031fffff : Kernel code
  03200000-03cfffff : Kernel rodata
  04000000-043fffff : Kernel bss
  2f000000-3effffff : Crash kernel
  3f000000-3f000fff : Reserved
3ffe0000-3fffffff : ACPI Tables
100000000-13fffffff : System RAM (kmem)
";

    #[test]
    fn names_become_kinds() {
        let iomem = Iomem::parse(TEXT).unwrap();
        assert_eq!(iomem.ram().len(), 3);
        assert_eq!(iomem.crash_kernel(), [Range::new(0x2f00_0000, 0x3f00_0000)]);
        assert_eq!(iomem.kernel_image(), Some(Range::new(0x200_0000, 0x440_0000)));
        assert_eq!(iomem.other().len(), 3);
        assert_eq!(iomem.plain_ram().len(), 3, "the reserved page splits the second range, the driver's is no place");
        assert_eq!(iomem.ram_of_the_machine().len(), 2);
        assert_eq!(iomem.resources[3].depth, 1);
    }

    #[test]
    fn all_zeros_mean_not_root() {
        let error = Iomem::parse("00000000-00000000 : System RAM\n  00000000-00000000 : Kernel code\n").unwrap_err();
        assert!(error.to_string().contains("root"), "{error}");
    }

    #[test]
    fn other_text_is_refused() {
        assert!(Iomem::parse("hello\n").is_err() && Iomem::parse("").is_err());
    }
}
