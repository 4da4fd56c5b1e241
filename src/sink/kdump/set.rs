//! Writing split sets: one kdump file for each part, each with its own frames and all of the bitmaps.
//!
//! Knows when all parts are whole, and that they are one dump: no part gets its name, or loses the mark that it is
//! incomplete, before the others could. Must not know how pages come. Each part is written by a thread of its own.

use std::path::PathBuf;

use rayon::prelude::{IntoParallelRefMutIterator as _, ParallelIterator as _};
use vdump_filters::PfnRange;

use super::{KdumpFacts, KdumpPart};
use crate::{
    bitmap::PageBitmap,
    error::Result,
    sink::{Written, medium::RandomWrites},
};

/// The parts of a split set in the making, in order of their frames.
#[derive(Debug)]
pub struct KdumpSet {
    parts: Vec<KdumpPart>,
}

impl KdumpSet {
    /// Writes everything in front of the page data of every part. `frames` has the share of each.
    ///
    /// # Errors
    /// As [`KdumpPart::create`].
    pub fn create<R: Iterator<Item = PfnRange>>(
        files: Vec<Box<dyn RandomWrites>>,
        frames: &[PfnRange],
        facts: &KdumpFacts<'_>,
        page_size: u64,
        ram: impl Fn() -> R,
        dumped: &PageBitmap,
    ) -> Result<Self> {
        let mut set = Self { parts: Vec::with_capacity(files.len()) };
        for (file, part) in files.into_iter().zip(frames) {
            match KdumpPart::create(file, facts, page_size, ram(), dumped, *part) {
                Ok(sink) => set.parts.push(sink),
                Err(error) => {
                    // Parts without a page are worth nothing.
                    set.discard();
                    return Err(error);
                }
            }
        }
        Ok(set)
    }

    /// The parts, to be written to.
    pub fn parts(&mut self) -> &mut [KdumpPart] {
        &mut self.parts
    }

    /// What was written so far, to all parts together.
    #[must_use]
    pub fn written(&self) -> Written {
        self.parts.iter().map(|part| part.written().clone()).fold(Written::default(), Written::and)
    }

    /// Completes all parts and gives them their names. Returns their sizes, bytes. Runs on the current rayon pool.
    ///
    /// # Errors
    /// As [`crate::sink::Sink::finish`]. No part has its name then.
    pub fn finish(&mut self) -> Result<Vec<u64>> {
        // At once: each may have a disk of its own to wait for.
        let sizes = self.parts.par_iter_mut().map(KdumpPart::complete).collect::<Result<_>>()?;
        // All parts have one header.
        let lost = self.written().lost > 0;
        for part in &mut self.parts {
            part.mark(lost)?;
            part.file().sync()?;
        }
        for index in 0..self.parts.len() {
            let named = self.parts[index].file().take_name();
            if named.is_err() {
                self.parts[..index].iter_mut().for_each(|part| part.file().give_name_back());
                return named.map(|()| Vec::new());
            }
        }
        self.parts.iter_mut().try_for_each(|part| part.file().sync_name())?;
        Ok(sizes)
    }

    /// What was done otherwise than it should be, and not told yet.
    pub fn remarks(&mut self) -> Vec<String> {
        self.parts.iter_mut().flat_map(|part| part.file().remarks()).collect()
    }

    /// Gives up, as [`crate::sink::Sink::abandon`]: returns the names of the parts that stay.
    pub fn abandon(&mut self, keep: bool) -> Vec<PathBuf> {
        self.parts.iter_mut().filter_map(|part| part.abandon(keep)).collect()
    }

    /// Gives up and leaves nothing.
    pub fn discard(&mut self) {
        self.parts.iter_mut().for_each(|part| part.file().discard());
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use vdump_filters::DumpLevel;

    use super::*;
    use crate::{
        medium::{Inputs, Target},
        source::OutputNotes,
    };

    fn set(names: &[PathBuf]) -> KdumpSet {
        let facts = KdumpFacts {
            utsname: [[b'x'; 65]; 6],
            crash_time: 1,
            phys_base: 0,
            level: DumpLevel::MAX,
            codec_flags: 0,
            cpus: 1,
            notes: OutputNotes::default(),
            vmcoreinfo: None,
            erased: Vec::new(),
            partial: false,
        };
        let frames: Vec<_> = (0..names.len() as u64).map(|part| PfnRange::new(part * 64, part * 64 + 64)).collect();
        let dumped = PageBitmap::new(64 * names.len() as u64);
        let targets = Target::create_all(names, false, &Inputs::default()).unwrap();
        let targets = targets.into_iter().map(|target| Box::new(target) as _).collect();
        KdumpSet::create(targets, &frames, &facts, 4096, std::iter::empty::<PfnRange>, &dumped).unwrap()
    }

    fn there(room: &Path) -> Vec<String> {
        let entries = fs::read_dir(room).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = entries.collect();
        names.sort();
        names
    }

    #[test]
    fn names_come_all_or_none() {
        let room = tempfile::tempdir().unwrap();
        let names = ["a", "b", "c"].map(|name| room.path().join(name));
        set(&names).finish().unwrap();
        assert_eq!(there(room.path()), ["a", "b", "c"]);
        names.iter().for_each(|name| fs::remove_file(name).unwrap());
        let mut taken = set(&names);
        fs::write(&names[1], "precious").unwrap();
        assert!(taken.finish().is_err());
        assert_eq!(taken.abandon(true).len(), 3);
        assert_eq!(there(room.path()), ["a-incomplete", "b", "b-incomplete", "c-incomplete"]);
        assert_eq!(fs::read(&names[1]).unwrap(), b"precious");
        // All say so again.
        for name in ["a-incomplete", "b-incomplete", "c-incomplete"] {
            assert_eq!(fs::read(room.path().join(name)).unwrap()[424], 8, "{name}");
        }
    }
}
