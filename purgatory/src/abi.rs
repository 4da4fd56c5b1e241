//! The table that the loader fills and the blob reads: one file, compiled into both.
//!
//! Knows the layout, byte by byte. Must not know what either side does with it. Little endian, as the machine is.

#![allow(dead_code, reason = "each side uses its half")]

use core::mem::{offset_of, size_of};

/// Segments that the table has room for: as many as `kexec_load` takes (`KEXEC_SEGMENT_MAX` in linux/kexec.h).
pub const MAX_REGIONS: usize = 16;
/// Bytes of a segment's name.
pub const NAME_LEN: usize = 16;

/// [`Params::on_mismatch`]: reset the machine. Every other value is a halt, the safe reading of a damaged one.
pub const REBOOT: u32 = 1;
/// The bit of a damaged blob in what the check returns; segment N has bit N.
pub const SELF_DAMAGED: u32 = 1 << 31;

/// One loaded segment and the digest that it must have.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Region {
    /// Physical address of the first byte.
    pub start: u64,
    /// Bytes, zero fill included.
    pub len: u64,
    /// SHA-256 of these bytes.
    pub sha256: [u8; 32],
    /// ASCII, filled up with zeros.
    pub name: [u8; NAME_LEN],
}

/// All that the blob is told. It lies at the blob's end, and its own last field is the digest of everything before it.
#[repr(C)]
pub struct Params {
    /// Physical address to jump to, in 64-bit mode.
    pub kernel_entry: u64,
    /// Physical address of the kernel's `struct boot_params`, handed over in rsi.
    pub boot_params: u64,
    /// Physical address of the memory to copy away before the kernel overwrites it.
    pub backup_source: u64,
    /// Where to.
    pub backup_destination: u64,
    /// Bytes to copy; 0: none.
    pub backup_len: u64,
    /// What to do about a damaged segment: [`REBOOT`], or halt.
    pub on_mismatch: u32,
    /// Entries of `regions` in use.
    pub region_count: u32,
    /// First I/O port of a 16550 UART; 0: none.
    pub serial_port: u16,
    /// The UART's divisor of 115200 baud; 0: leave the UART as it is.
    pub serial_divisor: u16,
    /// Not 0: write everything to QEMU's port 0xe9 as well.
    pub debug_port: u8,
    /// Not 0: this machine's CPU has the SHA extensions. The blob does not ask: `cpuid` traps in an encrypted guest.
    pub sha_extensions: u8,
    /// Zero.
    pub reserved: u16,
    /// The segments to verify.
    pub regions: [Region; MAX_REGIONS],
    /// SHA-256 of the blob from its first byte up to this field.
    pub own_sha256: [u8; 32],
}

const _: () = {
    assert!(size_of::<Region>() == 64);
    assert!(offset_of!(Region, sha256) == 16 && offset_of!(Region, name) == 48);
    assert!(offset_of!(Params, on_mismatch) == 40 && offset_of!(Params, serial_port) == 48);
    assert!(offset_of!(Params, regions) == 56);
    assert!(offset_of!(Params, own_sha256) + 32 == size_of::<Params>());
    // No padding: the loader writes the fields one after the other.
    assert!(size_of::<Params>() == 56 + MAX_REGIONS * 64 + 32);
};
