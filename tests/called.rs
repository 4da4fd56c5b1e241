//! Called as makedumpfile, kexec or vmcore-dmesg: the exit codes of those programs, side by side with them where they are
//! installed.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::harness::{Run, run, temp_dir, vdump};
use crate::judges::installed;
use crate::synth::kernels::era;
use crate::synth::{Fixture, Machine};

/// Command lines of makedumpfile and what it exits with; `V` is a dump. Those without --check-params either fail before a file
/// is looked at, or dump.
const MAKEDUMPFILE: &[(&str, i32)] = &[
    ("-v", 0),
    ("-h", 0),
    ("--help", 0),
    ("", 1),
    ("V", 1),
    ("-d 31", 1),
    ("-d 31 V", 1),
    ("-d 31 V out a", 1),
    ("-d 32 V out", 1),
    ("-d -1 V out", 1),
    ("-d 1,32 V out", 1),
    ("-d", 1),
    ("-E -c V out", 1),
    ("-c -E V out", 1),
    ("-E -l -d 31 V out", 1),
    ("-c -l -d 31 V out", 0),
    ("-ld31 V out", 0),
    ("--message-level 40 V out", 1),
    ("--message-level 32 V out", 1),
    ("--message-level -1 V out", 1),
    ("--message-level 31 -d 31 V out", 0),
    ("--message-level V out", 1),
    ("-q V out", 1),
    ("--nonsense V out", 1),
    ("nosuch out", 1),
    ("-F -d 31 V", 0),
    ("-F -E -d 31 V", 0),
    ("-F -d 31 V out", 1),
    ("-F --split -d 31 V", 1),
    ("--dump-dmesg V", 1),
    ("-F --dump-dmesg V out", 1),
    ("-R", 1),
    ("-R out a", 1),
    ("--reassemble", 1),
    ("--split -d 31 V a", 1),
    ("-x", 1),
    // The lines with which mkdumprd checks what kdump.conf says, before each build.
    ("--check-params -l --message-level 7 -d 31 vmcore dumpfile", 0),
    ("--check-params -F -l --message-level 7 -d 31 vmcore", 0),
    ("--check-params -F -l -d 31 vmcore dumpfile", 1),
    ("--check-params -d 32 vmcore dumpfile", 1),
    ("--check-params --nonsense vmcore dumpfile", 1),
    ("--check-params -c", 1),
    ("--check-params vmcore", 1),
    ("--check-params", 1),
    ("--check-params -E -c vmcore dumpfile", 1),
    ("--check-params -F -E -d 31 vmcore", 0),
    ("--check-params --message-level 40 vmcore dumpfile", 1),
    ("--check-params --split -d 31 vmcore a b", 0),
    ("--check-params --split -d 31 vmcore a", 1),
    ("--check-params --split -E vmcore a b", 1),
    ("--check-params -F --split vmcore", 1),
    ("--check-params --num-threads 4 -l -d 31 vmcore dumpfile", 0),
    ("--check-params --dump-dmesg vmcore log", 0),
    ("--check-params -F --dump-dmesg vmcore", 0),
    ("--check-params --dump-dmesg vmcore", 1),
    ("--check-params -R out", 0),
    ("--check-params -F -R out", 1),
    ("--check-params --reassemble a b out", 0),
    ("--check-params -g layout -x vmlinux", 0),
    ("--check-params -g layout", 1),
    ("--check-params --mem-usage /proc/kcore", 0),
    ("--check-params -x nosuch -d 31 vmcore dumpfile", 0),
    ("--check-params -i nosuch -d 31 vmcore dumpfile", 0),
    ("--check-params --config rules -x vmlinux -d 31 vmcore dumpfile", 0),
    ("--check-params --cyclic-buffer 1024 vmcore dumpfile", 0),
    ("--check-params -L 1G vmcore dumpfile", 0),
    ("--check-params -L x vmcore dumpfile", 1),
    ("--check-params --work-dir /tmp vmcore dumpfile", 0),
    ("--check-params --dry-run vmcore dumpfile", 0),
    ("--check-params -f -d 31 vmcore dumpfile", 0),
    ("--check-params -F vmcore -d 1,31", 0),
    ("--check-params vmcore a b", 1),
];

