//! Is the builder itself right? Other people's tools say what they see in its fixtures.
//!
//! `judges` says which of them are installed.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use crate::harness::{filter, run, temp_dir};
use crate::judges::{installed, python_has};
use crate::read::kdump::Kdump;
use crate::synth::elf::Style;
use crate::synth::encodings::KernelEra;
use crate::synth::kernels::{ERAS, era};
use crate::synth::kinds::Kind;
use crate::synth::memmap::MemModel;
use crate::synth::pagetable::Leaf;
use crate::synth::structpage::STRUCT_PAGE;
use crate::synth::truth::Class;
use crate::synth::{Fixture, Loads, Machine};

const LEVELS: [u8; 5] = [2, 4, 8, 16, 31];

/// What makedumpfile decides otherwise: it believes misaligned buddies; it takes a poisoned tail for
/// a part of its huge page; until 1.7.3 it took a slab page with an odd `mapping` for an anonymous
/// one; and where PG_slab is not exported it takes bit 7, which is PG_waiters, for it.
const DISPUTED: [Kind; 4] = [Kind::BuddyMisaligned, Kind::ThpPoisonTail, Kind::SlabOddMapping, Kind::AnonWaiters];

/// The page that low memory ends in: makedumpfile 1.7.2 leaves it out.
const PARTIAL: u64 = 0x9f;

/// A machine that makedumpfile can read, without members that contradict themselves: one bad section makes it give up, and it takes flag bits
/// from 5 on (6.15 and later have them) for a part of the pointer.
pub fn undisputed(name: &str) -> Machine {
    let plain = KernelEra { section_flags: era(name).section_flags & 0x1f, ..era(name).clone() };
    let mut machine = Machine::new(Box::leak(Box::new(plain)));
    machine.broken_sections = false;
    machine.zoo.retain(|(kind, _)| !DISPUTED.contains(kind) && !matches!(kind, Kind::Odd(_)));
    machine
}

fn makedumpfile_agrees(machine: &Machine, label: &str) {
    if !installed("makedumpfile") {
        return;
    }
    let dir = temp_dir();
    let fixture = machine.build(dir.path());
    let differing: Vec<String> = LEVELS.iter().filter_map(|level| disagreement(&fixture, *level, dir.path())).collect();
    assert!(differing.is_empty(), "{label}:\n{}", differing.join("\n"));
}

fn disagreement(fixture: &Fixture, level: u8, dir: &Path) -> Option<String> {
    let out = dir.join(format!("judged.{level}"));
    run(Command::new("makedumpfile").args(["-l", "-d", &level.to_string()]).arg(&fixture.path).arg(&out)).ok();
    let mut kept = Kdump::open(&out).kept();
    kept.insert(PARTIAL);
    let want = fixture.truth.kept(level);
    let show = |set: BTreeSet<u64>| -> Vec<String> {
        set.iter().take(8).map(|pfn| format!("{pfn:#x} {:?}", fixture.truth.class(*pfn))).collect()
    };
    let (lost, extra) = (&want - &kept, &kept - &want);
    if lost.is_empty() && extra.is_empty() {
        return None;
    }
    Some(format!(
        "level {level}: {} more kept {:?}, {} less {:?}",
        extra.len(),
        show(extra.clone()),
        lost.len(),
        show(lost.clone())
    ))
}

/// Whether the installed makedumpfile is new enough for kernels after 6.1 (Debian 12's 1.7.2 is not).
fn knows_new_kernels() -> bool {
    let said = Command::new("makedumpfile").arg("-v").output().map(|o| o.stdout).unwrap_or_default();
    let said = String::from_utf8_lossy(&said).into_owned();
    let patch = said.split("version 1.7.").nth(1).and_then(|rest| rest.split([' ', '+', '\n']).next());
    patch.and_then(|p| p.parse::<u32>().ok()).is_some_and(|p| p >= 9)
}

#[test]
fn makedumpfile_sees_the_same_pages() {
    let known = if knows_new_kernels() { ERAS.len() } else { 5 };
    for era in &ERAS[..known] {
        makedumpfile_agrees(&undisputed(era.name), era.name);
    }
}

#[test]
fn makedumpfile_finds_the_maps_of_every_model() {
    makedumpfile_agrees(&undisputed("6.1").five_levels(), "5 levels");
    makedumpfile_agrees(&undisputed("6.1").kaslr(), "KASLR");
    let sme = Machine { sme_mask: 1 << 47, ..undisputed("6.1") };
    makedumpfile_agrees(&sme, "SME");
    for leaf in [Leaf::K4, Leaf::G1] {
        makedumpfile_agrees(&Machine { leaf, ..undisputed("6.1") }, &format!("{leaf:?}"));
    }
    for model in [MemModel::Extreme, MemModel::Plain] {
        makedumpfile_agrees(&Machine { model, ..undisputed("6.1") }, &format!("{model:?}"));
    }
    makedumpfile_agrees(&Machine { loads: Loads::Overlapping, ..undisputed("6.1") }, "overlapping PT_LOADs");
}

