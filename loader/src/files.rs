//! The kernel's and the initrd's files: opened, read within bounds, and remembered by their digests.
//!
//! Nothing is held that cannot be loaded: a kernel is decompressed piece by piece until it is too large, the debug information
//! of an ELF kernel is read and forgotten, and an initrd is looked at by its size first.

use std::{
    fmt,
    fs::File,
    io::{self, Read, Write as _},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    digest::{self, Hashing},
    error::{Error, Result, plain_io},
    image::{
        Image,
        unpack::{Compression, Unpacked},
    },
    plan::Room,
    range::human,
};

/// No kernel is larger, with debug information and decompressed. More is not even read through.
const MOST_PLAIN: u64 = 2 << 30;
/// No kernel loads more than this.
const MOST_KERNEL: u64 = 512 << 20;
/// What a kernel's file has beside what is loaded: headers, a real-mode part, a signature.
const BESIDE: u64 = 16 << 20;
/// So much is read before the kind of the kernel is known; an ELF kernel's program headers are in it.
const HEAD: u64 = 64 << 10;

/// What a file is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// The kernel.
    Kernel,
    /// The initial file system.
    Initrd,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel",
            Self::Initrd => "initrd",
        })
    }
}

/// A file as it was when it was loaded.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FileMark {
    /// Where.
    pub path: PathBuf,
    /// SHA-256 of all of it.
    pub sha256: String,
}

impl FileMark {
    fn new(path: &Path, sha256: &digest::Digest) -> Self {
        Self { path: path.to_owned(), sha256: digest::hex(sha256) }
    }

    /// Whether the file is still the same; a file that cannot be read is not.
    #[must_use]
    pub fn still_holds(&self) -> bool {
        let now = File::open(&self.path).and_then(digest::of_reader);
        now.is_ok_and(|now| Self::new(&self.path, &now) == *self)
    }
}

/// A kernel's file, read.
#[derive(Debug)]
pub struct Kernel {
    /// What is in it.
    pub image: Image,
    /// The file.
    pub mark: FileMark,
    /// By what it is compressed.
    pub compression: Option<Compression>,
    /// Bytes of the plain file that were needed.
    plain: u64,
}

impl Kernel {
    /// Reads and understands the file at `path`; it may load as much as there is room for.
    ///
    /// # Errors
    /// When it cannot be read, is damaged, too large, or no kernel.
    pub fn read(path: &Path, room: &Room) -> Result<Self> {
        let name = path.display().to_string();
        let mut plain =
            Unpacked::new(Hashing::new(open(path, Role::Kernel)?)).map_err(|error| unreadable(path, None, &error))?;
        let compression = plain.compression();
        let failed = |error: &io::Error| unreadable(path, compression, error);
        let mut bytes = Vec::new();
        (&mut plain).take(HEAD).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
        let most = room.bytes.min(MOST_KERNEL).saturating_add(BESIDE);
        let needed = Image::needed(&name, &bytes)?.unwrap_or(u64::MAX).min(most + 1);
        let left = needed.saturating_sub(bytes.len() as u64);
        (&mut plain).take(left).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
        let len = bytes.len() as u64;
        if len > most {
            return Err(too_large(path, Role::Kernel, most, room));
        }
        // Behind what is needed too, for the checksum comes last.
        let more = io::copy(&mut (&mut plain).take(MOST_PLAIN), &mut io::sink()).map_err(|error| failed(&error))?;
        if more == MOST_PLAIN {
            return Err(too_large(path, Role::Kernel, MOST_PLAIN, room));
        }
        let sha256 = plain.finish().map_err(|error| failed(&error))?.digest();
        Ok(Self { image: Image::parse(&name, bytes)?, mark: FileMark::new(path, &sha256), compression, plain: len })
    }

