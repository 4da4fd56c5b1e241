//! Dumps without a VMCOREINFO note, as hypervisors make them: the kernel's own note lies in their memory.
//!
//! Knows fixtures and the readers of outputs. Must not know how the product searches.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::check;
use crate::harness::{Run, filter, run, temp_dir, vdump};
use crate::read::elf::Elf;
use crate::read::notes;
use crate::refusal::{badly_failed, none_of};
use crate::synth::elf::{self, Note, NoteSegment, note_bytes};
use crate::synth::kernels::era;
use crate::synth::klog::Record;
use crate::synth::{Fixture, Machine};

/// Kernel memory without contents, below the image.
const NOTE: u64 = 2 << 20;

fn machine() -> Machine {
    Machine { vmcoreinfo: false, log: vec![Record::new(7, "a machine that crashed")], ..Machine::small(era("6.12")) }
}

fn vmcoreinfo(text: &str) -> Note {
    Note { name: "VMCOREINFO", kind: 0, desc: text.as_bytes().to_vec() }
}

/// A core without the note, and these notes in its memory.
fn noted(dir: &Path, machine: &Machine, places: &[(u64, &str)]) -> Fixture {
    let mut fixture = machine.build(dir);
    for (at, text) in places {
        let text = if text.is_empty() { fixture.info.clone() } else { text.to_string() };
        fixture.image.poke(*at, &note_bytes(&vmcoreinfo(&text)));
    }
    let segments = machine.note_segments(fixture.info.as_bytes());
    fixture.placed = elf::write(&fixture.path, machine.style, &segments, &machine.pt_loads(), &fixture.image);
    fixture
}

/// The fixture as its outputs are to be: with the note.
fn with_note(mut fixture: Fixture) -> Fixture {
    fixture.placed.notes.extend(note_bytes(&vmcoreinfo(&fixture.info)));
    fixture
}

fn words(command: &str, words: &[&str], input: &Path) -> Run {
    run(vdump().arg(command).args(words).arg(input))
}

/// The same memory in every container.
pub fn in_all_containers(core: &Path, dir: &Path) -> Vec<(&'static str, PathBuf)> {
    let kdump = dir.join("a.kdump");
    run(vdump().args(["convert", "--progress", "none"]).arg(core).arg(&kdump)).ok();
    let (flat, packed, framed) = (dir.join("a.flat"), dir.join("a.zst"), dir.join("framed.zst"));
    let status = vdump()
        .args(["convert", "--progress", "none"])
        .arg(core)
        .arg("-")
        .stdout(File::create(&flat).unwrap())
        .status();
    assert!(status.unwrap().success());
    let status = Command::new("zstd").args(["-q", "-1"]).arg(core).arg("-o").arg(&packed).status();
    assert!(status.unwrap().success());
    run(vdump().args(["convert", "--progress", "none"]).arg(core).arg(&framed)).ok();
    vec![("ELF", core.to_owned()), ("kdump", kdump), ("flattened", flat), ("zstd", packed), ("frames", framed)]
}

#[test]
fn a_note_in_memory_serves_every_container_and_command() {
    let dir = temp_dir();
    let fixture = noted(dir.path(), &machine(), &[(NOTE, "")]);
    let inputs = in_all_containers(&fixture.path, dir.path());
    let fixture = with_note(fixture);
    for (container, input) in inputs {
        let out = dir.path().join("out");
        let said = filter(&["--force"], &input, &out).ok().stderr;
        check::sound(container, &check::kdump(&fixture, 31, &out));
        assert!(said.contains("found by its content at 0x200000"), "{container}: {said}");
        let core = dir.path().join("out.elf");
        filter(&["--force", "-d", "0", "--vmcoreinfo", "2M"], &input, &core).ok();
        check::sound(container, &check::elf(&fixture, 0, &core));
        let nothing_there = filter(&["--vmcoreinfo", "0x201000"], &input, &dir.path().join("never"));
        none_of(&badly_failed(&nothing_there, &dir.path().join("never")));
        assert!(nothing_there.stderr.contains("/sys/kernel/vmcoreinfo"), "{container}: {}", nothing_there.stderr);
        let info = words("info", &[], &input).ok().stdout;
        assert!(info.contains("found in memory at 0x200000") && info.contains("6.12"), "{container}: {info}");
        assert!(words("dmesg", &[], &input).ok().stdout.contains("a machine that crashed"), "{container}");
        let story = words("explain", &["--pfn", "0x1000", "--json"], &input).ok().stdout;
        assert!(
            serde_json::from_str::<Value>(&story).unwrap()["pages"][0]["class"].is_string(),
            "{container}: {story}"
        );
        assert!(words("classes", &[], &input).ok().stdout.contains("slab"), "{container}");
        assert!(words("layout", &["--from"], &input).ok().stdout.contains("SIZE(page)=64"), "{container}");
    }
}

/// It keeps every page and asks nothing of the kernel, but takes what it is told.
#[test]
fn convert_adds_the_note_that_is_named() {
    let dir = temp_dir();
    let fixture = noted(dir.path(), &machine(), &[(NOTE, "")]);
    let (plain, named) = (dir.path().join("plain.elf"), dir.path().join("named.elf"));
    run(vdump().arg("convert").arg(&fixture.path).arg(&plain)).ok();
    assert_eq!(notes(Elf::open(&plain).notes()), notes(&fixture.placed.notes));
    run(vdump().args(["convert", "--vmcoreinfo", "2M"]).arg(&fixture.path).arg(&named)).ok();
    check::sound("named", &check::elf(&with_note(fixture), 0, &named));
}