/// What libkdumpfile must be able to do with a fixture: find the kernel's name and a struct page,
/// both by kernel addresses, so through the page tables.
const OPEN_AND_TRANSLATE: &str = "
import sys, kdumpfile
core = kdumpfile.kdumpfile(sys.argv[1])
core.attr['addrxlat.ostype'] = 'linux'
print(core.attr['linux.uts.release'])
print(core.read(kdumpfile.KDUMP_KVADDR, int(sys.argv[2]), 64).hex())
";

/// Python's own search path, not that of an environment someone has active.
pub const PYTHON: &str = "/usr/bin/python3";

pub fn libkdumpfile() -> bool {
    python_has(PYTHON, "kdumpfile", "python3-libkdumpfile")
}

#[test]
fn libkdumpfile_translates_the_same_addresses() {
    if !libkdumpfile() {
        return;
    }
    let machines = [
        undisputed("6.1"),
        undisputed("6.1").five_levels().kaslr(),
        Machine { style: Style::Qemu, ..undisputed("6.12").kaslr() },
    ];
    for machine in machines {
        let dir = temp_dir();
        let fixture = machine.build(dir.path());
        let (pfn, page) =
            fixture.struct_pages.iter().find(|(pfn, _)| fixture.truth.class(**pfn) == Class::User).unwrap();
        let address = machine.vmemmap + pfn * STRUCT_PAGE;
        let mut command = Command::new(PYTHON);
        command.args(["-c", OPEN_AND_TRANSLATE]).arg(&fixture.path).arg(address.to_string());
        let hex: String = page.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(run(&mut command).ok().stdout, format!("{}\n{hex}\n", machine.era.release));
    }
}

/// Reads each page of a list from the full core and from the dump: they must be equal, and pages of
/// the second list must not be there.
const COMPARE: &str = "
import sys, kdumpfile
full, dump = (kdumpfile.kdumpfile(name) for name in sys.argv[1:3])
kept, dropped = ([int(pfn) for pfn in open(name)] for name in sys.argv[3:5])
read = lambda core, pfn: core.read(kdumpfile.KDUMP_MACHPHYSADDR, pfn << 12, 4096)
for pfn in kept:
    assert read(full, pfn) == read(dump, pfn), hex(pfn)
for pfn in dropped:
    try:
        read(dump, pfn)
    except kdumpfile.exceptions.NoDataException:
        continue
    raise AssertionError(hex(pfn) + ' can be read')
print(len(kept), dump.attr['linux.uts.release'])
";

/// The decoders of libkdumpfile are those that people will use: liblzo2, libsnappy, zlib, libzstd.
#[test]
fn libkdumpfile_reads_every_codec() {
    if !libkdumpfile() {
        return;
    }
    let dir = temp_dir();
    let machine = undisputed("6.12");
    let fixture = machine.build(dir.path());
    let list = |name: &str, pfns: BTreeSet<u64>| {
        let path = dir.path().join(name);
        std::fs::write(&path, pfns.iter().map(|pfn| format!("{pfn}\n")).collect::<String>()).unwrap();
        path
    };
    for level in ["1", "31"] {
        let bits = level.parse().unwrap();
        let kept: BTreeSet<u64> = fixture.truth.kept(bits).into_iter().filter(|pfn| *pfn != PARTIAL).collect();
        let some: BTreeSet<u64> = kept.iter().copied().filter(|p| fixture.truth.classes.contains_key(p)).collect();
        let few: BTreeSet<u64> = kept.iter().copied().step_by(37).collect();
        let (kept, dropped) = (list("kept", &some | &few), list("dropped", fixture.truth.dropped(bits)));
        for codec in ["none", "zlib", "lzo", "snappy", "zstd", "elf"] {
            let out = dir.path().join("out");
            let options = if codec == "elf" { ["-f", "elf"] } else { ["-c", codec] };
            filter(&[&options[..], &["-d", level, "--force"]].concat(), &fixture.path, &out).ok();
            let mut command = Command::new(PYTHON);
            // ELF readers cannot tell zeros from what is missing, and say so in different ways.
            let dropped = if codec == "elf" { Path::new("/dev/null") } else { &dropped };
            let kept = if codec == "elf" { list("full", not_zero(&fixture, &kept)) } else { kept.clone() };
            command.args(["-c", COMPARE]).arg(&fixture.path).arg(&out).arg(kept).arg(dropped);
            let said = run(&mut command);
            assert!(
                said.code() == Some(0) && said.stdout.contains(machine.era.release),
                "{codec} -d {level}: {said:?}"
            );
        }
    }
}

fn not_zero(fixture: &Fixture, list: &Path) -> BTreeSet<u64> {
    let text = std::fs::read_to_string(list).unwrap();
    text.lines().map(|line| line.parse().unwrap()).filter(|pfn| !fixture.image.is_zero(*pfn)).collect()
}
