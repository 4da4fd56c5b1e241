//! How a kernel is to be loaded: what a user may choose.
//!
//! Knows no plan. The command line is turned into these, and they are remembered with what was loaded.

use serde::{Deserialize, Serialize};
use vdump_filters::number;

use crate::corehdr::Class;

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
