//! `/proc/iomem`: the lines of the file, and which of them are RAM.
//!
//! Both halves of the program read it: the loader the running machine's, before the crash; the filter a saved one, or that of
//! the kernel whose memory it looks at. What they make of the other resources is their own business.

use crate::number;

/// What `crashkernel=` reserved: the capture kernel's, and in no dump.
pub const CRASH_KERNEL: &str = "Crash kernel";
/// The aperture of AMD's GART: reads of it may hang the machine. In no dump either.
pub const GART: &str = "GART";

/// Whose RAM it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ram {
    /// The firmware's, or a DIMM's: the next kernel finds it as well.
    Machine,
    /// A driver added it: `System RAM (kmem)`, `System RAM (virtio_mem)`. It is in no firmware map, may be gone before the
    /// driver of the next kernel has asked for it, and belongs into a dump like any other RAM. The kernel's own loader puts
    /// nothing there (`IORESOURCE_SYSRAM_DRIVER_MANAGED`; commit 7b7b27214bba, Linux 5.8, which also says what the names are).
    Driver,
}

/// One line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resource<'a> {
    /// How deep it is nested; 0 at the top.
    pub depth: usize,
    /// Its first byte.
    pub start: u64,
    /// The first byte behind it; the last one of the address space cannot be said.
    pub end: u64,
    /// Its name.
    pub name: &'a str,
}

impl<'a> Resource<'a> {
    /// `  01000000-01ffffff : Kernel code`: two spaces for each level, hexadecimal, both ends belong to it. `None` if the
    /// line is anything else.
    #[must_use]
    pub fn parse(line: &'a str) -> Option<Self> {
        let (range, name) = line.split_once(" : ")?;
        let plain = range.trim_start_matches(' ');
        let (start, last) = plain.split_once('-')?;
        let (start, last) = (number::hex(start)?, number::hex(last)?);
        let depth = (range.len() - plain.len()) / 2;
        (start <= last).then(|| Self { depth, start, end: last.saturating_add(1), name: name.trim() })
    }

    /// Whose RAM it is, if it is RAM. An alias ("System RAM (boot alias)") is the same RAM once more and does not count.
    #[must_use]
    pub fn ram(&self) -> Option<Ram> {
        match self.name.strip_prefix("System RAM")? {
            "" => Some(Ram::Machine),
            added if added.starts_with(" (") && !added.contains("alias") => Some(Ram::Driver),
            _ => None,
        }
    }

    /// Whether no dump has it, though it may lie in RAM: the kernel and kexec-tools leave it out of the core headers.
    #[must_use]
    pub fn is_never_dumped(&self) -> bool {
        [CRASH_KERNEL, GART].contains(&self.name)
    }

    /// Whether it may be a line of a file whose addresses were hidden: the kernel shows zeros to those without
    /// CAP_SYS_ADMIN.
    #[must_use]
    pub fn is_hidden(&self) -> bool {
        (self.start, self.end) == (0, 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ram(name: &str) -> Option<Ram> {
        Resource { depth: 0, start: 0, end: 1, name }.ram()
    }

    #[test]
    fn a_line_is_a_range_at_a_depth() {
        let line = Resource::parse("    01000000-01ffffff : Kernel code").unwrap();
        assert_eq!(line, Resource { depth: 2, start: 0x100_0000, end: 0x200_0000, name: "Kernel code" });
        let last = Resource::parse("fd00000000-ffffffffffffffff : Reserved").unwrap();
        assert_eq!(last.end, u64::MAX);
        assert!(Resource::parse("00000000-00000000 : System RAM").unwrap().is_hidden());
        for other in
            ["", "MemTotal: 5 kB", "+1-2 : a", "1- : a", "-1 : a", "2-1 : a", "10000000000000000-1 : a", "1-2: a"]
        {
            assert_eq!(Resource::parse(other), None, "{other}");
        }
    }

    #[test]
    fn ram_is_the_machines_or_a_drivers() {
        assert_eq!(ram("System RAM"), Some(Ram::Machine));
        for driver in ["kmem", "virtio_mem", "hv_balloon", "sbi"] {
            assert_eq!(ram(&format!("System RAM ({driver})")), Some(Ram::Driver));
        }
        for other in ["System RAM (boot alias)", "System ROM", "System RAM2", "Persistent Memory", ""] {
            assert_eq!(ram(other), None, "{other}");
        }
    }
}
