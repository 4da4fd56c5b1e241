//! What cannot be loaded says so, and what to do.

use vdump_loader::{
    Kind,
    image::{Image, unpack},
};

use crate::{
    asked,
    images::{BzImage, vmlinux},
    tree::tree,
};

#[test]
fn too_small_a_reservation_names_the_missing_mebibytes() {
    let root = tree("too-small");
    let asked = asked(&BzImage::default().bytes());
    let error = asked.plan(root.path()).unwrap_err().to_string();
    // 60 MiB of kernel at 2 MiB, 20 of initrd, and less than one of everything else, in 48.
    assert!(error.contains("at least 33 MiB larger (81 MiB in all"), "{error}");
    assert!(error.contains("kernel 60.0 MiB") && error.contains("initrd 20.0 MiB"), "{error}");
    // The advice is right: exactly that much more is enough.
    let line = crate::recorded::Memory::of(root.path()).named("Crash kernel")[0];
    let grown = |mib: u64| {
        let text = std::fs::read_to_string(root.path().join("proc/iomem")).unwrap();
        let larger = format!("{:x} : Crash", line.1 - 1 + (mib << 20));
        crate::tree::write(
            root.path(),
            "proc/iomem",
            text.replace(&format!("{:x} : Crash", line.1 - 1), &larger).as_bytes(),
        );
        let planned = asked.plan(root.path()).map(drop);
        crate::tree::write(root.path(), "proc/iomem", text.as_bytes());
        planned
    };
    assert!(grown(33).is_ok() && grown(32).is_err());
}

#[test]
fn no_reservation_says_how_to_get_one() {
    let asked = asked(&BzImage::default().bytes());
    let root = tree("no-crashkernel");
    let error = asked.plan(root.path()).unwrap_err().to_string();
    assert!(error.contains("without crashkernel=") && error.contains("crashkernel=256M"), "{error}");
    crate::tree::write(root.path(), "proc/cmdline", b"quiet crashkernel=64G\n");
    let error = asked.plan(root.path()).unwrap_err().to_string();
    assert!(error.contains("could not reserve") && error.contains("64G"), "{error}");
}

#[test]
fn zeros_mean_that_root_is_needed() {
    let error = asked(&BzImage::default().bytes()).plan(tree("not-root").path()).unwrap_err().to_string();
    assert!(error.contains("as root"), "{error}");
}

#[test]
fn too_long_a_command_line_is_told_before_anything_is_loaded() {
    let mut asked = asked(&BzImage::default().bytes());
    asked.command_line = "x".repeat(2030);
    let error = asked.plan(tree("efi").path()).unwrap_err();
    assert_eq!(error.kind, Kind::Usage);
    assert!(error.to_string().contains("more than the kernel takes (2047)"), "{error}");
}

#[test]
fn what_the_loader_says_itself_may_not_be_said_twice() {
    let mut asked = asked(&BzImage::default().bytes());
    asked.command_line = "quiet elfcorehdr=0x1000".to_owned();
    assert_eq!(asked.plan(tree("efi").path()).unwrap_err().kind, Kind::Usage);
    asked.command_line = "quiet -- elfcorehdr=0x1000".to_owned();
    assert!(asked.plan(tree("efi").path()).is_ok(), "behind -- it is init's");
}

#[track_caller]
fn refused(file: Vec<u8>, why: &str) {
    let Err(error) = Image::parse("/boot/k", file) else { panic!("taken, but: {why}") };
    let error = error.to_string();
    assert!(error.contains("/boot/k") && error.contains(why), "{error}");
}

#[test]
fn other_files_are_named_for_what_they_are() {
    refused(b"hello, this is text\n".to_vec(), "text file");
    refused(Vec::new(), "empty");
    refused(b"#!/bin/sh\n".to_vec(), "script");
    refused(b"070701000000".to_vec(), "initramfs");
    refused(vec![0x7f, b'E', b'L', b'F', 2, 1], "cut short");
    refused(std::fs::read("/proc/self/exe").unwrap(), "a program, not a kernel");
    refused(BzImage { version: 0x20b, ..BzImage::default() }.bytes(), "2.12");
    refused(BzImage { xloadflags: 0, ..BzImage::default() }.bytes(), "32-bit");
    refused(BzImage { alignment: 3, ..BzImage::default() }.bytes(), "power of two");
    let whole = BzImage::default().bytes();
    refused(whole[..whole.len() / 2].to_vec(), "the file has");
}

#[test]
fn damaged_images_never_panic() {
    let mut random = crate::properties::Random(7);
    for image in [BzImage::default().bytes(), vmlinux(16 << 20, 4096, 4096), crate::images::arm64(1 << 20, 0)] {
        for _ in 0..2000 {
            let mut damaged = image.clone();
            for _ in 0..1 + random.below(8) {
                let at = random.below(damaged.len().min(0x280) as u64) as usize;
                damaged[at] = random.below(256) as u8;
            }
            damaged.truncate(1 + random.below(image.len() as u64) as usize);
            let _ = Image::parse("damaged", damaged);
        }
    }
}

#[test]
fn compressed_kernels_are_unpacked() {
    use std::io::Write as _;
    let kernel = vmlinux(16 << 20, 100_000, 4096);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&kernel).unwrap();
    let gzip = gzip.finish().unwrap();
    let zstd = zstd::encode_all(kernel.as_slice(), 1).unwrap();
    let options = lzma_rust2::XzOptions::with_preset(1);
    let mut xz = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
    xz.write_all(&kernel).unwrap();
    let xz = xz.finish().unwrap();
    for (what, bytes) in [("gzip", gzip), ("zstd", zstd), ("xz", xz)] {
        let (plain, by) = unpack::unpack("k", bytes.clone()).unwrap();
        assert_eq!((plain == kernel, by), (true, Some(what)));
        let cut = bytes[..bytes.len() / 2].to_vec();
        let error = unpack::unpack("k", cut).unwrap_err().to_string();
        assert!(error.contains(what) && error.contains("damaged"), "{error}");
    }
    assert_eq!(unpack::unpack("k", kernel.clone()).unwrap(), (kernel, None));
}
