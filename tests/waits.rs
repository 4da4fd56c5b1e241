//! Nothing waits for ever: pipes that nobody writes to or reads from, and a signal that comes meanwhile.
//!
//! Knows pipes and signals. Must not know formats. Fails with who waited, or with bytes that differ.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, FileType, Mode, OFlags, fcntl_setfl, mknodat};
use rustix::process::{Pid, Signal, kill_process};

use crate::disks::{full_of_kernel, names, one_line};
use crate::harness::{DEADLINE, filter, run, temp_dir, vdump};
use crate::synth::kernels::era;
use crate::synth::{Fixture, Machine};

/// Waits until `ready` gives something.
fn wait_for<T>(mut ready: impl FnMut() -> Option<T>, what: &str) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = ready() {
            return found;
        }
        assert!(started.elapsed() < DEADLINE, "{what}: not within {DEADLINE:?}");
        sleep(Duration::from_millis(5));
    }
}

fn fifo(path: PathBuf) -> PathBuf {
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    path
}

/// Ends a process that waits; gives its exit code, as a shell would show it.
fn ended_by(mut child: Child, signal: Signal) -> (i32, String) {
    use std::os::unix::process::ExitStatusExt;
    kill_process(Pid::from_child(&child), signal).unwrap();
    let status = wait_for(|| child.try_wait().unwrap(), "an end after the signal");
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    (status.code().unwrap_or_else(|| 128 + status.signal().unwrap()), said)
}

/// Whether a process sleeps in a system call, and for the second time in a row.
fn sleeps(child: &Child) -> bool {
    let asleep = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        stat.rsplit(')').next().unwrap().trim_start().starts_with('S')
    };
    asleep() && {
        sleep(Duration::from_millis(300));
        asleep()
    }
}

fn to_stdout(fixture: &Fixture, format: &str) -> Command {
    let mut command = vdump();
    command.args(["filter", "--progress", "none", "-c", "none", "-f", format]).arg(&fixture.path).arg("-");
    command
}

#[test]
fn a_pipe_that_is_full_for_now_ends_no_dump() {
    let dir = temp_dir();
    let fixture = full_of_kernel(dir.path());
    for format in ["kdump", "elf"] {
        let whole = dir.path().join(format);
        assert!(to_stdout(&fixture, format).stdout(File::create(&whole).unwrap()).status().unwrap().success());
        let whole = fs::read(&whole).unwrap();
        for nonblocking in [true, false] {
            let (mut reader, writer) = std::io::pipe().unwrap();
            if nonblocking {
                fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
            }
            let mut command = to_stdout(&fixture, format);
            let mut child = command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
            drop(command);
            wait_for(|| sleeps(&child).then_some(()), "a full pipe");
            let mut got = Vec::new();
            reader.read_to_end(&mut got).unwrap();
            assert!(child.wait().unwrap().success(), "{format}, nonblocking {nonblocking}");
            assert!(got == whole, "{format}, nonblocking {nonblocking}: {} of {} bytes", got.len(), whole.len());
        }
    }
}

/// Reports too.
#[test]
fn a_report_waits_for_its_reader() {
    let dir = temp_dir();
    let fixture = Machine::small(era("6.12")).build(dir.path());
    let command = || {
        let mut command = vdump();
        command.arg("info").arg(&fixture.path);
        command
    };
    let shown = run(&mut command()).ok().stdout;
    let (mut reader, mut writer) = std::io::pipe().unwrap();
    fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
    let mut before = 0;
    while let Ok(more) = writer.write(&[b'x'; 4096]) {
        before += more;
    }
    let mut child = {
        let mut command = command();
        command.stdout(writer).stderr(Stdio::piped()).spawn().unwrap()
    };
    wait_for(|| sleeps(&child).then_some(()), "a full pipe");
    let mut got = String::new();
    reader.read_to_string(&mut got).unwrap();
    assert!(child.wait().unwrap().success() && got[before..] == shown);
}

#[test]
fn a_signal_ends_the_wait_for_a_reader() {
    let dir = temp_dir();
    let fixture = full_of_kernel(dir.path());
    for (signal, code) in [(Signal::TERM, 143), (Signal::INT, 130), (Signal::HUP, 129)] {
        for nonblocking in [true, false] {
            let (reader, writer) = std::io::pipe().unwrap();
            if nonblocking {
                fcntl_setfl(&writer, OFlags::NONBLOCK).unwrap();
            }
            let child = to_stdout(&fixture, "kdump").stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
            wait_for(|| sleeps(&child).then_some(()), "a full pipe");
            let (ended, said) = ended_by(child, signal);
            assert_eq!(ended, code, "{said}");
            assert!(said.contains("no whole dump") || said.contains("no dump"), "{said}");
            drop(reader);
        }
    }
}

