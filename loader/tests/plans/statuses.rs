//! What `status` says of a machine that has changed since the load.

use std::{fs, path::Path};

use vdump_loader::{
    host::Host,
    job::{Job, Method, Prepared},
    plan::{Backup, Options},
    state::{Record, State},
    status::Status,
};

use crate::{
    images::BzImage,
    tree::{tree, write},
};

/// A machine with a capture kernel that we loaded; its files lie in `files`.
fn loaded(root: &Path, files: &Path, backup: Backup) {
    write(root, "sys/kernel/kexec_crash_loaded", b"1\n");
    write(files, "kernel", &BzImage::default().bytes());
    write(files, "initrd", b"initrd");
    let job = Job {
        kernel: files.join("kernel"),
        initrd: Some(files.join("initrd")),
        command_line: "quiet".to_owned(),
        method: Method::Segments,
        options: Options { panic: true, backup, ..Options::default() },
        debug: false,
    };
    let host = Host::read(root).unwrap();
    let prepared = Prepared::read(job.clone(), &host).unwrap();
    let plan = prepared.plan(&host).unwrap();
    let record = Record {
        job,
        method: Method::Segments,
        files: prepared.marks.clone(),
        core_headers: plan.core_headers.clone(),
        region: plan.region,
    };
    let mut state = State::read(root);
    state.set(true, Some(record));
    state.write(root).unwrap();
}

#[track_caller]
fn stale(root: &Path, words: &[&str]) {
    let status = Status::read(root).unwrap();
    assert_eq!(status.ready, words.is_empty());
    let stale = status.capture.stale;
    assert_eq!(stale.len(), words.len(), "{stale:?}");
    assert!(stale.iter().zip(words).all(|(reason, word)| reason.contains(word)), "{stale:?}");
}

#[test]
fn what_changed_is_named() {
    for backup in [Backup::Never, Backup::Always] {
        let (root, files) = (tree("debian-6.12-kaslr"), tempfile::tempdir().unwrap());
        loaded(root.path(), files.path(), backup);
        stale(root.path(), &[]);
        let iomem = fs::read_to_string(root.path().join("proc/iomem")).unwrap();
        let more = format!("{iomem}\n200000000-207ffffff : System RAM\n");
        write(root.path(), "proc/iomem", more.as_bytes());
        stale(root.path(), &["memory or CPUs"]);
        write(root.path(), "proc/iomem", iomem.as_bytes());
        fs::remove_dir_all(root.path().join("sys/devices/system/cpu/cpu1")).unwrap();
        stale(root.path(), &["memory or CPUs"]);
        write(files.path(), "initrd", b"another");
        stale(root.path(), &["initrd", "memory or CPUs"]);
    }
}

#[test]
fn what_is_not_loaded_any_more_is_not_shown() {
    let (root, files) = (tree("debian-6.12-kaslr"), tempfile::tempdir().unwrap());
    loaded(root.path(), files.path(), Backup::Auto);
    let status = Status::read(root.path()).unwrap();
    assert_eq!(status.capture.job.unwrap().kernel, files.path().join("kernel"));
    write(root.path(), "sys/kernel/kexec_crash_loaded", b"0\n");
    let status = Status::read(root.path()).unwrap();
    assert!(status.capture.job.is_none() && status.capture.loaded == Some(false));
}
