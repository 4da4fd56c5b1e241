//! The house's own rules, read off the source text: who may import whom, how long a file may be.
//!
//! Knows file names and lines. Must not run anything. Fails with file:line and what to do.

use std::fs;
use std::path::{Path, PathBuf};

/// Rooms that everyone may use.
const FLOOR: [&str; 5] = ["error", "report", "format", "codec", "sys"];
/// The data's one way through the program: a room may use only those to its left.
const WAY: [&str; 12] = [
    "arch", "source", "layout", "memory", "klog", "kernel", "classify", "bitmap", "plan", "pipeline", "sink", "medium",
];
/// A side room and the last room of the way that it may use.
const SIDE: [(&str, &str); 3] = [("check", "source"), ("redact", "memory"), ("dump", "kernel")];
/// Files that see every room.
const SEE_ALL: [&str; 4] = ["run", "cli", "main", "lib"];
const LONGEST: usize = 800;

fn root() -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    assert!(root.join("Cargo.toml").exists(), "{} is no crate", root.display());
    root
}

/// All files below a folder, but for what git ignores.
fn files(dir: &Path, out: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> = fs::read_dir(dir).into_iter().flatten().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            if name != "target" && !name.starts_with('.') {
                files(&path, out);
            }
        } else {
            out.push(path);
        }
    }
}

pub(crate) struct Source {
    /// Relative to the root.
    pub(crate) name: String,
    /// The text with comments and strings blanked, up to the unit tests.
    pub(crate) code: String,
    pub(crate) text: String,
}

pub(crate) fn rust_sources(folders: &[&str]) -> Vec<Source> {
    let mut paths = Vec::new();
    folders.iter().for_each(|folder| files(&root().join(folder), &mut paths));
    paths.retain(|p| p.extension().is_some_and(|e| e == "rs"));
    let read = |path: &PathBuf| {
        let text = fs::read_to_string(path).unwrap();
        let name = path.strip_prefix(root()).unwrap().display().to_string();
        Source { name, code: blank(before_tests(&text)), text }
    };
    paths.iter().map(read).collect()
}

/// Unit tests come last in a file, behind `#[cfg(test)]`.
fn before_tests(text: &str) -> &str {
    let at = text.match_indices("#[cfg(test)]").map(|(at, _)| at).find(|at| {
        let after = text[*at..].lines().nth(1).unwrap_or("").trim_start();
        after.ends_with('{') && ["mod ", "pub mod ", "pub(crate) mod "].iter().any(|word| after.starts_with(word))
    });
    &text[..at.unwrap_or(text.len())]
}

/// Blanks comments, strings and character literals, keeping every line where it is.
fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let mut in_string = false;
        let mut chars = line.char_indices().peekable();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' if in_string => drop(chars.next()),
                '"' => {
                    in_string = !in_string;
                    out.push('"');
                }
                '\'' if !in_string && line[at + 1..].starts_with("\"'") => drop(chars.next()),
                '/' if !in_string && line[at + 1..].starts_with('/') => break,
                c if !in_string => out.push(c),
                _ => {}
            }
        }
        out.push('\n');
    }
    out
}

/// The room of a file: its first folder or its own name below src/.
fn room(name: &str) -> &str {
    let below = name.strip_prefix("src/").unwrap_or(name);
    below.split(['/', '.']).next().unwrap_or(below)
}

/// Whether code in `from` may name `to`.
fn may_import(from: &str, to: &str) -> bool {
    let place = |room: &str| WAY.iter().position(|r| *r == room);
    if SEE_ALL.contains(&from) || from == to {
        return true;
    }
    if FLOOR.contains(&to) {
        return true;
    }
    let limit = SIDE.iter().find(|(side, _)| *side == from).and_then(|(_, last)| place(last).map(|at| at + 1));
    match (limit.or_else(|| place(from)), place(to)) {
        (Some(limit), Some(to)) => to < limit,
        _ => false,
    }
}

