//! What every command prints on the sample crash, word for word: the `console` blocks of tests/golden/, README.md and docs/
//! are run by a shell, and what it shows must be what stands there.
//!
//! Knows blocks, and what differs from run to run. Must not know commands: people judge their words. Fails with a diff.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::thread;

use regex::Regex;
use snapbox::{Assert, Data, IntoData as _, Redactions};

use crate::harness::{filter, run, temp_dir, vdump};
use crate::loading::{images, tree};

/// What the program is called by; links in the folder that the shell looks into first.
const NAMES: [&str; 4] = ["vdump", "makedumpfile", "kexec", "vmcore-dmesg"];
/// Recorded machines that capture kernels are planned for.
const MACHINES: [&str; 4] = ["debian-6.12-kaslr", "no-crashkernel", "too-small", "not-root"];
/// The crash that all is about.
const SAMPLE: &str = "tests/data/vmcore-6.12.zst";
/// What no two runs have in common, by the words around it.
const CHANGING: [(&str, &str); 6] = [
    ("[SECONDS]", r" (in|took) (?<redacted>[0-9.]+ s), "),
    ("[SECONDS]", r#""(classify|write|total)": ?(?<redacted>[0-9.e-]+)"#),
    ("[SPEED]", r"(?<redacted>[0-9.]+ [KMGT]?i?B/s)"),
    ("[MEMORY]", r"peak memory (?<redacted>[0-9.]+ [KMG]iB)"),
    ("[MEMORY]", r#""(memory_limit|peak_resident)": ?(?<redacted>[0-9]+)"#),
    ("[VERSION]", concat!(r#"(vdump |version |"vdump": ?")(?<redacted>"#, env!("CARGO_PKG_VERSION"), ")")),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What is written instead of what changes; `folder` is where the commands run.
fn changing(folder: &Path) -> Redactions {
    let mut all = Redactions::new();
    all.insert("[FOLDER]", folder.to_str().unwrap().to_owned()).unwrap();
    for (name, words) in CHANGING {
        all.insert(name, Regex::new(words).unwrap()).unwrap();
    }
    all
}

/// What people read.
fn documents(folders: &[&str]) -> Vec<PathBuf> {
    let mut all = vec![root().join("README.md")];
    for folder in folders {
        all.extend(fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path()));
    }
    all.retain(|path| path.extension().is_some_and(|ending| ending == "md"));
    all.sort();
    all
}

/// Commands that are shown with what they print, and where no block says that they are to be run.
fn never_run(text: &str) -> Vec<&str> {
    let mut in_block = false;
    let outside = text.lines().filter(|line| {
        in_block = if in_block { *line != "```" } else { *line == "```console" };
        !in_block && line.starts_with("$ ")
    });
    outside.collect()
}

/// What all files share: made once.
struct Bench {
    dir: tempfile::TempDir,
    machines: Vec<(&'static str, tempfile::TempDir)>,
}

impl Bench {
    fn new() -> Self {
        let dir = temp_dir();
        let at = |name: &str| dir.path().join(name);
        let mut unpacked = fs::File::create(at("vmcore")).unwrap();
        let packed = fs::File::open(root().join(SAMPLE)).unwrap();
        zstd::stream::copy_decode(packed, &mut unpacked).unwrap();
        filter(&["--progress", "none"], &at("vmcore"), &at("small")).ok();
        fs::write(at("vmlinuz"), images::BzImage::default().bytes()).unwrap();
        fs::write(at("initrd"), vec![7; 3 << 20]).unwrap();
        fs::create_dir(at("bin")).unwrap();
        let program = fs::canonicalize(vdump().get_program()).unwrap();
        for name in NAMES {
            std::os::unix::fs::symlink(&program, at("bin").join(name)).unwrap();
        }
        Self { machines: MACHINES.map(|name| (name, tree::tree(name))).into(), dir }
    }

    /// A folder as one file's commands find it.
    fn folder(&self) -> tempfile::TempDir {
        let folder = tempfile::tempdir_in(self.dir.path()).unwrap();
        for name in ["vmcore", "small", "vmlinuz", "initrd"] {
            fs::hard_link(self.dir.path().join(name), folder.path().join(name)).unwrap();
        }
        fs::create_dir_all(folder.path().join("tests/data")).unwrap();
        std::os::unix::fs::symlink(root().join(SAMPLE), folder.path().join(SAMPLE)).unwrap();
        for (name, tree) in &self.machines {
            std::os::unix::fs::symlink(tree.path(), folder.path().join(name)).unwrap();
        }
        folder
    }

    /// What a terminal of 100 columns shows of a command; last the exit code, unless that is 0.
    fn shown(&self, folder: &Path, command: &str) -> String {
        let mut shell = Command::new("sh");
        let path = format!("{}:/usr/bin:/bin", self.dir.path().join("bin").display());
        shell.args(["-c", &format!("exec 2>&1\n{command}")]).current_dir(folder).stdin(Stdio::null());
        shell.env_clear().env("PATH", path).env("TMPDIR", folder);
        let run = run(shell.envs([("LC_ALL", "C"), ("TERM", "dumb"), ("COLUMNS", "100"), ("TZ", "UTC")]));
        let ended = if run.stdout.is_empty() || run.stdout.ends_with('\n') { "" } else { "\n" };
        let code = run.code().filter(|code| *code != 0).map_or_else(String::new, |code| format!("? {code}\n"));
        run.stdout + ended + &code
    }
}

/// The text of a file with what its commands print now. Where a wildcard stands for it, the wildcard stays.
fn again(bench: &Bench, text: &str) -> String {
    let folder = bench.folder();
    let assert = Assert::new().normalize_paths(false).redact_with(changing(folder.path()));
    let mut lines = text.lines().peekable();
    let (mut out, mut in_block) = (String::new(), false);
    while let Some(line) = lines.next() {
        out += &format!("{line}\n");
        in_block = if in_block { line != "```" } else { line == "```console" };
        let Some(first) = line.strip_prefix("$ ").filter(|_| in_block) else { continue };
        let mut command = first.to_owned();
        while let Some(more) = lines.next_if(|line| line.starts_with("> ")) {
            command += &format!("\n{}", &more[2..]);
            out += &format!("{more}\n");
        }
        let mut expected = String::new();
        while let Some(line) = lines.next_if(|line| *line != "```" && !line.starts_with("$ ")) {
            expected += &format!("{line}\n");
        }
        let shown = bench.shown(folder.path(), &command).into_data();
        out += &assert.normalize(shown, expected.into_data()).0.render().unwrap();
    }
    out
}

/// `SNAPSHOTS=overwrite` writes what is printed now into the files.
#[test]
fn every_block_shows_what_is_printed() {
    let queue = Mutex::new(VecDeque::from(documents(&["docs", "tests/golden"])));
    let (bench, faults) = (Bench::new(), Mutex::new(Vec::new()));
    let next = || queue.lock().unwrap().pop_front();
    let work = || {
        while let Some(path) = next() {
            let (text, name) = (fs::read_to_string(&path).unwrap(), path.strip_prefix(root()).unwrap());
            let unseen = never_run(&text).into_iter();
            faults
                .lock()
                .unwrap()
                .extend(unseen.map(|line| format!("{}: not in a console block: {line}", name.display())));
            let (shown, expected) = (again(&bench, &text), Data::read_from(&path, None).raw());
            let result = Assert::new().action_env(snapbox::assert::DEFAULT_ACTION_ENV).try_eq(
                Some(&name.display()),
                shown.into_data().raw(),
                expected,
            );
            faults.lock().unwrap().extend(result.err().map(|error| error.to_string()));
        }
    };
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(work);
        }
    });
    let faults = faults.into_inner().unwrap();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Commands without an output may be what nobody can run here; their options must be there all the same.
#[test]
fn options_in_examples_are_those_of_the_command() {
    let (mut faults, mut seen) = (Vec::new(), 0);
    for path in documents(&["docs"]) {
        let text = fs::read_to_string(&path).unwrap();
        let mut in_block = false;
        let lines = text.lines().filter(|line| {
            in_block = if in_block { *line != "```" } else { *line == "```sh" };
            in_block && line.starts_with("vdump ")
        });
        for line in lines {
            let typed = line.split(['#', '|']).next().unwrap();
            for command in typed.split("&& ").filter_map(|one| one.strip_prefix("vdump ")) {
                let (name, options) = command.split_once(' ').unwrap_or((command, ""));
                let help = run(vdump().args([name, "--help"])).ok().stdout;
                let known = |option: &str| {
                    let stands = |line: &str| line.trim_start().split([',', ' ']).any(|word| word == option);
                    help.lines().any(|line| line.trim_start().starts_with('-') && stands(line))
                };
                let options = options.split(' ').filter(|word| word.len() > 1 && word.starts_with('-'));
                for option in options.map(|word| word.split('=').next().unwrap()) {
                    seen += 1;
                    if !known(option) {
                        faults.push(format!("{}: vdump {name} has no {option}: {line}", path.display()));
                    }
                }
            }
        }
    }
    assert!(seen > 20 && faults.is_empty(), "{seen} options; {}", faults.join("\n"));
}
