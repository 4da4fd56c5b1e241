//! The output file: written under a name that says that it is incomplete, given its own name when it is whole.
//!
//! Knows files and directories. Must not know formats.

use std::{
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use super::{
    inputs::{Inputs, is_same},
    names::{check, clear, give, taken, work_name},
};
use crate::{
    error::{Error, Kind, Result, plain_io},
    report::human_bytes,
    sink::{Medium, Order, PAGE, RandomWrites, Syncer},
    sys::{file, host, space},
};

/// What becomes of the file when its value goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    /// It goes too.
    Goes,
    /// It stays under its working name.
    Stays,
    /// It is whole and has its name.
    Named,
}

/// An output file in the making. It is never read: a file system may have to read a page before a part of it can be written
/// (NFS does, of files that are open for both), and may fail to.
#[derive(Debug)]
pub struct Target {
    file: File,
    work: PathBuf,
    name: PathBuf,
    force: bool,
    fate: Fate,
    /// The most bytes that it may have.
    limit: Option<u64>,
    /// What its reader should know, not said yet.
    remarks: Vec<String>,
}

impl Drop for Target {
    fn drop(&mut self) {
        if self.fate == Fate::Goes && self.is_ours() {
            let _ = fs::remove_file(&self.work);
        }
    }
}

impl Target {
    /// Creates the file beside `name` with `-incomplete` added, mode 0600. A name that ends so already is used as it is: kdump
    /// scripts rename it themselves. Until [`Target::settle`] the file disappears with the value.
    ///
    /// Whatever the names, `inputs` are never overwritten. What an earlier run left under the working name is replaced if
    /// `force` is set; in a capture kernel, where nobody can be asked and memory is lost with the next boot, always.
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
        let replaces = force || host::is_capture_kernel(Path::new("/"));
        if *name != work {
            check(name, force)?;
        }
        if let Some(path) = [name, &work].into_iter().find(|path| inputs.have(path)) {
            return Err(Error::new(Kind::Usage, format!("cannot create {}", name.display()))
                .because(format!("{} is an input", path.display()))
                .next_step("choose another name"));
        }
        let remark = if replaces { clear(&work)? } else { None };
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&work);
        let file = file.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => taken(&work, name),
            io::ErrorKind::NotFound => Error::output(&work, "create", &error).next_step("create the directory first"),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Error::output(&work, "create", &error).next_step("choose a directory that can be written to")
            }
            _ => Error::output(&work, "create", &error).or_next_step("choose another name or directory"),
        })?;
        // A file system without locks goes without: then two runs with --force to one name are the user's affair.
        let _ = file.try_lock();
        let remarks = remark.into_iter().collect();
        Ok(Self { file, work, name: name.to_owned(), force, fate: Fate::Goes, limit: None, remarks })
    }

    /// From here on the file is worth something: under a name that the caller chose it stays whatever happens.
    pub fn settle(&mut self) {
        if self.work == self.name {
            self.fate = Fate::Stays;
        }
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

    /// Writes `bytes`, with zeros up to the end of their page. `offset` is that of a page.
    ///
    /// # Errors
    /// As [`Target::write`]; zeros past the limit are left out.
    pub fn write_page(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let mut page = [0; PAGE];
        match page.get_mut(..bytes.len()) {
            Some(start) if self.check_limit(offset, PAGE as u64).is_ok() => {
                start.copy_from_slice(bytes);
                self.write(&page, offset)
            }
            _ => self.write(bytes, offset),
        }
    }

    /// Sets the file's length.
    ///
    /// # Errors
    /// The file system does not allow it.
    pub fn set_len(&self, len: u64) -> Result<()> {
        self.file.set_len(len).map_err(|error| self.failed(&error))
    }

    /// Brings what was written to the disk. Where the file system does not say when it is there (it has no fsync(2)), that is
    /// a remark: the file has all its bytes.
    ///
    /// # Errors
    /// The device is full or fails: some file systems say so only now.
    pub fn sync(&mut self) -> Result<()> {
        if let Some(error) = file::sync(&self.file).map_err(|error| self.failed(&error))? {
            self.remark(not_synced(&self.name.display(), &error));
        }
        Ok(())
    }

    /// Brings the file to the disk, then gives it its name: after a power cut the name never stands for half a dump.
    ///
    /// # Errors
    /// The device fails, or somebody took the name meanwhile. The file is still there then, under its working name.
    pub fn finish(&mut self) -> Result<()> {
        self.sync()?;
        self.take_name()?;
        self.sync_name()
    }

    /// The second part of [`Target::finish`]: of several files none takes its name before all are on the disk.
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
            let given = give(&self.work, &self.name, self.force);
            let remark = given.map_err(|error| Error::output(&self.name, "give the whole dump the name", &error))?;
            remark.into_iter().for_each(|remark| self.remark(remark));
        }
        self.fate = Fate::Named;
        Ok(())
    }

    /// The last part of [`Target::finish`]: brings the name to the disk.
    ///
    /// # Errors
    /// The device fails. The file keeps its name, and has all its bytes; but who acts upon the exit code, as capture scripts
    /// do before they reset the machine, must not take it for saved.
    pub fn sync_name(&self) -> Result<()> {
        self.sync_directory().map_err(|error| {
            let name = self.name.display();
            Error::output(&self.name, "sync the directory of", &error).next_step(format!(
                "{name} is whole, but may not outlast a reset: copy it to another device before that"
            ))
        })
    }

    /// Takes the name back, where another file of a set could not get its own.
    pub fn give_name_back(&mut self) {
        if self.work != self.name && is_same(&self.file, &self.name) && fs::rename(&self.name, &self.work).is_ok() {
            self.fate = Fate::Stays;
            let _ = self.sync_directory();
        }
    }

    fn sync_directory(&self) -> io::Result<()> {
        let parent = match self.name.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        // One that may not be read, or that has no fsync (some network file systems), has its new name all the same.
        match File::open(parent) {
            Ok(directory) => file::sync(&directory).map(|_| ()),
            Err(_) => Ok(()),
        }
    }

    fn remark(&mut self, remark: String) {
        if !self.remarks.contains(&remark) {
            self.remarks.push(remark);
        }
    }

    /// What was done otherwise than it should be, and not told yet.
    pub fn remarks(&mut self) -> Vec<String> {
        std::mem::take(&mut self.remarks)
    }

    /// Gives up and leaves nothing, whatever the file is called: it will be written again.
    pub fn discard(&mut self) {
        if self.fate != Fate::Named {
            self.fate = Fate::Goes;
        }
    }

    /// Whether the file stays when it is given up: one under a name that the caller chose does, wanted or not. One that has
    /// its name is whole, and no longer given up.
    #[must_use]
    pub fn stays(&self, keep: bool) -> bool {
        self.fate != Fate::Named && (keep || self.fate == Fate::Stays)
    }

    /// Gives up; returns the working name if the file stays.
    pub fn abandon(&mut self, keep: bool) -> Option<PathBuf> {
        if !self.stays(keep) {
            return None;
        }
        self.fate = Fate::Stays;
        let _ = file::sync(&self.file);
        let _ = self.sync_directory();
        Some(self.work.clone())
    }

    fn is_ours(&self) -> bool {
        is_same(&self.file, &self.work)
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
    fn failed(&self, error: &io::Error) -> Error {
        Error::output(&self.work, "write", error)
    }
}

