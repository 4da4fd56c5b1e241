//! The memory that can be loaded into: what is reserved, how much more is needed, and how much a file may have.
//!
//! Knows `crashkernel=`. Must not know what the segments hold.

use crate::{
    cmdline,
    error::{Error, Result},
    host::Host,
    place::{Need, reservation},
    range::{Range, human, total},
};

/// Less than this is too little for a kernel, its initramfs unpacked, and a dump tool.
pub(super) const LITTLE: u64 = 64 << 20;
/// How many times its size an initrd takes once it is unpacked, beside the packed one.
const UNPACKED: u64 = 3;
/// Fedora and RHEL reserve as much, by the machine's RAM (kdump-utils, `crashkernel=2G-64G:256M,64G-:512M`).
const USUAL: [(u64, u64); 2] = [(64 << 30, 512 << 20), (0, 256 << 20)];
/// Advice is given in multiples of this.
const STEP: u64 = 16 << 20;

/// How much memory what is loaded may take, and why no more.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Room {
    /// Bytes.
    pub bytes: u64,
    /// The reason.
    pub why: String,
}

impl Room {
    /// The room on a machine, for a crash or for the next reboot.
    #[must_use]
    pub fn of(host: &Host, panic: bool) -> Self {
        match host.iomem.crash_kernel().last().filter(|_| panic) {
            Some(region) => {
                let why = format!("{} are reserved for the capture kernel at {region}", human(region.len()));
                Self { bytes: region.len(), why }
            }
            // `sanity_check_segment_list` in kernel/kexec_core.c; and nobody reserves more.
            None => Self {
                bytes: total(&host.iomem.ram_of_the_machine()) / 2,
                why: "no more than half of all RAM can be loaded".to_owned(),
            },
        }
    }
}

/// The crash memory that is loaded into: the last range; the others are only RAM for the capture kernel.
///
/// # Errors
/// When nothing is reserved; says how much is needed for `needs`, among them an initrd of `initrd` bytes.
pub(super) fn region(host: &Host, needs: &[Need], slack: u64, initrd: u64) -> Result<Range> {
    host.iomem.crash_kernel().last().copied().ok_or_else(|| {
        let size = crashkernel(host, needs, slack, initrd) >> 20;
        let loaded = needs.iter().map(|need| need.size).fold(slack, u64::saturating_add);
        let parts: Vec<String> = needs.iter().map(|need| format!("{} {}", need.name, human(need.size))).collect();
        let why = format!("{} will be loaded ({}), the rest is for it to work in", human(loaded), parts.join(", "));
        let (cause, next) = match cmdline::value(&host.command_line, "crashkernel") {
            Some(value) => (
                format!("the kernel could not reserve what crashkernel={value} asks for (its log says why)"),
                format!("boot with crashkernel={size}M, which should do, or crashkernel={size}M,high: {why}"),
            ),
            None => (
                "the running kernel was booted without crashkernel=".to_owned(),
                format!("add crashkernel={size}M to its command line and reboot: {why}"),
            ),
        };
        Error::input("no memory is reserved for a capture kernel").because(cause).next_step(next)
    })
}

/// A reservation that is large enough to load `needs` into and to run them in, in bytes.
fn crashkernel(host: &Host, needs: &[Need], slack: u64, initrd: u64) -> u64 {
    let ram = total(&host.iomem.ram());
    let usual = USUAL.iter().find(|(least, _)| ram >= *least).map_or(0, |(_, size)| *size);
    let loaded = reservation(needs, slack).unwrap_or(0);
    let working = LITTLE.saturating_add(initrd.saturating_mul(UNPACKED));
    let size = loaded.saturating_add(working).max(usual);
    size.checked_next_multiple_of(STEP).unwrap_or(size)
}
