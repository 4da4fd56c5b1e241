//! Compares a dump with the truth, page by page, and says everything that is wrong with it.
//!
//! Knows fixtures and readers. Must not know how a test came by the dump.

use std::collections::{BTreeSet, HashSet};
use std::path::Path;

use serde_json::Value;

use crate::read::elf::{Elf, Found};
use crate::read::kdump::{INCOMPLETE, Kdump};
use crate::read::notes;
use crate::synth::image::tagged_pfns;
use crate::synth::truth::{COUNTED, Class, LEVEL_ZERO};
use crate::synth::{CRASH_TIME, Fixture};

/// Shown of each fault's pages: enough to find the pattern.
const SHOWN: usize = 8;

fn list(fixture: &Fixture, pfns: &BTreeSet<u64>) -> String {
    let shown: Vec<String> =
        pfns.iter().take(SHOWN).map(|pfn| format!("{pfn:#x} {:?}", fixture.truth.class(*pfn))).collect();
    format!("{} pages: {}", pfns.len(), shown.join(", "))
}

/// Fails with all the faults, if there are any.
#[track_caller]
pub fn sound(label: &str, faults: &[String]) {
    assert!(faults.is_empty(), "{label}: {} faults\n{}", faults.len(), faults[..faults.len().min(20)].join("\n"));
}

/// A complete kdump file of this machine at this level.
pub fn kdump(fixture: &Fixture, level: u8, path: &Path) -> Vec<String> {
    let dump = Kdump::open(path);
    let mut faults = dump.faults();
    let mut must = |holds: bool, what: String| {
        if !holds {
            faults.push(what);
        }
    };
    let lost = fixture.truth.classes.values().any(|class| *class == Class::Unreadable);
    must((dump.field("status") & INCOMPLETE != 0) == lost, format!("marked incomplete: {}", !lost));
    let expect = [
        ("dump_level", u64::from(level)),
        ("max_mapnr_64", fixture.truth.max_pfn()),
        ("nr_cpus", fixture.cpus.max(1) as u64),
        ("tv_sec", CRASH_TIME),
        ("phys_base", fixture.phys_base),
    ];
    for (field, value) in expect {
        must(dump.field(field) == value, format!("{field} is {:#x}, not {value:#x}", dump.field(field)));
    }
    must(dump.uts() == fixture.uts, format!("utsname is {:?}", dump.uts()));
    must(notes(dump.notes()) == notes(&fixture.placed.notes), "notes differ from the input's".into());
    must(dump.vmcoreinfo().starts_with(fixture.info.as_bytes()), "offset_vmcoreinfo does not lead to it".into());

    let ram: BTreeSet<u64> = fixture.truth.pfns().collect();
    must(dump.ram() == ram, format!("bitmap 1 differs: {}", list(fixture, &(&dump.ram() ^ &ram))));
    let (kept, want) = (dump.kept(), fixture.truth.kept(level));
    must(kept.is_superset(&want), format!("lost {}", list(fixture, &(&want - &kept))));
    must(want.is_superset(&kept), format!("not dropped {}", list(fixture, &(&kept - &want))));
    let wrong = wrong_pages(fixture, &dump, &(&kept & &want));
    must(wrong.is_empty(), format!("wrong contents: {}", wrong.join("; ")));
    if level & LEVEL_ZERO != 0 {
        let zeros = kept.iter().filter(|pfn| fixture.image.is_zero(**pfn));
        let blobs: HashSet<Option<u64>> = zeros.map(|pfn| dump.desc(*pfn).map(|d| d.offset)).collect();
        must(blobs.len() <= 1, format!("zero pages have {} blobs", blobs.len()));
    }
    faults
}

fn wrong_pages(fixture: &Fixture, dump: &Kdump, pfns: &BTreeSet<u64>) -> Vec<String> {
    let mut zero_blobs = HashSet::new();
    let mut wrong = Vec::new();
    for pfn in pfns {
        let blob = dump.desc(*pfn).map(|d| d.offset);
        let zero = fixture.image.is_zero(*pfn);
        if zero && zero_blobs.contains(&blob) {
            continue;
        }
        match dump.page(*pfn) {
            Ok(page) if page == fixture.image.page(*pfn) => {
                if zero {
                    zero_blobs.insert(blob);
                }
            }
            Ok(_) => wrong.push(format!("{pfn:#x} differs")),
            Err(why) => wrong.push(format!("{pfn:#x} {why}")),
        }
    }
    wrong.truncate(SHOWN);
    wrong
}