/// Guests and earlier boots leave notes behind; a kernel's own leads to page tables that map themselves.
#[test]
fn of_several_notes_page_tables_tell_the_kernels_own() {
    let dir = temp_dir();
    let machine = machine();
    let info = machine.build(dir.path()).info;
    let elsewhere: String = info
        .lines()
        .map(|line| {
            if line.starts_with("SYMBOL(") {
                "SYMBOL(swapper_pg_dir)=ffffffff83000000\n".into()
            } else {
                format!("{line}\n")
            }
        })
        .collect();
    let other = format!("OSRELEASE=5.10.0\n{}", elsewhere.split_once('\n').unwrap().1);
    let fixture = with_note(noted(dir.path(), &machine, &[(NOTE + 0x4000, &other), (NOTE + 0x9124, "")]));
    let out = dir.path().join("out");
    let said = filter(&[], &fixture.path, &out).ok().stderr;
    check::sound("two", &check::kdump(&fixture, 31, &out));
    assert!(said.contains("at 0x209124") && said.contains("1 other notes"), "{said}");
    // Two that are borne out alike: the user says which.
    let twin = info.replace("OSRELEASE=6.12", "OSRELEASE=6.11");
    let fixture = noted(dir.path(), &machine, &[(NOTE, &twin), (NOTE + 0x4000, "")]);
    let never = dir.path().join("never");
    let refused = filter(&[], &fixture.path, &never);
    none_of(&badly_failed(&refused, &never));
    for part in ["0x200000 (6.11", "0x204000 (6.12", "--vmcoreinfo ADDR"] {
        assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
    }
    // What needs no kernel is made.
    filter(&["-d", "1", "--force"], &fixture.path, &out).ok();
    filter(&["--force", "--vmcoreinfo", "0x204000"], &fixture.path, &out).ok();
    check::sound("named", &check::kdump(&with_note(fixture), 31, &out));
}

/// Nobody knows the kernel: files that describe one are no reason to refuse what needs no kernel.
#[test]
fn without_any_note_files_do_not_stop_what_needs_no_kernel() {
    let dir = temp_dir();
    let fixture = noted(dir.path(), &machine(), &[]);
    let layout = dir.path().join("layout");
    fs::write(&layout, &fixture.info).unwrap();
    let (out, layout) = (dir.path().join("out"), layout.to_str().unwrap());
    let said = filter(&["-d", "1", "-i", layout], &fixture.path, &out).ok().stderr;
    assert!(said.contains("was not used"), "{said}");
    let never = dir.path().join("never");
    let refused = filter(&["-i", layout], &fixture.path, &never);
    none_of(&badly_failed(&refused, &never));
    assert!(refused.stderr.contains("in its notes or in the memory that it has"), "{}", refused.stderr);
}

/// The repository's real crash without its note: nothing else of it changes.
#[test]
fn the_sample_without_its_note_is_filtered_as_with_it() {
    let dir = temp_dir();
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/vmcore-6.12.zst");
    let bare = dir.path().join("bare.elf");
    let status = Command::new("zstd").args(["-q", "-d", "--long=27"]).arg(&sample).arg("-o").arg(&bare).status();
    assert!(status.unwrap().success());
    let file = File::options().read(true).write(true).open(&bare).unwrap();
    let mut front = vec![0; 1 << 20];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut front, 0).unwrap();
    let at = front.windows(11).position(|bytes| bytes == b"VMCOREINFO\0").unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"VMCOREXXXX", at as u64).unwrap();
    let report = |input: &Path| -> Value {
        let said = run(vdump().args(["filter", "--dry-run", "--json", "--progress", "none"]).arg(input)).ok();
        serde_json::from_str(&said.stdout).unwrap()
    };
    let (with, without) = (report(&sample), report(&bare));
    assert_eq!(without["pages"]["kept"], 15740);
    assert_eq!((&with["pages"], &with["classes"]), (&without["pages"], &without["classes"]));
}

/// Under Xen dom0's kernel numbers its frames in its own way: what its struct pages say is not said of this memory.
#[test]
fn what_xen_ran_is_not_classified() {
    let dir = temp_dir();
    let machine = Machine::small(era("6.12"));
    let mut fixture = machine.build(dir.path());
    let mut segments: Vec<NoteSegment> = machine.note_segments(fixture.info.as_bytes());
    segments[0].notes.push(Note { name: "Xen", kind: 0x0100_0001, desc: vec![0; 80] });
    fixture.placed = elf::write(&fixture.path, machine.style, &segments, &machine.pt_loads(), &fixture.image);
    let never = dir.path().join("never");
    for level in ["31", "2", "8"] {
        let refused = filter(&["-d", level], &fixture.path, &never);
        none_of(&badly_failed(&refused, &never));
        assert!(refused.stderr.contains("Xen") && refused.stderr.contains("-d 1"), "{}", refused.stderr);
    }
    let out = dir.path().join("out.elf");
    let said = filter(&["-d", "1"], &fixture.path, &out).ok().stderr;
    assert!(said.contains("Xen"), "{said}");
    let core = Elf::open(&out);
    for pfn in fixture.truth.pfns() {
        let zero = fixture.image.is_zero(pfn);
        let right = match core.page(pfn) {
            crate::read::elf::Found::Stored(page) => page == fixture.image.page(pfn),
            _ => zero,
        };
        assert!(right, "{pfn:#x}");
    }
}
