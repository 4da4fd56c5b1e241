//! The command line: what is accepted, what is refused, what is printed where.

use std::fs;
use std::io::Read;
use std::process::Stdio;

use serde_json::Value;

use crate::harness::{Run, filter, run, temp_dir, vdump, vdump_with};
use crate::synth::elf::Style;
use crate::synth::kernels::era;
use crate::synth::{Fixture, Machine};

fn small(dir: &std::path::Path) -> Fixture {
    Machine::small(era("6.12")).build(dir)
}

#[test]
fn help_and_version_succeed_on_stdout() {
    for args in [&["--help"][..], &["--version"], &["filter", "--help"], &["info", "--help"], &["dmesg", "--help"]] {
        let run = vdump_with(args).ok();
        assert!(!run.stdout.is_empty() && run.stderr.is_empty(), "{args:?}: {run:?}");
    }
    let help = vdump_with(["filter", "--help"]).ok().stdout;
    for word in ["--dump-level", "--format", "--compress", "--threads", "--memory-limit", "--dry-run", "--json"] {
        assert!(help.contains(word), "the help does not name {word}");
    }
}

#[test]
fn every_command_says_its_exit_codes() {
    let all = vdump_with(["--help"]).ok().stdout;
    let commands: Vec<&str> = all.lines().skip_while(|line| *line != "Commands:").skip(1).collect();
    let names = commands.iter().take_while(|line| !line.is_empty()).filter_map(|line| line.strip_prefix("  "));
    let names: Vec<&str> =
        names.filter(|line| !line.starts_with(' ')).filter_map(|line| line.split(' ').next()).collect();
    assert!(names.len() > 12, "{all}");
    for name in names.into_iter().filter(|name| *name != "help") {
        for help in ["-h", "--help"] {
            let text = vdump_with([name, help]).ok().stdout;
            assert!(text.contains("Exit codes: 0 "), "{name} {help}:\n{text}");
        }
    }
}

#[test]
fn names_that_are_no_utf8_keep_their_ending() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt as _;
    let dir = temp_dir();
    let fixture = small(dir.path());
    let out = dir.path().join(OsStr::from_bytes(b"vmcore-\xff.elf"));
    filter(&[], &fixture.path, &out).ok();
    assert_eq!(&fs::read(&out).unwrap()[..4], b"\x7fELF");
}

#[test]
fn what_cannot_be_meant_is_a_usage_error() {
    let dir = temp_dir();
    let fixture = small(dir.path());
    let refused: [&[&str]; 20] = [
        &["-d", "32"],
        &["-d", "-1"],
        &["-d", "all"],
        &["-f", "raw"],
        &["-c", "lz4"],
        &["-c", "zstd:99"],
        &["-c", "zstd:fast"],
        &["-c", "none:1"],
        &["-c", "zlib:13"],
        &["-c", ""],
        &["-j", "0"],
        &["-j", "many"],
        &["--memory-limit", "lots"],
        &["--progress", "loud"],
        &["--no-such-option"],
        &["--limit", "0.5"],
        &["--memory-limit", "+64M"],
        &["--memory-limit", "1e9"],
        &["-d", "+31"],
        &["-c", "zlib:+5"],
    ];
    for options in refused {
        let out = dir.path().join("out");
        let run = filter(options, &fixture.path, &out);
        assert_eq!(run.code(), Some(2), "{options:?}: {}", run.stderr);
        stderr_is_one_error(&run);
        assert!(run.stdout.is_empty(), "{options:?}: usage errors belong on stderr");
        assert!(!out.exists(), "{options:?}: an output was made");
    }
    // Without the command, and with a file in its place.
    let run = vdump_with([fixture.path.as_os_str(), "out".as_ref()]);
    assert_eq!(run.code(), Some(2));
    stderr_is_one_error(&run);
    assert!(run.stderr.contains("is a file") && run.stderr.contains("'vdump filter "), "{}", run.stderr);
    for args in [&[][..], &["filter"], &["filter", "only-one"], &["filter", "a", "b", "c"], &["frobnicate"]] {
        assert_eq!(vdump_with(args).code(), Some(2), "{args:?}");
    }
}

#[test]
fn elf_output_takes_no_compression_by_page() {
    let dir = temp_dir();
    let fixture = small(dir.path());
    let out = dir.path().join("out");
    let run = filter(&["-f", "elf", "-c", "lzo"], &fixture.path, &out);
    assert!(matches!(run.code(), Some(1 | 2)), "{run:?}");
    assert!(run.stderr.contains("elf") || run.stderr.contains("ELF"), "{}", run.stderr);
    assert!(!out.exists());
}

#[test]
fn the_format_follows_the_output_name() {
    let dir = temp_dir();
    let fixture = small(dir.path());
    for (name, options, magic) in [
        ("vmcore.elf", &[][..], b"\x7fELF"),
        ("vmcore", &[], b"KDUM"),
        ("vmcore.kdump", &[], b"KDUM"),
        ("forced.elf", &["-f", "kdump"], b"KDUM"),
        ("vmcore.zst", &[], b"\x28\xb5\x2f\xfd"),
        ("vmcore.elf.lz4", &[], b"\x04\x22\x4d\x18"),
        ("plain.zst", &["-c", "none"], b"\x7fELF"),
        ("lz4", &["-f", "elf", "-c", "lz4"], b"\x04\x22\x4d\x18"),
    ] {
        let out = dir.path().join("into-".to_owned() + name);
        filter(options, &fixture.path, &out).ok();
        assert_eq!(&fs::read(&out).unwrap()[..4], magic, "{name} {options:?}");
    }
}

