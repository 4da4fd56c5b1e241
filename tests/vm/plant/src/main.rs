//! The guest's half of the VM tests: a static program that plants memory before the crash and helps the capture kernel
//! after it.
//!
//! It knows pages and procfs; it must not know anything of vdump. Its reports go to files on the guest's disk, which
//! the host reads back.

mod freed;
mod heavy;
mod pagemap;
mod peak;
mod plant;
mod report;
mod save;
mod scrub;
mod sleepers;
mod stacks;
mod sys;

use std::io;
use std::process::ExitCode;

const USAGE: &str = "usage:
  vdump-plant plant DIR PAGES    plant PAGES pages of each class, report into DIR, then sleep
  vdump-plant heavy DIR TMPFS    fill memory as a busy server does (for benches/whole), then sleep
  vdump-plant free DIR PAGES     plant PAGES pages of memory, report into DIR, and give them back
  vdump-plant scrub              fill free memory with zeros once, so that old file contents are gone
  vdump-plant save SRC DST       copy /proc/vmcore through mmap windows, zero pages as holes
  vdump-plant peak FILE -- CMD.. run CMD, write its exit code, seconds, CPU seconds and peak RSS to FILE
  vdump-plant synced -- CMD..    run CMD, then bring all that was written to the disks (for benches/whole)
  vdump-plant unseen -- CMD..    run CMD, its standard output goes to /dev/null (for benches/whole)";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("vdump-plant: {}: {error}", words.join(" "));
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> io::Result<ExitCode> {
    match words {
        ["plant", dir, pages] => {
            let pages = pages.parse().map_err(|_| io::Error::other("PAGES is not a number"))?;
            plant::run(dir.as_ref(), pages)
        }
        ["free", dir, pages] => {
            let pages = pages.parse().map_err(|_| io::Error::other("PAGES is not a number"))?;
            freed::run(dir.as_ref(), pages)
        }
        ["heavy", disk, tmpfs] => heavy::run(disk.as_ref(), tmpfs.as_ref()),
        ["scrub"] => scrub::run(),
        ["save", source, target] => save::run(source.as_ref(), target.as_ref()),
        ["peak", report, "--", command @ ..] => return peak::run(report.as_ref(), command),
        ["synced", "--", command @ ..] => return peak::synced(command),
        ["unseen", "--", command @ ..] => return peak::unseen(command),
        _ => {
            eprintln!("{USAGE}");
            return Ok(ExitCode::from(2));
        }
    }
    .map(|()| ExitCode::SUCCESS)
}
