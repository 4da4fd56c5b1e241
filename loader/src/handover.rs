//! The purgatory's side of a plan: what is verified, copied and jumped to between the two kernels.
//!
//! Knows the purgatory crate, and is the only module that does. Gives the plan its purgatory segment.

pub use vdump_purgatory::Image;
use vdump_purgatory::{Backup, Handover, OnMismatch, Region, Serial};

use crate::{
    error::{Error, Result},
    plan::{Mismatch, Segment, SerialPort},
    range::Range,
};

/// What the purgatory is told.
#[derive(Debug)]
pub struct Handoff<'a> {
    /// The kernel's 64-bit entry.
    pub kernel_entry: u64,
    /// The boot parameters.
    pub boot_params: u64,
    /// Segments to verify.
    pub verified: Vec<&'a Segment<'a>>,
    /// Memory to copy, and where to.
    pub backup: Option<(Range, u64)>,
    /// Where to speak.
    pub serial: Option<SerialPort>,
    /// Whether to speak on QEMU's debug port too.
    pub debug_port: bool,
    /// What to do when memory was overwritten.
    pub on_mismatch: Mismatch,
}

impl Handoff<'_> {
    /// The purgatory, ready to be loaded.
    ///
    /// # Errors
    /// When the purgatory cannot take it.
    pub fn image(&self) -> Result<Image> {
        let region = |segment: &&Segment<'_>| Region {
            name: segment.name.to_owned(),
            start: segment.range.start,
            len: segment.data.len() as u64,
            sha256: segment.sha256.unwrap_or_default(),
        };
        let handover = Handover {
            kernel_entry: self.kernel_entry,
            boot_params: self.boot_params,
            regions: self.verified.iter().map(region).collect(),
            backup: self.backup.map(|(source, destination)| Backup {
                source: source.start,
                destination,
                len: source.len(),
            }),
            serial: self.serial.map(|serial| Serial { port: serial.port, baud: serial.baud }),
            debug_port: self.debug_port,
            on_mismatch: match self.on_mismatch {
                Mismatch::Hang => OnMismatch::Hang,
                Mismatch::Reboot => OnMismatch::Reboot,
            },
        };
        handover.image().map_err(|error| Error::input("cannot make the handover to the capture kernel").because(error))
    }
}

/// SHA-256 of bytes.
#[must_use]
pub fn digest(bytes: &[u8]) -> [u8; 32] {
    vdump_purgatory::sha256_of_segment(bytes, bytes.len() as u64)
}

/// A digest in hexadecimal.
#[must_use]
pub fn hex(digest: &[u8; 32]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