fn stderr_is_one_error(run: &Run) {
    let lines: Vec<&str> = run.stderr.lines().collect();
    assert!(lines.len() == 1 && lines[0].starts_with("vdump: "), "not one line: {:?}", run.stderr);
}

#[test]
fn an_existing_output_needs_force() {
    let dir = temp_dir();
    let fixture = small(dir.path());
    let out = dir.path().join("out");
    fs::write(&out, "precious").unwrap();
    let run = filter(&[], &fixture.path, &out);
    assert_eq!(run.code(), Some(1), "{run:?}");
    stderr_is_one_error(&run);
    assert!(run.stderr.contains("--force"), "no next step: {}", run.stderr);
    assert_eq!(fs::read(&out).unwrap(), b"precious");
    filter(&["--force"], &fixture.path, &out).ok();
    assert_eq!(&fs::read(&out).unwrap()[..5], b"KDUMP");
}

#[test]
fn a_name_that_says_incomplete_is_taken_as_it_is() {
    let dir = temp_dir();
    let fixture = small(dir.path());
    let out = dir.path().join("vmcore-incomplete");
    filter(&[], &fixture.path, &out).ok();
    assert!(out.exists() && !dir.path().join("vmcore-incomplete-incomplete").exists());
}

#[test]
fn info_names_what_it_found() {
    let dir = temp_dir();
    let machine = Machine { style: Style::Qemu, ..Machine::new(era("6.12")).five_levels().kaslr() };
    let fixture = machine.build(dir.path());
    let path = fixture.path.to_str().unwrap();
    let text = vdump_with(["info", path]).ok().stdout;
    for word in ["6.12.30+deb13-amd64", "x86_64", "4096", "1a000000"] {
        assert!(text.contains(word), "info does not say {word}:\n{text}");
    }
    assert!(text.contains("2025-07-01"), "the crash time is not shown as a date:\n{text}");
    let json = vdump_with(["info", "--json", path]).ok().stdout;
    let parsed: Value = serde_json::from_str(&json).unwrap();
    assert!(parsed.is_object() && json.contains("6.12.30+deb13-amd64"), "{json}");
}

#[test]
fn info_works_on_a_core_without_vmcoreinfo() {
    let dir = temp_dir();
    let machine = Machine { vmcoreinfo: false, ..Machine::small(era("6.12")) };
    let fixture = machine.build(dir.path());
    let text = vdump_with(["info", fixture.path.to_str().unwrap()]).ok().stdout;
    assert!(text.contains("x86_64"), "{text}");
}

#[test]
fn json_goes_alone_to_stdout() {
    let dir = temp_dir();
    let fixture = small(dir.path());
    let run = filter(&["--json", "-v", "--progress", "plain"], &fixture.path, &dir.path().join("out")).ok();
    serde_json::from_str::<Value>(&run.stdout).unwrap_or_else(|e| panic!("{e}: {}", run.stdout));
}

#[test]
fn without_progress_a_success_is_quiet_on_stderr() {
    let dir = temp_dir();
    let fixture = small(dir.path());
    let run = filter(&["--json", "--progress", "none"], &fixture.path, &dir.path().join("out")).ok();
    assert!(run.stderr.is_empty(), "{}", run.stderr);
}

/// `vdump info | head` must end, and without a fuss.
#[test]
fn a_closed_pipe_is_no_crash() {
    let dir = temp_dir();
    let fixture = Machine::new(era("6.12")).with_many_loads().build(dir.path());
    for arg in ["info", "--help"] {
        let mut command = vdump();
        command.arg(arg);
        if arg == "info" {
            command.arg(&fixture.path);
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut byte = [0u8; 1];
        let mut pipe = child.stdout.take().unwrap();
        pipe.read_exact(&mut byte).unwrap();
        drop(pipe);
        let out = child.wait_with_output().unwrap();
        let stderr = String::from_utf8_lossy(&out.stderr);
        assert!(!stderr.contains("panicked"), "{arg}: {stderr}");
        assert_ne!(out.status.code(), Some(101), "{arg}: {stderr}");
    }
}

#[test]
fn dmesg_says_so_when_there_is_no_log() {
    let dir = temp_dir();
    let fixture = small(dir.path());
    let run = run(vdump().arg("dmesg").arg(&fixture.path));
    assert_eq!(run.code(), Some(1), "{run:?}");
    stderr_is_one_error(&run);
}

#[test]
fn scripts_may_call_it_makedumpfile() {
    use std::os::unix::process::CommandExt as _;
    let dir = temp_dir();
    let fixture = small(dir.path());
    let called = |options: &str, output: &str| {
        let out = dir.path().join(output);
        let words = options.split_whitespace();
        (run(vdump().arg0("/usr/sbin/makedumpfile").args(words).arg(&fixture.path).arg(&out)), out)
    };
    for (theirs, ours) in [
        ("-c --message-level 7 -d 31", &["-c", "zlib"][..]),
        ("-ld31 --num-threads 2 --cyclic-buffer 4096", &["-c", "lzo"]),
        ("-E -d 17", &["-f", "elf", "-d", "17"]),
        ("", &["-d", "0", "-c", "none"]),
    ] {
        let (run, out) = called(theirs, "theirs");
        run.ok();
        let own = dir.path().join("ours");
        filter(ours, &fixture.path, &own).ok();
        assert!(fs::read(&out).unwrap() == fs::read(&own).unwrap(), "{theirs} is not {ours:?}");
        fs::remove_file(out).unwrap();
        fs::remove_file(own).unwrap();
    }
    for refused in ["-X -d 31", "--split -d 31", "--no-such-option"] {
        let (run, out) = called(refused, "refused");
        assert_eq!(run.code(), Some(1), "{refused}: {}", run.stderr);
        assert!(!out.exists());
    }
}
