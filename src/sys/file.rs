//! Files that a user names to be read: opened without waiting, whatever is behind the name.
//!
//! Opening a FIFO waits for a writer that may never come, and no signal that we catch would end that wait.

use std::{
    fs::{File, FileType, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::{FileExt as _, FileTypeExt as _, OpenOptionsExt as _},
    path::Path,
};

use rustix::fs::OFlags;

use super::stop::until_readable;

/// Opens `path` to read it, and never waits for a writer.
///
/// # Errors
/// What the system says.
pub fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path)
}

/// Reads until `buf` is full or the file ends; returns how many bytes there were.
///
/// # Errors
/// What the system says.
pub fn read_some_at(file: &File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut got = 0;
    while got < buf.len() {
        match file.read_at(&mut buf[got..], offset + got as u64) {
            Ok(0) => break,
            Ok(more) => got += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(got)
}

/// Opens a regular file, in which everything can be read in any order.
///
/// # Errors
/// What the system says, or what else it is.
pub fn open_regular(path: &Path) -> io::Result<File> {
    let file = open(path)?;
    let kind = file.metadata()?.file_type();
    if kind.is_file() {
        return Ok(file);
    }
    Err(io::Error::other(format!("it is {}, and only a regular file can be read in any order", named(kind))))
}

/// Reads up to `most` bytes from the start of `path`, which may be a pipe (`/dev/stdin`, `<(...)`): a signal ends the wait for
/// what comes through it.
///
/// # Errors
/// What the system says, or the signal ([`super::stop::Stopped`]).
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    read_from(&open(path)?, most)
}

/// The same of a file from [`open`].
///
/// # Errors
/// As [`read`].
pub fn read_from(file: &File, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    loop {
        until_readable(file)?;
        match file.take(most - bytes.len() as u64).read_to_end(&mut bytes) {
            Ok(_) => return Ok(bytes),
            // What came before it is there.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

/// What a file is if it is no regular one, for an error.
#[must_use]
pub fn named(kind: FileType) -> &'static str {
    match kind {
        kind if kind.is_dir() => "a directory",
        kind if kind.is_symlink() => "a symbolic link",
        kind if kind.is_fifo() => "a pipe (FIFO)",
        kind if kind.is_socket() => "a socket",
        kind if kind.is_char_device() || kind.is_block_device() => "a device",
        _ => "no regular file",
    }
}

/// Brings what was written to the disk. `Some`: this file system cannot say when it is there, and why; then all that the file
/// system holds is on its way.
///
/// # Errors
/// The device is full or fails: some file systems say so only now.
pub fn sync(file: &File) -> io::Result<Option<io::Error>> {
    use rustix::{fs::syncfs, io::Errno};
    match file.sync_all() {
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                let _ = syncfs(file);
                Ok(Some(error))
            }
            _ => Err(error),
        },
        Ok(()) => Ok(None),
    }
}
