//! What the loader tells the purgatory, and every reason to refuse it.
//!
//! Knows addresses and their overlaps. The blob's bytes are made in `image.rs`.

use crate::abi::{MAX_REGIONS, NAME_LEN};

/// What to do when a segment is damaged.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnMismatch {
    /// Halt, so that the message stays to be read.
    #[default]
    Hang,
    /// Reset the machine, so that it comes back without a dump.
    Reboot,
}

/// A 16550 UART behind I/O ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Serial {
    /// First of its eight ports; 0x3f8 is COM1.
    pub port: u16,
    /// Bits a second, 115200 divided by a whole number; 0 leaves the UART as the dead kernel set it up.
    pub baud: u32,
}

/// A loaded segment to verify.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Region {
    /// What the message calls it: at most [`NAME_LEN`] printable ASCII characters.
    pub name: String,
    /// Physical address of its first byte.
    pub start: u64,
    /// Bytes of memory, zero fill included (the segment's memsz).
    pub len: u64,
    /// Their digest, see [`crate::sha256_of_segment`].
    pub sha256: [u8; 32],
}

/// Memory to copy away before the capture kernel uses it. Its destination is no [`Region`]: its content changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backup {
    /// Physical address to copy from.
    pub source: u64,
    /// Physical address to copy to.
    pub destination: u64,
    /// Bytes; 0 copies nothing.
    pub len: u64,
}

/// All that the purgatory must know.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Handover {
    /// Physical address of the kernel's 64-bit entry: its load address + 0x200 for a bzImage, `e_entry` for a vmlinux.
    pub kernel_entry: u64,
    /// Physical address of its `struct boot_params`.
    pub boot_params: u64,
    /// What to verify, in this order: every segment but the purgatory itself, the backup's destination, and with hotplug
    /// the ELF core headers, which the kernel rewrites.
    pub regions: Vec<Region>,
    /// What to copy once all is verified.
    pub backup: Option<Backup>,
    /// Where to say what was found.
    pub serial: Option<Serial>,
    /// Say it on QEMU's port 0xe9 as well.
    pub debug_port: bool,
    /// What to do when a segment is damaged.
    pub on_mismatch: OnMismatch,
}

/// Why a handover cannot be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandoverError {
    /// The crate was built for another architecture.
    #[error("there is no purgatory for this architecture: it is for x86_64")]
    NoBlob,
    /// More segments than the table has room for.
    #[error("{0} segments to verify: the purgatory has room for {MAX_REGIONS}")]
    TooManyRegions(usize),
    /// A name that the message could not show.
    #[error("segment name {0:?} must be 1 to {NAME_LEN} printable ASCII characters")]
    Name(String),
    /// A range that does not fit into the address space.
    #[error("{name} of {len:#x} bytes at {start:#x} is beyond the end of memory")]
    BeyondMemory {
        /// What it is.
        name: String,
        /// Its physical address.
        start: u64,
        /// Its length in bytes.
        len: u64,
    },
    /// Two ranges that share memory.
    #[error("{0} and {1} overlap in memory")]
    Overlap(String, String),
    /// The kernel or its parameters lie outside of everything that is verified.
    #[error("{what} at {address:#x} is in no verified segment")]
    NotVerified {
        /// What it is.
        what: &'static str,
        /// Its physical address.
        address: u64,
    },
    /// A port range that wraps, or port 0.
    #[error("serial port {0:#x} is no I/O port of a UART (COM1 is 0x3f8)")]
    Port(u16),
    /// A speed that the UART cannot have.
    #[error("{0} baud is not 115200 divided by a whole number (0 leaves the UART as it is)")]
    Baud(u32),
}

impl Handover {
    /// Whether it contradicts itself, or asks for more than the table has room for.
    pub(crate) fn check(&self) -> Result<(), HandoverError> {
        if self.regions.len() > MAX_REGIONS {
            return Err(HandoverError::TooManyRegions(self.regions.len()));
        }
        let printable = |name: &str| name.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
        for Region { name, .. } in &self.regions {
            if name.is_empty() || name.len() > NAME_LEN || !printable(name) {
                return Err(HandoverError::Name(name.clone()));
            }
        }
        self.ranges_are_apart()?;
        // With nothing to verify the caller wants no verification.
        for (what, address) in [("the kernel's entry", self.kernel_entry), ("boot_params", self.boot_params)] {
            let verified = |region: &Region| region.start <= address && address - region.start < region.len;
            if !self.regions.is_empty() && !self.regions.iter().any(verified) {
                return Err(HandoverError::NotVerified { what, address });
            }
        }
        self.serial.map_or(Ok(()), |serial| serial.divisor().map(drop))
    }

    /// No segment overlaps another or the backup's destination, and the backup does not overlap itself.
    fn ranges_are_apart(&self) -> Result<(), HandoverError> {
        let mut ranges: Vec<(&str, u64, u64)> = Vec::new();
        ranges.extend(self.regions.iter().map(|region| (region.name.as_str(), region.start, region.len)));
        if let Some(backup) = self.backup.filter(|backup| backup.len > 0) {
            let source = ("the backup's source", backup.source, backup.len);
            let destination = ("the backup's destination", backup.destination, backup.len);
            end(source)?;
            end(destination)?;
            if overlap(source, destination)? {
                return Err(HandoverError::Overlap(source.0.to_owned(), destination.0.to_owned()));
            }
            ranges.push(destination);
        }
        for (at, a) in ranges.iter().enumerate() {
            end(*a)?;
            for b in ranges.iter().take(at) {
                if overlap(*b, *a)? {
                    return Err(HandoverError::Overlap(b.0.to_owned(), a.0.to_owned()));
                }
            }
        }
        Ok(())
    }
}

/// The end of a range, exclusive.
fn end((name, start, len): (&str, u64, u64)) -> Result<u64, HandoverError> {
    let beyond = || HandoverError::BeyondMemory { name: name.to_owned(), start, len };
    start.checked_add(len).ok_or_else(beyond)
}

/// Whether two ranges share a byte.
fn overlap(a: (&str, u64, u64), b: (&str, u64, u64)) -> Result<bool, HandoverError> {
    Ok(a.2 > 0 && b.2 > 0 && a.1 < end(b)? && b.1 < end(a)?)
}

impl Serial {
    /// The UART's divisor of 115200 baud; 0 leaves it as it is.
    pub(crate) fn divisor(self) -> Result<u16, HandoverError> {
        const FASTEST: u32 = 115_200;
        if self.port == 0 || self.port > 0xfff8 {
            return Err(HandoverError::Port(self.port));
        }
        match self.baud {
            0 => Ok(0),
            baud if FASTEST.is_multiple_of(baud) => {
                u16::try_from(FASTEST / baud).map_err(|_| HandoverError::Baud(baud))
            }
            baud => Err(HandoverError::Baud(baud)),
        }
    }
}
