//! `vdump explain` and `vdump classes`: do they say of each page what it is, and of each dump what it has?
//!
//! Knows fixtures and their truth. Must not know the product.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::{Run, filter, run, temp_dir, vdump};
use crate::read::kdump::Kdump;
use crate::refusal::none_of;
use crate::synth::elf::Style;
use crate::synth::kernels::era;
use crate::synth::kinds::Kind;
use crate::synth::machine::{GIB, MIB};
use crate::synth::truth::{COUNTED, Class};
use crate::synth::{Fixture, Machine};

const PAGE: u64 = 4096;

fn hex(numbers: impl IntoIterator<Item = u64>) -> String {
    numbers.into_iter().map(|number| format!("{number:#x}")).collect::<Vec<_>>().join(",")
}

fn explained(inputs: &[PathBuf], option: &str, numbers: &[u64]) -> Vec<Value> {
    let words = ["explain", "--json", option, &hex(numbers.iter().copied())];
    let said = run(vdump().args(words).args(inputs)).ok();
    let report: Value = serde_json::from_str(&said.stdout).unwrap();
    report["pages"].as_array().unwrap().clone()
}

fn explain(input: &Path, pfns: &[u64]) -> Vec<Value> {
    explained(&[input.to_owned()], "--pfn", pfns)
}

fn classes(options: &[&str], input: &Path) -> Value {
    let said = run(vdump().args(["classes", "--json", "--progress", "none"]).args(options).arg(input)).ok();
    serde_json::from_str(&said.stdout).unwrap()
}

/// The pages at which the class changes, and some of all others.
fn telling(fixture: &Fixture) -> Vec<u64> {
    let class = |pfn: u64| fixture.truth.is_ram(pfn).then(|| fixture.truth.class(pfn));
    let edge = |pfn: u64| class(pfn) != class(pfn + 1) || pfn > 0 && class(pfn) != class(pfn - 1);
    fixture.truth.pfns().filter(|pfn| edge(*pfn) || pfn % 97 == 0).take(4000).collect()
}

/// Whether a story has the page's class: the kernel's own memory is told apart further.
fn is_class(story: &Value, class: Class) -> bool {
    match story["class"].as_str() {
        Some("slab") => class == Class::Kernel,
        Some(name) => name == class.json_name(),
        None => false,
    }
}

fn differing(fixture: &Fixture, label: &str) -> Vec<String> {
    let pfns = telling(fixture);
    let stories = explain(&fixture.path, &pfns);
    assert_eq!(stories.len(), pfns.len());
    let mut faults = Vec::new();
    for (pfn, story) in pfns.into_iter().zip(stories) {
        let class = fixture.truth.class(pfn);
        let dropped: Vec<u64> = story["dropped_at"].as_array().unwrap().iter().map(|l| l.as_u64().unwrap()).collect();
        let want: Vec<u64> = (0..32u64).filter(|level| class.dropped_at(*level as u8)).collect();
        let untold = story["why"].as_array().unwrap().is_empty();
        if story["pfn"] != pfn || !is_class(&story, class) || dropped != want || untold {
            faults.push(format!("{label}: {pfn:#x} is {class:?}, told as {}: {}", story["class"], story["why"]));
        }
        let zero = fixture.image.page(pfn).iter().all(|byte| *byte == 0);
        if !matches!(class, Class::HwPoison | Class::Offline) && story["content"]["zero"] != zero {
            faults.push(format!("{label}: {pfn:#x} zero is {zero}, told as {}", story["content"]));
        }
    }
    faults
}

/// The whole zoo of every era that encodes something anew.
/// An address in JSON.
fn in_hex(address: u64) -> Value {
    format!("{address:#x}").into()
}

#[test]
fn every_page_is_told_as_what_it_is() {
    for name in ["3.10", "4.4", "4.18", "6.1", "6.6", "6.11", "6.12", "7.1"] {
        let dir = temp_dir();
        none_of(&differing(&Machine::new(era(name)).build(dir.path()), name));
    }
}

