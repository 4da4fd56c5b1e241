//! Runs a command and writes down what the kernel says of it: the judge of vdump's memory promise, independent of
//! vdump.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Instant;

use crate::sys::{self, Waited};

pub fn run(report: &Path, command: &[&str]) -> io::Result<ExitCode> {
    let start = Instant::now();
    let (waited, code) = outcome(command, Stdio::inherit())?;
    let seconds = start.elapsed().as_secs_f64();
    let (user, system) = (waited.user.as_secs_f64(), waited.system.as_secs_f64());
    let line =
        format!("exit={code} seconds={seconds:.2} user={user:.2} system={system:.2} maxrss_kib={}", waited.max_rss_kib);
    println!("{line}");
    std::fs::write(report, format!("{line}\n"))?;
    Ok(ExitCode::from(code))
}

/// Programs that do not sync themselves are measured together with the sync; what `wait4` says of us has both.
pub fn synced(command: &[&str]) -> io::Result<ExitCode> {
    let (_, code) = outcome(command, Stdio::inherit())?;
    sys::sync();
    Ok(ExitCode::from(code))
}

/// A run without a disk.
pub fn unseen(command: &[&str]) -> io::Result<ExitCode> {
    outcome(command, Stdio::null()).map(|(_, code)| ExitCode::from(code))
}

/// What became of a command, and its exit code as a shell tells it: killed by signal N is 128 + N.
fn outcome(command: &[&str], stdout: Stdio) -> io::Result<(Waited, u8)> {
    let (program, arguments) = command.split_first().ok_or_else(|| io::Error::other("no command after --"))?;
    let child = Command::new(program).args(arguments).stdout(stdout).spawn()?;
    let waited = sys::wait(child.id())?;
    let code = waited.status.code().unwrap_or_else(|| 128 + waited.status.signal().unwrap_or(0));
    Ok((waited, code as u8))
}
