//! The two names of an output: the one that it is written under, and its own, which it gets when it is whole.
//!
//! Neither is ever taken from a file that somebody else put there, unless that was asked for.

use std::{
    fs::{self, TryLockError},
    io,
    os::unix::{
        ffi::OsStrExt as _,
        fs::{MetadataExt as _, OpenOptionsExt as _},
    },
    path::{Path, PathBuf},
};

use rustix::fs::{CWD, OFlags, RenameFlags, renameat_with};

use crate::{
    error::{Error, Kind, Result},
    sys::{
        file::named,
        locks::{self, Holder},
    },
};

/// How kdump scripts name a dump that is not whole yet, and how we do.
const SUFFIX: &str = "-incomplete";

/// The name that a file is written under until it is whole.
pub(super) fn work_name(name: &Path) -> Result<PathBuf> {
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
    if !work.as_bytes().ends_with(SUFFIX.as_bytes()) {
        work.push(SUFFIX);
    }
    Ok(name.with_file_name(work))
}

/// Makes sure that a file can have `name` in the end.
pub(super) fn check(name: &Path, replace: bool) -> Result<()> {
    let refused = |cause: &str, next: &str| {
        Err(Error::new(Kind::Output, format!("cannot create {}", name.display())).because(cause).next_step(next))
    };
    match fs::symlink_metadata(name) {
        Ok(meta) if meta.is_dir() => refused("it is a directory", "name a file in it, for example vmcore"),
        Ok(meta) if !meta.is_file() => {
            refused("it is not a regular file", "name a file that does not exist yet, or use --dry-run")
        }
        Ok(_) if !replace => refused("it exists already", "remove it, choose another name, or give --force"),
        _ => Ok(()),
    }
}

/// Why a file of `work`'s name is in the way of an output called `name`.
pub(super) fn taken(work: &Path, name: &Path) -> Error {
    let shown = work.display();
    let error = Error::new(Kind::Output, format!("cannot create {}", name.display()));
    let meta = fs::symlink_metadata(work);
    if let Ok(meta) = meta.as_ref()
        && !meta.is_file()
    {
        return error
            .because(format!("{shown}, as it is called until it is whole, is {}", named(meta.file_type())))
            .next_step("remove that or choose another name");
    }
    let writer = meta.ok().and_then(|meta| locks::holder(Path::new("/proc"), &meta));
    match writer {
        Some(writer) => error
            .because(format!("{} has a lock on {shown} and may be writing to it", told(&writer)))
            .next_step("wait for it, choose another name, or give --force to replace that file"),
        None => error.because(format!("{shown} is there, left by a run that did not finish")).next_step(format!(
            "see whether it is worth keeping ('vdump check {shown}'); then remove it, or give --force to replace it"
        )),
    }
}

fn told(Holder { pid, name, .. }: &Holder) -> String {
    if name.is_empty() { format!("process {pid}") } else { format!("process {pid} ({name})") }
}

/// Removes what an earlier run left under a working name. Returns a remark if somebody else had it locked.
///
/// # Errors
/// It is no regular file, or another vdump is writing to it, or the directory does not allow it.
pub(super) fn clear(work: &Path) -> Result<Option<String>> {
    let refused = |cause: String, next: &str| {
        Err(Error::new(Kind::Output, format!("cannot replace {}", work.display())).because(cause).next_step(next))
    };
    let failed =
        |error: &io::Error| Error::output(work, "replace", error).next_step("remove it or choose another name");
    let next = "remove it or choose another name";
    match fs::symlink_metadata(work) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Ok(meta) if !meta.is_file() => return refused(format!("it is {}", named(meta.file_type())), next),
        _ => {}
    }
    // It may be something else by now: neither follow a link nor wait for a FIFO's writer.
    let careful = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
    let left = fs::OpenOptions::new().read(true).custom_flags(careful).open(work).map_err(|error| failed(&error))?;
    let mut remark = None;
    // A shared lock needs no more than reading, on NFS too, and only a writer's stands against it.
    if matches!(left.try_lock_shared(), Err(TryLockError::WouldBlock)) {
        let holder = left.metadata().ok().and_then(|meta| locks::holder(Path::new("/proc"), &meta));
        if let Some(vdump) = holder.as_ref().filter(|holder| holder.is_like_us) {
            let next = "give each run its own output, or end that one first";
            return refused(format!("another vdump is writing to it: process {}", vdump.pid), next);
        }
        let who = holder.as_ref().map_or_else(|| "a process that cannot be seen from here".to_owned(), told);
        remark = Some(format!("{} was replaced though {who} had a lock on it", work.display()));
    }
    fs::remove_file(work).map_err(|error| failed(&error))?;
    Ok(remark)
}