#[test]
fn counts_are_those_of_the_truth() {
    for name in ["3.10", "6.1", "6.12"] {
        let dir = temp_dir();
        let fixture = Machine::new(era(name)).build(dir.path());
        let report = classes(&["--zero"], &fixture.path);
        let row = |name: &str| {
            let rows = report["classes"].as_array().unwrap();
            rows.iter().find(|row| row["name"] == name).map_or(0, |row| row["pages"].as_u64().unwrap())
        };
        for class in COUNTED {
            assert_eq!(row(class.json_name()), fixture.truth.count(class), "{name} {class:?}");
        }
        assert_eq!(row("kernel") + row("slab"), fixture.truth.count(Class::Kernel), "{name}");
        assert_eq!(report["ram_pages"], fixture.truth.pfns().count() as u64);
        for line in report["levels"].as_array().unwrap() {
            let level = line["level"].as_u64().unwrap() as u8;
            let kept = fixture.truth.kept(level);
            let zero = kept.iter().filter(|pfn| fixture.image.page(**pfn).iter().all(|byte| *byte == 0)).count();
            let stored = if level & 1 == 1 { kept.len() - zero } else { kept.len() };
            let said = ["kept_pages", "zero_pages", "bytes"].map(|key| line[key].as_u64().unwrap());
            assert_eq!(said, [kept.len() as u64, zero as u64, stored as u64 * PAGE], "{name} {level}");
        }
        // Zones need more than these kernels' notes say.
        let said = classes(&["-v"], &fixture.path);
        assert!(said["zones_unknown"].as_str().unwrap().contains("--vmlinux"), "{said}");
        let quick = classes(&[], &fixture.path);
        assert_eq!(quick["classes"][0]["pages"], report["classes"][0]["pages"]);
        assert!(quick["levels"][0]["zero_pages"].is_null());
    }
}

#[test]
fn a_filtered_dump_knows_what_it_left_out() {
    let dir = temp_dir();
    let fixture = Machine::new(era("6.12")).build(dir.path());
    let out = dir.path().join("out");
    filter(&["-d", "27"], &fixture.path, &out).ok();
    let pfns = telling(&fixture);
    let told = explain(&out, &pfns);
    for (pfn, story) in pfns.into_iter().zip(told) {
        let class = fixture.truth.class(pfn);
        let presence = &story["memory"]["presence"];
        assert!(is_class(&story, class), "{pfn:#x} {class:?}: {story}");
        assert_eq!(presence, if class.dropped_at(27) { "excluded" } else { "stored" }, "{pfn:#x} {story}");
        assert_eq!(story["content"]["zero"].is_null(), class.dropped_at(27), "{story}");
    }
    let report = classes(&[], &out);
    assert_eq!(report["absent_pages"], fixture.truth.dropped(27).len() as u64);
    assert_eq!(report["ram_pages"], fixture.truth.pfns().count() as u64);
}

#[test]
fn what_is_no_memory_is_told_so() {
    let dir = temp_dir();
    let fixture = Machine::small(era("6.12")).build(dir.path());
    // Between two ranges, and far above all.
    for (pfn, sectioned) in [(0xa0, true), (70 * MIB / PAGE, true), (GIB * 900 / PAGE, false), ((1 << 40) - 1, false)] {
        let story = &explain(&fixture.path, &[pfn])[0];
        assert_eq!((&story["memory"]["presence"], &story["class"]), (&"none".into(), &Value::Null), "{story}");
        assert_eq!(story["section"]["mem_map"].is_null(), !sectioned, "{story}");
        assert!(story["content"]["zero"].is_null());
        assert_eq!(story["dropped_at"].as_array().unwrap().len(), 0);
    }
}

#[test]
fn a_cut_copy_says_that_it_was_cut() {
    let dir = temp_dir();
    let fixture = Machine::small(era("6.12")).build(dir.path());
    let last = fixture.truth.max_pfn() - 1;
    let file = File::options().write(true).open(&fixture.path).unwrap();
    file.set_len(fixture.offset_of(last * PAGE)).unwrap();
    let story = &explain(&fixture.path, &[last])[0];
    assert_eq!(story["memory"]["presence"], "lost", "{story}");
    assert!(story["memory"]["explanation"].as_str().unwrap().contains("truncated"), "{story}");
    assert_eq!(explain(&fixture.path, &[last - 1])[0]["memory"]["presence"], "stored");
}

