//! The output file: written under a name that says that it is incomplete, given its own name when it is whole.
//!
//! Knows files and directories. Must not know formats. Used by every sink.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use crate::{
    error::{Error, Kind, Result},
    report::human_bytes,
    sys::space,
};

/// How kdump scripts name a dump that is not whole yet, and how we do.
const SUFFIX: &str = "-incomplete";

/// An output file in the making.
#[derive(Debug)]
pub struct Target {
    file: File,
    work: PathBuf,
    name: PathBuf,
    force: bool,
    /// Whether the working file goes when this does: until it is finished, or kept on purpose.
    temporary: bool,
}

impl Drop for Target {
    fn drop(&mut self) {
        if self.temporary {
            let _ = fs::remove_file(&self.work);
        }
    }
}

impl Target {
    /// Creates the file beside `name` with `-incomplete` added, mode 0600. A name that ends so already is used as it is: kdump
    /// scripts rename it themselves.
    ///
    /// # Errors
    /// The name or its working name is taken and `force` is not set, or the directory does not allow it.
    pub fn create(name: &Path, force: bool) -> Result<Self> {
        let work = work_name(name)?;
        let what = || format!("cannot create {}", name.display());
        match fs::symlink_metadata(name) {
            Ok(meta) if meta.is_dir() => {
                return Err(Error::new(Kind::Output, what())
                    .because("it is a directory")
                    .next_step("name a file in it, for example vmcore"));
            }
            Ok(meta) if !meta.is_file() => {
                return Err(Error::new(Kind::Output, what())
                    .because("it is not a regular file")
                    .next_step("name a file that does not exist yet, or use --dry-run"));
            }
            Ok(_) if !force => return Err(taken(name)),
            _ => {}
        }
        if force
            && let Err(error) = fs::remove_file(&work)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(Error::output(&work, "replace", &error));
        }
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&work);
        let file = file.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => taken(&work),
            io::ErrorKind::NotFound => Error::output(&work, "create", &error).next_step("create the directory first"),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Error::output(&work, "create", &error).next_step("choose a directory that can be written to")
            }
            _ => Error::output(&work, "create", &error),
        })?;
        // A name that the caller chose is the caller's to remove.
        let temporary = work != name;
        Ok(Self { file, work, name: name.to_owned(), force, temporary })
    }

    /// Makes sure that the device has room for `bytes` at least.
    ///
    /// # Errors
    /// It does not; says how much there is.
    pub fn require(&self, bytes: u64, what: &str) -> Result<()> {
        match space::free(&self.file) {
            Some(free) if free < bytes => {
                Err(Error::new(Kind::NoSpace, format!("cannot write {}", self.name.display()))
                    .because(format!(
                        "{what} take {}, but the device has {} left",
                        human_bytes(bytes),
                        human_bytes(free)
                    ))
                    .next_step("free some space or choose another device"))
            }
            _ => Ok(()),
        }
    }

    /// Reserves room for a part of the file.
    ///
    /// # Errors
    /// The device is full.
    pub fn reserve(&self, offset: u64, len: u64) -> Result<()> {
        if len == 0 {
            return Ok(());
        }
        space::reserve(&self.file, offset, len).map_err(|error| self.failed(&error))
    }

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// The device is full or fails.
    pub fn write(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file.write_all_at(bytes, offset).map_err(|error| self.failed(&error))
    }

    /// Reads back what was written.
    ///
    /// # Errors
    /// The device fails.
    pub fn read(&self, bytes: &mut [u8], offset: u64) -> Result<()> {
        self.file.read_exact_at(bytes, offset).map_err(|error| Error::output(&self.work, "read back", &error))
    }

    /// Sets the file's length.
    ///
    /// # Errors
    /// The file system does not allow it.
    pub fn set_len(&self, len: u64) -> Result<()> {
        self.file.set_len(len).map_err(|error| self.failed(&error))
    }

    /// Brings the file to the disk, then gives it its name: after a power cut the name never stands for half a dump.
    ///
    /// # Errors
    /// The device fails, or somebody took the name meanwhile.
    pub fn finish(mut self) -> Result<()> {
        self.file.sync_all().map_err(|error| self.failed(&error))?;
        // From here on the file is whole, under whichever name.
        let rename = std::mem::replace(&mut self.temporary, false);
        if rename {
            self.rename()?;
        }
        let parent = match self.name.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        // A directory that cannot be synced (some network file systems) has its new name all the same.
        if let Ok(directory) = File::open(parent) {
            let _ = directory.sync_all();
        }
        Ok(())
    }

    /// Gives up; returns the working name if the file stays.
    pub fn abandon(mut self, keep: bool) -> Option<PathBuf> {
        if keep {
            self.temporary = false;
        }
        if self.temporary {
            return None;
        }
        let _ = self.file.sync_all();
        Some(self.work.clone())
    }

    fn rename(&self) -> Result<()> {
        use rustix::{
            fs::{CWD, RenameFlags, renameat_with},
            io::Errno,
        };
        let failed = |error: io::Error| {
            Error::output(&self.name, "give the dump its name", &error)
                .next_step(format!("the whole dump is in {}", self.work.display()))
        };
        if !self.force {
            match renameat_with(CWD, &self.work, CWD, &self.name, RenameFlags::NOREPLACE) {
                // Not every file system knows the flag.
                Err(Errno::INVAL | Errno::NOSYS) => {}
                result => return result.map_err(|error| failed(error.into())),
            }
        }
        fs::rename(&self.work, &self.name).map_err(failed)
    }

    fn failed(&self, error: &io::Error) -> Error {
        Error::output(&self.work, "write", error)
    }
}

