//! Memory that is given back just before the crash: it is on its CPU's lists of free pages then, with its old contents.

use std::io;
use std::path::Path;

use crate::plant::{pattern, small};
use crate::report::Report;
use crate::sys::PAGE;

/// Reports where the pages lie, then frees them. The report is on the disk before that.
pub fn run(dir: &Path, pages: usize) -> io::Result<()> {
    let mut memory = small(pages * PAGE)?;
    pattern(memory.bytes_mut(), "freed");
    let mut report = Report::create(&dir.join("freed"))?;
    report.pages("freed", &memory)?;
    report.finish()
}
