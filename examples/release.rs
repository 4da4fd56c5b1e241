//! Prints the release of the kernel that crashed, and a page of its memory.
//!
//!     cargo run --example release [DUMP [PFN]]

use std::{env, error::Error, io};

/// All there is to it.
pub fn release_and_page(path: &str, pfn: u64, out: &mut dyn io::Write) -> Result<(), Box<dyn Error>> {
    let dump = vdump::Dump::open(path)?;
    let mut page = vec![0; dump.page_size()];
    dump.reader().page(pfn, &mut page)?;
    writeln!(out, "{}", dump.release().unwrap_or("unknown"))?;
    Ok(page.chunks(32).try_for_each(|line| writeln!(out, "{line:02x?}"))?)
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().skip(1).collect();
    let path = args.first().map_or("tests/data/vmcore-6.12.zst", String::as_str);
    let pfn = args.get(1).map_or(Ok(0x10), |pfn| u64::from_str_radix(pfn.trim_start_matches("0x"), 16))?;
    release_and_page(path, pfn, &mut io::stdout())
}