fn taken(name: &Path) -> Error {
    Error::new(Kind::Output, format!("cannot create {}", name.display()))
        .because("it exists already")
        .next_step("remove it, choose another name, or give --force")
}

fn work_name(name: &Path) -> Result<PathBuf> {
    let Some(file_name) = name.file_name() else {
        return Err(Error::new(Kind::Output, format!("cannot create '{}'", name.display()))
            .because("it names no file")
            .next_step("name a file that does not exist yet"));
    };
    let mut work = file_name.to_owned();
    if !work.to_string_lossy().ends_with(SUFFIX) {
        work.push(SUFFIX);
    }
    Ok(name.with_file_name(work))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_appears_only_when_the_dump_is_whole() {
        let room = tempfile::tempdir().unwrap();
        let name = room.path().join("vmcore");
        let target = Target::create(&name, false).unwrap();
        target.write(b"dump", 0).unwrap();
        assert!(!name.exists() && room.path().join("vmcore-incomplete").exists());
        target.finish().unwrap();
        assert_eq!(fs::read(&name).unwrap(), b"dump");
        assert!(!room.path().join("vmcore-incomplete").exists());
    }

    #[test]
    fn nothing_is_overwritten_unasked() {
        let room = tempfile::tempdir().unwrap();
        let name = room.path().join("vmcore");
        fs::write(&name, "precious").unwrap();
        assert!(Target::create(&name, false).unwrap_err().to_string().contains("--force"));
        Target::create(&name, true).unwrap().finish().unwrap();
        assert_eq!(fs::read(&name).unwrap(), b"");
    }

    #[test]
    fn a_name_taken_meanwhile_is_respected() {
        let room = tempfile::tempdir().unwrap();
        let name = room.path().join("vmcore");
        let target = Target::create(&name, false).unwrap();
        fs::write(&name, "precious").unwrap();
        assert!(target.finish().is_err());
        assert_eq!(fs::read(&name).unwrap(), b"precious");
    }

    #[test]
    fn giving_up_leaves_nothing_unless_asked() {
        let room = tempfile::tempdir().unwrap();
        let name = room.path().join("vmcore");
        assert_eq!(Target::create(&name, false).unwrap().abandon(false), None);
        assert_eq!(fs::read_dir(room.path()).unwrap().count(), 0);
        let kept = Target::create(&name, false).unwrap().abandon(true).unwrap();
        assert!(kept.exists());
        let own = room.path().join("own-incomplete");
        assert_eq!(Target::create(&own, false).unwrap().abandon(false), Some(own.clone()));
    }

    #[test]
    fn names_without_a_file_are_refused() {
        for name in ["/", "..", ""] {
            assert!(Target::create(Path::new(name), false).is_err(), "{name}");
        }
    }
}
