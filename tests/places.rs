//! Where a dump is to go, and what can go wrong there: no room, no permission, an interruption.
//!
//! Small file systems come from a mount namespace of their own (`unshare`), so nothing of the host
//! is touched. VDUMP_REQUIRE_NAMESPACES=1 turns a host without them into a failure.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::check;
use crate::harness::{DEADLINE, Run, filter, run, temp_dir, vdump};
use crate::read::elf::Elf;
use crate::read::kdump::{INCOMPLETE, Kdump};
use crate::synth::kernels::era;
use crate::synth::kinds::Kind;
use crate::synth::{Fixture, Machine};

/// Kernel pages of which each is kept: about 60 MiB that are not zero.
fn full_of_kernel(dir: &Path) -> Fixture {
    let mut machine = Machine::small(era("6.12"));
    machine.ram = vec![1 << 20..256 << 20];
    machine.arenas = vec![100 << 20..180 << 20];
    machine.zoo = vec![(Kind::Kernel, 20_000), (Kind::Anon, 200)];
    machine.build(dir)
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[track_caller]
fn one_line(run: &Run, code: i32) {
    assert_eq!(run.code(), Some(code), "{run:?}");
    let errors: Vec<&str> = run.stderr.lines().filter(|l| l.starts_with("vdump: ")).collect();
    assert!(!errors.is_empty() && !run.stderr.contains("panicked"), "{}", run.stderr);
}

/// Runs vdump by a shell script with $VDUMP, $IN, $DIR (to mount on) and $SAVE (to rescue files to).
fn scripted(script: &str, fixture: &Fixture, dir: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]).env("VDUMP", vdump().get_program()).env("IN", &fixture.path);
    for (name, folder) in [("DIR", "mounted"), ("SAVE", "saved")] {
        fs::create_dir_all(dir.join(folder)).unwrap();
        command.env(name, dir.join(folder));
    }
    command
}

