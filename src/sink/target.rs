//! The output file: written under a name that says that it is incomplete, given its own name when it is whole.
//!
//! Knows files and directories. Must not know formats. Used by every sink.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _},
    },
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
    /// The most bytes that it may have.
    limit: Option<u64>,
}

impl Drop for Target {
    fn drop(&mut self) {
        if self.temporary && self.is_ours() {
            let _ = fs::remove_file(&self.work);
        }
    }
}

/// The files that are read for an output.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Inputs(Vec<Identity>);

impl Inputs {
    /// Those that are open.
    #[must_use]
    pub fn opened(files: &[File]) -> Self {
        Self(files.iter().filter_map(|file| identity(file.metadata())).collect())
    }

    /// And those at `paths`, which are read at other times. One that is not there cannot be overwritten.
    #[must_use]
    pub fn and<'p>(mut self, paths: impl IntoIterator<Item = &'p Path>) -> Self {
        self.0.extend(paths.into_iter().filter_map(|path| identity(fs::metadata(path))));
        self
    }

    fn have(&self, path: &Path) -> bool {
        identity(fs::metadata(path)).is_some_and(|path| self.0.contains(&path))
    }
}

impl Target {
    /// Creates the file beside `name` with `-incomplete` added, mode 0600. A name that ends so already is used as it is: kdump
    /// scripts rename it themselves. Until [`Target::settle`] the file disappears with the value.
    ///
    /// Whatever the names, `inputs` are never overwritten.
    ///
    /// # Errors
    /// The name or its working name is taken and `force` is not set, or is an input, or the directory does not allow it.
    pub fn create(name: &Path, force: bool, inputs: &Inputs) -> Result<Self> {
        Self::create_beside(name, force, inputs, &[])
    }

    /// Creates all files of a set, or none.
    ///
    /// # Errors
    /// As [`Target::create`]; also where two names lead to the same file.
    pub fn create_all(names: &[PathBuf], force: bool, inputs: &Inputs) -> Result<Vec<Self>> {
        let mut targets = Vec::with_capacity(names.len());
        for name in names {
            let target = Self::create_beside(name, force, inputs, &targets)?;
            targets.push(target);
        }
        Ok(targets)
    }

    /// The same file that may have only so many bytes.
    #[must_use]
    pub fn limited(mut self, limit: Option<u64>) -> Self {
        self.limit = limit;
        self
    }

