//! No circle between files: whoever wants to understand one file needs those that it uses, and never itself again.
//!
//! Follows `use` lines and paths in the code to the file that defines what they name, through `pub use` too. A folder's `mod.rs`
//! and what lies in the folder count as one place: a child may use what its own parent defines.

use std::collections::{BTreeMap, BTreeSet};

use crate::tidy::{Source, none_of, rust_sources};

/// Crates by the folder of their sources.
const CRATES: [&str; 4] = ["src", "filters/src", "loader/src", "purgatory/src"];
/// More steps than any chain of re-exports has.
const MOST_STEPS: usize = 32;

type Path = Vec<String>;

/// One file as a module.
#[derive(Default)]
struct Module {
    file: String,
    /// Names that it imports or hands on, each with what it stands for.
    imports: BTreeMap<String, Path>,
    /// Modules whose names are all imported.
    globs: Vec<Path>,
    /// Paths of two and more names in its code.
    paths: BTreeSet<Path>,
}

/// A crate's modules by their paths.
struct Crate(BTreeMap<Path, Module>);

impl Crate {
    fn read(folder: &str) -> Self {
        let modules = rust_sources(&[folder]).into_iter().filter(|source| !source.name.ends_with("/tests.rs"));
        Self(modules.map(|source| (module_path(&source.name, folder), Module::read(&source))).collect())
    }

    /// The module that defines what `path` names, seen from `from`; `None` for other crates and for names of a block.
    fn defines(&self, from: &[String], path: &[String], steps: usize) -> Option<Path> {
        let steps = steps.checked_sub(1)?;
        let (first, rest) = path.split_first()?;
        let mut at = from.to_vec();
        match first.as_str() {
            "crate" => at.clear(),
            "self" => {}
            "super" => drop(at.pop()?),
            _ => return self.inside(from, path, steps),
        }
        if rest.is_empty() { Some(at) } else { self.inside(&at, rest, steps) }
    }

    /// The same of a path below the module `at`.
    fn inside(&self, at: &[String], path: &[String], steps: usize) -> Option<Path> {
        let steps = steps.checked_sub(1)?;
        let (first, rest) = path.split_first()?;
        if first == "super" {
            return self.defines(at, path, steps);
        }
        let mut child = at.to_vec();
        child.push(first.clone());
        if self.0.contains_key(&child) {
            return if rest.is_empty() { Some(child) } else { self.inside(&child, rest, steps) };
        }
        let module = self.0.get(at)?;
        if let Some(stands_for) = module.imports.get(first) {
            let mut whole = stands_for.clone();
            whole.extend_from_slice(rest);
            return self.defines(at, &whole, steps).or_else(|| self.defines(at, stands_for, steps));
        }
        Some(at.to_vec())
    }

    /// Whom each file uses.
    fn arrows(&self) -> BTreeMap<Path, BTreeSet<Path>> {
        let used = |from: &Path, module: &Module| {
            let local = |path: &&Path| {
                let mut child = from.clone();
                child.push(path[0].clone());
                ["crate", "super", "self"].contains(&path[0].as_str())
                    || module.imports.contains_key(&path[0])
                    || self.0.contains_key(&child)
            };
            let paths = module.imports.values().chain(&module.globs).chain(module.paths.iter());
            let to = paths.filter(local).filter_map(|path| self.defines(from, path, MOST_STEPS));
            to.filter(|to| to != from && !from.starts_with(to)).collect()
        };
        self.0.iter().map(|(path, module)| (path.clone(), used(path, module))).collect()
    }
}

impl Module {
    fn read(source: &Source) -> Self {
        let mut module = Self { file: source.name.clone(), ..Self::default() };
        let mut rest = source.code.as_str();
        let mut code = String::new();
        while let Some(at) = find_use(rest) {
            let (before, from) = rest.split_at(at);
            code.push_str(before);
            let Some(end) = from.find(';') else { break };
            flatten(&from["use ".len()..end], &[], &mut module);
            rest = &from[end..];
        }
        code.push_str(rest);
        module.paths = paths(&code);
        module
    }
}

/// Where the next `use` begins, at the start of a line but for `pub`.
fn find_use(code: &str) -> Option<usize> {
    code.match_indices("use ").map(|(at, _)| at).find(|at| {
        let line = code[..*at].rsplit('\n').next().unwrap_or("").trim();
        line.is_empty() || line.starts_with("pub") && !line.contains(['{', '=', '"', ';'])
    })
}