    /// The file for the kernel's own loader: itself, or what is in it, in memory.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn for_the_kernel(&self) -> Result<OwnedFd> {
        let path = &self.mark.path;
        let file = open(path, Role::Kernel)?;
        // The kernel's own loader takes no ELF file on these machines, however it is packed.
        if self.compression.is_none() || matches!(self.image, Image::Vmlinux(_)) {
            return Ok(file.into());
        }
        let failed = |error: &io::Error| Error::io(path, "decompress into memory", error);
        let memory = rustix::fs::memfd_create("kernel", rustix::fs::MemfdFlags::CLOEXEC);
        let mut memory = File::from(memory.map_err(|error| failed(&error.into()))?);
        let plain = Unpacked::new(file).map_err(|error| failed(&error))?;
        io::copy(&mut plain.take(self.plain), &mut memory).map_err(|error| failed(&error))?;
        memory.flush().map_err(|error| failed(&error))?;
        Ok(memory.into())
    }
}

/// An initrd's file before it is read.
#[derive(Debug)]
pub struct Initrd {
    path: PathBuf,
    file: File,
    /// Bytes; `None` where only reading tells, as for a pipe.
    pub len: Option<u64>,
}

impl Initrd {
    /// Opens the file at `path`.
    ///
    /// # Errors
    /// When it cannot be opened, or is empty.
    pub fn open(path: &Path) -> Result<Self> {
        let file = open(path, Role::Initrd)?;
        let about = file.metadata().map_err(|error| Error::io(path, "open the initrd", &error))?;
        let len = about.is_file().then_some(about.len());
        if len == Some(0) {
            return Err(empty(path));
        }
        Ok(Self { path: path.to_owned(), file, len })
    }

    /// Reads it: no more than its size, or than there is room for.
    ///
    /// # Errors
    /// When it cannot be read, is empty, or too large.
    pub fn read(self, room: &Room) -> Result<(Vec<u8>, FileMark)> {
        let most = self.len.unwrap_or(room.bytes);
        let mut hashing = Hashing::new(self.file);
        let mut bytes = Vec::new();
        (&mut hashing)
            .take(most.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|error| Error::io(&self.path, "read the initrd", &error))?;
        if bytes.len() as u64 > most {
            return Err(too_large(&self.path, Role::Initrd, most, room));
        }
        if bytes.is_empty() {
            return Err(empty(&self.path));
        }
        Ok((bytes, FileMark::new(&self.path, &hashing.digest())))
    }
}

/// Opens a file that the kernel's own loader reads.
///
/// # Errors
/// When it cannot be opened, or is a folder.
pub fn open(path: &Path, role: Role) -> Result<File> {
    let file = File::open(path).map_err(|error| {
        let failed = Error::io(path, &format!("open the {role}"), &error);
        match (error.kind(), role) {
            (io::ErrorKind::NotFound, Role::Kernel) => failed.next_step("give the path of one: /boot/vmlinuz-VERSION"),
            (io::ErrorKind::NotFound, Role::Initrd) => {
                failed.next_step("give the path of one, or make one first (dracut, mkinitramfs)")
            }
            _ => failed,
        }
    })?;
    match file.metadata() {
        Ok(about) if about.is_dir() => Err(cannot_use(path, role).because("it is a folder")),
        _ => Ok(file),
    }
}

fn cannot_use(path: &Path, role: Role) -> Error {
    Error::input(format!("cannot use {} as the {role}", path.display()))
}

fn empty(path: &Path) -> Error {
    Error::input(format!("cannot use the initrd {}", path.display())).because("the file is empty")
}

fn too_large(path: &Path, role: Role, most: u64, room: &Room) -> Error {
    cannot_use(path, role)
        .because(format!("it holds more than {}, and {}", human(most), room.why))
        .next_step(format!("give a smaller {role}"))
}

/// The file cannot be read, or what is in it cannot be decompressed.
fn unreadable(path: &Path, compression: Option<Compression>, error: &io::Error) -> Error {
    let Some(by) = compression.filter(|_| error.raw_os_error().is_none()) else {
        return Error::io(path, "read the kernel", error);
    };
    let failed = Error::input(format!("cannot decompress {} ({by})", path.display()));
    match error.kind() {
        io::ErrorKind::OutOfMemory => failed
            .because("that needs a larger dictionary than any kernel's")
            .next_step("compress it with the options that Linux uses, or decompress it yourself"),
        _ => failed.because(plain_io(error)).next_step("the file is damaged: get it again"),
    }
}