#[test]
fn a_signal_ends_the_wait_for_a_file_that_is_to_be_read() {
    let dir = temp_dir();
    let fixture = Machine::small(era("6.12")).build(dir.path());
    let nobody = fifo(dir.path().join("nobody"));
    let into = dir.path().join("into");
    fs::create_dir(&into).unwrap();
    for option in ["--redact", "--layout"] {
        let mut command = vdump();
        command.args(["filter", "--progress", "none", option]).arg(&nobody).arg(&fixture.path).arg(into.join("out"));
        let child = command.stderr(Stdio::piped()).spawn().unwrap();
        wait_for(|| sleeps(&child).then_some(()), "a wait for rules");
        let (ended, said) = ended_by(child, Signal::TERM);
        assert_eq!(ended, 143, "{option}: {said}");
        assert_eq!(names(&into), [""; 0], "{option}");
    }
}

/// What must be read at any place is refused at once.
#[test]
fn files_that_cannot_be_pipes_are_refused_as_pipes() {
    let dir = temp_dir();
    let fixture = Machine::small(era("6.12")).build(dir.path());
    let nobody = fifo(dir.path().join("nobody"));
    let nobody = nobody.to_str().unwrap();
    let input = fixture.path.to_str().unwrap();
    let [raw, out] = ["raw", "out"].map(|name| dir.path().join(name));
    fs::write(&raw, [0; 8192]).unwrap();
    let [raw, out] = [raw.to_str().unwrap(), out.to_str().unwrap()];
    for words in [
        &["filter", "-x", nobody, input, out][..],
        &["filter", "-x", "/dev/null", input, out],
        &["layout", "--vmlinux", nobody],
        &["layout", "--btf", nobody],
        &["filter", "--elfcorehdr", nobody, raw, out],
    ] {
        let done = run(vdump().args(words));
        one_line(&done, 1);
        assert!(done.stderr.contains("regular file"), "{words:?}: {done:?}");
    }
}

/// `--redact <(...)` and `--layout /dev/stdin` are what people type.
#[test]
fn texts_come_through_pipes_too() {
    let dir = temp_dir();
    let fixture = Machine::small(era("6.12")).build(dir.path());
    let facts = run(vdump().args(["layout", "--from"]).arg(&fixture.path)).ok().stdout;
    let plain = dir.path().join("plain");
    filter(&[], &fixture.path, &plain).ok();
    let named = fifo(dir.path().join("named"));
    for path in ["/dev/stdin", named.to_str().unwrap()] {
        let out = dir.path().join("out");
        let mut command = vdump();
        command.args(["filter", "--progress", "none", "--force", "--layout", path]).arg(&fixture.path).arg(&out);
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut writer: Box<dyn Write> = match path {
            "/dev/stdin" => Box::new(child.stdin.take().unwrap()),
            _ => Box::new(File::options().write(true).open(path).unwrap()),
        };
        // In pieces, as a program that has to think writes.
        for piece in facts.as_bytes().chunks(facts.len() / 3 + 1) {
            writer.write_all(piece).unwrap();
            sleep(Duration::from_millis(20));
        }
        drop(writer);
        let done = child.wait_with_output().unwrap();
        assert!(done.status.success(), "{path}: {done:?}");
        assert!(fs::read(&out).unwrap() == fs::read(&plain).unwrap(), "{path}");
    }
}

/// Whatever lies under the working name is neither waited for nor followed.
#[test]
fn a_working_name_that_is_no_file_is_refused() {
    let dir = temp_dir();
    let fixture = Machine::small(era("6.12")).build(dir.path());
    let at = |name: &str| dir.path().join(name);
    fs::write(at("precious"), "precious").unwrap();
    fifo(at("fifo-incomplete"));
    std::os::unix::fs::symlink("precious", at("link-incomplete")).unwrap();
    std::os::unix::fs::symlink("fifo-incomplete", at("fifolink-incomplete")).unwrap();
    fs::create_dir(at("folder-incomplete")).unwrap();
    for (name, what) in
        [("fifo", "FIFO"), ("link", "symbolic link"), ("fifolink", "symbolic link"), ("folder", "directory")]
    {
        for force in [&["--force"][..], &[]] {
            for out in [at(name), at(&format!("{name}-incomplete"))] {
                let done = filter(force, &fixture.path, &out);
                one_line(&done, 1);
                let regular = done.stderr.contains("it is not a regular file");
                assert!(done.stderr.contains(what) || regular, "{name} {force:?}: {done:?}");
                assert!(!out.is_file() || out.is_symlink(), "{name}: {done:?}");
            }
        }
    }
    assert_eq!(fs::read(at("precious")).unwrap(), b"precious");
}

#[test]
fn standard_output_is_no_input() {
    let dir = temp_dir();
    let fixture = Machine::small(era("6.12")).build(dir.path());
    let before = fs::read(&fixture.path).unwrap();
    for format in ["kdump", "elf"] {
        let onto = File::options().read(true).write(true).open(&fixture.path).unwrap();
        let mut command = to_stdout(&fixture, format);
        let done = command.stdout(onto).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
        assert_eq!(done.status.code(), Some(2), "{done:?}");
        assert!(String::from_utf8_lossy(&done.stderr).contains("it is an input"), "{done:?}");
        assert!(fs::read(&fixture.path).unwrap() == before, "{format}: the input was destroyed");
    }
}