    fn create_beside(name: &Path, force: bool, inputs: &Inputs, others: &[Self]) -> Result<Self> {
        let work = work_name(name)?;
        for path in [name, &work] {
            if let Some(other) = others.iter().find(|other| is_same(&other.file, path)) {
                return Err(Error::new(Kind::Usage, format!("cannot create {}", name.display()))
                    .because(format!("it would be the same file as {}", other.name.display()))
                    .next_step("give each part a name of its own"));
            }
        }
        check_name(name, force)?;
        if let Some(path) = [name, &work].into_iter().find(|path| inputs.have(path)) {
            return Err(Error::new(Kind::Usage, format!("cannot create {}", name.display()))
                .because(format!("{} is an input", path.display()))
                .next_step("choose another name"));
        }
        if force {
            remove_unused(&work)?;
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&work);
        let file = file.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => taken(&work),
            io::ErrorKind::NotFound => Error::output(&work, "create", &error).next_step("create the directory first"),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Error::output(&work, "create", &error).next_step("choose a directory that can be written to")
            }
            _ => Error::output(&work, "create", &error).or_next_step("choose another name or directory"),
        })?;
        // A file system without locks goes without: then two runs with --force to one name are the user's affair.
        let _ = file.try_lock();
        Ok(Self { file, work, name: name.to_owned(), force, temporary: true, limit: None })
    }

    /// From here on the file is worth something: under a name that the caller chose it stays whatever happens.
    pub fn settle(&mut self) {
        self.temporary = self.work != self.name;
    }

    /// Makes sure that the device has room for `bytes` at least.
    ///
    /// # Errors
    /// It does not; says how much there is.
    pub fn require(&self, bytes: u64, what: &str) -> Result<()> {
        if let Some(limit) = self.limit.filter(|limit| bytes > *limit) {
            return Err(self.too_large(format!("{what} take {}, but the limit is {limit} bytes", human_bytes(bytes))));
        }
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
        self.check_limit(offset, len)?;
        space::reserve(&self.file, offset, len).map_err(|error| self.failed(&error))
    }

    /// Writes all of `bytes` at `offset`.
    ///
    /// # Errors
    /// The device is full or fails, or the limit is reached.
    pub fn write(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.check_limit(offset, bytes.len() as u64)?;
        self.file.write_all_at(bytes, offset).map_err(|error| self.failed(&error))
    }

    /// The same file, for a thread that brings what was written to the disk.
    ///
    /// # Errors
    /// There can be no more open files.
    pub(super) fn handle(&self) -> Result<File> {
        self.file.try_clone().map_err(|error| Error::output(&self.work, "open", &error))
    }

    /// Sets the file's length.
    ///
    /// # Errors
    /// The file system does not allow it.
    pub fn set_len(&self, len: u64) -> Result<()> {
        self.file.set_len(len).map_err(|error| self.failed(&error))
    }

    /// Brings what was written to the disk.
    ///
    /// # Errors
    /// The device is full or fails: some file systems say so only now.
    pub fn sync(&self) -> Result<()> {
        self.file.sync_all().map_err(|error| self.failed(&error))
    }

    /// Brings the file to the disk, then gives it its name: after a power cut the name never stands for half a dump.
    ///
    /// # Errors
    /// The device fails, or somebody took the name meanwhile. The file is still there then, under its working name.
    pub fn finish(&mut self) -> Result<()> {
        self.sync()?;
        self.take_name()
    }

    /// The second half of [`Target::finish`]: of several files none takes its name before all are on the disk.
    ///
    /// # Errors
    /// Somebody took the name meanwhile.
    pub fn take_name(&mut self) -> Result<()> {
        if let Some(limit) = self.limit
            && self.file.metadata().is_ok_and(|meta| meta.len() > limit)
        {
            return Err(self.too_large(format!("it would have more than the {limit} bytes that it may have")));
        }
        if self.work != self.name {
            if !self.is_ours() {
                return Err(Error::new(Kind::Output, format!("cannot give {} its name", self.work.display()))
                    .because("another process has replaced it")
                    .next_step("give each run its own output"));
            }
            self.rename()?;
        }
        self.temporary = false;
        self.sync_directory();
        Ok(())
    }

    /// Takes the name back, where another file of a set could not get its own.
    pub fn give_name_back(&self) {
        if self.work != self.name && is_same(&self.file, &self.name) {
            let _ = fs::rename(&self.name, &self.work);
            self.sync_directory();
        }
    }

    fn sync_directory(&self) {
        let parent = match self.name.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        // A directory that cannot be synced (some network file systems) has its new name all the same.
        if let Ok(directory) = File::open(parent) {
            let _ = directory.sync_all();
        }
    }

    /// Gives up and leaves nothing, whatever the file is called: it will be written again.
    pub fn discard(&mut self) {
        self.temporary = true;
    }

    /// Whether the file stays when it is given up: one under a name that the caller chose does, wanted or not.
    #[must_use]
    pub fn stays(&self, keep: bool) -> bool {
        keep || !self.temporary
    }

    /// Gives up; returns the working name if the file stays.
    pub fn abandon(&mut self, keep: bool) -> Option<PathBuf> {
        self.temporary = !self.stays(keep);
        if self.temporary {
            return None;
        }
        let _ = self.file.sync_all();
        Some(self.work.clone())
    }

    fn is_ours(&self) -> bool {
        is_same(&self.file, &self.work)
    }

    fn rename(&self) -> Result<()> {
        use rustix::{
            fs::{CWD, RenameFlags, renameat_with},
            io::Errno,
        };
        let failed = |error: io::Error| Error::output(&self.name, "give the whole dump the name", &error);
        if !self.force {
            match renameat_with(CWD, &self.work, CWD, &self.name, RenameFlags::NOREPLACE) {
                // Not every file system knows the flag.
                Err(Errno::INVAL | Errno::NOSYS) => {}
                result => return result.map_err(|error| failed(error.into())),
            }
        }
        fs::rename(&self.work, &self.name).map_err(failed)
    }

    fn check_limit(&self, offset: u64, len: u64) -> Result<()> {
        match self.limit {
            Some(limit) if offset.saturating_add(len) > limit => {
                Err(self.too_large(format!("the limit of {limit} bytes is reached")))
            }
            _ => Ok(()),
        }
    }

    fn too_large(&self, cause: String) -> Error {
        Error::new(Kind::NoSpace, format!("cannot write {}", self.work.display())).because(cause)
    }

    /// What is said of a write that failed.
    pub(super) fn failed(&self, error: &io::Error) -> Error {
        Error::output(&self.work, "write", error)
    }
}

/// Device and inode: what a file is, whatever it is called.
type Identity = (u64, u64);

fn identity(meta: io::Result<fs::Metadata>) -> Option<Identity> {
    meta.ok().map(|meta| (meta.dev(), meta.ino()))
}

