//! Systems that start few threads or have little memory: the dump is made all the same, with what there is.
//!
//! Limits of threads are real ones of a user who has no other process (`prlimit --nproc`), which only root can make; a
//! capture kernel is one whose /proc says so, in a mount namespace.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use serde_json::Value;

use crate::disks::{in_namespace, names};
use crate::harness::{Run, filter, run, temp_dir, vdump};
use crate::synth::kernels::era;
use crate::synth::{Fixture, Machine};

/// The kernel counts all threads of a user, and none of root's: users that nobody is, one for each test.
static USERS: AtomicU32 = AtomicU32::new(54_321);

struct Limited {
    dir: tempfile::TempDir,
    fixture: Fixture,
    vdump: PathBuf,
    user: u32,
}

impl Limited {
    /// `None` where we are not root.
    fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            assert!(std::env::var_os("VDUMP_REQUIRE_NAMESPACES").is_none(), "not root: limits are not tested");
            eprintln!("not root: limits are not tested");
            return None;
        }
        let dir = temp_dir();
        let fixture = Machine::small(era("6.12")).build(dir.path());
        // That user may not see where it was built.
        let copy = dir.path().join("vdump");
        fs::copy(vdump().get_program(), &copy).unwrap();
        for path in [dir.path(), &copy] {
            fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
        }
        fs::set_permissions(&fixture.path, Permissions::from_mode(0o644)).unwrap();
        Some(Self { dir, fixture, vdump: copy, user: USERS.fetch_add(1, Relaxed) })
    }

    /// A folder of that user.
    fn folder(&self, name: &str) -> PathBuf {
        let folder = self.dir.path().join(name);
        fs::create_dir(&folder).unwrap();
        chown(&folder, Some(self.user), Some(self.user)).unwrap();
        folder
    }

    /// Runs vdump as a user who may have so many threads, that of the program itself included.
    fn run(&self, threads: u32, args: &[&str]) -> Run {
        let mut command = Command::new("setpriv");
        let user = self.user.to_string();
        command.args(["--reuid", &user, "--regid", &user, "--clear-groups"]);
        command.args(["prlimit", &format!("--nproc={threads}:{threads}")]).arg(&self.vdump).args(args);
        run(&mut command)
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_dump_is_made_with_the_threads_that_there_are() {
    let Some(limited) = Limited::new() else { return };
    let input = text(&limited.fixture.path);
    let wide = limited.dir.path().join("wide");
    filter(&["-d", "31"], &limited.fixture.path, &wide).ok();
    for threads in [12, 3, 2] {
        let out = limited.folder(&threads.to_string()).join("out");
        let options = ["filter", "--json", "--progress", "none", "-d", "31", "-j", "16", input, text(&out)];
        let run = limited.run(threads, &options).ok();
        let report: Value = serde_json::from_str(&run.stdout).unwrap();
        let used = report["threads"].as_u64().unwrap();
        assert!(used >= 1 && used < threads.into(), "{used} of {threads}");
        assert!(report["warnings"].to_string().contains("does not start 16 threads"), "{report}");
        assert!(fs::read(&out).unwrap() == fs::read(&wide).unwrap());
    }
    let none = limited.folder("none");
    let run = limited.run(1, &["filter", "-j", "16", input, text(&none.join("out"))]);
    assert!(run.code() == Some(1) && run.stderr.contains("ulimit -u"), "{run:?}");
    assert_eq!(names(&none), [""; 0], "a file is left of a dump that could not begin");
}

#[test]
fn a_split_set_is_written_by_fewer_threads_than_it_has_parts() {
    let Some(limited) = Limited::new() else { return };
    let input = text(&limited.fixture.path);
    let wide = limited.dir.path().join("wide");
    filter(&["--split", "16"], &limited.fixture.path, &wide).ok();
    for threads in [8, 3] {
        let folder = limited.folder(&threads.to_string());
        limited.run(threads, &["filter", "--split", "16", "-j", "16", input, text(&folder.join("wide"))]).ok();
        for part in 1..=16 {
            let name = format!("wide-{part}");
            let both = [limited.dir.path(), &folder].map(|folder| fs::read(folder.join(&name)).unwrap());
            assert!(both[0] == both[1], "{threads} threads: part {part}");
        }
    }
    let none = limited.folder("none");
    let run = limited.run(2, &["filter", "--split", "16", input, text(&none.join("out"))]);
    assert!(run.code() == Some(1) && run.stderr.contains("the system starts 1 of 2"), "{run:?}");
    assert_eq!(names(&none), [""; 0], "files are left of a set that could not begin");
}

#[test]
fn other_commands_do_with_few_threads_too() {
    let Some(limited) = Limited::new() else { return };
    let input = text(&limited.fixture.path);
    let seconds = ["--seconds", "60", "-c", "snappy"];
    limited.run(4, &[&["bench", "-j", "16", "--progress", "none"], &seconds[..], &[input]].concat()).ok();
    limited.run(3, &["classes", "-j", "16", input]).ok();
    limited.run(2, &["check", "-j", "16", input]).ok();
}

/// 13.9 MiB are free. A capture kernel may use nearly all of it, and what does not fit then is done by one thread.
#[test]
fn a_capture_kernel_with_little_memory_makes_the_dump() {
    let dir = temp_dir();
    let fixture = Machine::small(era("6.12")).build(dir.path());
    let free = |kilobytes: u64, cmdline: &str| {
        let script = format!(
            "echo 'MemAvailable: {kilobytes} kB' > $SAVE/meminfo; echo '{cmdline}' > $SAVE/cmdline
             mount --bind $SAVE/meminfo /proc/meminfo && mount --bind $SAVE/cmdline /proc/cmdline || exit 99
             exec $VDUMP filter --json --force -d 31 -j 4 $IN $SAVE/out"
        );
        in_namespace(&script, &fixture, dir.path())
    };
    let Some(refused) = free(14_233, "ro") else { return };
    assert!(refused.code() == Some(1) && refused.stderr.contains("not enough memory"), "{refused:?}");
    for kilobytes in [14_233, 11_000] {
        let run = free(kilobytes, "ro elfcorehdr=0x76ff5000").unwrap().ok();
        let report: Value = serde_json::from_str(&run.stdout).unwrap();
        assert_eq!(report["memory_limit"], (kilobytes << 10) - (kilobytes << 10) / 8, "{report}");
        assert!(report["threads"].as_u64() < Some(3), "{report}");
    }
}
