//! What targets share: files in memory, commands run in the process, and the memory of a kernel.

#![allow(dead_code, reason = "no target uses all of it")]

use std::{fs, path::PathBuf};

use clap::Parser as _;
use vdump::internals::{Cli, ReadVirt, ReadVirtError, Words, run};

/// A file of this process in TMPDIR, which `tests/fuzz/run` puts into memory.
pub fn path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("vdump-fuzz-{}-{name}", std::process::id()))
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

/// Where the memory begins: what the seeds' VMCOREINFO says.
const BASE: u64 = 0xffff_ffff_8200_0000;

/// Memory from there on; everything else is unreadable.
pub struct Memory<'a>(pub &'a [u8]);

impl ReadVirt for Memory<'_> {
    fn words(&self) -> Words {
        Words::LE64
    }

    fn read_virt(&self, vaddr: u64, buf: &mut [u8]) -> Result<(), ReadVirtError> {
        let missing = || ReadVirtError::Unreadable { vaddr, cause: "a hole".to_owned() };
        let at = usize::try_from(vaddr.wrapping_sub(BASE)).map_err(|_| missing())?;
        let end = at.checked_add(buf.len()).ok_or_else(missing)?;
        buf.copy_from_slice(self.0.get(at..end).ok_or_else(missing)?);
        Ok(())
    }
}
