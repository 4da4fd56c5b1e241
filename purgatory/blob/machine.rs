//! The bare machine: ports, a copy, a halt, a reset.
//!
//! Knows single instructions. Must not know what for. Only this file and `entry.rs` hold assembly.

use core::arch::asm;

/// Writes a byte to an I/O port.
pub fn out8(port: u16, value: u8) {
    // SAFETY: touches no memory of ours; the machine is ours alone.
    unsafe { asm!("out dx, al", in("dx") port, in("al") value, options(nomem, nostack, preserves_flags)) }
}

/// Reads a byte from an I/O port. Where nothing answers the bus reads 0xff.
pub fn in8(port: u16) -> u8 {
    let value: u8;
    // SAFETY: as for `out8`.
    unsafe { asm!("in al, dx", in("dx") port, out("al") value, options(nomem, nostack, preserves_flags)) }
    value
}

/// Copies `len` bytes upwards between physical addresses. Address 0 is memory like any other.
///
/// # Safety
/// Both ranges are memory, the destination belongs to nobody else, and it does not begin inside the source.
pub unsafe fn copy(source: u64, destination: u64, len: u64) {
    // SAFETY: the caller's; the entry code cleared the direction flag.
    unsafe {
        asm!("rep movsb", inout("rcx") len => _, inout("rsi") source => _, inout("rdi") destination => _,
            options(nostack, preserves_flags));
    }
}

/// Stops for good. An interrupt that cannot be masked is no reason to go on.
pub fn halt() -> ! {
    loop {
        // SAFETY: interrupts off, sleep; nothing of ours changes.
        unsafe { asm!("cli", "hlt", options(nomem, nostack)) }
    }
}

/// Resets the machine: by the chipset, else by the keyboard controller, else by a triple fault.
pub fn reset() -> ! {
    let chipset = in8(0xcf9) & !0x6;
    out8(0xcf9, chipset | 0x2);
    pause();
    out8(0xcf9, chipset | 0x6);
    pause();
    // The keyboard controller takes a command when its input buffer is empty, or there is none.
    let mut tries = 0_u32;
    while in8(0x64) & 0x2 != 0 && tries < 0x10000 {
        tries += 1;
    }
    out8(0x64, 0xfe);
    pause();
    let none = [0_u16; 5];
    // SAFETY: without an interrupt table the breakpoint cannot be delivered, nor the faults that follow: a reset.
    unsafe { asm!("lidt [{}]", "int3", in(reg) &raw const none, options(nostack)) }
    halt()
}

/// Some tens of milliseconds: a read of a port takes a microsecond on the bus.
fn pause() {
    let mut tries = 0_u32;
    while tries < 50_000 {
        in8(0x80);
        tries += 1;
    }
}