/// The rooms named by `crate::room` in a line, also in `use crate::{a::x, b}`.
fn rooms_named(code: &str) -> Vec<(usize, String)> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut named = Vec::new();
    for (at, path) in code.match_indices("crate::") {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let rest = &code[at + path.len()..];
        let line = code[..at].lines().count().max(1);
        if let Some(group) = rest.strip_prefix('{') {
            named.extend(group_heads(group).into_iter().map(|(down, head)| (line + down, word(&head))));
        } else {
            named.push((line, word(rest)));
        }
    }
    named.retain(|(_, room)| !room.is_empty() && room.starts_with(char::is_lowercase));
    named
}

/// First names of the members of a `{...}` group, each with the lines down to it.
fn group_heads(group: &str) -> Vec<(usize, String)> {
    let (mut depth, mut line, mut heads, mut head) = (0, 0, Vec::new(), String::new());
    for c in group.chars() {
        line += usize::from(c == '\n');
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.push((line, std::mem::take(&mut head))),
            c if depth == 0 && !c.is_whitespace() => head.push(c),
            _ => {}
        }
    }
    heads.push((line, head));
    heads
}

#[track_caller]
pub(crate) fn none_of(faults: &[String]) {
    assert!(faults.is_empty(), "{} faults\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn rooms_import_only_to_their_left() {
    let mut faults = Vec::new();
    for source in rust_sources(&["src"]) {
        let from = room(&source.name);
        for (line, to) in rooms_named(&source.code) {
            if !may_import(from, &to) {
                let keeper = if FLOOR.contains(&from) { "run.rs" } else { to.as_str() };
                faults.push(format!("{}:{line}: `{from}` may not use `{to}`: move this to {keeper}", source.name));
            }
        }
    }
    none_of(&faults);
}

#[test]
fn the_import_law_itself_is_right() {
    assert!(may_import("classify", "memory") && may_import("sink", "source") && may_import("plan", "format"));
    assert!(!may_import("memory", "classify") && !may_import("source", "layout"));
    assert!(may_import("check", "source") && !may_import("check", "layout") && !may_import("source", "check"));
    assert!(may_import("klog", "memory") && !may_import("klog", "classify") && !may_import("layout", "klog"));
    assert!(may_import("run", "sink") && !may_import("sink", "run") && !may_import("format", "source"));
    let code = blank(
        "use crate::{error::{Error, Result}, // crate::sink\n  layout::X};\nlet a = crate::plan::b(\"crate::sink\");\n",
    );
    let named: Vec<String> = rooms_named(&code).into_iter().map(|(line, room)| format!("{line}{room}")).collect();
    assert_eq!(named, ["1error", "2layout", "3plan"]);
}

#[test]
fn every_source_file_opens_with_its_purpose() {
    let bare = rust_sources(&["src", "filters", "loader", "purgatory", "tests", "benches"]);
    let bare = bare.iter().filter(|s| !s.text.starts_with("//!"));
    none_of(&bare.map(|s| format!("{}:1: no `//!` line says what the file knows", s.name)).collect::<Vec<_>>());
}

#[test]
fn no_file_is_too_long() {
    let sources = rust_sources(&["src", "filters", "loader", "purgatory", "tests", "benches"]);
    let long = sources.iter().filter(|s| s.text.lines().count() > LONGEST);
    none_of(&long.map(|s| format!("{}:{LONGEST}: longer than {LONGEST} lines: split it", s.name)).collect::<Vec<_>>());
}

/// Lines of code that hold any of these, outside unit tests.
fn lines_with(folders: &[&str], words: &[&str], allowed: impl Fn(&str) -> bool, advice: &str) -> Vec<String> {
    let mut faults = Vec::new();
    for source in rust_sources(folders).iter().filter(|s| !allowed(&s.name)) {
        for (n, line) in (1..).zip(source.code.lines()) {
            if words.iter().any(|word| line.contains(word)) {
                faults.push(format!("{}:{n}: {}: {advice}", source.name, line.trim()));
            }
        }
    }
    faults
}

#[test]
fn no_panics_outside_tests() {
    let is_test = |name: &str| name.contains("/tests") || name.ends_with("build.rs");
    let words = [".unwrap()", ".expect(", "panic!(", "todo!(", "unimplemented!("];
    none_of(&lines_with(&["src", "filters", "loader", "purgatory"], &words, is_test, "return an error instead"));
}

#[test]
fn unsafe_code_stays_in_its_room() {
    // Crates below (the loader, the programs that run in test machines) have such a room as well.
    let fenced =
        |name: &str| name.starts_with("src/sys/") || name.ends_with("/src/sys.rs") || name.starts_with("purgatory/");
    let words = ["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"];
    none_of(&lines_with(
        &["src", "filters", "loader", "tests"],
        &words,
        |n| fenced(n) || n == "tests/tidy.rs",
        "move it to src/sys",
    ));
}

/// A machine is one file: what else knows one would have to be found and changed for the next.
#[test]
fn only_arch_knows_machines() {
    let allowed =
        |name: &str| name.starts_with("src/arch/") || name.ends_with("/tests.rs") || name == "src/check/evidence.rs";
    let machines = ["EM_X86", "EM_386", "EM_A", "EM_P", "EM_R", "EM_S", "x86_64", "X86_64", "0xffff_ffff_8", ">> 63"];
    none_of(&lines_with(&["src"], &machines, allowed, "move it to src/arch"));
}

#[test]
fn the_loader_is_behind_its_doors() {
    let commands = |name: &str| name.starts_with("src/run") || name.starts_with("src/cli");
    none_of(&lines_with(&["src"], &["vdump_loader"], commands, "only commands load kernels: move this to src/run"));
    let door = |name: &str| name == "loader/src/handover.rs";
    none_of(&lines_with(&["loader/src"], &["vdump_purgatory"], door, "only handover.rs knows the purgatory"));
}

/// Whoever uses the library sees the reader: what else is public could never change again.
#[test]
fn the_library_is_the_reader_and_a_door() {
    let lib = rust_sources(&["src"]).into_iter().find(|source| source.name == "src/lib.rs").unwrap();
    let public: Vec<&str> = lib.code.lines().filter(|line| line.starts_with("pub ")).collect();
    let rooms = public.iter().filter(|line| !line.starts_with("pub use dump::") && !line.starts_with("pub use klog::"));
    assert!(
        rooms.eq(&["pub mod internals {"]),
        "{public:?}: rooms are private; what a program needs goes into src/dump.rs"
    );
}

#[test]
fn text_files_end_in_a_newline() {
    const TEXT: [&str; 9] = ["rs", "toml", "md", "sh", "yml", "yaml", "c", "h", "txt"];
    let mut paths = Vec::new();
    files(&root(), &mut paths);
    paths.retain(|p| p.extension().is_some_and(|e| TEXT.iter().any(|t| e == *t)));
    let bad = paths.iter().filter(|p| {
        let bytes = fs::read(p).unwrap();
        !bytes.is_empty() && (bytes.last() != Some(&b'\n') || bytes.ends_with(b"\n\n") || bytes.contains(&b'\r'))
    });
    none_of(&bad.map(|p| format!("{}: must end in one newline, without CR", p.display())).collect::<Vec<_>>());
}

/// Whether a line begins a function.
fn begins_function(line: &str) -> bool {
    let mut words = line.split_whitespace().skip_while(|word| {
        word.starts_with("pub") || word.starts_with("crate::") || ["in", "const", "unsafe", "async"].contains(word)
    });
    words.next() == Some("fn")
}

/// What takes more than a screen does more than one thing.
#[test]
fn functions_fit_on_a_screen() {
    const MOST: usize = 60;
    let mut long = Vec::new();
    for source in rust_sources(&["src", "filters/src", "loader/src", "purgatory/src", "purgatory/blob"]) {
        let lines: Vec<&str> = source.code.lines().map(str::trim_end).collect();
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| begins_function(line)) {
            // A trait's function without a body has none, and one on a line of its own is short.
            let head = lines[at..].iter().find(|line| line.ends_with(['{', ';', '}']));
            if head.is_none_or(|head| !head.ends_with('{')) {
                continue;
            }
            let close = format!("{}}}", &line[..line.len() - line.trim_start().len()]);
            let len = lines[at..].iter().position(|line| *line == close).map_or(0, |end| end + 1);
            if len > MOST {
                long.push(format!("{}:{}: {len} lines", source.name, at + 1));
            }
        }
    }
    assert!(long.is_empty(), "functions of more than {MOST} lines; split them by meaning:\n{}", long.join("\n"));
}
