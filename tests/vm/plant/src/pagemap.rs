//! Which physical page holds a virtual one, and what the kernel says of it: /proc/self/pagemap and /proc/kpageflags.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::sys::{Mapping, PAGE};

const PRESENT: u64 = 1 << 63;
const PFN_MASK: u64 = (1 << 55) - 1;

pub struct PageMap {
    pagemap: File,
    flags: File,
}

impl PageMap {
    pub fn open() -> io::Result<Self> {
        Ok(Self { pagemap: File::open("/proc/self/pagemap")?, flags: File::open("/proc/kpageflags")? })
    }

    /// The PFN of each page of the mapping; an error if one is not present.
    pub fn pfns(&self, mapping: &Mapping) -> io::Result<Vec<u64>> {
        let pages = mapping.bytes().len() / PAGE;
        let entries = read_words(&self.pagemap, (mapping.address() / PAGE) as u64, pages)?;
        entries
            .into_iter()
            .map(|entry| match entry & PRESENT {
                0 => Err(io::Error::other("a planted page is not present")),
                _ => Ok(entry & PFN_MASK),
            })
            .collect()
    }

    /// The kernel's flags of one PFN.
    pub fn flags(&self, pfn: u64) -> io::Result<u64> {
        Ok(read_words(&self.flags, pfn, 1)?[0])
    }
}

fn read_words(file: &File, index: u64, count: usize) -> io::Result<Vec<u64>> {
    let mut bytes = vec![0; count * 8];
    file.read_exact_at(&mut bytes, index * 8)?;
    Ok(bytes.as_chunks().0.iter().map(|&word| u64::from_ne_bytes(word)).collect())
}

/// The whole of /proc/kpageflags, one u64 per PFN.
pub fn all_flags() -> io::Result<Vec<u8>> {
    let file = File::open("/proc/kpageflags")?;
    let (mut bytes, mut chunk) = (Vec::new(), vec![0; 1 << 20]);
    loop {
        match file.read_at(&mut chunk, bytes.len() as u64)? {
            0 => return Ok(bytes),
            n => bytes.extend_from_slice(&chunk[..n]),
        }
    }
}
