//! `--virtual`: what an ELF dump shows at the kernel's virtual addresses, whatever its page tables say.
//!
//! Knows fixtures, their mappings and the reader of outputs. Must not know the product.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::check::sound;
use crate::harness::{Run, filter, run, temp_dir, vdump, vdump_with};
use crate::read::elf::{Elf, Found};
use crate::refusal::{badly_failed, none_of};
use crate::synth::elf::Style;
use crate::synth::kernels::era;
use crate::synth::machine::{GIB, MIB};
use crate::synth::pagetable::Leaf;
use crate::synth::{Fixture, Machine};

const PAGE: u64 = 4096;
const MODULES: u64 = 0xffff_ffff_c000_0000;
const CPU_ENTRY: u64 = 0xffff_fe00_0000_1000;
const FIXMAP: u64 = 0xffff_ffff_ff5f_b000;
/// Mapped, but of no use to anybody: stacks for 16-bit code, firmware, and the hole behind the fixed mappings.
const UNUSED: [u64; 3] = [0xffff_ff00_0000_0000, 0xffff_fffe_f000_0000, 0xffff_ffff_ffff_f000];
/// Pages that nothing else uses, for page tables made by hand.
const TABLES: u64 = 32 * MIB + 512 * 1024;
const BITS: u64 = 0x63;

/// Where a machine's vmalloc area begins.
fn vmalloc(machine: &Machine) -> u64 {
    if machine.levels == 5 { 0xffa0_0000_0000_0000 } else { 0xffff_c900_0000_0000 }
}

/// Mappings of each kind and size: pages one by one, in a row and backwards, large pages over memory of all classes, and
/// memory that is not there.
fn with_maps(mut machine: Machine) -> Machine {
    let area = vmalloc(&machine);
    machine.maps = vec![
        (area, 32 * MIB, 32 * MIB, Leaf::M2),
        (area + GIB, 4 * GIB, GIB, Leaf::G1),
        (area + 3 * GIB, 0xfee0_0000, PAGE, Leaf::K4),
        (CPU_ENTRY, 17 * MIB, PAGE, Leaf::K4),
        (FIXMAP, 0xfec0_0000, PAGE, Leaf::K4),
    ];
    let one_page = |va: u64, pa: u64| (va, pa, PAGE, Leaf::K4);
    machine.maps.extend((0..600).map(|n| one_page(area + 2 * GIB + n * PAGE, 33 * MIB + n * 37 % 1000 * PAGE)));
    machine.maps.extend((0..20).map(|n| one_page(MODULES + n * PAGE, 16 * MIB + (19 - n) * PAGE)));
    machine.maps.extend((0..20).map(|n| one_page(MODULES + MIB + n * PAGE, 16 * MIB + n * PAGE)));
    machine.maps.extend(UNUSED.map(|va| one_page(va, 17 * MIB)));
    machine
}

fn found(fixture: &Fixture, kept: bool, pfn: u64) -> Vec<Found> {
    let page = fixture.image.page(pfn);
    match kept {
        false => vec![Found::Absent],
        true if page.iter().all(|byte| *byte == 0) => vec![Found::Unstored, Found::Stored(page)],
        true => vec![Found::Stored(page)],
    }
}

/// Every mapped page reads as its frame does, or not at all where the frame was dropped; and nothing else is shown.
fn check_maps(label: &str, machine: &Machine, fixture: &Fixture, elf: &Elf, level: u8) {
    sound(label, &elf.faults());
    let kept = fixture.truth.kept(level);
    let (mut shown, mut absent) = (0, 0);
    for (va, pa, len, _) in machine.maps.iter().filter(|map| !UNUSED.contains(&map.0)) {
        for at in (0..*len).step_by(PAGE as usize) {
            let pfn = (pa + at) / PAGE;
            let (page, want) = (elf.virtual_page(va + at), found(fixture, kept.contains(&pfn), pfn));
            assert!(want.contains(&page), "{label}: {:#x}, frame {pfn:#x}", va + at);
            if page == Found::Absent { absent += 1 } else { shown += 1 }
        }
    }
    assert!(shown > 2000 && (absent > 2000 || level == 0), "{label}: {shown} pages, {absent} absent");
    let vmemmap = machine.vmemmap..machine.vmemmap + (1 << 40);
    let ours = |va: u64| machine.maps.iter().any(|(from, _, len, _)| va.checked_sub(*from).is_some_and(|at| at < *len));
    for load in elf.mapped() {
        for va in (load.vaddr..load.vaddr + load.memsz).step_by(PAGE as usize) {
            assert!(!UNUSED.contains(&va) && (ours(va) || vmemmap.contains(&va)), "{label}: {va:#x} is not mapped");
        }
    }
    assert!(elf.mapped().any(|load| vmemmap.contains(&load.vaddr)), "{label}: no memory map");
}