#[test]
fn addresses_lead_to_the_same_page() {
    let dir = temp_dir();
    for machine in [Machine::small(era("6.12")), Machine::small(era("6.1")).five_levels().kaslr()] {
        let fixture = machine.build(dir.path());
        let pfn = *fixture.truth.classes.iter().find(|(_, class)| **class == Class::User).unwrap().0;
        let by_pfn = explain(&fixture.path, &[pfn]).remove(0);
        let inputs = [fixture.path.clone()];
        let by_paddr = explained(&inputs, "--paddr", &[pfn * PAGE + 77]).remove(0);
        let vaddr = machine.page_offset + pfn * PAGE + 99;
        let by_vaddr = explained(&inputs, "--vaddr", &[vaddr]).remove(0);
        for other in [&by_paddr, &by_vaddr] {
            for key in ["pfn", "class", "why", "struct_page", "memory"] {
                assert_eq!(other[key], by_pfn[key], "{key}");
            }
        }
        let way = &by_vaddr["translation"];
        assert_eq!((&way["paddr"], &way["page_bytes"]), (&in_hex(pfn * PAGE + 99), &GIB.into()));
        assert_eq!(way["vaddr"], in_hex(vaddr));
        // A GiB is one entry of the third table from below.
        assert_eq!(way["entries"].as_array().unwrap().len(), machine.levels as usize - 2);
        assert_eq!(by_pfn["memory"]["segments"][0]["page_vaddr"], in_hex(machine.page_offset + pfn * PAGE));
        let image = explained(&inputs, "--vaddr", &[machine.image_va() + 5]).remove(0);
        assert_eq!(
            (&image["paddr"], &image["translation"]["page_bytes"]),
            (&in_hex(machine.image_pa), &(2 * MIB).into())
        );
        let nowhere = explained(&inputs, "--vaddr", &[0xffff_ffff_ff00_0000]).remove(0);
        assert!(nowhere["pfn"].is_null() && nowhere["translation"]["cause"].as_str().unwrap().contains("not mapped"));
    }
}

#[test]
fn what_never_goes_says_why() {
    let dir = temp_dir();
    let mut machine = Machine::small(era("6.12"));
    let pfn = machine.image_pa / PAGE + 8;
    machine.planted.push((pfn, Kind::Anon, Class::Protected));
    let fixture = machine.build(dir.path());
    let story = &explain(&fixture.path, &[pfn])[0];
    assert_eq!((&story["class"], &story["protected"][0]), (&"protected".into(), &"kernel image".into()), "{story}");
    let why = story["why"].to_string();
    assert!(why.contains("anon+swapbacked -> user") && why.contains("kernel image"), "{why}");
}

#[test]
fn a_page_in_a_block_names_its_head() {
    let dir = temp_dir();
    let fixture = Machine::small(era("6.12")).build(dir.path());
    let last_of = |class: Class| *fixture.truth.classes.iter().rev().find(|(_, of)| **of == class).unwrap().0;
    for (class, kind) in [(Class::Hugetlb, "compound"), (Class::Free, "free")] {
        let pfn = last_of(class);
        let story = &explain(&fixture.path, &[pfn])[0];
        let (head, order) = (story["block"]["head_pfn"].as_u64().unwrap(), story["block"]["order"].as_u64().unwrap());
        assert_eq!((story["block"]["kind"].as_str(), head + (1 << order) - 1), (Some(kind), pfn), "{story}");
        assert!((head..=pfn).all(|pfn| fixture.truth.class(pfn) == class));
    }
}