impl Medium for Target {
    fn order(&self) -> Order {
        Order::Any
    }

    fn announce(&mut self, _offset: u64, _len: u64) -> Result<()> {
        Ok(())
    }

    fn write(&mut self, bytes: &[u8], offset: u64) -> Result<()> {
        Self::write(self, bytes, offset)
    }

    fn finish(&mut self) -> Result<()> {
        Self::finish(self)
    }

    fn remarks(&mut self) -> Vec<String> {
        Self::remarks(self)
    }

    fn stays(&self, keep: bool) -> bool {
        Self::stays(self, keep)
    }

    fn abandon(&mut self, keep: bool) -> Option<PathBuf> {
        Self::abandon(self, keep)
    }

    fn discard(&mut self) {
        Self::discard(self);
    }

    fn random(&mut self) -> Option<&mut dyn RandomWrites> {
        Some(self)
    }

    fn into_random(self: Box<Self>) -> Result<Box<dyn RandomWrites>, Box<dyn Medium>> {
        Ok(self)
    }
}

impl RandomWrites for Target {
    fn settle(&mut self) {
        Self::settle(self);
    }

    fn require(&self, bytes: u64, what: &str) -> Result<()> {
        Self::require(self, bytes, what)
    }

    fn reserve(&mut self, offset: u64, len: u64) -> Result<()> {
        Self::reserve(self, offset, len)
    }

    fn set_len(&mut self, len: u64) -> Result<()> {
        Self::set_len(self, len)
    }

    fn write_page(&mut self, bytes: &[u8], offset: u64) -> Result<()> {
        Self::write_page(self, bytes, offset)
    }

    fn sync(&mut self) -> Result<()> {
        Self::sync(self)
    }

    fn syncer(&self) -> Result<Box<dyn Syncer>> {
        let file = self.file.try_clone().map_err(|error| Error::output(&self.work, "open", &error))?;
        Ok(Box::new(FileSyncer(file)))
    }

    fn take_name(&mut self) -> Result<()> {
        Self::take_name(self)
    }

    fn sync_name(&self) -> Result<()> {
        Self::sync_name(self)
    }

    fn give_name_back(&mut self) {
        Self::give_name_back(self);
    }

    fn failed(&self, error: &io::Error) -> Error {
        Self::failed(self, error)
    }
}

/// The file, for a thread of its own.
#[derive(Debug)]
struct FileSyncer(File);

impl Syncer for FileSyncer {
    fn sync_data(&self) -> io::Result<()> {
        match self.0.sync_data() {
            // Some file systems have nothing to sync: what is written is there.
            Err(error) if matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
            done => done,
        }
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn another(&self) -> io::Result<Box<dyn Syncer>> {
        Ok(Box::new(Self(self.0.try_clone()?)))
    }
}

/// Why what has all its bytes may not be on the disk.
pub(super) fn not_synced(name: &dyn std::fmt::Display, error: &io::Error) -> String {
    let error = plain_io(error);
    format!(
        "{name} is whole, but may not be on the disk yet: this file system cannot say when it is (fsync: {error}); run \
         'sync' before the machine is reset"
    )
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
}
