//! Runs the product and other programs, with a deadline that no hang survives.
//!
//! Knows processes. Must not know fixtures or formats. Goes to every test as a `Run`.

use std::ffi::OsStr;
use std::io::Read;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// Longer than any single run of the product here takes, even unoptimised on a busy machine.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// What a finished process left behind.
#[derive(Debug)]
pub struct Run {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Run {
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    /// Demands success; a failure shows what was said.
    #[track_caller]
    pub fn ok(self) -> Run {
        assert_eq!(self.code(), Some(0), "{}", self.stderr);
        self
    }
}

/// The product: the binary that cargo built, or the one that VDUMP_BIN names.
pub fn vdump() -> Command {
    let built = option_env!("CARGO_BIN_EXE_vdump").map(String::from);
    let path = std::env::var("VDUMP_BIN").ok().or(built).expect("no vdump binary: set VDUMP_BIN");
    let mut command = Command::new(path);
    command.stdin(Stdio::null());
    command
}

/// Runs `vdump filter OPTIONS INPUT OUTPUT`.
pub fn filter(options: &[&str], input: &Path, output: &Path) -> Run {
    run(vdump().arg("filter").args(options).arg(input).arg(output))
}

pub fn vdump_with<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Run {
    run(vdump().args(args))
}

/// Runs to the end, or kills at the deadline and fails.
pub fn run(command: &mut Command) -> Run {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("cannot start {command:?}: {e}"));
    let out = drain(child.stdout.take().unwrap());
    let err = drain(child.stderr.take().unwrap());
    let started = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().expect("wait") {
            break status;
        }
        if started.elapsed() > DEADLINE {
            child.kill().expect("kill");
            child.wait().expect("wait");
            panic!("killed after {DEADLINE:?}: {command:?}\n{}", err.join().unwrap());
        }
        thread::sleep(Duration::from_millis(5));
    };
    Run { status, stdout: out.join().unwrap(), stderr: err.join().unwrap() }
}

fn drain(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("read a pipe");
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

pub fn temp_dir() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary folder")
}