/// Where vdump differs with intent: its code, theirs, and why.
const OTHERWISE: &[(&str, i32, i32, &str)] = &[
    ("-d all V out", 1, 0, "what is no number is no level: makedumpfile takes it for 0 and writes all memory"),
    ("-d 31x V out", 1, 0, "the same"),
    ("--check-params -L 1000x vmcore dumpfile", 1, 1, "both say so"),
    ("--check-params --num-threads x vmcore dumpfile", 1, 0, "a typing error in kdump.conf is worth an error"),
    ("--check-params -E --num-threads 4 -d 31 vmcore dumpfile", 0, 1, "ELF is written by several threads"),
    ("--check-params --split --num-threads 4 -d 31 vmcore a b", 0, 1, "and so are the parts of a set"),
    ("--check-params -x a -i b -d 31 vmcore dumpfile", 0, 1, "both are read, and held against each other"),
    ("--check-params --config rules -d 31 vmcore dumpfile", 0, 1, "the kernel's BTF has the types"),
    ("--check-params -e -d 31 vmcore dumpfile", 0, 1, "it changes nothing, and --work-dir neither"),
    ("--check-params --reassemble a", 1, 0, "one file cannot be put together"),
    ("--check-params -X vmcore dumpfile", 1, 0, "Xen dumps are not read"),
    ("--dry-run -d 31 V", 0, 1, "nothing is written, so no name is needed"),
    ("--version", 0, 1, "releases after 1.7.2 have it"),
];

fn fixture(dir: &Path) -> Fixture {
    Machine { broken_sections: false, ..Machine::small(era("6.1")) }.build(dir)
}

/// Runs `command` with a line's words in a folder of its own.
fn in_folder(command: &mut Command, line: &str, fixture: &Fixture) -> Run {
    let dir = temp_dir();
    for word in line.split_whitespace() {
        match word {
            "V" => command.arg(&fixture.path),
            word => command.arg(word),
        };
    }
    run(command.current_dir(dir.path()).stdin(Stdio::null()))
}

fn ours(name: &str, line: &str, fixture: &Fixture) -> Run {
    in_folder(vdump().arg0(format!("/usr/sbin/{name}")), line, fixture)
}

#[test]
fn exit_codes_are_makedumpfiles() {
    let dir = temp_dir();
    let fixture = fixture(dir.path());
    let judged = installed("makedumpfile");
    let lines = MAKEDUMPFILE.iter().map(|(line, code)| (*line, *code, *code));
    for (line, mine, theirs) in lines.chain(OTHERWISE.iter().map(|(line, mine, theirs, _)| (*line, *mine, *theirs))) {
        let run = ours("makedumpfile", line, &fixture);
        assert_eq!(run.code(), Some(mine), "{line}: {}", run.stderr);
        assert!(mine == 0 || !run.stderr.is_empty(), "{line}: nothing is said");
        if judged {
            let run = in_folder(&mut Command::new("makedumpfile"), line, &fixture);
            assert_eq!(run.code(), Some(theirs), "makedumpfile {line}: {}", run.stderr);
        }
    }
}

