//! The purgatory's work: verify itself, verify every segment, copy the backup region; say what was found.
//!
//! Knows the table. Must not execute anything that only the kernel may, as long as no console is asked for: tests call
//! `purgatory_main` in a process. Its result goes to `entry.rs`.

use crate::abi::{MAX_REGIONS, Params, REBOOT, Region, SELF_DAMAGED};
use crate::console::Console;
use crate::machine;
use crate::sha256::{self, Digest, Engine};

/// Verifies all, then copies the backup region. Returns a bit for each damaged segment, [`SELF_DAMAGED`] for the blob
/// itself, and 0 if the capture kernel may run. Nothing is copied unless all is well.
///
/// # Safety
/// `base` is the blob's first byte, `params` the table at its end, filled in by the loader; the segments are memory.
#[unsafe(no_mangle)]
unsafe extern "C" fn purgatory_main(base: *const u8, params: *const Params) -> u32 {
    // SAFETY: the caller's; nothing writes to the table.
    let params = unsafe { &*params };
    let engine = if params.sha_extensions != 0 { Engine::Extensions } else { Engine::General };
    let mut console = Console::open(params);
    let own_len = (&raw const params.own_sha256 as u64).wrapping_sub(base as u64);
    // SAFETY: these are the blob's own bytes.
    let own = unsafe { sha256::digest(engine, base as u64, own_len) };
    let expected = sha256::load(&params.own_sha256);
    if !sha256::same(&own, &expected) {
        // The table may be what is damaged, so no segment is looked at.
        report(&mut console, b"purgatory", base as u64, own_len, &expected, &own);
        return SELF_DAMAGED;
    }
    let count = (params.region_count as usize).min(MAX_REGIONS);
    console.text(b"vdump purgatory: verifying ");
    console.small(count as u32);
    console.text(b" segments\n");
    let mut damaged = 0;
    for (at, region) in params.regions.iter().enumerate().take(count) {
        // SAFETY: the caller's.
        damaged |= u32::from(unsafe { !is_intact(engine, region, &mut console) }) << at;
    }
    if damaged == 0 {
        // SAFETY: the caller's; the loader refused ranges that overlap.
        unsafe { machine::copy(params.backup_source, params.backup_destination, params.backup_len) };
        console.text(b"vdump purgatory: all segments are intact, starting the capture kernel\n");
        console.flush();
    }
    damaged
}

/// Compares one segment with its digest and reports a difference.
///
/// # Safety
/// The region is memory.
unsafe fn is_intact(engine: Engine, region: &Region, console: &mut Console) -> bool {
    // SAFETY: the caller's.
    let found = unsafe { sha256::digest(engine, region.start, region.len) };
    let expected = sha256::load(&region.sha256);
    let intact = sha256::same(&found, &expected);
    if !intact {
        report(console, &region.name, region.start, region.len, &expected, &found);
    }
    intact
}

fn report(console: &mut Console, name: &[u8], start: u64, len: u64, expected: &Digest, found: &Digest) {
    console.text(b"vdump purgatory: segment ");
    console.name(name);
    console.text(b" is damaged: ");
    console.address(start);
    console.text(b"-");
    console.address(start.wrapping_add(len.max(1) - 1));
    console.text(b", SHA-256 should begin with ");
    console.hex(sha256::first_bytes(expected), 16);
    console.text(b", begins with ");
    console.hex(sha256::first_bytes(found), 16);
    console.text(b"\n");
}

/// What happens instead of a capture kernel that is damaged.
///
/// # Safety
/// `params` is the table; the processor is in kernel mode.
#[unsafe(no_mangle)]
unsafe extern "C" fn purgatory_stop(params: *const Params) -> ! {
    // SAFETY: the caller's.
    let params = unsafe { &*params };
    // The UART is set up already, if there is one.
    let mut console = Console::open(params);
    console.text(b"vdump purgatory: the capture kernel is damaged and will not run; ");
    if params.on_mismatch == REBOOT {
        console.text(b"rebooting\n");
        console.flush();
        machine::reset()
    }
    console.text(b"halted\n");
    console.flush();
    machine::halt()
}