/// The same in a mount namespace; None where the host allows none.
fn in_namespace(script: &str, fixture: &Fixture, dir: &Path) -> Option<Run> {
    let probe = Command::new("unshare").args(["-rm", "sh", "-c", "mount -t tmpfs none /mnt"]).output();
    let allowed = probe.is_ok_and(|o| o.status.success());
    assert!(allowed || std::env::var_os("VDUMP_REQUIRE_NAMESPACES").is_none(), "no mount namespaces here");
    if !allowed {
        eprintln!("no mount namespaces here: not tested");
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

/// A partial kdump file: marked so, and each page either right or visibly lost. Counts both.
fn right_or_lost(fixture: &Fixture, path: &Path) -> (usize, usize) {
    let dump = Kdump::open(path);
    assert_ne!(dump.field("status") & INCOMPLETE, 0, "not marked incomplete");
    assert_eq!(dump.kept(), fixture.truth.kept(31), "the bitmap is not the full one");
    let (mut right, mut lost) = (0, 0);
    for pfn in dump.kept() {
        match dump.page(pfn) {
            Ok(page) => {
                assert!(page == fixture.image.page(pfn), "page {pfn:#x} differs");
                right += 1;
            }
            Err(why) if why.starts_with("lost") => lost += 1,
            Err(why) => panic!("page {pfn:#x}: {why}"),
        }
    }
    (right, lost)
}

/// A partial with a good part of the pages.
fn sound_partial(fixture: &Fixture, path: &Path) {
    let (right, lost) = right_or_lost(fixture, path);
    assert!(right > 100 && lost > 100, "{right} pages right, {lost} lost");
}

const FULL_DISK: &str = r#"mount -t tmpfs -o size=8m none "$DIR" || exit 99
"$VDUMP" filter -f "$0" -c none -d 31 --progress none "$IN" "$DIR/out"
code=$?; cp "$DIR"/* "$SAVE"/; exit $code"#;

#[test]
fn a_full_disk_leaves_a_marked_partial() {
    let dir = temp_dir();
    let fixture = full_of_kernel(dir.path());
    for format in ["kdump", "elf"] {
        let saved = dir.path().join("saved");
        let _ = fs::remove_dir_all(&saved);
        let script = FULL_DISK.replace("\"$0\"", format);
        let Some(run) = in_namespace(&script, &fixture, dir.path()) else {
            return;
        };
        one_line(&run, 1);
        assert!(run.stderr.contains("No space left on device"), "{}", run.stderr);
        let left = names(&saved);
        assert!(left.iter().all(|n| n == "out-incomplete"), "{format}: left {left:?}");
        if format == "kdump" {
            assert_eq!(left, ["out-incomplete"]);
            sound_partial(&fixture, &saved.join("out-incomplete"));
            assert!(run.stderr.contains("out-incomplete"), "does not say where the partial is: {}", run.stderr);
        }
    }
}

#[test]
fn a_file_size_limit_is_a_full_disk_too() {
    let dir = temp_dir();
    let fixture = full_of_kernel(dir.path());
    // 16 MiB in blocks of 512 bytes; the signal is ignored so that writes fail with EFBIG.
    let script = r#"trap '' XFSZ; ulimit -f 32768
"$VDUMP" filter -c none -d 31 --progress none "$IN" "$SAVE/out""#;
    let run = run(&mut scripted(script, &fixture, dir.path()));
    one_line(&run, 1);
    let left = names(&dir.path().join("saved"));
    assert!(left.iter().all(|n| n == "out-incomplete"), "left {left:?}");
    if !left.is_empty() {
        sound_partial(&fixture, &dir.path().join("saved/out-incomplete"));
    }
}

#[test]
fn no_room_for_even_the_header() {
    let dir = temp_dir();
    let fixture = full_of_kernel(dir.path());
    let script = FULL_DISK.replace("8m", "16k").replace("\"$0\"", "kdump");
    let Some(run) = in_namespace(&script, &fixture, dir.path()) else {
        return;
    };
    one_line(&run, 1);
    assert!(!names(&dir.path().join("saved")).contains(&"out".into()));
}

#[test]
fn folders_that_take_no_file() {
    let dir = temp_dir();
    let fixture = Machine::small(era("6.12")).build(dir.path());
    let read_only = r#"mount -t tmpfs -o ro none "$DIR" || exit 99
"$VDUMP" filter "$IN" "$DIR/out""#;
    if let Some(run) = in_namespace(read_only, &fixture, dir.path()) {
        one_line(&run, 1);
        assert!(run.stderr.contains("Read-only file system"), "{}", run.stderr);
    }
    fs::write(dir.path().join("a-file"), "").unwrap();
    for out in ["no-such-folder/out", "a-file/out", "mounted"] {
        fs::create_dir_all(dir.path().join("mounted")).unwrap();
        let run = filter(&[], &fixture.path, &dir.path().join(out));
        one_line(&run, 1);
        assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
        assert!(run.stderr.contains(out), "does not name {out}: {}", run.stderr);
    }
    assert_eq!(names(&dir.path().join("mounted")), [""; 0]);
}

/// A filter run that takes long enough to be interrupted: one thread, the slowest codec.
fn slow_command(fixture: &Fixture, out: &Path) -> Command {
    let mut command = vdump();
    command.args(["filter", "-j", "1", "-c", "zstd:19", "-d", "31", "--progress", "none"]);
    command.arg(&fixture.path).arg(out);
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

fn slow(fixture: &Fixture, out: &Path) -> Child {
    slow_command(fixture, out).spawn().unwrap()
}

fn wait_for(mut ready: impl FnMut() -> bool, what: &str) {
    let started = Instant::now();
    while !ready() {
        assert!(started.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        sleep(Duration::from_millis(2));
    }
}

/// Interrupts a run once its output has grown; gives its exit code and what it said.
fn interrupted(fixture: &Fixture, out: &Path, partial: &Path, signal: Signal) -> (Option<i32>, String) {
    let mut child = slow(fixture, out);
    wait_for(|| fs::metadata(partial).is_ok_and(|m| m.len() > 0), "a partial output");
    kill_process(Pid::from_child(&child), signal).unwrap();
    wait_for(|| child.try_wait().unwrap().is_some(), "an end after the signal");
    let out = child.wait_with_output().unwrap();
    (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
}

/// Who presses Ctrl-C wants nothing left; a service that a time-out ends has only what is there.
#[test]
fn an_interrupted_run_leaves_what_its_signal_means() {
    for (signal, left) in [(Signal::INT, &[][..]), (Signal::TERM, &["out-incomplete"])] {
        let dir = temp_dir();
        let fixture = full_of_kernel(dir.path());
        let into = dir.path().join("into");
        fs::create_dir(&into).unwrap();
        let (code, said) = interrupted(&fixture, &into.join("out"), &into.join("out-incomplete"), signal);
        assert_eq!(code, Some(1), "{signal:?}: {said}");
        assert!(said.lines().any(|l| l.starts_with("vdump: ")), "{signal:?}: {said:?}");
        assert_eq!(names(&into), left, "{signal:?}");
        if signal == Signal::TERM {
            right_or_lost(&fixture, &into.join("out-incomplete"));
        }
    }
}

#[test]
fn an_interrupted_run_keeps_a_file_that_was_named_incomplete() {
    let dir = temp_dir();
    let fixture = full_of_kernel(dir.path());
    let out: PathBuf = dir.path().join("vmcore-incomplete");
    let (code, said) = interrupted(&fixture, &out, &out, Signal::INT);
    assert_eq!(code, Some(1), "{said}");
    right_or_lost(&fixture, &out);
}

#[test]
fn a_killed_run_leaves_no_final_name() {
    let dir = temp_dir();
    let fixture = full_of_kernel(dir.path());
    let into = dir.path().join("into");
    fs::create_dir(&into).unwrap();
    interrupted(&fixture, &into.join("out"), &into.join("out-incomplete"), Signal::KILL);
    assert_eq!(names(&into), ["out-incomplete"]);
    right_or_lost(&fixture, &into.join("out-incomplete"));
    // What is left may be all there is of a crash: it takes --force to lose it.
    one_line(&filter(&["-f", "elf"], &fixture.path, &into.join("out")), 1);
    filter(&["-f", "elf", "--force"], &fixture.path, &into.join("out")).ok();
    assert_eq!(names(&into), ["out"]);
    check::sound("after a leftover", &check::elf(&fixture, 31, &into.join("out")));
    assert!(Elf::open(&into.join("out")).phdrs.len() > 1);
}

/// The input ends while it is read: what a medium error costs, it costs those pages and no more.
#[test]
fn pages_that_cannot_be_read_are_lost_alone() {
    for (strict, code) in [(false, 0), (true, 1)] {
        let dir = temp_dir();
        let fixture = full_of_kernel(dir.path());
        let out = dir.path().join("out");
        let mut command = slow_command(&fixture, &out);
        command.arg("--json").args(strict.then_some("--strict")).stdout(Stdio::piped());
        let child = command.spawn().unwrap();
        let partial = dir.path().join("out-incomplete");
        wait_for(|| fs::metadata(&partial).is_ok_and(|m| m.len() > 0), "a partial output");
        File::options().write(true).open(&fixture.path).unwrap().set_len(fixture.offset_of(160 << 20)).unwrap();
        let done = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(code), "{said}");
        assert!(said.contains("cannot read page"), "{said}");
        if strict {
            assert!(!out.exists());
            continue;
        }
        let report: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!(report["complete"], false);
        assert!(!report["read_errors"].as_array().unwrap().is_empty());
        let lost = check::class_row(&report, "unreadable")["pages"].as_u64().unwrap();
        // All pages from 160 MiB on, but for those that had been read ahead.
        let after = (256 - 160) << 8;
        assert!((after - 4096..=after).contains(&lost), "{lost} pages lost");
        let dump = Kdump::open(&out);
        let wrong = fixture.truth.kept(31).into_iter().find(|pfn| match dump.page(*pfn) {
            Ok(page) => page != fixture.image.page(*pfn),
            Err(why) => *pfn < 160 << 8 || !(why.starts_with("lost") || why.starts_with("not in")),
        });
        assert_eq!(wrong, None);
    }
}
