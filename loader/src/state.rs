//! What was loaded last, remembered until the machine stops: `/run/vdump/loaded.json`.
//!
//! Knows the file. Must not load anything. [`crate::arm`] loads the last good set again from it, `status` compares it with
//! the machine of today.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    corehdr::CoreHeaders,
    files::FileMark,
    host::files,
    job::{Job, Method},
    range::Range,
};

/// One loaded kernel.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Record {
    /// What was asked for.
    pub job: Job,
    /// How it was handed over in the end.
    pub method: Method,
    /// Its files.
    pub files: Vec<FileMark>,
    /// The memory that the core headers describe.
    pub core_headers: Option<CoreHeaders>,
    /// The reserved range it lies in.
    pub region: Option<Range>,
}

/// The file's content.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct State {
    /// Which boot this is about.
    boot_id: String,
    /// The capture kernel.
    pub panic: Option<Record>,
    /// The kernel for the next reboot.
    pub normal: Option<Record>,
}

fn path(root: &Path) -> PathBuf {
    root.join("run/vdump/loaded.json")
}

fn boot_id(root: &Path) -> String {
    files::text(&root.join("proc/sys/kernel/random/boot_id")).unwrap_or_default().trim().to_owned()
}

impl State {
    /// Reads it; what another boot left behind, or what cannot be read, is nothing.
    #[must_use]
    pub fn read(root: &Path) -> Self {
        let fresh = Self { boot_id: boot_id(root), ..Self::default() };
        let stored = files::bytes(&path(root)).and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        stored.filter(|stored| stored.boot_id == fresh.boot_id).unwrap_or(fresh)
    }

    /// The record of the capture kernel, or of the next one.
    #[must_use]
    pub fn record(&self, panic: bool) -> Option<&Record> {
        if panic { self.panic.as_ref() } else { self.normal.as_ref() }
    }

    /// Notes what is loaded now.
    pub fn set(&mut self, panic: bool, record: Option<Record>) {
        *(if panic { &mut self.panic } else { &mut self.normal }) = record;
    }

    /// Writes it, whole or not at all. Only root may read it: command lines may name secrets.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self, root: &Path) -> io::Result<()> {
        let path = path(root);
        let folder = path.parent().unwrap_or(root);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let new = path.with_extension("json.new");
        let _ = fs::remove_file(&new);
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        serde_json::to_writer_pretty(&mut file, self)?;
        file.write_all(b"\n")?;
        drop(file);
        fs::rename(&new, &path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Options;

    #[test]
    fn another_boot_is_forgotten() {
        let root = tempfile::tempdir().unwrap();
        let id = root.path().join("proc/sys/kernel/random");
        fs::create_dir_all(&id).unwrap();
        fs::write(id.join("boot_id"), "one\n").unwrap();
        let job = Job {
            kernel: "k".into(),
            initrd: None,
            command_line: String::new(),
            method: Method::Auto,
            options: Options::default(),
            debug: false,
        };
        let record = Record { job, method: Method::File, files: Vec::new(), core_headers: None, region: None };
        let mut state = State::read(root.path());
        state.set(true, Some(record.clone()));
        state.write(root.path()).unwrap();
        assert_eq!(State::read(root.path()).record(true), Some(&record));
        fs::write(id.join("boot_id"), "two\n").unwrap();
        assert_eq!(State::read(root.path()).record(true), None);
    }
}
