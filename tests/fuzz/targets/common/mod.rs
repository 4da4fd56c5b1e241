//! What targets share: files in memory, and commands run in the process.

#![allow(dead_code, reason = "no target uses all of it")]

use std::{fs, path::PathBuf};

use clap::Parser as _;
use vdump::internals::{Cli, run};

/// A file of this process, in memory where there is such a place.
pub fn path(name: &str) -> PathBuf {
    let dir = ["/dev/shm", "/tmp"].into_iter().find(|dir| fs::metadata(dir).is_ok()).unwrap_or(".");
    PathBuf::from(format!("{dir}/vdump-fuzz-{}-{name}", std::process::id()))
}

/// The same with these contents; the former ones are gone.
pub fn file(name: &str, contents: &[u8]) -> String {
    let path = path(name);
    fs::write(&path, contents).expect("room for a file");
    path.to_str().expect("a plain name").to_owned()
}

/// Runs a command of vdump. How it fails does not matter, only that it ends and takes no more than its memory.
pub fn vdump(words: &[&str]) {
    let line = ["vdump"].iter().chain(words);
    let cli = Cli::try_parse_from(line).unwrap_or_else(|error| panic!("{words:?}: {error}"));
    let _ = run(&cli);
}
