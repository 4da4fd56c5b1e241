//! Kernel images: what a file is, and what loading it needs.
//!
//! Knows the formats, one file each. Must not know the machine or where the image will lie. Gives an [`Image`] to the plan.

pub mod arm64;
pub mod bzimage;
pub mod elf;
pub(crate) mod le;
pub mod unpack;

use std::fmt;

use bzimage::BzImage;
use elf::Vmlinux;

use crate::error::{Error, Result};

/// A kernel that can be placed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Image {
    /// x86's bzImage, entered at its 64-bit entry.
    BzImage(BzImage),
    /// An ELF kernel of x86_64, uncompressed.
    Vmlinux(Vmlinux),
    /// arm64's Image.
    Arm64(arm64::Arm64),
}

/// The architecture of an image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Machine {
    /// x86_64.
    X86_64,
    /// arm64.
    Arm64,
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::X86_64 => "x86_64",
            Self::Arm64 => "arm64",
        })
    }
}

const ELF: &[u8] = b"\x7fELF";
const GIVE: &str = "give a kernel: /boot/vmlinuz-VERSION, or an uncompressed vmlinux";

impl Image {
    /// Bytes of a kernel's file that are needed, from its beginning, as `head`, its first bytes, tell; `None`: all of them.
    ///
    /// # Errors
    /// When it is no kernel.
    pub fn needed(name: &str, head: &[u8]) -> Result<Option<u64>> {
        if bzimage::is(head) || arm64::is(head) {
            return Ok(None);
        }
        if head.starts_with(ELF) {
            return Ok(Vmlinux::needed(head));
        }
        Err(Error::input(format!("cannot load {name}")).because(what_else(head)).next_step(GIVE))
    }

    /// Finds out what `file` is, decompressed already; `name` is for messages.
    ///
    /// # Errors
    /// When it is no kernel, or one that cannot be entered in 64-bit mode; says what is missing.
    pub fn parse(name: &str, file: Vec<u8>) -> Result<Self> {
        let refuse = |cause: String| Error::input(format!("cannot load {name}")).because(cause);
        if bzimage::is(&file) {
            return BzImage::parse(&file).map(Self::BzImage).map_err(refuse);
        }
        if file.starts_with(ELF) {
            return Vmlinux::parse(&file).map(Self::Vmlinux).map_err(|cause| refuse(cause).next_step(GIVE));
        }
        if arm64::is(&file) {
            return arm64::Arm64::parse(file).map(Self::Arm64).map_err(refuse);
        }
        Err(refuse(what_else(&file)).next_step(GIVE))
    }

    /// The architecture that runs it.
    #[must_use]
    pub fn machine(&self) -> Machine {
        match self {
            Self::BzImage(_) | Self::Vmlinux(_) => Machine::X86_64,
            Self::Arm64(_) => Machine::Arm64,
        }
    }

    /// What it is, in words.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::BzImage(image) => {
                let (major, minor) = (image.version >> 8, image.version & 0xff);
                let release = image.release.as_deref().map(|release| format!(" {release}")).unwrap_or_default();
                format!("bzImage{release}, boot protocol {major}.{minor:02}")
            }
            Self::Vmlinux(_) => "vmlinux (ELF, x86_64)".to_owned(),
            Self::Arm64(image) => match image.page_size {
                Some(size) => format!("arm64 Image, pages of {} KiB", size >> 10),
                None => "arm64 Image".to_owned(),
            },
        }
    }
}

/// Names common mistakes.
fn what_else(file: &[u8]) -> String {
    let starts = |magic: &[u8]| file.starts_with(magic);
    let what = if file.is_empty() {
        "the file is empty"
    } else if starts(b"070701") || starts(b"070702") {
        "it is a cpio archive, an initramfs"
    } else if starts(b"MZ") && file.windows(6).take(4 << 20).any(|window| window == b".linux") {
        "it is a unified kernel image; only the kernel in its .linux section can be loaded"
    } else if starts(b"MZ") && file.get(4..8) == Some(b"zimg".as_slice()) {
        "it is a kernel that EFI decompresses (vmlinuz.efi); only the Image in it can be loaded"
    } else if starts(b"MZ") {
        "it is an EFI program without Linux's boot header"
    } else if starts(b"#!") {
        "it is a script"
    } else if file.iter().take(512).all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) {
        "it is a text file"
    } else {
        "it is not a bzImage, an ELF kernel or an arm64 Image"
    };
    what.to_owned()
}
