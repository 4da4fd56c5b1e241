//! Where a dump is to go, and what can go wrong there: no permission, an interruption, a failing input.
//!
//! Knows processes and signals. Must not know file systems (`disks`) or what a partial holds (`partials`).
//! Fails with what was left or said.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::check;
use crate::disks::{full_of_kernel, in_namespace, names, one_line};
use crate::harness::{DEADLINE, filter, temp_dir, vdump};
use crate::partials::right_or_lost;
use crate::read::elf::Elf;
use crate::read::kdump::Kdump;
use crate::synth::kernels::era;
use crate::synth::{Fixture, Machine};

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
    for out in ["no-such-folder/out", "a-file/out", "mounted", "mounted/", "new/", "new/."] {
        fs::create_dir_all(dir.path().join("mounted")).unwrap();
        let run = filter(&[], &fixture.path, &dir.path().join(out));
        one_line(&run, 1);
        assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
        assert!(run.stderr.contains(out), "does not name {out}: {}", run.stderr);
    }
    assert!(!names(dir.path()).iter().any(|name| name.starts_with("new")));
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

/// Interrupts a run once its output has so many bytes; gives its exit code and what it said.
fn interrupted(fixture: &Fixture, out: &Path, partial: &Path, signal: Signal, bytes: u64) -> (Option<i32>, String) {
    let mut child = slow(fixture, out);
    wait_for(|| fs::metadata(partial).is_ok_and(|m| m.len() >= bytes), "a partial output");
    kill_process(Pid::from_child(&child), signal).unwrap();
    wait_for(|| child.try_wait().unwrap().is_some(), "an end after the signal");
    let out = child.wait_with_output().unwrap();
    (out.status.code(), String::from_utf8_lossy(&out.stderr).into_owned())
}

/// Whatever the signal: a tenth of the pages is worth keeping, less is not.
///
/// How far a run came when the signal reached it is the machine's to decide; the run says it, and is held to that.
#[test]
fn an_interrupted_run_leaves_what_is_worth_keeping() {
    let dir = temp_dir();
    let fixture = full_of_kernel(dir.path());
    let whole = dir.path().join("whole");
    filter(&["-c", "zstd"], &fixture.path, &whole).ok();
    let half = fs::metadata(&whole).unwrap().len() / 2;
    let cases = [
        (Signal::INT, half, 130, true),
        (Signal::TERM, half, 143, true),
        (Signal::HUP, half, 129, true),
        (Signal::TERM, 1, 143, false),
        (Signal::INT, 1, 130, false),
    ];
    for (signal, bytes, expected, wanted) in cases {
        // A signal sent at the first byte may come late on a busy machine: again, until it came early.
        let came = (0..20).any(|_| kept_after(&fixture, &dir.path().join("into"), signal, bytes, expected) == wanted);
        assert!(came, "{signal:?} at {bytes} bytes: no run of 20 was stopped in time");
    }
}

/// Interrupts one run and judges what it left; whether that was worth keeping.
fn kept_after(fixture: &Fixture, into: &Path, signal: Signal, bytes: u64, expected: i32) -> bool {
    fs::create_dir(into).unwrap();
    let (code, said) = interrupted(fixture, &into.join("out"), &into.join("out-incomplete"), signal, bytes);
    assert_eq!(code, Some(expected), "{signal:?}: {said}");
    let line = said.lines().find(|l| l.starts_with("vdump: stopped by SIG"));
    let line = line.unwrap_or_else(|| panic!("{signal:?}: {said:?}"));
    let kept = pages_done(line).is_some_and(|(done, all)| done * 10 >= all);
    if kept {
        assert_eq!(names(into), ["out-incomplete"], "{signal:?}: {said}");
        right_or_lost(fixture, &into.join("out-incomplete"));
    } else {
        assert_eq!(names(into), [""; 0], "{signal:?}: {said}");
    }
    fs::remove_dir_all(into).unwrap();
    kept
}

/// The two numbers of "stopped by SIGINT after 6912 of 65239 pages"; none in a run that had not begun to write.
fn pages_done(line: &str) -> Option<(u64, u64)> {
    let (_, counted) = line.split_once(" after ")?;
    let mut words = counted.split_whitespace();
    let done = words.next()?.parse().ok()?;
    assert_eq!(words.next(), Some("of"), "{line}");
    Some((done, words.next()?.parse().ok()?))
}

#[test]
fn an_interrupted_run_keeps_a_file_that_was_named_incomplete() {
    let dir = temp_dir();
    let fixture = full_of_kernel(dir.path());
    let out: PathBuf = dir.path().join("vmcore-incomplete");
    // Some pages at least: what has none is only in the way.
    let (code, said) = interrupted(&fixture, &out, &out, Signal::INT, 1 << 20);
    assert_eq!(code, Some(130), "{said}");
    right_or_lost(&fixture, &out);
}

#[test]
fn a_killed_run_leaves_no_final_name() {
    let dir = temp_dir();
    let fixture = full_of_kernel(dir.path());
    let into = dir.path().join("into");
    fs::create_dir(&into).unwrap();
    interrupted(&fixture, &into.join("out"), &into.join("out-incomplete"), Signal::KILL, 1);
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
