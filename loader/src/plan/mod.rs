//! The plan: every segment with its bytes and its place, before any system call.
//!
//! Pure: what it needs of the machine is in [`Host`], of the files in [`crate::image::Image`]. It can be printed, compared and
//! tested anywhere; [`crate::arm`] hands it to the kernel.

mod arm64;
mod parts;
mod reserved;
mod x86;

pub use parts::{Plan, Request, Segment};
pub use reserved::Room;

pub use crate::options::{Backup, MemoryMap, Mismatch, Options, SerialPort, serial_port};
use crate::{error::Result, host::Host, image::Machine};

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

    /// Whether all would have a place with an initrd of so many bytes, which needs not to be read for that.
    ///
    /// # Errors
    /// As [`Plan::make`].
    pub fn measure(host: &Host, request: &Request<'a>, initrd: u64) -> Result<()> {
        match request.image.machine() {
            Machine::X86_64 => x86::measure(host, request, initrd),
            Machine::Arm64 => arm64::measure(host, request, initrd),
        }
    }
}