/// A complete ELF core of this machine at this level.
pub fn elf(fixture: &Fixture, level: u8, path: &Path) -> Vec<String> {
    let core = Elf::open(path);
    let mut faults = core.faults();
    let mut bad: [(&str, BTreeSet<u64>); 3] = Default::default();
    bad[0].0 = "kept pages unreadable";
    bad[1].0 = "kept pages with wrong contents";
    bad[2].0 = "dropped pages with contents";
    for pfn in fixture.truth.pfns() {
        let found = core.page(pfn);
        let kept = !fixture.truth.class(pfn).dropped_at(level);
        let fault = match &found {
            Found::Absent => kept.then_some(0),
            Found::Unstored => (kept && !fixture.image.is_zero(pfn)).then_some(1),
            Found::Stored(page) if kept => (*page != fixture.image.page(pfn)).then_some(1),
            Found::Stored(page) => page.iter().any(|b| *b != 0).then_some(2),
        };
        if let Some(n) = fault {
            bad[n].1.insert(pfn);
        }
    }
    for (what, pfns) in bad.iter().filter(|(_, pfns)| !pfns.is_empty()) {
        faults.push(format!("{what}: {}", list(fixture, pfns)));
    }
    if notes(core.notes()) != notes(&fixture.placed.notes) {
        faults.push("notes differ from the input's".into());
    }
    faults.extend(leaks(fixture, level, &core.bytes));
    faults
}

/// No byte of a dropped page may lie anywhere in the file, whether a header leads to it or not.
pub fn leaks(fixture: &Fixture, level: u8, bytes: &[u8]) -> Vec<String> {
    let leaked: BTreeSet<u64> =
        tagged_pfns(bytes).into_iter().filter(|pfn| fixture.truth.class(*pfn).dropped_at(level)).collect();
    if leaked.is_empty() { Vec::new() } else { vec![format!("bytes of dropped pages: {}", list(fixture, &leaked))] }
}

/// The JSON report of a run at this level.
pub fn report(fixture: &Fixture, level: u8, stdout: &str) -> Vec<String> {
    let report: Value = match serde_json::from_str(stdout) {
        Ok(report) => report,
        Err(e) => return vec![format!("the report is not JSON: {e}: {stdout}")],
    };
    let truth = &fixture.truth;
    let (ram, dropped) = (truth.pfns().count() as u64, truth.dropped(level).len() as u64);
    let mut expect = vec![
        (report["complete"].clone(), Value::from(truth.count(Class::Unreadable) == 0), "complete".to_owned()),
        (report["dump_level"].clone(), level.into(), "dump_level".into()),
        (report["pages"]["ram"].clone(), ram.into(), "pages.ram".into()),
    ];
    // Zero pages stay readable; whether they count as dropped is left open at levels that name them.
    if level & LEVEL_ZERO == 0 {
        expect.push((report["pages"]["kept"].clone(), (ram - dropped).into(), "pages.kept".into()));
        expect.push((report["pages"]["dropped"].clone(), dropped.into(), "pages.dropped".into()));
    }
    for class in COUNTED {
        let row = class_row(&report, class.json_name());
        let pages = truth.count(class);
        if pages == 0 && row.is_null() {
            continue;
        }
        let name = class.json_name();
        expect.push((row["pages"].clone(), pages.into(), format!("{name}: pages")));
        expect.push((row["bytes"].clone(), (pages * 4096).into(), format!("{name}: bytes")));
        expect.push((row["dropped"].clone(), class.dropped_at(level).into(), format!("{name}: dropped")));
    }
    let differing = expect.into_iter().filter(|(got, want, _)| got != want);
    differing.map(|(got, want, what)| format!("report: {what} is {got}, not {want}")).collect()
}

pub fn class_row(report: &Value, name: &str) -> Value {
    let rows = report["classes"].as_array().cloned().unwrap_or_default();
    rows.into_iter().find(|row| row["name"] == name).unwrap_or_default()
}
