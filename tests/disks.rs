//! Small file systems and limits for a run, and a machine that is too large for them.
//!
//! Small file systems come from a mount namespace of their own (`unshare`), so nothing of the host is touched.
//! VDUMP_REQUIRE_NAMESPACES=1 turns a host without them into a failure. Must not know formats.
//! Serves `places`, `partials`, `bounds`.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::{Run, run, vdump};
use crate::judges::mount_namespaces;
use crate::synth::kernels::era;
use crate::synth::kinds::Kind;
use crate::synth::{Fixture, Machine};

/// Kernel pages of which each is kept: about 60 MiB that are not zero.
pub fn full_of_kernel(dir: &Path) -> Fixture {
    let mut machine = Machine::small(era("6.12"));
    machine.ram = vec![1 << 20..256 << 20];
    machine.arenas = vec![100 << 20..180 << 20];
    machine.zoo = vec![(Kind::Kernel, 20_000), (Kind::Anon, 200)];
    machine.build(dir)
}

pub fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[track_caller]
pub fn one_line(run: &Run, code: i32) {
    assert_eq!(run.code(), Some(code), "{run:?}");
    let errors: Vec<&str> = run.stderr.lines().filter(|l| l.starts_with("vdump: ")).collect();
    assert!(!errors.is_empty() && !run.stderr.contains("panicked"), "{}", run.stderr);
}

/// Runs vdump by a shell script with $VDUMP, $IN, $DIR (to mount on) and $SAVE (to rescue files to).
pub fn scripted(script: &str, fixture: &Fixture, dir: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]).env("VDUMP", vdump().get_program()).env("IN", &fixture.path);
    for (name, folder) in [("DIR", "mounted"), ("SAVE", "saved")] {
        fs::create_dir_all(dir.join(folder)).unwrap();
        command.env(name, dir.join(folder));
    }
    command
}

/// The same in a mount namespace; None where the host allows none.
pub fn in_namespace(script: &str, fixture: &Fixture, dir: &Path) -> Option<Run> {
    if !mount_namespaces() {
        return None;
    }
    let inner = scripted(script, fixture, dir);
    let mut outer = Command::new("unshare");
    outer.arg("-rm").arg(inner.get_program()).args(inner.get_args());
    for (key, value) in inner.get_envs() {
        outer.env(key, value.unwrap_or_default());
    }
    Some(run(&mut outer))
}

/// vdump under limits of the shell (`ulimit`), whose signals for a file that is too large are ignored: writes fail instead.
pub fn limited<S: AsRef<OsStr>>(limits: &str, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("trap '' XFSZ; {limits}; exec \"$0\" \"$@\"")]);
    command.arg(vdump().get_program()).args(args);
    command
}