#[test]
fn checking_a_line_touches_no_file() {
    let dir = temp_dir();
    let line = ["--check-params", "-l", "-d", "31", "vmcore", "dumpfile"];
    let mut command = vdump();
    let run = run(command.arg0("makedumpfile").args(line).current_dir(dir.path())).ok();
    assert!(run.stdout.is_empty() && run.stderr.is_empty(), "{run:?}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
}

/// What configuration scripts look for in it: the release, and lines of codec, tab, state.
#[test]
fn makedumpfiles_version_has_its_form() {
    let dir = temp_dir();
    let fixture = fixture(dir.path());
    let check = |run: Run| {
        let mut lines = run.stdout.lines();
        let version = lines.next().unwrap().strip_prefix("makedumpfile: version ").unwrap().to_owned();
        let digits: Vec<&str> = version.split(' ').next().unwrap().split('.').collect();
        assert!(digits.len() == 3 && digits.iter().all(|part| part.parse::<u32>().is_ok()), "{version}");
        let codecs: Vec<&str> = lines.by_ref().take(3).map(|line| line.split_once('\t').unwrap().0).collect();
        assert_eq!(codecs, ["lzo", "snappy", "zstd"]);
        assert_eq!(lines.collect::<Vec<_>>(), [""]);
    };
    let version = ours("makedumpfile", "-v", &fixture).ok();
    assert_eq!(version.stdout.matches("\tenabled\n").count(), 3, "{}", version.stdout);
    check(version);
    if installed("makedumpfile") {
        check(in_folder(&mut Command::new("makedumpfile"), "-v", &fixture).ok());
    }
}

#[test]
fn advice_names_their_options() {
    let dir = temp_dir();
    let fixture = fixture(dir.path());
    let out = dir.path().join("out");
    fs::write(&out, "precious").unwrap();
    let called = run(vdump().arg0("makedumpfile").args(["-d", "31"]).arg(&fixture.path).arg(&out));
    assert!(called.stderr.contains("give -f\n") && !called.stderr.contains("--force"), "{}", called.stderr);
    run(vdump().arg0("makedumpfile").args(["-f", "-d", "31"]).arg(&fixture.path).arg(&out)).ok();
}

/// Command lines of kexec that fail before the running kernel is asked for anything, and its exit codes. None may come near -e:
/// kexec takes the network down first.
const KEXEC: &[(&str, i32)] = &[
    ("-l", 255),
    ("-s -l", 255),
    ("-c -l", 255),
    ("-v", 0),
    ("-h", 0),
    ("-Z", 1),
    ("--nonsense", 1),
    ("--type", 1),
    ("--append", 1),
    ("-l nosuch", 1),
    ("-l a b", 1),
    ("-t bzImage -l nosuch", 1),
    ("-t nosuch -l V", 255),
    ("-t multiboot2-x86 -l V", 255),
    ("--mem-max=x -l V", 1),
];

/// Lines without a kernel that kexec answers with 255 too; but they are near to starting one, so it is not asked here.
const KEXEC_ALONE: [&str; 3] = ["", "-f", "-d"];

#[test]
fn exit_codes_are_kexecs() {
    let dir = temp_dir();
    let fixture = fixture(dir.path());
    let judged = installed("kexec");
    for line in KEXEC_ALONE {
        let run = ours("kexec", line, &fixture);
        assert_eq!(run.code(), Some(255), "{line}: {}", run.stderr);
    }
    for (line, code) in KEXEC {
        let run = ours("kexec", line, &fixture);
        assert_eq!(run.code(), Some(*code), "{line}: {}", run.stderr);
        if judged {
            let run = in_folder(&mut Command::new("kexec"), line, &fixture);
            assert_eq!(run.code(), Some(*code), "kexec {line}: {}", run.stderr);
        }
    }
}

#[test]
fn a_command_line_that_is_not_utf8_is_not_passed_on_in_part() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    let run = run(vdump().arg0("kexec").args(["-l", "k"]).arg(OsStr::from_bytes(b"--append=root=\xff")));
    assert_eq!(run.code(), Some(1), "{}", run.stderr);
    assert!(run.stderr.contains("--append is not UTF-8"), "{}", run.stderr);
}

#[test]
fn vmcore_dmesg_prints_the_log() {
    let dir = temp_dir();
    let fixture = crate::dmesg::talkative(era("6.1"), dir.path());
    let printed = ours("vmcore-dmesg", "V", &fixture).ok();
    assert_eq!(printed.stdout, run(vdump().args(["dmesg", "--caller", "kernel"]).arg(&fixture.path)).ok().stdout);
    assert!(printed.stdout.contains("Linux version of a machine that crashed") && printed.stderr.is_empty());
    for (line, code, ours_alone) in [
        ("", 1, false),
        ("V V", 1, false),
        ("nosuch", 2, false),
        ("--help", 0, true),
        ("--version", 0, true),
        ("-q V", 1, false),
    ] {
        let run = ours("vmcore-dmesg", line, &fixture);
        assert_eq!(run.code(), Some(code), "{line}: {}", run.stderr);
        if !ours_alone && installed("vmcore-dmesg") {
            let run = in_folder(&mut Command::new("vmcore-dmesg"), line, &fixture);
            assert_eq!(run.code(), Some(code), "vmcore-dmesg {line}: {}", run.stderr);
        }
    }
}
