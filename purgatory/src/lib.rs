//! The room between two kernels: the code that runs after the crash and before the capture kernel, as a blob to load.
//!
//! It knows what the loader placed where ([`Handover`]) and makes the blob for it ([`Handover::image`]). It must not know
//! kernel images, placement or system calls: that is the loader, to which the image goes.
//!
//! # What the blob does
//!
//! The dead kernel jumps to it with one processor running, interrupts off and all of memory mapped. It then
//!
//! 1. sets up its own stack, descriptor table and segments, and lets SSE instructions run (only the SHA extensions need it);
//! 2. verifies its own SHA-256 (code, constants and the table that it was given), then the one of every segment;
//! 3. names each damaged segment on the serial console and on QEMU's debug port, if it was given them;
//! 4. if anything is damaged, halts or reboots, as told;
//! 5. else copies the backup region and jumps to the kernel's 64-bit entry with rsi = boot_params, CS = 0x10,
//!    DS = ES = SS = 0x18, interrupts off, paging and control registers as it found them.
//!
//! It runs at any 4 KiB-aligned address, needs nothing but its own memory, and waits for a dead UART only a moment.
//! It never executes `cpuid`, which traps in an encrypted guest.
//!
//! # How it is built
//!
//! `build.rs` compiles `blob/main.rs` with the toolchain at hand, without cargo's flags, and flattens the one object. An
//! undefined symbol, an absolute address, writable data or more than 16 KiB fail the build.

#![forbid(unsafe_code)]

mod abi;
mod digest;
mod handover;
mod image;

pub use abi::{MAX_REGIONS, NAME_LEN};
pub use digest::sha256_of_segment;
pub use handover::{Backup, Handover, HandoverError, OnMismatch, Region, Serial};
pub use image::Image;

/// The blob as it was built, without a table: for tests that run it in a process.
#[doc(hidden)]
pub mod blob {
    /// Code, constants and an empty table.
    pub const BYTES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/purgatory.bin"));
    include!(concat!(env!("OUT_DIR"), "/layout.rs"));
}
