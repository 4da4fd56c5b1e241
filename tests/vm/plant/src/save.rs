//! Copies /proc/vmcore to a blank disk or file. `read` of old memory goes page by page and is slow; mmap windows are
//! fast.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::sys::{Mapping, PAGE};

const WINDOW: u64 = 4 << 20;
static ZEROS: [u8; PAGE] = [0; PAGE];

pub fn run(source: &Path, target: &Path) -> io::Result<()> {
    let input = File::open(source)?;
    let output = File::options().write(true).create(true).truncate(false).open(target)?;
    let size = input.metadata()?.len();
    for offset in (0..size).step_by(WINDOW as usize) {
        let len = WINDOW.min(size - offset) as usize;
        match Mapping::window(&input, offset, len) {
            Ok(window) => write_sparse(&output, window.bytes(), offset)?,
            Err(_) => {
                let mut buffer = vec![0; len];
                input.read_exact_at(&mut buffer, offset)?;
                write_sparse(&output, &buffer, offset)?;
            }
        }
    }
    // The host cuts the disk to this size; trailing zeros were not written.
    println!("size={size}");
    output.sync_all()
}

/// Writes the runs of pages that are not all zero; the rest stays a hole.
fn write_sparse(output: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut start = 0;
    for (index, page) in bytes.chunks(PAGE).enumerate() {
        if *page == ZEROS[..page.len()] {
            output.write_all_at(&bytes[start..index * PAGE], offset + start as u64)?;
            start = index * PAGE + page.len();
        }
    }
    output.write_all_at(&bytes[start..], offset + start as u64)
}
