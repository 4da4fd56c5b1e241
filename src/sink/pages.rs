//! Writing from front to back in whole pages, as the caches of file systems have them.
//!
//! A part of a page costs some file systems a read, and on some servers fails (NFSv4.2 on nfs-ganesha 4.3). Each write
//! reaches the file at once: what is still to come in its last page is zeros until it comes.

use super::medium::RandomWrites;
use crate::error::Result;

/// Bytes of a page of any host's cache, or of a part of it.
pub const PAGE: usize = 4096;

/// A part of a file that is written in order of offset, and was all zeros before.
#[derive(Debug)]
pub(super) struct Pages {
    /// One past the last byte written.
    at: u64,
    /// The bytes before that in its page.
    tail: Vec<u8>,
}

impl Pages {
    /// Begins at `start`, a multiple of a page.
    pub fn from(start: u64) -> Self {
        Self { at: start, tail: Vec::new() }
    }

    /// Where the next byte goes.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// Goes on at `offset`, which does not lie before; what is left out stays zeros.
    pub fn skip_to(&mut self, offset: u64) {
        if offset / PAGE as u64 != self.at / PAGE as u64 {
            self.tail.clear();
        }
        self.tail.resize((offset % PAGE as u64) as usize, 0);
        self.at = offset;
    }

    /// Writes all of `bytes`.
    pub fn append(&mut self, target: &mut dyn RandomWrites, bytes: &[u8]) -> Result<()> {
        let begun = self.tail.len();
        let (first, rest) = bytes.split_at(if begun == 0 { 0 } else { bytes.len().min(PAGE - begun) });
        let start = self.at - begun as u64;
        self.at += bytes.len() as u64;
        if begun > 0 {
            self.tail.extend_from_slice(first);
            target.write_page(&self.tail, start)?;
            if self.tail.len() < PAGE {
                return Ok(());
            }
        }
        self.tail.clear();
        let (whole, last) = rest.split_at(rest.len() / PAGE * PAGE);
        let end = self.at - last.len() as u64;
        target.write(whole, end - whole.len() as u64)?;
        if !last.is_empty() {
            self.tail.extend_from_slice(last);
            target.write_page(last, end)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::medium::{Inputs, Target};

    #[test]
    fn what_is_written_is_what_was_given_however_it_came() {
        let room = tempfile::tempdir().unwrap();
        for sizes in [&[1usize, 4095, 1, 4096, 8192, 100, 0, 5000][..], &[10_000, 3], &[4096], &[0, 0, 7], &[12_288, 1]]
        {
            let name = room.path().join("out");
            let mut target = Target::create(&name, true, &Inputs::default()).unwrap();
            let mut pages = Pages::from(0);
            let mut given = Vec::new();
            for (index, size) in sizes.iter().enumerate() {
                let bytes = vec![index as u8 + 1; *size];
                pages.append(&mut target, &bytes).unwrap();
                given.extend(bytes);
                // Whole pages are there at every moment, and all that was given.
                let there = fs::read(room.path().join("out-incomplete")).unwrap();
                assert_eq!((there.len() % PAGE, &there[..given.len()]), (0, &given[..]), "{sizes:?}");
                assert!(there[given.len()..].iter().all(|byte| *byte == 0));
                assert_eq!(pages.at(), given.len() as u64);
            }
            let gap = given.len() + 5000;
            pages.skip_to(gap as u64);
            given.resize(gap, 0);
            pages.append(&mut target, b"end").unwrap();
            given.extend(b"end");
            target.set_len(given.len() as u64).unwrap();
            target.finish().unwrap();
            assert!(fs::read(&name).unwrap() == given, "{sizes:?}");
        }
    }

    /// A dump that its limit just allows is not refused for the rest of its last page.
    #[test]
    fn a_limit_counts_bytes_and_no_pages() {
        let room = tempfile::tempdir().unwrap();
        let mut target =
            Target::create(&room.path().join("out"), false, &Inputs::default()).unwrap().limited(Some(5000));
        let mut pages = Pages::from(0);
        pages.append(&mut target, &[1; 5000]).unwrap();
        assert!(pages.append(&mut target, &[1]).is_err());
    }
}