/// Gives the file at `work` its `name`, which no other file loses by it unless `force` is set. Returns a remark where that
/// could not be done as it should.
pub(super) fn give(work: &Path, name: &Path, force: bool) -> io::Result<Option<String>> {
    use rustix::io::Errno;
    if force {
        return fs::rename(work, name).map(|()| None);
    }
    match renameat_with(CWD, work, CWD, name, RenameFlags::NOREPLACE) {
        // Not every file system and not every kernel knows the flag (NFS does not; before 3.15 none did).
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => by_link(work, name),
        result => result.map(|()| None).map_err(io::Error::from),
    }
}

/// A link is never made over another file; the working name goes when it is there.
fn by_link(work: &Path, name: &Path) -> io::Result<Option<String>> {
    match fs::hard_link(work, name) {
        Ok(()) => {}
        // A network file system may have made it when it was asked for the first time, and lost the answer.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if !is_one_file(work, name) {
                return Err(error);
            }
        }
        // Not every file system has links.
        Err(_) => return by_looking(work, name),
    }
    let both = |error| format!("the dump is called {} too, which cannot be removed: {error}", work.display());
    Ok(fs::remove_file(work).err().map(both))
}

fn is_one_file(one: &Path, other: &Path) -> bool {
    let id = |path| fs::symlink_metadata(path).map(|meta| (meta.dev(), meta.ino()));
    matches!((id(one), id(other)), (Ok(one), Ok(other)) if one == other)
}

/// What is left where a file system can neither link nor refuse to replace: a file that somebody makes in between is lost.
fn by_looking(work: &Path, name: &Path) -> io::Result<Option<String>> {
    match fs::symlink_metadata(name) {
        Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::rename(work, name)?;
            let name = name.display();
            Ok(Some(format!(
                "this file system cannot give a name without replacing what has it: a file that became {name} at that \
                 moment is lost"
            )))
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Way = fn(&Path, &Path) -> io::Result<Option<String>>;
    const WAYS: [Way; 3] = [|work, name| give(work, name, false), by_link, by_looking];

    #[test]
    fn no_way_to_give_a_name_takes_it_from_another_file() {
        for way in WAYS {
            let room = tempfile::tempdir().unwrap();
            let [work, name] = ["vmcore-incomplete", "vmcore"].map(|name| room.path().join(name));
            fs::write(&work, "dump").unwrap();
            fs::write(&name, "precious").unwrap();
            assert_eq!(way(&work, &name).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(fs::read(&name).unwrap(), b"precious");
            fs::remove_file(&name).unwrap();
            way(&work, &name).unwrap();
            assert_eq!(fs::read(&name).unwrap(), b"dump");
            assert!(!work.exists());
        }
    }

    /// As where NFS repeats a request whose answer was lost.
    #[test]
    fn a_link_that_is_there_already_is_ours() {
        let room = tempfile::tempdir().unwrap();
        let [work, name] = ["vmcore-incomplete", "vmcore"].map(|name| room.path().join(name));
        fs::write(&work, "dump").unwrap();
        fs::hard_link(&work, &name).unwrap();
        assert_eq!(by_link(&work, &name).unwrap(), None);
        assert!(name.exists() && !work.exists());
    }

    #[test]
    fn what_is_left_is_removed_only_if_it_is_a_file() {
        let room = tempfile::tempdir().unwrap();
        let work = room.path().join("vmcore-incomplete");
        assert_eq!(clear(&work).unwrap(), None);
        fs::write(&work, "left").unwrap();
        assert_eq!(clear(&work).unwrap(), None);
        assert!(!work.exists());
        std::os::unix::fs::symlink("/etc/passwd", &work).unwrap();
        assert!(clear(&work).unwrap_err().to_string().contains("a symbolic link"));
        assert!(work.is_symlink());
    }

    #[test]
    fn names_without_a_file_are_refused() {
        for name in ["/", "..", "", "new/", "new/."] {
            assert!(work_name(Path::new(name)).is_err(), "{name}");
        }
    }
}
