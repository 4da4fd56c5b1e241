//! What the loader may not hand over, and what the image promises it.
//!
//! Knows the public face only. Must not run the blob.

use vdump_purgatory::{
    Backup, Handover, HandoverError, MAX_REGIONS, NAME_LEN, OnMismatch, Region, Serial, sha256_of_segment,
};

fn region(name: &str, start: u64, len: u64) -> Region {
    Region { name: name.to_owned(), start, len, sha256: [7; 32] }
}

/// A sound one.
fn sound() -> Handover {
    Handover {
        kernel_entry: 0x100_0200,
        boot_params: 0x200_0000,
        regions: vec![region("kernel", 0x100_0000, 0x10_0000), region("params", 0x200_0000, 0x1000)],
        backup: Some(Backup { source: 0, destination: 0x300_0000, len: 0xa_0000 }),
        serial: Some(Serial { port: 0x3f8, baud: 115_200 }),
        debug_port: false,
        on_mismatch: OnMismatch::Reboot,
    }
}

/// Why a sound handover with this change is refused.
fn refusal(change: impl Fn(&mut Handover)) -> HandoverError {
    let mut handover = sound();
    change(&mut handover);
    handover.image().expect_err("this must be refused")
}

#[test]
fn an_image_says_where_it_may_lie() {
    let image = sound().image().unwrap();
    assert_eq!((image.align, image.mem_size % 4096), (4096, 0));
    assert!(image.bytes.len() < 16 << 10 && image.mem_size as usize > image.bytes.len() + 4096);
    assert!((image.entry as usize) < image.bytes.len());
    // The same handover makes the same image, another one another.
    assert_eq!(sound().image().unwrap(), image);
    let mut other = sound();
    other.on_mismatch = OnMismatch::Hang;
    assert_ne!(other.image().unwrap().bytes, image.bytes);
    let (body, own) = image.bytes.split_at(image.bytes.len() - 32);
    assert_eq!(own, sha256_of_segment(body, body.len() as u64));
}

#[test]
fn what_fits_is_taken() {
    let mut full = sound();
    full.regions.extend((2..MAX_REGIONS as u64).map(|n| region("0123456789abcdef", n << 32, 1 << 32)));
    assert_eq!(full.regions[2].name.len(), NAME_LEN);
    assert!(full.image().is_ok());
    let mut empty = sound();
    empty.regions.clear();
    empty.backup = Some(Backup { source: 5, destination: 5, len: 0 });
    empty.serial = None;
    assert!(empty.image().is_ok());
    let mut last = sound();
    last.regions.push(region("last", u64::MAX - 0xfff, 0xfff));
    assert!(last.image().is_ok());
}

#[test]
fn what_does_not_fit_is_refused() {
    let many = refusal(|h| h.regions.extend((0..15).map(|n| region("more", n << 32, 1))));
    assert_eq!(many, HandoverError::TooManyRegions(17));
    for name in ["", "seventeen letters", "in\nitrd", "käse", "nul\0"] {
        let refused = refusal(|h| h.regions[0].name = name.to_owned());
        assert_eq!(refused, HandoverError::Name(name.to_owned()));
    }
    let beyond = refusal(|h| h.regions[1].len = u64::MAX);
    assert!(matches!(&beyond, HandoverError::BeyondMemory { name, start: 0x200_0000, .. } if name == "params"));
    assert_eq!(beyond.to_string(), "params of 0xffffffffffffffff bytes at 0x2000000 is beyond the end of memory");
}

#[test]
fn what_overlaps_is_refused() {
    let overlap = |a: &str, b: &str| HandoverError::Overlap(a.to_owned(), b.to_owned());
    assert_eq!(refusal(|h| h.regions[1].start = 0x10f_ffff), overlap("kernel", "params"));
    assert_eq!(refusal(|h| h.regions[0].len = 0x100_0001), overlap("kernel", "params"));
    let backup =
        |source, destination, len| move |h: &mut Handover| h.backup = Some(Backup { source, destination, len });
    assert_eq!(refusal(backup(0, 0x200_0fff, 0x1000)), overlap("params", "the backup's destination"));
    assert_eq!(refusal(backup(0, 0x50, 0x51)), overlap("the backup's source", "the backup's destination"));
    assert!(matches!(refusal(backup(0, u64::MAX, 2)), HandoverError::BeyondMemory { .. }));
    assert!(matches!(refusal(backup(u64::MAX, 0, 2)), HandoverError::BeyondMemory { .. }));
    // Side by side is apart.
    let mut beside = sound();
    beside.regions[1].start = 0x110_0000;
    beside.boot_params = 0x110_0fff;
    beside.backup = Some(Backup { source: 0, destination: 0x110_1000, len: 0x1000 });
    assert!(beside.image().is_ok());
}

#[test]
fn nothing_runs_that_was_not_verified() {
    let entry = refusal(|h| h.kernel_entry = 0x110_0000);
    assert_eq!(entry, HandoverError::NotVerified { what: "the kernel's entry", address: 0x110_0000 });
    let params = refusal(|h| h.boot_params = 0);
    assert_eq!(params.to_string(), "boot_params at 0x0 is in no verified segment");
}

#[test]
fn a_uart_that_cannot_be_is_refused() {
    for port in [0, 0xfff9, 0xffff] {
        assert_eq!(refusal(|h| h.serial = Some(Serial { port, baud: 0 })), HandoverError::Port(port));
    }
    for baud in [1, 7, 115_201, 230_400, u32::MAX] {
        assert_eq!(refusal(|h| h.serial = Some(Serial { port: 0x2f8, baud })), HandoverError::Baud(baud));
    }
    let mut slow = sound();
    slow.serial = Some(Serial { port: 0xfff8, baud: 2 });
    assert!(slow.image().is_ok());
}
