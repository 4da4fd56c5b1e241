//! The plant report: one line per planted page, `class pfn kpageflags first-32-bytes`, numbers in hex.
//!
//! The host's judges read it; `tests/vm/judge/planted.py` is its other end.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::pagemap::PageMap;
use crate::sys::{Mapping, PAGE};

const HEAD: usize = 32;

pub struct Report {
    out: BufWriter<File>,
    pagemap: PageMap,
}

impl Report {
    pub fn create(path: &Path) -> io::Result<Self> {
        Ok(Self { out: BufWriter::new(File::create(path)?), pagemap: PageMap::open()? })
    }

    /// A line for each page of the mapping.
    pub fn pages(&mut self, class: &str, mapping: &Mapping) -> io::Result<()> {
        for (page, pfn) in mapping.bytes().chunks_exact(PAGE).zip(self.pagemap.pfns(mapping)?) {
            self.line(class, pfn, &page[..HEAD])?;
        }
        Ok(())
    }

    /// A line for a page that is no longer mapped: its bytes are not to be touched.
    pub fn gone(&mut self, class: &str, pfn: u64) -> io::Result<()> {
        self.line(class, pfn, &[])
    }

    fn line(&mut self, class: &str, pfn: u64, head: &[u8]) -> io::Result<()> {
        let flags = self.pagemap.flags(pfn)?;
        write!(self.out, "{class} {pfn:x} {flags:x} ")?;
        for byte in head {
            write!(self.out, "{byte:02x}")?;
        }
        writeln!(self.out)
    }

    pub fn finish(mut self) -> io::Result<()> {
        self.out.flush()?;
        self.out.get_ref().sync_all()
    }
}
