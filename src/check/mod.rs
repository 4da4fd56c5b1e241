//! Whether a dump keeps the rules of its format, and which programs will open it.
//!
//! Knows every rule by name, and goes on where `source` refuses. Must not know the kernel. The [`Checked`] is printed by
//! `run`.

mod elf;
mod evidence;
mod facts;
mod findings;
mod flattened;
mod kdump;
mod layers;
mod notes;
pub mod reader;
mod readers;
pub mod report;
pub mod rule;
pub mod rules;
mod seekable;
mod work;

use std::path::PathBuf;

use findings::Findings;
use layers::{Kind, Opened};

use crate::{
    error::{Error, Result},
    report::Progress,
    sys::stop,
};

/// What all parts of a check share.
pub(crate) struct Check<'a> {
    progress: &'a Progress,
    threads: usize,
    /// Memory that readers may take, bytes.
    memory: u64,
}

/// What was found out about a dump.
#[derive(Debug)]
pub struct Checked {
    /// The inputs as the user named them.
    pub inputs: Vec<PathBuf>,
    /// The format in words, with what lies around it.
    pub format: String,
    /// What holds and what does not.
    pub findings: Findings,
    /// Who opens it.
    pub readers: Vec<readers::Prediction>,
    /// Pages that were decoded, or read where they are not compressed.
    pub pages: u64,
}

/// Checks the dump that lies in all of `inputs`, with so many threads and about so much memory.
///
/// # Errors
/// An input cannot be opened or is no dump at all, or the user wants to stop. What a dump does wrong is no error.
pub fn check(inputs: &[PathBuf], threads: usize, memory: u64, progress: &Progress) -> Result<Checked> {
    let check = Check { progress, threads: threads.max(1), memory };
    let mut findings = Findings::default();
    let mut opened = Vec::with_capacity(inputs.len());
    for (input, path) in inputs.iter().enumerate() {
        opened.push(Opened::open(&check, input, path, &mut findings)?);
    }
    let first = opened.first().ok_or_else(|| Error::input("no dump was named"))?;
    let (layers, kind) = (first.layers.clone(), first.kind);
    let mut facts = facts::Facts { layers, kind, ..facts::Facts::default() };
    let mut pages = 0;
    if opened.len() > 1 || kind == Kind::Kdump {
        pages = kdump::check(&check, &opened, &mut findings, &mut facts)?;
    } else if kind == Kind::Elf {
        pages = elf::check(&check, first, &mut findings, &mut facts)?;
    }
    let readers = readers::predict(&facts, &findings);
    let format = facts.describe();
    progress.finish();
    check.go_on()?;
    Ok(Checked { inputs: inputs.to_vec(), format, findings, readers, pages })
}

impl Check<'_> {
    /// # Errors
    /// The user wants to stop.
    fn go_on(&self) -> Result<()> {
        if !self.progress.stopped() {
            return Ok(());
        }
        self.progress.finish();
        Err(Error::stopped(stop::caught(), "before the whole dump was checked"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, atomic::AtomicBool};

    use zerocopy::{FromZeros as _, IntoBytes as _};

    use super::*;
    use crate::{
        format::{
            diskdump::{Header, SIGNATURE, SubHeader, VERSION},
            flattened::{Record, header},
        },
        report::Mode,
    };

    /// A few KiB of a stream stand for the bitmaps of 2^47 page frames.
    #[test]
    fn bitmaps_of_any_size_take_no_memory() {
        let mut head = Header::new_zeroed();
        (head.signature, head.header_version) = (SIGNATURE, VERSION.into());
        (head.block_size, head.sub_hdr_size) = ((64 << 10).into(), 1.into());
        (head.bitmap_blocks, head.max_mapnr) = (u32::MAX.into(), u32::MAX.into());
        let sub = SubHeader { max_mapnr_64: (1 << 47).into(), ..SubHeader::default() };
        let mut front = head.as_bytes().to_vec();
        front.resize(64 << 10, 0);
        front.extend(sub.as_bytes());
        let record =
            |offset, bytes: &[u8]| [&Record::Data { offset, len: bytes.len() as u64 }.encode()[..], bytes].concat();
        let stream = [header(), record(0, &front), record(1 << 60, b"end"), Record::End.encode().to_vec()].concat();
        let room = tempfile::tempdir().unwrap();
        let path = room.path().join("stream");
        std::fs::write(&path, stream).unwrap();
        let progress = Progress::new(Mode::None, 4096, Arc::new(AtomicBool::new(false)));
        // What is in no record is neither read nor counted.
        let checked = check(&[path], 1, 4096, &progress).unwrap();
        assert!(checked.findings.is_broken(rules::Rule::KdumpPages), "{checked:?}");
    }
}
