//! Prints the kernel's banner, its log, and how much of each kind of page the dump has: what a service would put into a ticket.
//!
//!     cargo run --example log [DUMP]

use std::{env, error::Error, io};

use vdump::{Dump, ErrorKind, PageState};

/// Writes the summary of the dump at `path`.
pub fn summarize(path: &str, out: &mut dyn io::Write) -> Result<(), Box<dyn Error>> {
    let dump = Dump::open(path)?;
    writeln!(out, "{}: {}", path, dump.describe())?;
    let mut reader = dump.reader();
    if let Some(address) = dump.symbol("linux_banner")? {
        let mut banner = [0; 128];
        reader.read_virtual(address, &mut banner)?;
        writeln!(out, "{}", String::from_utf8_lossy(&banner).lines().next().unwrap_or_default())?;
    }
    let (mut page, mut readable, mut zero, mut lost) = (vec![0; dump.page_size()], 0, 0, 0);
    for frame in dump.pages().filter(|page| page.state == PageState::Stored) {
        match reader.page(frame.pfn, &mut page) {
            Ok(()) if page.iter().all(|byte| *byte == 0) => zero += 1,
            Ok(()) => readable += 1,
            Err(error) if [ErrorKind::Lost, ErrorKind::Damaged].contains(&error.kind()) => lost += 1,
            Err(error) => return Err(error.into()),
        }
    }
    writeln!(out, "{readable} pages with data, {zero} of zeros, {lost} lost")?;
    let log = dump.log()?;
    write!(out, "{log}")?;
    for (loss, count) in log.losses().filter(|(loss, _)| loss.is_damage()) {
        writeln!(out, "{count} log records: {}", loss.reason())?;
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = env::args().nth(1).unwrap_or_else(|| "tests/data/vmcore-6.12.zst".to_owned());
    summarize(&path, &mut io::stdout())
}