#[test]
fn mappings_show_their_frames_or_nothing() {
    for (label, machine) in [
        ("4 levels", Machine::new(era("6.12"))),
        ("5 levels, KASLR, C-bit", Machine { sme_mask: 1 << 51, ..Machine::new(era("6.1")).five_levels().kaslr() }),
    ] {
        let (dir, machine) = (temp_dir(), with_maps(machine));
        let fixture = machine.build(dir.path());
        for level in ["31", "1", "0"] {
            let (with, without) = (dir.path().join("with.elf"), dir.path().join("without.elf"));
            filter(&["-d", level, "--force", "--virtual"], &fixture.path, &with).ok();
            filter(&["-d", level, "--force"], &fixture.path, &without).ok();
            let (elf, plain) = (Elf::open(&with), Elf::open(&without));
            check_maps(&format!("{label}, level {level}"), &machine, &fixture, &elf, level.parse().unwrap());
            assert_eq!(plain.mapped().count(), 0);
            // Physical memory is what it was.
            assert_eq!(elf.loads().count(), plain.loads().count());
            let same = fixture.truth.pfns().all(|pfn| elf.page(pfn) == plain.page(pfn));
            assert!(same, "{label}, level {level}: physical pages differ");
        }
    }
}

#[test]
fn every_way_to_write_gives_the_same_and_so_does_filtering_again() {
    let (dir, machine) = (temp_dir(), with_maps(Machine::new(era("6.12"))));
    let fixture = machine.build(dir.path());
    let at = |name: &str| dir.path().join(name);
    let report = filter(&["--virtual", "--json"], &fixture.path, &at("a.elf")).ok();
    let report: Value = serde_json::from_str(&report.stdout).unwrap();
    let bytes = fs::read(at("a.elf")).unwrap();
    let mapped = &report["virtual_memory"];
    assert_eq!(mapped["segments"], Elf::open(&at("a.elf")).mapped().count());
    assert_eq!([&mapped["left_out_pages"], &mapped["unreadable_page_tables"]], [0, 0]);
    assert_eq!(report["bytes_written"], bytes.len());

    let dry = run(vdump().args(["filter", "--dry-run", "--json", "--virtual", "-f", "elf"]).arg(&fixture.path)).ok();
    let dry: Value = serde_json::from_str(&dry.stdout).unwrap();
    assert_eq!((&dry["bytes_written"], &dry["virtual_memory"]), (&report["bytes_written"], mapped));
    let script = format!(
        "'{}' filter --virtual -f elf '{}' - > '{}'",
        vdump().get_program().display(),
        fixture.path.display(),
        at("piped").display()
    );
    run(std::process::Command::new("sh").args(["-c", &script])).ok();
    assert!(fs::read(at("piped")).unwrap() == bytes, "a pipe");
    filter(&["--virtual"], &fixture.path, &at("a.elf.zst")).ok();
    run(std::process::Command::new("zstd").arg("-dqf").arg(at("a.elf.zst")).arg("-o").arg(at("unpacked"))).ok();
    assert!(fs::read(at("unpacked")).unwrap() == bytes, "compressed");

    // Segments of virtual memory in the input change nothing.
    filter(&[], &fixture.path, &at("plain.elf")).ok();
    for options in [&["--virtual", "-f", "elf"][..], &["-f", "elf"], &["-f", "kdump"]] {
        let again = ["a.elf", "plain.elf"].map(|input| {
            filter(&[options, &["--force"]].concat(), &at(input), &at("again")).ok();
            fs::read(at("again")).unwrap()
        });
        assert!(again[0] == again[1], "{options:?}");
    }
}

