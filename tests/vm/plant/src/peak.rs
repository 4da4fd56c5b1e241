//! Runs a command and writes down what the kernel says of it: the judge of vdump's memory promise, independent of
//! vdump.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use crate::sys;

pub fn run(report: &Path, command: &[&str]) -> io::Result<ExitCode> {
    let (program, arguments) = command.split_first().ok_or_else(|| io::Error::other("no command after --"))?;
    let start = Instant::now();
    let child = Command::new(program).args(arguments).spawn()?;
    let waited = sys::wait(child.id())?;
    // As a shell tells it: killed by signal N is 128 + N.
    let code = waited.status.code().unwrap_or_else(|| 128 + waited.status.signal().unwrap_or(0));
    let seconds = start.elapsed().as_secs_f64();
    let line = format!("exit={code} seconds={seconds:.2} maxrss_kib={}", waited.max_rss_kib);
    println!("{line}");
    std::fs::write(report, format!("{line}\n"))?;
    Ok(ExitCode::from(code as u8))
}
