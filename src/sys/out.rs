//! Standard output that may be anything: a file, a terminal, a pipe that takes nothing now.
//!
//! Whoever started us may have made it non-blocking, or may not read it for hours. Must not know what is written.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, IsTerminal as _, Write},
    os::{
        fd::AsFd as _,
        unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
};

use rustix::fs::{OFlags, fcntl_getfl};

use super::stop::until_writable;

/// What a pipe takes at once when it says that it takes something, bytes (pipe(7)).
const PIPE_BUF: usize = 4096;

/// Standard output. Writes wait until it takes something, and a signal ends that wait ([`super::stop::Stopped`]).
#[derive(Debug)]
pub struct StandardOutput {
    file: File,
    /// Bytes written at a time.
    step: usize,
    /// Whether a write could wait where no signal ends it.
    blocks: bool,
}

impl StandardOutput {
    /// Takes it.
    ///
    /// # Errors
    /// It is closed.
    pub fn open() -> io::Result<Self> {
        let file: File = io::stdout().as_fd().try_clone_to_owned()?.into();
        let kind = file.metadata()?.file_type();
        let file = if kind.is_fifo() { reopened(&file).unwrap_or(file) } else { file };
        let blocks = !kind.is_file()
            && !kind.is_block_device()
            && !fcntl_getfl(&file).is_ok_and(|flags| flags.contains(OFlags::NONBLOCK));
        let step = if blocks { PIPE_BUF } else { usize::MAX };
        Ok(Self { file, step, blocks })
    }

    /// Whether a person looks at it.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        self.file.is_terminal()
    }

    /// What it is.
    ///
    /// # Errors
    /// The system does not say.
    pub fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }

    /// Brings what was written to the disk, as [`super::file::sync`]; a pipe has none.
    ///
    /// # Errors
    /// The device is full or fails.
    pub fn sync(&self) -> io::Result<Option<io::Error>> {
        let kind = self.metadata()?.file_type();
        if kind.is_file() || kind.is_block_device() { super::file::sync(&self.file) } else { Ok(None) }
    }
}

/// The same pipe, opened anew for us alone: whether it blocks is our affair then, and nobody else's.
fn reopened(pipe: &File) -> Option<File> {
    let nonblocking = OFlags::NONBLOCK.bits() as i32;
    let again = OpenOptions::new().write(true).custom_flags(nonblocking).open("/proc/self/fd/1").ok()?;
    let (was, is) = (pipe.metadata().ok()?, again.metadata().ok()?);
    ((was.dev(), was.ino()) == (is.dev(), is.ino())).then_some(again)
}

impl Write for StandardOutput {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            if self.blocks {
                until_writable(&self.file)?;
            }
            match self.file.write(&bytes[..bytes.len().min(self.step)]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => until_writable(&self.file)?,
                ended => return ended,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