/// Takes a tree of imports apart.
fn flatten(tree: &str, above: &[String], module: &mut Module) {
    let tree = tree.trim();
    let (head, group) = tree.split_once('{').map_or((tree, None), |(head, group)| (head, Some(group)));
    let (head, alias) = head.split_once(" as ").map_or((head, None), |(head, alias)| (head, Some(alias.trim())));
    let mut path = above.to_vec();
    path.extend(head.split("::").map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned));
    if let Some(group) = group {
        return members(group.trim_end().trim_end_matches('}'))
            .iter()
            .for_each(|member| flatten(member, &path, module));
    }
    match path.last().map(String::as_str) {
        Some("*") => {
            path.pop();
            module.globs.push(path);
        }
        Some("self") if path.len() > 1 => {
            path.pop();
            let name = alias.or(path.last().map(String::as_str)).unwrap_or_default().to_owned();
            module.imports.insert(name, path);
        }
        Some(last) => {
            // What is imported for its methods alone has no name, but is used.
            let name = alias.filter(|alias| *alias != "_").unwrap_or(last).to_owned();
            module.imports.insert(name, path);
        }
        None => {}
    }
}

/// The members of a group, at its own depth.
fn members(group: &str) -> Vec<String> {
    let (mut depth, mut all) = (0, vec![String::new()]);
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        match (c, all.last_mut()) {
            (',', _) if depth == 0 => all.push(String::new()),
            (c, Some(member)) => member.push(c),
            _ => {}
        }
    }
    all.retain(|member| !member.trim().is_empty());
    all
}

/// Paths of two and more names in code.
fn paths(code: &str) -> BTreeSet<Path> {
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let names = code.split(|c| !is_path(c)).filter(|word| word.contains("::"));
    let split = names.map(|word| word.split("::").map(str::to_owned).collect::<Path>());
    split.filter(|path| path.iter().all(|name| !name.is_empty() && !name.contains(':'))).collect()
}

/// `src/a/mod.rs` and `src/a.rs` are `a`; the crate's own file is the empty path.
fn module_path(file: &str, folder: &str) -> Path {
    let below = file.strip_prefix(folder).unwrap_or(file).trim_start_matches('/').trim_end_matches(".rs");
    let mut path: Path = below.split('/').map(str::to_owned).collect();
    if path.last().is_some_and(|last| ["mod", "lib"].contains(&last.as_str())) {
        path.pop();
    }
    path
}

/// What can be reached from `start`.
fn reach(arrows: &BTreeMap<Path, BTreeSet<Path>>, start: &Path) -> BTreeSet<Path> {
    let (mut seen, mut next) = (BTreeSet::new(), vec![start]);
    while let Some(at) = next.pop() {
        next.extend(arrows.get(at).into_iter().flatten().filter(|to| seen.insert((*to).clone())));
    }
    seen
}

/// One line for each arrow that is part of a circle.
fn circles(modules: &Crate) -> Vec<String> {
    let arrows = modules.arrows();
    let reached: BTreeMap<_, _> = arrows.keys().map(|from| (from, reach(&arrows, from))).collect();
    let name = |path: &Path| modules.0.get(path).map_or_else(String::new, |module| module.file.clone());
    let back = |from: &Path, to: &Path| reached.get(to).is_some_and(|reached| reached.contains(from));
    let all = arrows.iter().flat_map(|(from, to)| to.iter().map(move |to| (from, to)));
    all.filter(|(from, to)| back(from, to)).map(|(from, to)| format!("{} -> {}", name(from), name(to))).collect()
}

#[test]
fn no_files_use_each_other_in_a_circle() {
    let all: Vec<String> = CRATES.iter().flat_map(|folder| circles(&Crate::read(folder))).collect();
    none_of(&all);
}

#[test]
fn circles_are_seen() {
    let file = |name: &str, code: &str| {
        let source = Source { name: format!("src/{name}"), code: code.to_owned(), text: String::new() };
        (module_path(&source.name, "src"), Module::read(&source))
    };
    let with = |shown: &str| {
        Crate(BTreeMap::from([
            file("lib.rs", "mod room;\nmod far;\n"),
            file(
                "room/mod.rs",
                "mod a;\nmod b;\npub use a::{Seen, inner::{self, X as Y}};\npub(crate) use b::B;\npub struct Own;\n",
            ),
            file("room/a.rs", "use super::{B, Own};\npub struct Seen;\nfn f() { super::b::g() }\n"),
            file("room/b.rs", shown),
            file("far.rs", "use crate::room::Y;\n"),
        ]))
    };
    assert_eq!(circles(&with("use super::Own;\nfn g() { std::fs::read() }\n")), [""; 0]);
    let both = ["src/room/a.rs -> src/room/b.rs", "src/room/b.rs -> src/room/a.rs"];
    for shown in
        ["use super::Seen;\n", "use crate::room::Seen as Other;\n", "fn g() -> super::Seen {}\n", "use super::a::*;\n"]
    {
        assert_eq!(circles(&with(shown)), both, "{shown}");
    }
    let three = circles(&with("use crate::far;\n"));
    assert!(three.contains(&"src/far.rs -> src/room/a.rs".to_owned()), "{three:?}");
}
