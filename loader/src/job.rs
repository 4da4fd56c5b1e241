//! One load as it was asked for, and its files read and understood.
//!
//! Knows paths. Must not call the kernel. Gives [`crate::arm`] all that it loads, and [`crate::state`] what to remember.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    handover,
    host::Host,
    image::{Image, Machine, unpack},
    plan::{Options, Plan, Request},
};

/// How the kernel is handed over.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// By file; by segments where the kernel cannot, or where an option needs it.
    #[default]
    Auto,
    /// As files, which the running kernel checks and places (kexec_file_load).
    File,
    /// As segments that we placed (kexec_load).
    Segments,
}

/// What to load, and how.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Job {
    /// The kernel's file.
    pub kernel: PathBuf,
    /// The initrd's file.
    pub initrd: Option<PathBuf>,
    /// The command line, without what the loader adds.
    pub command_line: String,
    /// How it is handed over.
    pub method: Method,
    /// How it is planned.
    pub options: Options,
    /// Let the kernel say more in its log.
    pub debug: bool,
}

/// A job whose files are read.
#[derive(Debug)]
pub struct Prepared {
    /// What was asked for.
    pub job: Job,
    /// The kernel.
    pub image: Image,
    /// The initrd's bytes.
    pub initrd: Option<Vec<u8>>,
    /// The files as they were read.
    pub marks: Vec<FileMark>,
    /// By what the kernel's file was compressed.
    pub compressed: Option<&'static str>,
    /// A seed for the next kernel's random numbers.
    seed: Option<[u8; 32]>,
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
    fn of(path: &Path, bytes: &[u8]) -> Self {
        Self { path: path.to_owned(), sha256: handover::hex(&handover::digest(bytes)) }
    }

    /// Whether the file is still the same; a file that cannot be read is not.
    #[must_use]
    pub fn still_holds(&self) -> bool {
        read(&self.path, "file").is_ok_and(|bytes| Self::of(&self.path, &bytes) == *self)
    }
}

impl Prepared {
    /// Reads and understands the job's files.
    ///
    /// # Errors
    /// Which file is missing, or is not what it should be.
    pub fn read(job: Job) -> Result<Self> {
        let name = job.kernel.display().to_string();
        let kernel = read(&job.kernel, "kernel")?;
        let mut marks = vec![FileMark::of(&job.kernel, &kernel)];
        let (plain, compressed) = unpack::unpack(&name, kernel)?;
        let image = Image::parse(&name, plain)?;
        let initrd = job.initrd.as_ref().map(|path| read(path, "initrd")).transpose()?;
        if let (Some(path), Some(bytes)) = (&job.initrd, &initrd) {
            if bytes.is_empty() {
                return Err(
                    Error::input(format!("cannot use the initrd {}", path.display())).because("the file is empty")
                );
            }
            marks.push(FileMark::of(path, bytes));
        }
        Ok(Self { job, image, initrd, marks, compressed, seed: seed() })
    }

    /// Plans it for a machine.
    ///
    /// # Errors
    /// Why it cannot be loaded there.
    pub fn plan(&self, host: &Host) -> Result<Plan<'_>> {
        Plan::make(
            host,
            &Request {
                image: &self.image,
                initrd: self.initrd.as_deref(),
                command_line: &self.job.command_line,
                options: &self.job.options,
                seed: self.seed,
            },
        )
    }

    /// Whether the image is for this machine.
    ///
    /// # Errors
    /// When it is not.
    pub fn check_machine(&self) -> Result<()> {
        let ours = match std::env::consts::ARCH {
            "x86_64" => Some(Machine::X86_64),
            "aarch64" => Some(Machine::Arm64),
            _ => None,
        };
        if ours == Some(self.image.machine()) {
            return Ok(());
        }
        Err(Error::input(format!("cannot load {}", self.job.kernel.display()))
            .because(format!("it is for {}, this machine is {}", self.image.machine(), std::env::consts::ARCH))
            .next_step("give a kernel for this machine; --dry-run plans for others"))
    }

    /// The kernel's file for the kernel's own loader: the file itself, or a copy in memory that is decompressed.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn kernel_file(&self) -> Result<OwnedFd> {
        if self.compressed.is_none() {
            return open(&self.job.kernel, "kernel").map(OwnedFd::from);
        }
        let failed = |error: &std::io::Error| Error::io(&self.job.kernel, "decompress into memory", error);
        let memory = rustix::fs::memfd_create("kernel", rustix::fs::MemfdFlags::CLOEXEC);
        let mut memory = File::from(memory.map_err(|error| failed(&error.into()))?);
        let bytes = read(&self.job.kernel, "kernel")?;
        let (plain, _) = unpack::unpack(&self.job.kernel.display().to_string(), bytes)?;
        memory.write_all(&plain).map_err(|error| failed(&error))?;
        Ok(memory.into())
    }

    /// The initrd's file.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn initrd_file(&self) -> Result<Option<OwnedFd>> {
        self.job.initrd.as_ref().map(|path| open(path, "initrd").map(OwnedFd::from)).transpose()
    }
}

/// Random bytes, if the kernel has gathered enough to have any.
fn seed() -> Option<[u8; 32]> {
    let mut seed = [0; 32];
    let got = rustix::rand::getrandom(&mut seed[..], rustix::rand::GetRandomFlags::NONBLOCK);
    got.is_ok_and(|got| got == seed.len()).then_some(seed)
}

fn open(path: &Path, what: &str) -> Result<File> {
    let file = File::open(path).map_err(|error| {
        let failed = Error::io(path, &format!("open the {what}"), &error);
        match (error.kind(), what) {
            (std::io::ErrorKind::NotFound, "kernel") => failed.next_step("give the path of one: /boot/vmlinuz-VERSION"),
            (std::io::ErrorKind::NotFound, "initrd") => {
                failed.next_step("give the path of one, or make one first (dracut, mkinitramfs)")
            }
            _ => failed,
        }
    })?;
    match file.metadata() {
        Ok(about) if about.is_dir() => {
            Err(Error::input(format!("cannot use {} as the {what}", path.display())).because("it is a folder"))
        }
        _ => Ok(file),
    }
}

/// All of a file; one that is too large to be what it should be is not read.
fn read(path: &Path, what: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = open(path, what)?;
    file.take(unpack::MOST + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Error::io(path, &format!("read the {what}"), &error))?;
    if bytes.len() as u64 > unpack::MOST {
        return Err(
            Error::input(format!("cannot use {} as the {what}", path.display())).because("it has more than 2 GiB")
        );
    }
    Ok(bytes)
}