#[test]
fn a_split_set_is_one_dump() {
    let dir = temp_dir();
    let fixture = Machine::small(era("6.12")).build(dir.path());
    let (whole, out) = (dir.path().join("whole"), dir.path().join("out"));
    filter(&["-d", "8"], &fixture.path, &whole).ok();
    filter(&["-d", "8", "--split", "3"], &fixture.path, &out).ok();
    let parts: Vec<PathBuf> = [3, 1, 2].iter().map(|n| dir.path().join(format!("out-{n}"))).collect();
    let pfns: Vec<u64> = telling(&fixture).into_iter().step_by(3).collect();
    assert_eq!(explained(&parts, "--pfn", &pfns), explain(&whole, &pfns));
    let lone = run(vdump().args(["explain", "--pfn", "1"]).arg(&parts[0]));
    assert!(lone.ok().stdout.contains("a part of the split dump is missing"));
}

/// Without the kernel's own description there is still the page itself.
#[test]
fn without_vmcoreinfo_the_page_is_told_and_no_class() {
    let dir = temp_dir();
    let fixture = Machine { vmcoreinfo: false, ..Machine::small(era("6.12")) }.build(dir.path());
    let story = &explain(&fixture.path, &[0x4000])[0];
    assert_eq!(story["memory"]["presence"], "none");
    let story = &explain(&fixture.path, &[0x2000])[0];
    assert_eq!((&story["memory"]["presence"], &story["class"]), (&"stored".into(), &Value::Null));
    let refused = |words: &[&str], code: i32, what: &str| {
        let run = run(vdump().args(words).arg(&fixture.path));
        assert!(run.code() == Some(code) && run.stderr.contains(what), "{words:?}: {}", run.stderr);
    };
    refused(&["explain", "--vaddr", "0xffffffff81000000"], 1, "VMCOREINFO");
    refused(&["classes"], 1, "VMCOREINFO");
}

#[test]
fn bad_words_are_usage() {
    let dir = temp_dir();
    let fixture = Machine::small(era("6.12")).build(dir.path());
    for words in [
        &["explain"][..],
        &["explain", "--pfn", "x"],
        &["explain", "--pfn", "-1"],
        &["explain", "--pfn", "0x10000000000"],
        &["explain", "--pfn", "0xffffffffffffffff"],
        &["explain", "--paddr", "0x10000000000000"],
        &["explain", "--vaddr", "0x7fff12345000"],
        &["explain", "--vaddr", "0x888800000000000"],
        &["classes", "--limit", "5"],
    ] {
        let run = run(vdump().args(words).arg(&fixture.path));
        assert_eq!(run.code(), Some(2), "{words:?}: {}", run.stderr);
        assert!(!run.stderr.is_empty());
    }
    let missing = run(vdump().args(["classes", "/nowhere/vmcore"]));
    assert!(missing.code() == Some(1) && missing.stderr.contains("/nowhere/vmcore"), "{}", missing.stderr);
    let small = run(vdump().args(["classes", "--memory-limit", "1M"]).arg(&fixture.path));
    assert!(small.code() == Some(1) && small.stderr.contains("--memory-limit"), "{}", small.stderr);
}

/// A page of which the memory map says anything at all.
#[test]
fn a_memory_map_of_noise_is_told_as_it_is_filtered() {
    for (seed, name) in [(1u64, "4.4"), (2, "6.1"), (3, "7.1")] {
        let dir = temp_dir();
        let fixture = Machine::small(era(name)).build(dir.path());
        let file = File::options().write(true).open(&fixture.path).unwrap();
        let mut rng = fastrand::Rng::with_seed(seed);
        for n in (0..(2u64 << 20) / 8).step_by(1 + seed as usize * 3) {
            file.write_all_at(&rng.u64(..).to_le_bytes(), fixture.offset_of(80 * MIB) + n * 8).unwrap();
        }
        let out = dir.path().join("out");
        let run: Run = filter(&["-d", "30", "--json", "--progress", "none"], &fixture.path, &out).ok();
        let report: Value = serde_json::from_str(&run.stdout).unwrap();
        let kept: BTreeSet<u64> = Kdump::open(&out).kept();
        let pfns: Vec<u64> = fixture.truth.pfns().step_by(11).collect();
        for (pfn, story) in pfns.iter().zip(explain(&fixture.path, &pfns)) {
            let dropped = story["dropped_at"].as_array().unwrap().iter().any(|level| level == 30);
            assert_eq!(dropped, !kept.contains(pfn), "{name} {pfn:#x}: {story}");
        }
        let counted = classes(&[], &fixture.path);
        let pages = |report: &Value| -> Vec<(String, u64)> {
            let rows = report["classes"].as_array().unwrap().iter();
            let rows = rows.map(|row| (row["name"].as_str().unwrap().to_owned(), row["pages"].as_u64().unwrap()));
            rows.filter(|(name, _)| name != "zero").collect()
        };
        assert_eq!(pages(&counted), pages(&report), "{name}");
    }
}

