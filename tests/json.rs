//! The JSON of every command: one head, no number that programs round, every field as `tests/golden/json-fields` has it and
//! `docs/json.md` explains it, and an object also where a command fails.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::{run, temp_dir, vdump};
use crate::synth::Machine;
use crate::synth::kernels::era;

/// JavaScript, jq and others keep a number's every digit up to here.
const EXACT: f64 = 9_007_199_254_740_992.0;

fn json(args: &[&str]) -> Value {
    let run = run(vdump().args(args)).ok();
    serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{args:?}: {error}: {run:?}"))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What each command says of one machine.
fn documents(dir: &Path) -> Vec<(&'static str, Vec<String>, Value)> {
    let machine = Machine::new(era("6.12")).kaslr();
    let fixture = machine.build(dir);
    let (input, out) = (text(&fixture.path), |name: &str| dir.join(name).to_str().unwrap().to_owned());
    let (kdump, again, elf, merged) = (out("kdump"), out("again"), out("elf"), out("merged"));
    let quiet = ["--json", "--progress", "none"];
    let vaddr = format!("{:#x}", machine.page_offset + 0x10_0000);
    let all: Vec<(&str, Vec<&str>, Vec<&str>)> = vec![
        ("filter", vec!["-d", "27", input, &kdump], vec![input]),
        ("convert", vec![&kdump, &again], vec![&kdump]),
        ("convert", vec!["-f", "elf", &kdump, &elf], vec![&kdump]),
        ("merge", vec![&kdump, &merged], vec![&kdump]),
        ("check", vec![&kdump], vec![&kdump]),
        ("classes", vec!["-v", "--zero", &kdump], vec![&kdump]),
    ];
    let run = |(command, args, inputs): (&'static str, Vec<&str>, Vec<&str>)| {
        let args: Vec<&str> = [command].into_iter().chain(quiet).chain(args).collect();
        (command, inputs.into_iter().map(str::to_owned).collect(), json(&args))
    };
    let mut said: Vec<_> = all.into_iter().map(run).collect();
    said.push(("info", vec![kdump.clone()], json(&["info", "--json", &kdump])));
    said.push(("explain", vec![input.to_owned()], json(&["explain", "--json", "--vaddr", &vaddr, input])));
    said.push(("layout", vec![input.to_owned()], json(&["layout", "--json", "--from", input])));
    said.push(("layout", vec![input.into(), input.into()], json(&["layout", "--json", "--diff", input, input])));
    said
}

#[test]
fn every_command_has_the_same_head() {
    let dir = temp_dir();
    for (command, inputs, document) in documents(dir.path()) {
        let version = env!("CARGO_PKG_VERSION");
        let head = ["schema", "vdump", "command", "inputs"].map(|key| document[key].clone());
        assert_eq!(head, [Value::from(1), version.into(), command.into(), inputs.into()], "{document}");
    }
}

/// All paths that lead to something that is no object and no array, with its type.
fn fields(command: &str, path: &str, value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                fields(command, &format!("{path}.{key}"), value, found);
            }
        }
        Value::Array(items) => {
            for item in items {
                fields(command, &format!("{path}[]"), item, found);
            }
        }
        Value::Null => {
            found.insert(format!("{command} {path} null"));
        }
        Value::Bool(_) => {
            found.insert(format!("{command} {path} bool"));
        }
        Value::Number(number) => {
            assert!(number.as_f64().is_some_and(|number| number.abs() < EXACT), "{command} {path}: {number}");
            found.insert(format!("{command} {path} number"));
        }
        Value::String(_) => {
            found.insert(format!("{command} {path} string"));
        }
    }
}