/// Whether `path` leads to `file`, whatever it is called.
fn is_same(file: &File, path: &Path) -> bool {
    identity(file.metadata()).is_some_and(|file| identity(fs::metadata(path)) == Some(file))
}

fn check_name(name: &Path, force: bool) -> Result<()> {
    let refused = |cause: &str, next: &str| {
        Err(Error::new(Kind::Output, format!("cannot create {}", name.display())).because(cause).next_step(next))
    };
    match fs::symlink_metadata(name) {
        Ok(meta) if meta.is_dir() => refused("it is a directory", "name a file in it, for example vmcore"),
        Ok(meta) if !meta.is_file() => {
            refused("it is not a regular file", "name a file that does not exist yet, or use --dry-run")
        }
        Ok(_) if !force => Err(taken(name)),
        _ => Ok(()),
    }
}

/// Removes what an earlier run left, unless a run is still writing to it.
fn remove_unused(work: &Path) -> Result<()> {
    let failed =
        |error: &io::Error| Error::output(work, "replace", error).next_step("remove it or choose another name");
    let left = match File::open(work) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other.map_err(|error| failed(&error))?,
    };
    if matches!(left.try_lock(), Err(TryLockError::WouldBlock)) {
        return Err(Error::new(Kind::Output, format!("cannot replace {}", work.display()))
            .because("another vdump is writing to it")
            .next_step("give each run its own output"));
    }
    fs::remove_file(work).map_err(|error| failed(&error))
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
    // "vmcore/" has this file name for us, but rename(2) would refuse it when all is written.
    if !name.as_os_str().as_bytes().ends_with(file_name.as_bytes()) {
        return Err(Error::new(Kind::Output, format!("cannot create {}", name.display()))
            .because("it is the name of a directory")
            .next_step("name a file in it, for example vmcore"));
    }
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
        let mut target = Target::create(&name, false, &Inputs::default()).unwrap();
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
        assert!(Target::create(&name, false, &Inputs::default()).unwrap_err().to_string().contains("--force"));
        Target::create(&name, true, &Inputs::default()).unwrap().finish().unwrap();
        assert_eq!(fs::read(&name).unwrap(), b"");
    }

    #[test]
    fn a_name_taken_meanwhile_is_respected() {
        let room = tempfile::tempdir().unwrap();
        let name = room.path().join("vmcore");
        let mut target = Target::create(&name, false, &Inputs::default()).unwrap();
        fs::write(&name, "precious").unwrap();
        assert!(target.finish().is_err());
        assert_eq!(fs::read(&name).unwrap(), b"precious");
    }

    #[test]
    fn giving_up_leaves_nothing_unless_asked() {
        let room = tempfile::tempdir().unwrap();
        let name = room.path().join("vmcore");
        assert_eq!(Target::create(&name, false, &Inputs::default()).unwrap().abandon(false), None);
        assert_eq!(fs::read_dir(room.path()).unwrap().count(), 0);
        let kept = Target::create(&name, false, &Inputs::default()).unwrap().abandon(true).unwrap();
        assert!(kept.exists());
        let own = room.path().join("own-incomplete");
        drop(Target::create(&own, false, &Inputs::default()).unwrap());
        assert!(!own.exists(), "nothing in it yet");
        let mut target = Target::create(&own, false, &Inputs::default()).unwrap();
        target.settle();
        assert_eq!(target.abandon(false), Some(own.clone()));
        drop(target);
        assert!(own.exists());
    }

    #[test]
    fn the_input_is_never_overwritten_whatever_it_is_called() {
        let room = tempfile::tempdir().unwrap();
        let input = room.path().join("vmcore-incomplete");
        fs::write(&input, "precious").unwrap();
        let link = room.path().join("link");
        fs::hard_link(&input, &link).unwrap();
        let file = File::open(&input).unwrap();
        for name in [&input, &link, &room.path().join("vmcore"), &room.path().join(".").join("vmcore-incomplete")] {
            let error = Target::create(name, true, &Inputs::opened(std::slice::from_ref(&file))).unwrap_err();
            assert!(error.to_string().contains("is an input"), "{error}");
        }
        assert_eq!(fs::read(&input).unwrap(), b"precious");
    }

    #[test]
    fn two_runs_do_not_share_a_file() {
        let room = tempfile::tempdir().unwrap();
        let name = room.path().join("vmcore");
        let _first = Target::create(&name, false, &Inputs::default()).unwrap();
        assert!(Target::create(&name, true, &Inputs::default()).unwrap_err().to_string().contains("another vdump"));
    }

    #[test]
    fn names_without_a_file_are_refused() {
        for name in ["/", "..", "", "new/", "new/."] {
            assert!(Target::create(Path::new(name), false, &Inputs::default()).is_err(), "{name}");
        }
    }
}
