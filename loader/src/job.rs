//! One load as it was asked for, and its files read and understood.
//!
//! Knows paths. Must not call the kernel. Gives [`crate::arm`] all that it loads, and [`crate::state`] what to remember.

use std::{fmt, os::fd::OwnedFd, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    files::{self, FileMark, Initrd, Kernel, Role},
    host::Host,
    image::Machine,
    plan::{Options, Plan, Request, Room},
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

impl fmt::Display for Method {
    /// As it is spelled on the command line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::File => "file",
            Self::Segments => "segments",
        })
    }
}

/// A job whose files are read.
#[derive(Debug)]
pub struct Prepared {
    /// What was asked for.
    pub job: Job,
    /// The kernel.
    pub kernel: Kernel,
    /// The initrd's bytes.
    pub initrd: Option<Vec<u8>>,
    /// The files as they were read.
    pub marks: Vec<FileMark>,
    /// A seed for the next kernel's random numbers.
    seed: Option<[u8; 32]>,
}

impl Prepared {
    /// Reads and understands the job's files, for a machine on which they have to fit. An initrd is read only once it is
    /// known by its size that there is room for it.
    ///
    /// # Errors
    /// Which file is missing, or is not what it should be; or why it cannot be loaded there.
    pub fn read(job: Job, host: &Host) -> Result<Self> {
        let room = Room::of(host, job.options.panic);
        let kernel = Kernel::read(&job.kernel, &room)?;
        let initrd = job.initrd.as_deref().map(Initrd::open).transpose()?;
        let mut prepared = Self { marks: vec![kernel.mark.clone()], job, kernel, initrd: None, seed: seed() };
        if let Some(initrd) = initrd {
            Plan::measure(host, &prepared.request(), initrd.len.unwrap_or(0))?;
            let (bytes, mark) = initrd.read(&room)?;
            prepared.initrd = Some(bytes);
            prepared.marks.push(mark);
        }
        Ok(prepared)
    }

    fn request(&self) -> Request<'_> {
        Request {
            image: &self.kernel.image,
            initrd: self.initrd.as_deref(),
            command_line: &self.job.command_line,
            options: &self.job.options,
            seed: self.seed,
        }
    }

    /// Plans it for a machine.
    ///
    /// # Errors
    /// Why it cannot be loaded there.
    pub fn plan(&self, host: &Host) -> Result<Plan<'_>> {
        Plan::make(host, &self.request())
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
        let machine = self.kernel.image.machine();
        if ours == Some(machine) {
            return Ok(());
        }
        Err(Error::input(format!("cannot load {}", self.job.kernel.display()))
            .because(format!("it is for {machine}, this machine is {}", std::env::consts::ARCH))
            .next_step("give a kernel for this machine; --dry-run plans for others"))
    }

    /// The kernel's file for the kernel's own loader.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn kernel_file(&self) -> Result<OwnedFd> {
        self.kernel.for_the_kernel()
    }

    /// The initrd's file.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn initrd_file(&self) -> Result<Option<OwnedFd>> {
        self.job.initrd.as_ref().map(|path| files::open(path, Role::Initrd).map(OwnedFd::from)).transpose()
    }
}

/// Random bytes, if the kernel has gathered enough to have any.
fn seed() -> Option<[u8; 32]> {
    let mut seed = [0; 32];
    let got = rustix::rand::getrandom(&mut seed[..], rustix::rand::GetRandomFlags::NONBLOCK);
    got.is_ok_and(|got| got == seed.len()).then_some(seed)
}