/// `VDUMP_UPDATE_GOLDEN=1` writes the list anew: what goes away or changes its type there needs another schema number.
#[test]
fn fields_stay_what_they_are() {
    let dir = temp_dir();
    let mut found = BTreeSet::new();
    for (command, _, document) in documents(dir.path()) {
        fields(command, "", &document, &mut found);
    }
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let golden = root.join("tests/golden/json-fields");
    let lines: String = found.iter().map(|line| line.clone() + "\n").collect();
    if std::env::var_os("VDUMP_UPDATE_GOLDEN").is_some() {
        fs::write(&golden, &lines).unwrap();
    }
    let wanted = fs::read_to_string(&golden).unwrap();
    let differing =
        lines.lines().filter(|line| !wanted.lines().any(|other| other == *line)).map(|line| format!("+{line}"));
    let missing = wanted.lines().filter(|line| !found.contains(*line)).map(|line| format!("-{line}"));
    let all: Vec<_> = differing.chain(missing).collect();
    assert!(all.is_empty(), "VDUMP_UPDATE_GOLDEN=1 takes these over:\n{}", all.join("\n"));
    let docs = fs::read_to_string(root.join("docs/json.md")).unwrap();
    let leaf = |line: &str| {
        let path = line.split(' ').nth(1).unwrap().trim_end_matches("[]");
        path.rsplit(['.', ']']).next().unwrap().trim_end_matches('[').to_owned()
    };
    let unexplained: BTreeSet<String> =
        found.iter().map(|line| leaf(line)).filter(|name| !docs.contains(&format!("`{name}`"))).collect();
    assert!(unexplained.is_empty(), "docs/json.md has not: {unexplained:?}");
}

#[test]
fn addresses_keep_every_digit() {
    let dir = temp_dir();
    // Its phys_base is below zero.
    let machine = Machine::small(era("6.12")).kaslr();
    let fixture = machine.build(dir.path());
    let info = json(&["info", "--json", text(&fixture.path)]);
    let base = format!("{:#x}", fixture.phys_base);
    assert!(base.len() == 18 && base.starts_with("0xff"), "{base} is not below zero");
    assert_eq!(info["phys_base"], base, "{info}");
    let fact = info["layout"].as_array().unwrap().iter().find(|fact| fact["name"] == "phys_base").unwrap();
    assert_eq!(fact["value"], base, "{fact}");
}

#[test]
fn levels_of_copies_are_those_of_the_dump() {
    let dir = temp_dir();
    for (command, _, document) in documents(dir.path()) {
        if ["filter", "convert", "merge"].contains(&command) {
            assert_eq!(document["dump_level"], 27, "{command}");
        }
    }
}

#[test]
fn a_failure_is_an_object_too() {
    let dir = temp_dir();
    let fixture = Machine::new(era("6.12")).build(dir.path());
    let out = dir.path().join("out");
    let limited = ["filter", "--json", "-c", "none", "-d", "0", "--limit", "3M", text(&fixture.path), text(&out)];
    let failed = run(vdump().args(limited));
    let said: Value = serde_json::from_str(&failed.stdout).unwrap_or_else(|error| panic!("{error}: {failed:?}"));
    let error = &said["error"];
    assert_eq!((&said["schema"], &said["command"], &error["kind"]), (&1.into(), &"filter".into(), &"no-space".into()));
    let partial = error["partial"][0].as_str().unwrap();
    assert!(Path::new(partial).exists() && error["next_step"].as_str().unwrap().contains(partial), "{said}");
    assert_eq!(failed.stderr.lines().last(), Some(&*format!("vdump: {}", error["message"].as_str().unwrap())));
    for command in ["info", "check", "classes"] {
        let failed = run(vdump().args([command, "--json", text(&dir.path().join("none"))]));
        let said: Value = serde_json::from_str(&failed.stdout).unwrap();
        assert_eq!((&said["command"], &said["error"]["kind"]), (&command.into(), &"input".into()), "{said}");
        assert_eq!((said["error"]["exit_code"].as_i64(), failed.code()), (Some(1), Some(1)));
    }
    // The report of a dump that is not whole was printed already.
    fs::write(&out, &fs::read(&fixture.path).unwrap()[..9000]).unwrap();
    let failed = run(vdump().args(["check", "--json", text(&out)]));
    let said: Value = serde_json::from_str(&failed.stdout).unwrap();
    assert_eq!((&said["whole"], &said["error"]), (&false.into(), &Value::Null), "{said}");
}
