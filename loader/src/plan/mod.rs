//! The plan: every segment with its bytes and its place, before any system call.
//!
//! Knows the order of the parts. Pure: what it needs of the machine is in [`Host`], of the files in [`Image`]. It can be
//! printed, compared and tested anywhere; [`crate::arm`] hands it to the kernel.

mod arm64;
mod x86;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use vdump_filters::number;

use crate::{
    cmdline,
    corehdr::{Class, CoreHeaders},
    error::{Error, Result},
    handover,
    host::Host,
    image::{Image, Machine},
    range::Range,
    x86::e820::Entry,
};

/// When the lowest memory is copied aside.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backup {
    /// When the running kernel may have data there.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How the capture kernel is told which memory it may use.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemoryMap {
    /// In the boot parameters.
    #[default]
    E820,
    /// As `memmap=` on its command line as well.
    Exactmap,
}

/// What the purgatory does when a loaded segment was overwritten.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mismatch {
    /// Stop, with the message on the console.
    #[default]
    Hang,
    /// Reset the machine.
    Reboot,
}

/// A serial port that the purgatory speaks on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SerialPort {
    /// Its first I/O port.
    pub port: u16,
    /// Its speed; 0 leaves it as it is.
    pub baud: u32,
}

/// How the kernel is to be loaded.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Options {
    /// For a crash, into reserved memory; else for the next reboot.
    pub panic: bool,
    /// Width of the core headers.
    pub core_headers: Class,
    /// When the lowest memory is copied aside.
    pub backup: Backup,
    /// How the capture kernel is told its memory.
    pub memory_map: MemoryMap,
    /// Let the kernel rewrite the core headers when CPUs and memory come and go.
    pub hotplug: bool,
    /// Where the purgatory speaks; `None`: on the serial console of the command line.
    pub serial: Option<SerialPort>,
    /// Speak on QEMU's debug port too.
    pub debug_port: bool,
    /// What to do when a segment was overwritten.
    pub on_mismatch: Mismatch,
}

/// What is to be loaded.
#[derive(Debug)]
pub struct Request<'a> {
    /// The kernel.
    pub image: &'a Image,
    /// Its initial file system.
    pub initrd: Option<&'a [u8]>,
    /// Its command line, without what the loader adds.
    pub command_line: &'a str,
    /// How.
    pub options: &'a Options,
    /// A seed for its random numbers.
    pub seed: Option<[u8; 32]>,
}

/// One piece of memory that the kernel fills.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Segment<'a> {
    /// Its name.
    pub name: &'static str,
    /// Where.
    pub range: Range,
    /// What; the rest of the range is zeros.
    #[serde(serialize_with = "length")]
    pub data: Cow<'a, [u8]>,
    /// SHA-256 of `data`, where the purgatory verifies it.
    #[serde(serialize_with = "in_hex", skip_serializing_if = "Option::is_none")]
    pub sha256: Option<[u8; 32]>,
}

/// Everything that one load does.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Plan<'a> {
    /// What the image is.
    pub image: String,
    /// For a crash, or for the next reboot.
    pub panic: bool,
    /// The architecture, as the system call names it.
    pub machine: String,
    /// The reserved range that is loaded into.
    pub region: Option<Range>,
    /// Segments, lowest first.
    pub segments: Vec<Segment<'a>>,
    /// Where the running kernel jumps to.
    pub entry: u64,
    /// Where the next kernel is entered.
    pub kernel_entry: u64,
    /// Its boot parameters (x86_64).
    pub boot_params: u64,
    /// Its command line, with what the loader added.
    pub command_line: String,
    /// Its memory map.
    pub e820: Vec<Entry>,
    /// The core headers.
    pub core_headers: Option<CoreHeaders>,
    /// The memory that is copied aside.
    pub backup: Option<Range>,
    /// Where the purgatory speaks.
    pub serial: Option<SerialPort>,
    /// Bytes left free for the running kernel's own tables.
    pub slack: u64,
    /// Bytes of the region that nothing is loaded to.
    pub left: u64,
    /// Let the kernel rewrite the core headers.
    pub hotplug: bool,
    /// What could be better.
    pub notes: Vec<String>,
}

/// The serialized form of bytes is their number.
#[allow(clippy::ptr_arg, reason = "serde gives the field as it is")]
fn length<S: serde::Serializer>(data: &Cow<'_, [u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(data.len() as u64)
}

fn in_hex<S: serde::Serializer>(digest: &Option<[u8; 32]>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&digest.as_ref().map(handover::hex).unwrap_or_default())
}

/// The crash memory that is loaded into: the last range; the others are only RAM for the capture kernel.
///
/// # Errors
/// When nothing is reserved; says what to do.
pub fn region(host: &Host) -> Result<Range> {
    host.iomem.crash_kernel().last().copied().ok_or_else(|| {
        let asked = cmdline::value(&host.command_line, "crashkernel");
        let (cause, next) = match asked {
            Some(value) => (
                format!("the kernel could not reserve what crashkernel={value} asks for (its log says why)"),
                "try a smaller size, or crashkernel=SIZE,high, and reboot",
            ),
            None => (
                "the running kernel was booted without crashkernel=".to_owned(),
                "add crashkernel=256M to its command line (more for large machines) and reboot",
            ),
        };
        Error::input("no memory is reserved for a capture kernel").because(cause).next_step(next)
    })
}

impl<'a> Plan<'a> {
    /// Plans a load by segments.
    ///
    /// # Errors
    /// When the kernel cannot run here, nothing is reserved, or it does not fit; says what to do.
    pub fn make(host: &Host, request: &Request<'a>) -> Result<Self> {
        match request.image.machine() {
            Machine::X86_64 => x86::plan(host, request),
            Machine::Arm64 => arm64::plan(host, request),
        }
    }

    /// The segment called `name`.
    #[must_use]
    pub fn segment(&self, name: &str) -> Option<&Segment<'a>> {
        self.segments.iter().find(|segment| segment.name == name)
    }
}

/// `ttyS0`, `ttyS1,115200n8`, `0x3f8,9600`.
#[must_use]
pub fn serial_port(text: &str) -> Option<SerialPort> {
    let (device, speed) = text.split_once(',').unwrap_or((text, ""));
    let port = match device {
        "ttyS0" => 0x3f8,
        "ttyS1" => 0x2f8,
        "ttyS2" => 0x3e8,
        "ttyS3" => 0x2e8,
        other => u16::try_from(number::hex(other.strip_prefix("0x")?)?).ok()?,
    };
    let digits: String = speed.chars().take_while(char::is_ascii_digit).collect();
    let baud = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    Some(SerialPort { port, baud })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_ports_by_name_and_number() {
        assert_eq!(serial_port("ttyS1,115200n8"), Some(SerialPort { port: 0x2f8, baud: 115_200 }));
        assert_eq!(serial_port("0x3f8"), Some(SerialPort { port: 0x3f8, baud: 0 }));
        assert_eq!(serial_port("tty0"), None);
    }
}
