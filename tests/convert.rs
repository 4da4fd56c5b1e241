//! Converting: every page of the input is in the output, in every format and back again.
//!
//! Knows fixtures and the readers of outputs. Must not know the product. Asks nothing about page classes.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::check;
use crate::harness::{Run, filter, run, temp_dir, vdump};
use crate::read::elf::{Elf, Found};
use crate::read::kdump::Kdump;
use crate::synth::kernels::era;
use crate::synth::{Fixture, Machine};

fn convert(options: &[&str], input: &Path, output: &Path) -> Run {
    run(vdump().arg("convert").args(options).arg(input).arg(output))
}

/// Poisoned and offline pages too: nobody looks at what a page was used for.
fn all_pages_of_kdump(fixture: &Fixture, path: &Path) {
    let dump = Kdump::open(path);
    check::sound(&path.display().to_string(), &dump.faults());
    for pfn in fixture.truth.pfns() {
        assert!(dump.page(pfn).as_ref() == Ok(&fixture.image.page(pfn)), "{pfn:#x}");
    }
    assert!(dump.notes().starts_with(&fixture.placed.notes));
}

fn all_pages_of_elf(fixture: &Fixture, path: &Path) {
    let dump = Elf::open(path);
    check::sound(&path.display().to_string(), &dump.faults());
    for pfn in fixture.truth.pfns() {
        let page = match dump.page(pfn) {
            Found::Stored(page) => page,
            Found::Unstored => vec![0; 4096],
            Found::Absent => panic!("{pfn:#x} is missing"),
        };
        assert!(page == fixture.image.page(pfn), "{pfn:#x}");
    }
    assert!(dump.notes().starts_with(&fixture.placed.notes));
}

#[test]
fn every_format_becomes_every_other_and_comes_back() {
    let dir = temp_dir();
    let fixture = Machine::small(era("6.12")).build(dir.path());
    let at = |name: &str| dir.path().join(name);
    for (from, to, options) in [
        ("", "a.kdump", &["-c", "lzo"][..]),
        ("a.kdump", "b.elf", &[]),
        ("b.elf", "c.elf.zst", &[]),
        ("c.elf.zst", "d.kdump", &["-c", "lzo"]),
        ("d.kdump", "e.elf.lz4", &["-j", "1"]),
        ("e.elf.lz4", "f.elf", &["--memory-limit", "64M"]),
    ] {
        let input = if from.is_empty() { fixture.path.clone() } else { at(from) };
        convert(options, &input, &at(to)).ok();
        match to.rsplit('.').next() {
            Some("kdump") => all_pages_of_kdump(&fixture, &at(to)),
            Some("elf") => all_pages_of_elf(&fixture, &at(to)),
            _ => {}
        }
    }
    assert!(fs::read(at("a.kdump")).unwrap() == fs::read(at("d.kdump")).unwrap(), "there and back is not the same");
}

#[test]
fn what_was_filtered_stays_as_it_was() {
    let dir = temp_dir();
    let fixture = Machine::small(era("6.12")).build(dir.path());
    let at = |name: &str| dir.path().join(name);
    filter(&["-d", "31", "-c", "zlib"], &fixture.path, &at("small")).ok();
    convert(&["-c", "snappy"], &at("small"), &at("other")).ok();
    let [small, other] = ["small", "other"].map(|name| Kdump::open(&at(name)));
    assert_eq!(small.kept(), other.kept());
    assert_eq!(small.ram(), other.ram());
    assert_eq!(small.field("dump_level"), other.field("dump_level"));
    for pfn in small.kept() {
        assert!(small.page(pfn) == other.page(pfn), "{pfn:#x}");
    }
}

#[test]
fn nothing_about_the_kernel_is_needed() {
    let dir = temp_dir();
    let mut machine = Machine::small(era("6.12"));
    machine.vmcoreinfo = false;
    let fixture = machine.build(dir.path());
    let out = dir.path().join("out");
    let run = convert(&["--strict"], &fixture.path, &out).ok();
    all_pages_of_kdump(&fixture, &out);
    assert!(!run.stderr.contains("note:"), "{}", run.stderr);
}

#[test]
fn a_stream_is_put_in_order() {
    let dir = temp_dir();
    let fixture = Machine::small(era("6.12")).build(dir.path());
    let at = |name: &str| dir.path().join(name);
    let stream = fs::File::create(at("stream")).unwrap();
    let made: Result<_, _> = Command::new(vdump().get_program())
        .args(["convert", "-c", "zlib"])
        .arg(&fixture.path)
        .arg("-")
        .stdout(stream)
        .status();
    assert!(made.unwrap().success());
    convert(&["-c", "zlib"], &at("stream"), &at("again")).ok();
    convert(&["-c", "zlib"], &fixture.path, &at("direct")).ok();
    assert!(fs::read(at("again")).unwrap() == fs::read(at("direct")).unwrap());
}
