//! One bare PC: memory with things in it, a processor in the state that a dead kernel leaves, and what came of it.
//!
//! Knows QEMU's command line. Must not know what a purgatory is. `boot` tests put the blob into it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use crate::compile;
use crate::flatten;
use crate::judges::skip;

/// Only a test that failed waits this long.
const PATIENCE: Duration = Duration::from_secs(240);
const QEMU: &str = "qemu-system-x86_64";
/// What the test kernel ends the machine with.
const REACHED: i32 = 99;

/// The processor's state bits on entry.
#[derive(Clone, Copy)]
pub struct Entry {
    pub address: u64,
    pub cr0: u64,
    pub cr4: u64,
}

pub struct Machine {
    pub entry: Entry,
    /// Address and content.
    pub memory: Vec<(u64, Vec<u8>)>,
    pub board: &'static str,
}

/// What a machine said before it ended.
pub struct Ended {
    pub code: Option<i32>,
    pub com1: String,
    pub debug_port: String,
    /// What the test kernel sent.
    pub com2: Vec<u8>,
    /// `-d int,cpu_reset` of QEMU.
    pub log: String,
}

impl Ended {
    pub fn reached_the_kernel(&self) -> bool {
        self.code == Some(REACHED)
    }
}

/// Whether QEMU's emulated processor has the SHA extensions (since 8.2).
pub fn emulates_sha_extensions() -> bool {
    let options = ["-accel", "tcg", "-cpu", "max,+sha-ni,enforce", "-display", "none", "-nodefaults", "-S"];
    let mut run = Command::new(QEMU);
    run.args(options).args(["-monitor", "stdio"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = run.spawn().unwrap();
    // It may have ended already.
    let _ = child.stdin.take().unwrap().write_all(b"quit\n");
    let has = child.wait().unwrap().success();
    if !has {
        skip("QEMU's processor has no SHA extensions (before 8.2): judged in a process only");
    }
    has
}

/// Compiles a guest program of `tests/guest` into flat bytes.
pub fn guest(name: &str) -> Vec<u8> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/guest").join(name);
    build(&source, &[]).unwrap().bytes
}

/// Compiles any freestanding source as build.rs does, with extra flags.
pub fn build(source: &Path, extra: &[&str]) -> Result<flatten::Flat, String> {
    let dir = tempfile::tempdir().unwrap();
    let object = dir.path().join("object.o");
    compile::compile(OsStr::new(env!("PURGATORY_RUSTC")), env!("PURGATORY_TARGET"), source, &object, extra)?;
    flatten::flatten(&fs::read(object).unwrap())
}

/// A machine at work.
pub struct Running {
    child: Child,
    monitor: ChildStdin,
    dir: tempfile::TempDir,
    answers: PathBuf,
}

impl Machine {
    pub fn start(&self) -> Running {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let mut boot = guest("boot.rs");
        for (at, value) in [(0x20, self.entry.address), (0x28, self.entry.cr4), (0x30, self.entry.cr0)] {
            boot[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        fs::write(path("boot"), boot).unwrap();
        let mut run = Command::new(QEMU);
        run.args(["-accel", "tcg", "-machine", self.board, "-cpu", "max", "-m", "256", "-display", "none"]);
        run.args(["-nodefaults", "-no-user-config", "-no-reboot", "-monitor", "stdio"]);
        run.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=4", "-d", "int,cpu_reset"]);
        run.arg("-kernel").arg(path("boot")).arg("-D").arg(path("log"));
        for name in ["com1", "com2"] {
            run.arg("-serial").arg(format!("file:{}", path(name).display()));
        }
        run.arg("-debugcon").arg(format!("file:{}", path("debug").display()));
        for (address, content) in &self.memory {
            let file = path(&format!("{address:x}"));
            fs::write(&file, content).unwrap();
            run.arg("-device");
            run.arg(format!("loader,addr={address:#x},force-raw=on,file={}", file.display()));
        }
        let answers = path("monitor");
        let errors = File::create(path("errors")).unwrap();
        run.stdin(Stdio::piped()).stdout(File::create(&answers).unwrap()).stderr(errors);
        let mut child = run.spawn().unwrap();
        let monitor = child.stdin.take().unwrap();
        Running { child, monitor, dir, answers }
    }

    /// Runs until the machine ends by itself.
    pub fn run(&self) -> Ended {
        let mut running = self.start();
        running.until("the machine's end", |running| running.child.try_wait().unwrap().is_some());
        running.ended()
    }

    /// Runs until the processor sleeps with interrupts off: nothing can ever happen again.
    pub fn run_until_halted(&self) -> Ended {
        let mut running = self.start();
        running.until("a halt", |running| {
            let status = running.child.try_wait().unwrap();
            assert!(status.is_none(), "the machine ended with {status:?}\n{}", running.text("errors"));
            running.monitor.write_all(b"info registers\n").unwrap();
            std::thread::sleep(Duration::from_millis(50));
            let answers = fs::read_to_string(&running.answers).unwrap_or_default();
            // The last whole answer: flags without IF, and the processor halted.
            let last = answers.rfind("RFL=").map_or("", |at| &answers[at..]);
            let flags = last.get(4..12).and_then(|hex| u32::from_str_radix(hex, 16).ok());
            // The firmware sleeps as well, with interrupts on and in real mode.
            flags.is_some_and(|flags| flags & 0x200 == 0) && last.contains("HLT=1") && last.contains("CS =0010")
        });
        running.monitor.write_all(b"quit\n").unwrap();
        running.until("the end of QEMU", |running| running.child.try_wait().unwrap().is_some());
        Ended { code: None, ..running.ended() }
    }
}

impl Running {
    fn until(&mut self, what: &str, done: impl Fn(&mut Self) -> bool) {
        let start = Instant::now();
        while !done(self) {
            if start.elapsed() > PATIENCE {
                self.child.kill().unwrap();
                panic!("waited for {what}; the console says: {}\n{}", self.text("com1"), self.text("errors"));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn bytes(&self, name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        File::open(self.dir.path().join(name)).map(|mut file| file.read_to_end(&mut bytes).unwrap()).ok();
        bytes
    }

    fn text(&self, name: &str) -> String {
        String::from_utf8_lossy(&self.bytes(name)).into_owned()
    }

    fn ended(mut self) -> Ended {
        let code = self.child.wait().unwrap().code();
        let errors = self.text("errors");
        assert!(errors.is_empty(), "QEMU says: {errors}");
        let (com1, debug_port) = (self.text("com1"), self.text("debug"));
        Ended { code, com1, debug_port, com2: self.bytes("com2"), log: self.text("log") }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Already gone, as a rule.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