/// The repository's real crash: what is told of a page is what happens to it at each level.
#[test]
fn the_sample_is_told_as_it_is_filtered() {
    let dir = temp_dir();
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vmcore-6.12.zst");
    let pfns: Vec<u64> = (1..0xb000).step_by(61).collect();
    let stories = explain(&sample, &pfns);
    for level in [0u64, 2, 4, 8, 16, 30] {
        let out = dir.path().join(format!("out.{level}"));
        filter(&["-d", &level.to_string(), "-c", "none"], &sample, &out).ok();
        let dump = Kdump::open(&out);
        let (ram, kept) = (dump.ram(), dump.kept());
        for (pfn, story) in pfns.iter().zip(&stories) {
            let dropped = story["dropped_at"].as_array().unwrap().iter().any(|at| *at == level);
            assert_eq!(story["class"].is_null(), !ram.contains(pfn), "{pfn:#x}");
            assert_eq!(dropped, ram.contains(pfn) && !kept.contains(pfn), "{pfn:#x} at {level}: {story}");
            if kept.contains(pfn) {
                let zero = dump.page(*pfn).unwrap().iter().all(|byte| *byte == 0);
                assert_eq!(story["content"]["zero"], zero, "{pfn:#x}");
            }
        }
        fs::remove_file(&out).unwrap();
    }
    // Its own types name flags and zones.
    let user = stories.iter().find(|story| story["class"] == "user").unwrap();
    let flags: Vec<_> = user["struct_page"]["flags"].as_array().unwrap().iter().map(|flag| &flag["name"]).collect();
    assert!(flags.iter().any(|name| *name == "uptodate" || *name == "lru"), "{user}");
    assert_eq!(user["zones"][0], "node 0 DMA32");
    let zones = classes(&["-v"], &sample)["zones"].clone();
    let names: Vec<_> = zones.as_array().unwrap().iter().map(|zone| zone["zone"].as_str().unwrap()).collect();
    assert_eq!(names, ["DMA", "DMA32"]);
}

#[test]
fn people_get_lines_and_no_escape_sequences() {
    let dir = temp_dir();
    let fixture = Machine::small(era("6.12")).build(dir.path());
    let pfn = *fixture.truth.classes.iter().find(|(_, class)| **class == Class::CachePrivate).unwrap().0;
    let said = run(vdump().args(["explain", "--pfn", &pfn.to_string()]).arg(&fixture.path)).ok().stdout;
    for word in ["class           cache-private", "because", "struct page", "level           excluded", "RAM"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert!(said.bytes().all(|byte| byte == b'\n' || (b' '..=b'~').contains(&byte)), "{said}");
    let table = run(vdump().args(["classes"]).arg(&fixture.path)).ok().stdout;
    assert!(table.contains("cache-private") && table.contains("--zero"), "{table}");
}

#[test]
fn a_copy_of_a_running_kernels_memory_is_said_to_be_one() {
    let dir = temp_dir();
    let fixture = Machine { running: true, style: Style::ProcVmcore, ..Machine::small(era("6.12")) }.build(dir.path());
    let info = run(vdump().arg("info").arg(&fixture.path)).ok().stdout;
    assert!(info.contains("running kernel"), "{info}");
    let report = classes(&[], &fixture.path);
    assert!(report["warnings"].to_string().contains("copied while"), "{report}");
    assert_eq!(report["live"], false);
    filter(&["-d", "31"], &fixture.path, &dir.path().join("out")).ok();
}
