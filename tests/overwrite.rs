//! The input is never overwritten, whatever it is called and whatever --force allows.
//!
//! Knows names and links. Must not know formats. Fails when a byte of the input has changed.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::harness::{run, temp_dir, vdump};
use crate::synth::Machine;
use crate::synth::kernels::era;

/// How an output's name leads to the input: (what, input, output, the exit code). The core is called `vmcore`; the links
/// are those of `links`. A name that is no regular file is refused before anyone asks what it leads to.
const ONE_FILE: [(&str, &str, &str, i32); 13] = [
    ("the same name", "vmcore", "vmcore", 2),
    ("./ before the output", "vmcore", "./vmcore", 2),
    ("./ before the input", "./vmcore", "vmcore", 2),
    ("through a folder", "vmcore", "folder/../vmcore", 2),
    ("a hard link", "vmcore", "hard", 2),
    ("a hard link as the input", "hard", "vmcore", 2),
    ("a symlink as the input", "soft", "vmcore", 2),
    ("a symlink as the output", "vmcore", "soft", 1),
    ("the working name", "OUT-incomplete", "OUT", 2),
    ("the working name itself", "OUT-incomplete", "OUT-incomplete", 2),
    ("a symlink under the working name", "vmcore", "linked", 2),
    ("the working name by a hard link", "hard-incomplete", "hard2", 2),
    ("a compressed input", "packed", "packed", 2),
];

fn links(dir: &Path) {
    let at = |name: &str| dir.join(name);
    let core = at("vmcore");
    fs::create_dir(at("folder")).unwrap();
    fs::write(at("packed"), zstd::encode_all(fs::File::open(&core).unwrap(), 1).unwrap()).unwrap();
    for name in ["hard", "OUT-incomplete", "hard-incomplete", "hard2-incomplete"] {
        fs::hard_link(&core, at(name)).unwrap();
    }
    for name in ["soft", "linked-incomplete"] {
        symlink("vmcore", at(name)).unwrap();
    }
}

#[test]
fn the_input_is_never_the_output() {
    let dir = temp_dir();
    Machine::small(era("6.12")).build(dir.path());
    links(dir.path());
    let names = || {
        let mut names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let there = names();
    for (what, input, output, code) in ONE_FILE {
        for format in ["kdump", "elf"] {
            let before = fs::read(dir.path().join(input)).unwrap();
            let run =
                run(vdump().current_dir(dir.path()).args(["filter", "--force", "-f", format]).arg(input).arg(output));
            let label = format!("{what}, {format}: {run:?}");
            assert!(
                fs::read(dir.path().join(input)).is_ok_and(|now| now == before),
                "the input was destroyed: {label}"
            );
            assert_eq!(names(), there, "files came or went: {label}");
            assert_eq!(run.code(), Some(code), "{label}");
            assert!(run.stderr.lines().count() == 1 && run.stderr.starts_with("vdump: "), "not one line: {label}");
        }
    }
}

/// Nor is anything else that is read.
#[test]
fn no_file_that_is_read_is_the_output() {
    let dir = temp_dir();
    Machine::small(era("6.12")).build(dir.path());
    let here = |words: &str| run(vdump().current_dir(dir.path()).args(words.split(' ')));
    here("layout --from vmcore -o facts").ok();
    for name in ["rules", "linked-incomplete"] {
        fs::write(dir.path().join(name), "erase linux_banner\n").unwrap();
    }
    fs::write(dir.path().join("iomem"), "00000000-3fffffff : System RAM\n").unwrap();
    for (words, read) in [
        ("filter --force -i facts vmcore facts", "facts"),
        ("filter --force -i facts vmcore -o ./facts -o other", "facts"),
        ("filter --force --redact rules vmcore rules", "rules"),
        ("filter --force --redact linked-incomplete vmcore linked", "linked-incomplete"),
        ("filter --force --iomem iomem -d 0 vmcore iomem", "iomem"),
        ("dmesg --force -i facts vmcore -o facts", "facts"),
        ("layout --force --from vmcore -o vmcore", "vmcore"),
        ("layout --force --from vmcore --btf facts -o facts", "facts"),
    ] {
        let before = fs::read(dir.path().join(read)).unwrap();
        let run = here(words);
        assert_eq!(fs::read(dir.path().join(read)).unwrap(), before, "{words}: {run:?}");
        assert!(run.code().is_some_and(|code| code > 0), "{words}: {run:?}");
        // These may be refused for what the files hold, before anyone asks for the output.
        if !["--btf", "--iomem", "--redact", "dmesg"].iter().any(|option| words.contains(option)) {
            assert!(run.code() == Some(2) && run.stderr.contains("is an input"), "{words}: {run:?}");
        }
    }
}