/// QEMU's cores and kdump files have no virtual addresses: then the page tables give all of them.
#[test]
fn inputs_without_virtual_addresses_get_them() {
    let (dir, machine) = (temp_dir(), with_maps(Machine { style: Style::Qemu, ..Machine::new(era("6.12")) }));
    let fixture = machine.build(dir.path());
    let at = |name: &str| dir.path().join(name);
    let convert =
        |input: &Path, output: &Path| vdump_with(["convert".as_ref(), "--virtual".as_ref(), input, output]).ok();
    convert(&fixture.path, &at("qemu.elf"));
    vdump_with(["convert".as_ref(), fixture.path.as_path(), &at("kdump")]).ok();
    convert(&at("kdump"), &at("kdump.elf"));
    for name in ["qemu.elf", "kdump.elf"] {
        let elf = Elf::open(&at(name));
        sound(name, &elf.faults());
        for pfn in fixture.truth.pfns() {
            let want = found(&fixture, true, pfn);
            assert!(want.contains(&elf.page(pfn)), "{name}: {pfn:#x}");
            assert!(want.contains(&elf.virtual_page(machine.page_offset + pfn * PAGE)), "{name}: {pfn:#x} direct");
        }
        for (va, pa, ..) in machine.maps.iter().filter(|map| map.2 == PAGE && fixture.truth.is_ram(map.1 / PAGE)) {
            let want = !UNUSED.contains(va);
            assert!(found(&fixture, want, pa / PAGE).contains(&elf.virtual_page(*va)), "{name}: {va:#x}");
        }
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let dir = temp_dir();
    let at = |name: &str| dir.path().join(name);
    let fixture = Machine::small(era("6.12")).build(dir.path());
    let kdump = filter(&["--virtual"], &fixture.path, &at("out"));
    assert_eq!((kdump.code(), at("out").exists()), (Some(2), false));
    assert!(kdump.stderr.contains("-f elf"), "{}", kdump.stderr);

    let says = |machine: Machine, words: &[&str], what: &str| {
        let dir = temp_dir();
        let (fixture, out) = (machine.build(dir.path()), dir.path().join("out.elf"));
        let failed = |run: &Run| {
            let mut faults = badly_failed(run, &out);
            faults.extend((!run.stderr.contains(what)).then(|| format!("no word of {what}: {}", run.stderr)));
            faults
        };
        none_of(&failed(&vdump_with(
            [words, &["--virtual"], &[fixture.path.to_str().unwrap(), out.to_str().unwrap()]].concat(),
        )));
        vdump_with([words, &[fixture.path.to_str().unwrap(), out.to_str().unwrap()]].concat()).ok();
    };
    says(Machine { vmcoreinfo: false, ..Machine::small(era("6.12")) }, &["convert"], "VMCOREINFO");
    says(Machine { vmcoreinfo: false, ..Machine::small(era("6.12")) }, &["filter", "-d", "1"], "VMCOREINFO");
    // Memory that is mapped, but not the page tables: they would lead anywhere.
    let elsewhere = format!("{:x}", 0xffff_ffff_8100_0000u64 + 3 * MIB);
    let lie = ["init_top_pgt", "swapper_pg_dir"].map(|name| (format!("SYMBOL({name})"), Some(elsewhere.clone())));
    says(Machine { info: lie.into(), ..Machine::small(era("6.12")) }, &["convert"], "page tables");
}

/// A machine whose vmalloc area has these entries in its top table, and tables at `TABLES` with these words.
fn hostile(entries: &[(u64, u32, u64)], tables: &[&dyn Fn(u64) -> u64]) -> Machine {
    let mut machine = Machine::small(era("6.12"));
    machine.entries = entries.to_vec();
    // A page of zeros needs no data, and so no place in the file.
    machine.pokes.extend((0..1024).map(|n| (16 * MIB + n * PAGE + 0x7f8, n + 1)));
    for (n, table) in (0..).zip(tables) {
        machine.pokes.extend((0..512).map(|index| (TABLES + n * PAGE + index * 8, table(index))));
    }
    machine
}

fn virtual_memory(fixture: &Fixture, options: &[&str], out: &Path) -> (Value, Elf) {
    let run = filter(&[&["--virtual", "--json", "--force", "-f", "elf"], options].concat(), &fixture.path, out).ok();
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    let elf = Elf::open(out);
    assert!(elf.faults().is_empty(), "{:?}", &elf.faults()[..1]);
    (report, elf)
}

fn warned(report: &Value, words: &str) -> bool {
    report["warnings"].as_array().unwrap().iter().any(|line| line.as_str().unwrap().contains(words))
}

/// Tables that lead to one another for ever: the walk ends, and what was found before is there.
#[test]
fn tables_that_loop_end() {
    const AREA: u64 = 0xffa0_0000_0000_0000;
    // Few entries in each table keep the test short; 64 to the fourth are tables enough.
    let next = |index: u64| if index < 64 { (TABLES + index % 2 * PAGE) | BITS } else { 0 };
    let mut machine = hostile(&[(AREA, 5, TABLES | BITS)], &[&next, &next]).five_levels();
    machine.maps.push((MODULES, 16 * MIB, PAGE, Leaf::K4));
    let dir = temp_dir();
    let fixture = machine.build(dir.path());
    let (report, elf) = virtual_memory(&fixture, &[], &dir.path().join("out"));
    assert!(warned(&report, "more tables than any kernel"), "{report}");
    assert!(report["virtual_memory"]["page_tables"].as_u64().unwrap() > 100_000);
    assert!(report["virtual_memory"]["left_out_pages"].as_u64().unwrap() > 1_000_000);
    assert_eq!(elf.virtual_page(MODULES), Found::Stored(fixture.image.page(16 * MIB / PAGE)));
    // All neighbours lead to one table, as KASAN's do: no walk at all.
    let same = |_| TABLES | BITS;
    let fixture = hostile(&[(AREA, 5, TABLES | BITS)], &[&same]).five_levels().build(dir.path());
    let (report, _) = virtual_memory(&fixture, &[], &dir.path().join("out"));
    assert!(report["virtual_memory"]["page_tables"].as_u64().unwrap() < 100, "{report}");
}

/// More single pages than a table of segments may have: the rest is counted, within whatever memory there is.
#[test]
fn scattered_pages_beyond_number() {
    const AREA: u64 = 0xffff_c900_0000_0000;
    // Kept pages, backwards: no two neighbours lie in a row in the file.
    let pages = |from: u64| move |index: u64| (16 * MIB + (from + 511 - index) * PAGE) | BITS;
    let (low, high) = (pages(0), pages(512));
    let middle = |index: u64| (TABLES + index % 2 * PAGE) | BITS;
    let top = (TABLES + 2 * PAGE) | BITS;
    let dir = temp_dir();
    let fixture = hostile(&[(AREA, 3, top), (AREA + GIB, 3, top | 1 << 9)], &[&low, &high, &middle]).build(dir.path());
    let total = |report: &Value| {
        let number = |key: &str| report["virtual_memory"][key].as_u64().unwrap();
        (number("segments"), number("pages") + number("left_out_pages"))
    };
    let (report, elf) = virtual_memory(&fixture, &[], &dir.path().join("out"));
    let (segments, all) = total(&report);
    assert_eq!((segments, elf.mapped().count() as u64), (256 << 10, 256 << 10));
    assert!(warned(&report, "more mapped pages are in the dump"), "{report}");
    assert!(report["virtual_memory"]["left_out_pages"].as_u64().unwrap() > 0);
    let (report, elf) = virtual_memory(&fixture, &["--memory-limit", "20M", "-j", "1"], &dir.path().join("out"));
    let (fewer, same) = total(&report);
    assert!(fewer < segments && fewer == elf.mapped().count() as u64);
    assert_eq!(same, all);
    assert!(report["peak_resident"].as_u64().unwrap() < 20 << 20, "{report}");
}

/// What cannot be followed costs what it maps.
#[test]
fn damaged_tables_cost_only_what_they_map() {
    const AREA: u64 = 0xffff_c900_0000_0000;
    let mut machine = hostile(&[], &[]);
    machine.entries = vec![(AREA + (1 << 39), 4, (1 << 40) | BITS), (AREA + (2 << 39), 4, TABLES | BITS | 0x80)];
    machine.maps.extend([(AREA, 16 * MIB, PAGE, Leaf::K4), (AREA + (3 << 39), 16 * MIB, PAGE, Leaf::K4)]);
    let dir = temp_dir();
    let fixture = machine.build(dir.path());
    let (report, elf) = virtual_memory(&fixture, &[], &dir.path().join("out"));
    assert_eq!(report["virtual_memory"]["unreadable_page_tables"], 2);
    assert!(warned(&report, "2 damaged or missing page tables"), "{report}");
    for va in [AREA, AREA + (3 << 39)] {
        assert_eq!(elf.virtual_page(va), Found::Stored(fixture.image.page(16 * MIB / PAGE)));
    }
}
