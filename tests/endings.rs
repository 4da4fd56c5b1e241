//! How an output ends: on the disk, under its name, and what is said where one of that cannot be had.
//!
//! Knows two small programs in C, made here and now, that let system calls fail. Fails with what was left or said.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::bad_device::{filter_on, library};
use crate::check;
use crate::disks::{full_of_kernel, in_namespace, names, one_line};
use crate::harness::{Run, filter, run, temp_dir, vdump};
use crate::synth::kernels::era;
use crate::synth::{Fixture, Machine};

const EPERM: i32 = 1;
const EINVAL: i32 = 22;
const ENOSYS: i32 = 38;

fn small(dir: &Path) -> Fixture {
    Machine::small(era("6.12")).build(dir)
}

/// The program that runs others without some system calls.
fn deny(dir: &Path) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/deny.c");
    let made = dir.join("deny");
    run(Command::new("cc").args(["-Wall", "-Werror", "-o"]).arg(&made).arg(source)).ok();
    made
}

/// Runs `vdump ARGS` where each of `calls` fails with its error number.
fn without(deny: &Path, calls: &[(&str, i32)], args: &[&str]) -> Run {
    let mut command = Command::new(deny);
    command.args(calls.iter().map(|(call, error)| format!("{call}={error}"))).arg("--").arg(vdump().get_program());
    run(command.args(args))
}

#[test]
fn a_file_system_without_fsync_has_whole_dumps_too() {
    let dir = temp_dir();
    let deny = deny(dir.path());
    let fixture = small(dir.path());
    let input = fixture.path.to_str().unwrap();
    let into = dir.path().join("into");
    fs::create_dir(&into).unwrap();
    let out = into.join("out");
    let out = out.to_str().unwrap();
    for error in [EINVAL, ENOSYS] {
        for (options, left) in [
            ("filter --progress none -f kdump", &["out"][..]),
            ("filter --progress none -f elf", &["out"]),
            ("filter --progress none -f elf -c zstd", &["out"]),
            ("filter --progress none --split 2", &["out-1", "out-2"]),
            ("filter", &["out"]),
            ("layout --from", &["out"]),
        ] {
            let mut args: Vec<_> = options.split(' ').collect();
            args.extend(if args[0] == "layout" { vec![input, "-o", out] } else { vec![input, out] });
            let done = without(&deny, &[("fsync", error)], &args);
            assert_eq!(done.code(), Some(0), "{options}: {done:?}");
            assert_eq!(names(&into), left, "{options}: {done:?}");
            assert!(done.stderr.contains("may not be on the disk yet"), "{options}: {done:?}");
            left.iter().for_each(|name| fs::remove_file(into.join(name)).unwrap());
        }
    }
    // Standard output is a file often enough.
    let command = r#""$0" fsync=22 -- "$1" filter --progress none "$2" - > "$3""#;
    let bare = vdump();
    let done = run(Command::new("sh").args(["-c", command]).arg(&deny).arg(bare.get_program()).args([input, out])).ok();
    assert!(done.stderr.contains("may not be on the disk yet"), "{done:?}");
}

/// A dump that was redirected into a file is on the disk when vdump says that it is done, or vdump does not say so.
#[test]
fn what_is_redirected_into_a_file_reaches_the_disk() {
    let dir = temp_dir();
    let library = library(dir.path());
    let fixture = small(dir.path());
    for options in ["-f kdump", "-f elf", "-f elf -c zstd"] {
        let out = dir.path().join("out");
        let redirected = format!("exec \"$0\" filter --progress none {options} \"$1\" - > \"$2\"");
        let mut command = Command::new("sh");
        command.args(["-c", &redirected]).arg(vdump().get_program()).arg(&fixture.path).arg(&out);
        let done = run(command.env("LD_PRELOAD", &library).env("BAD_SYNC", "1"));
        one_line(&done, 1);
        assert!(done.stderr.contains("Input/output error"), "{options}: {done:?}");
        // What a pipe leads to is somebody else's affair.
        command = Command::new("sh");
        command.args(["-c", &redirected.replace("> \"$2\"", "| cat > \"$2\"").replace("exec ", "")]);
        command.arg(vdump().get_program()).arg(&fixture.path).arg(&out);
        let done = run(command.env("LD_PRELOAD", &library).env("BAD_SYNC", "1")).ok();
        assert_eq!(done.stderr, "", "{options}");
    }
}

/// The dump is whole and has its name, but who acts on the exit code must not reset the machine now.
#[test]
fn a_name_that_does_not_reach_the_disk_is_an_error() {
    let dir = temp_dir();
    let library = library(dir.path());
    let fixture = small(dir.path());
    for (options, left) in
        [(&["-f", "elf"][..], &["out"][..]), (&[], &["out"]), (&["--split", "2"], &["out-1", "out-2"])]
    {
        let into = dir.path().join("into");
        fs::create_dir(&into).unwrap();
        let out = into.join("out");
        let done = filter_on(&library, &[("BAD_SYNC", "folders".into())], options, &fixture.path, &out);
        one_line(&done, 1);
        assert!(done.stderr.contains("Input/output error") && done.stderr.contains("is whole"), "{done:?}");
        assert_eq!(names(&into), left);
        if options == ["-f", "elf"] {
            check::sound("named", &check::elf(&fixture, 31, &out));
        }
        fs::remove_dir_all(&into).unwrap();
    }
}

