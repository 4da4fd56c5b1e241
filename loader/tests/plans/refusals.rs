//! What cannot be loaded says so, and what to do.

use vdump_loader::{
    Kind,
    image::{
        Image,
        unpack::{Compression, Unpacked},
    },
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
    assert!(error.contains("kernel 60.0 MiB, initrd 20.0 MiB"), "{error}");
    crate::tree::write(root.path(), "proc/cmdline", b"quiet crashkernel=64G\n");
    let error = asked.plan(root.path()).unwrap_err().to_string();
    assert!(error.contains("could not reserve") && error.contains("64G"), "{error}");
}

/// Where nothing is reserved the size is said that would do; and it does.
#[test]
fn a_large_initrd_needs_a_larger_reservation() {
    let mut asked = asked(&BzImage::default().bytes());
    asked.initrd.resize(100 << 20, 1);
    let root = tree("no-crashkernel");
    let error = asked.plan(root.path()).unwrap_err().to_string();
    // 60 MiB of kernel, 100 of initrd, less than 2 of everything else; 64 to work in, and 300 of the initrd unpacked.
    assert!(error.contains("add crashkernel=528M "), "{error}");
    let mut text = std::fs::read_to_string(root.path().join("proc/iomem")).unwrap();
    text += "\n100000000-13fffffff : System RAM\n  110000000-130ffffff : Crash kernel\n";
    crate::tree::write(root.path(), "proc/iomem", text.as_bytes());
    let plan = asked.plan(root.path()).unwrap();
    assert!(plan.left >= 364 << 20, "{}", plan.left);
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
    refused(vec![0x7f, b'E', b'L', b'F', 2, 1], "truncated");
    let unified = [b"MZ".as_slice(), &[0; 0x1fe], b".linux\0\0"].concat();
    refused(unified.clone(), "unified kernel image");
    assert!(Image::needed("/boot/k", &unified).unwrap_err().to_string().contains(".linux section"));
    refused([b"MZ\0\0zimg".as_slice(), &[0; 64]].concat(), "vmlinuz.efi");
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

/// Everything that is in a file, and what of the file was read.
fn unpacked(file: &[u8]) -> std::io::Result<(Vec<u8>, Option<Compression>)> {
    use std::io::Read as _;
    let mut left = file;
    let mut reader = Unpacked::new(&mut left)?;
    let (mut plain, compression) = (Vec::new(), reader.compression());
    reader.read_to_end(&mut plain)?;
    reader.finish()?;
    assert!(left.is_empty(), "the file is read to its end, for its digest");
    Ok((plain, compression))
}

/// `plain` by each of the three.
pub fn packed(plain: &[u8]) -> [(Compression, Vec<u8>); 3] {
    use std::io::Write as _;
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(plain).unwrap();
    let mut zstd = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
    zstd.include_checksum(true).unwrap();
    zstd.write_all(plain).unwrap();
    let mut xz = lzma_rust2::XzWriter::new(Vec::new(), lzma_rust2::XzOptions::with_preset(1)).unwrap();
    xz.write_all(plain).unwrap();
    [
        (Compression::Gzip, gzip.finish().unwrap()),
        (Compression::Zstd, zstd.finish().unwrap()),
        (Compression::Xz, xz.finish().unwrap()),
    ]
}

#[test]
fn compressed_kernels_are_unpacked() {
    let kernel = vmlinux(16 << 20, 100_000, 4096);
    for (by, bytes) in packed(&kernel) {
        assert!(unpacked(&bytes).unwrap() == (kernel.clone(), Some(by)), "{by}");
        for len in [bytes.len() / 2, bytes.len() - 1, 7] {
            assert!(unpacked(&bytes[..len]).is_err(), "{by} of {len} bytes");
        }
        let mut damaged = bytes.clone();
        let at = damaged.len() / 2;
        damaged[at] ^= 0x10;
        assert!(unpacked(&damaged).is_err(), "{by} damaged");
    }
    assert!(unpacked(&kernel).unwrap() == (kernel, None));
}

/// Padding, a signature, an appended device tree; and whole members, which belong to the file.
#[test]
fn what_follows_a_whole_member_is_left_alone() {
    let kernel = vmlinux(16 << 20, 100_000, 4096);
    let tails: [&[u8]; 6] = [
        b"x",
        &[0; 4096],
        &[0; 4097],
        b"\xd0\x0d\xfe\xed\0\0\x10\0",
        b"~Module signature appended~\n",
        &[0xff; 70_000],
    ];
    for (by, bytes) in packed(&kernel) {
        for tail in tails {
            assert!(unpacked(&[&bytes, tail].concat()).unwrap() == (kernel.clone(), Some(by)), "{by} and {tail:.20?}");
        }
        let twice = [&bytes[..], &bytes, b"\n"].concat();
        assert!(unpacked(&twice).unwrap().0 == [&kernel[..], &kernel].concat(), "{by} twice");
        // What begins like a member must be one.
        let cut = [&bytes[..], &bytes[..bytes.len() - 2]].concat();
        assert!(unpacked(&cut).is_err(), "{by} and a cut one");
    }
    let (_, zstd) = &packed(&kernel)[1];
    let skipped = [zstd.as_slice(), b"\x5e\x2a\x4d\x18\x03\0\0\0abc", zstd].concat();
    assert!(unpacked(&skipped).unwrap().0.len() == 2 * kernel.len(), "a frame that decoders skip");
    let padded = [packed(&kernel)[2].1.as_slice(), &[0; 8], &packed(&kernel)[2].1].concat();
    assert!(unpacked(&padded).unwrap().0.len() == 2 * kernel.len(), "the padding of an xz stream");
}

#[test]
fn a_dictionary_that_no_kernel_needs_is_refused() {
    let mut options = lzma_rust2::XzOptions::with_preset(0);
    options.lzma_options.dict_size = 4096;
    let mut xz = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
    std::io::Write::write_all(&mut xz, b"kernel").unwrap();
    let mut xz = xz.finish().unwrap();
    // The one byte of properties, behind the filter's number and the size of them; 40 says 4 GiB.
    let at = xz.windows(3).position(|bytes| bytes == [0x21, 1, 0]).unwrap();
    xz[at + 2] = 40;
    // The block's header lies behind the stream's 12 bytes and ends in a checksum of itself.
    let end = 12 + (usize::from(xz[12]) + 1) * 4;
    let mut sum = flate2::Crc::new();
    sum.update(&xz[12..end - 4]);
    xz[end - 4..end].copy_from_slice(&sum.sum().to_le_bytes());
    assert_eq!(unpacked(&xz).unwrap_err().kind(), std::io::ErrorKind::OutOfMemory);
}
