//! The purgatory's side of a plan: what is verified, copied and jumped to between the two kernels.
//!
//! Knows the purgatory crate, and is the only module that does. Gives the plan its purgatory segment.

use vdump_purgatory::{Backup, Handover, OnMismatch, Serial};
pub use vdump_purgatory::{Image, Region};

use crate::{
    digest::Digest,
    error::{Error, Result},
    options::{Mismatch, SerialPort},
    range::Range,
};

/// What the purgatory is told.
#[derive(Debug)]
pub struct Handoff {
    /// The kernel's 64-bit entry.
    pub kernel_entry: u64,
    /// The boot parameters.
    pub boot_params: u64,
    /// Segments to verify.
    pub verified: Vec<Region>,
    /// Memory to copy, and where to.
    pub backup: Option<(Range, u64)>,
    /// Where to speak.
    pub serial: Option<SerialPort>,
    /// Whether to speak on QEMU's debug port too.
    pub debug_port: bool,
    /// What to do when memory was overwritten.
    pub on_mismatch: Mismatch,
}

impl Handoff {
    /// The purgatory, ready to be loaded.
    ///
    /// # Errors
    /// When the purgatory cannot take it.
    pub fn image(self) -> Result<Image> {
        let handover = Handover {
            kernel_entry: self.kernel_entry,
            boot_params: self.boot_params,
            regions: self.verified,
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

/// SHA-256 of `data` and the zeros that follow it, `memory` bytes in all: what the purgatory finds there.
#[must_use]
pub fn digest(data: &[u8], memory: u64) -> Digest {
    vdump_purgatory::sha256_of_segment(data, memory)
}