#[test]
fn without_a_rename_that_refuses_a_taken_name_is_respected_all_the_same() {
    let dir = temp_dir();
    let deny = deny(dir.path());
    let fixture = small(dir.path());
    let into = dir.path().join("into");
    fs::create_dir(&into).unwrap();
    let out = into.join("out");
    let words = ["filter", "--progress", "none", fixture.path.to_str().unwrap(), out.to_str().unwrap()];
    for (calls, remark) in [
        (&[("renameat2", EINVAL)][..], false),
        (&[("renameat2", ENOSYS)], false),
        (&[("renameat2", EINVAL), ("linkat", EPERM)], true),
    ] {
        let done = without(&deny, calls, &words).ok();
        assert_eq!(names(&into), ["out"], "{calls:?}");
        check::sound("named", &check::kdump(&fixture, 31, &out));
        assert_eq!(done.stderr.contains("cannot give a name without replacing"), remark, "{calls:?}: {done:?}");
        fs::remove_file(&out).unwrap();
    }
}

/// NFSv4.2 reads before it writes a part of a page, where a file is open for both; nfs-ganesha 4.3 fails to.
#[test]
fn outputs_are_open_for_writing_only() {
    let dir = temp_dir();
    let library = library(dir.path());
    let fixture = small(dir.path());
    for format in [&["-f", "kdump"][..], &["-f", "elf"], &["-f", "elf", "-c", "zstd"], &["-f", "elf", "-c", "lz4"]] {
        let out = dir.path().join("out");
        let options = [format, &["--force"]].concat();
        let done = filter_on(&library, &[("BAD_PAGES", "1".into())], &options, &fixture.path, &out);
        assert_eq!(done.code(), Some(0), "{format:?}: {done:?}");
    }
}

/// A file without a page is only in the way of the next run.
#[test]
fn an_output_that_got_no_page_is_not_left() {
    let dir = temp_dir();
    let library = library(dir.path());
    let fixture = full_of_kernel(dir.path());
    let into = dir.path().join("into");
    for out in ["out", "own-incomplete"] {
        // No room for the headers of a kdump; for those of an ELF core, and for no batch of pages.
        for options in [&["-f", "kdump"][..], &["-f", "elf"], &["--split", "2"]] {
            fs::create_dir(&into).unwrap();
            let options = [&["--progress", "none", "-c", "none", "--limit", "200K"], options].concat();
            let done = filter(&options, &fixture.path, &into.join(out));
            one_line(&done, 1);
            assert_eq!(names(&into), [""; 0], "{options:?}: {done:?}");
            fs::remove_dir(&into).unwrap();
        }
        for threads in 0..6 {
            fs::create_dir(&into).unwrap();
            let variables = [("BAD_THREADS", threads.to_string())];
            let done = filter_on(&library, &variables, &["-j", "2", "--split", "4"], &fixture.path, &into.join(out));
            assert_eq!(names(&into).len(), if done.code() == Some(0) { 4 } else { 0 }, "{threads} threads: {done:?}");
            fs::remove_dir_all(&into).unwrap();
        }
    }
}

#[test]
fn what_an_earlier_run_left_is_told_for_what_it_is() {
    let dir = temp_dir();
    let fixture = small(dir.path());
    let into = dir.path().join("into");
    fs::create_dir(&into).unwrap();
    let (out, left) = (into.join("out"), into.join("out-incomplete"));
    fs::write(&left, "left").unwrap();
    let refused = filter(&[], &fixture.path, &out);
    one_line(&refused, 1);
    for word in [left.to_str().unwrap(), "did not finish", "--force"] {
        assert!(refused.stderr.contains(word), "{word}: {refused:?}");
    }
    assert_eq!(fs::read(&left).unwrap(), b"left");
    filter(&["--force"], &fixture.path, &out).ok();
    assert_eq!(names(&into), ["out"]);
}

/// There nobody can be asked, and what is not saved now is gone.
#[test]
fn in_a_capture_kernel_it_is_replaced_unasked() {
    let dir = temp_dir();
    let fixture = small(dir.path());
    let script = r#"echo "console=ttyS0 elfcorehdr=0x6f000000" > "$DIR/cmdline"
mount --bind "$DIR/cmdline" /proc/cmdline || exit 99
for out in out own-incomplete; do echo left > "$SAVE/${out%-incomplete}-incomplete"
"$VDUMP" filter --progress none "$IN" "$SAVE/$out" || exit; done
echo precious > "$SAVE/taken"; ! "$VDUMP" filter --progress none "$IN" "$SAVE/taken""#;
    let Some(done) = in_namespace(script, &fixture, dir.path()) else { return };
    assert_eq!(done.code(), Some(0), "{done:?}");
    let saved = dir.path().join("saved");
    assert_eq!(names(&saved), ["out", "own-incomplete", "taken"]);
    check::sound("replaced", &check::kdump(&fixture, 31, &saved.join("out")));
    assert_eq!(fs::read(saved.join("taken")).unwrap(), b"precious\n");
}

/// A lock that a backup or a monitor holds is no reason to lose a dump; that of another vdump is.
#[test]
fn a_lock_is_told_and_stops_nobody_who_forces() {
    let dir = temp_dir();
    let fixture = small(dir.path());
    let (out, left) = (dir.path().join("out"), dir.path().join("out-incomplete"));
    fs::write(&left, "left").unwrap();
    let held = fs::File::open(&left).unwrap();
    held.lock().unwrap();
    let pid = format!("process {}", std::process::id());
    let refused = filter(&[], &fixture.path, &out);
    one_line(&refused, 1);
    assert!(refused.stderr.contains(&pid), "{refused:?}");
    let done = filter(&["--force"], &fixture.path, &out).ok();
    assert!(done.stderr.contains(&pid), "{done:?}");
    check::sound("forced", &check::kdump(&fixture, 31, &out));
}
