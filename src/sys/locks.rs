//! Who holds a lock on a file, as /proc/locks says it.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path, process};

/// A process that holds a lock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// Its name (`comm`); empty where it is not told.
    pub name: String,
    /// Whether it runs the same program as we do.
    pub is_like_us: bool,
}

/// The process that holds a lock of flock(2) on the file of `meta`; `None` where it cannot be found: it may be in another
/// container, or on another machine. `proc` is `/proc`.
#[must_use]
pub fn holder(proc: &Path, meta: &fs::Metadata) -> Option<Holder> {
    let locks = fs::read_to_string(proc.join("locks")).ok()?;
    let pid = locks.lines().find_map(|line| held_by(line, meta.dev(), meta.ino()))?;
    let name = |pid: &str| fs::read_to_string(proc.join(pid).join("comm")).map(|name| name.trim_end().to_owned());
    let named = name(&pid.to_string()).unwrap_or_default();
    let is_like_us = pid == process::id() || !named.is_empty() && name("self").is_ok_and(|own| own == named);
    Some(Holder { pid, name: named, is_like_us })
}

/// Reads a line like `1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF`: major and minor number of the device are
/// hexadecimal, the inode is decimal (`lock_get_status()`, fs/locks.c).
fn held_by(line: &str, device: u64, inode: u64) -> Option<u32> {
    let mut words = line.split_whitespace();
    let [kind, pid, place] = [words.nth(1)?, words.nth(2)?, words.next()?];
    let mut place = place.split(':');
    let major = u32::from_str_radix(place.next()?, 16).ok()?;
    let minor = u32::from_str_radix(place.next()?, 16).ok()?;
    let same = place.next()?.parse() == Ok(inode) && rustix::fs::makedev(major, minor) == device;
    if kind == "FLOCK" && same { pid.parse().ok().filter(|pid| *pid > 0) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_told_by_device_and_inode() {
        let device = rustix::fs::makedev(8, 17);
        let line = "1: FLOCK  ADVISORY  WRITE 1234 08:11:5678 0 EOF";
        assert_eq!(held_by(line, device, 5678), Some(1234));
        assert_eq!(held_by(line, device, 5679), None);
        assert_eq!(held_by(line, device + 1, 5678), None);
        assert_eq!(held_by(&line.replace("1234", "-1"), device, 5678), None);
        // One that waits, and one of another kind.
        assert_eq!(held_by("1: -> FLOCK  ADVISORY  WRITE 7 08:11:5678 0 EOF", device, 5678), None);
        assert_eq!(held_by(&line.replace("FLOCK", "POSIX"), device, 5678), None);
    }

    #[test]
    fn our_own_lock_is_found() {
        let room = tempfile::tempdir().unwrap();
        let file = fs::File::create(room.path().join("file")).unwrap();
        file.lock().unwrap();
        let found = holder(Path::new("/proc"), &file.metadata().unwrap()).unwrap();
        assert_eq!((found.pid, found.is_like_us), (process::id(), true));
    }
}
