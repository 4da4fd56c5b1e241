//! Every kernel era and every shape of machine: is the set of dropped pages exactly right?

use std::fs;
use std::path::Path;

use crate::check;
use crate::harness::{filter, temp_dir};
use crate::refusal::{badly_failed, none_of};
use crate::synth::elf::Style;
use crate::synth::kernels::{ERAS, era};
use crate::synth::kinds::Kind;
use crate::synth::memmap::MemModel;
use crate::synth::pagetable::Leaf;
use crate::synth::truth::Class;
use crate::synth::{Fixture, Loads, Machine};

const LEVELS: [u8; 7] = [0, 1, 2, 4, 8, 16, 31];

fn judge(fixture: &Fixture, level: u8, format: &str, codec: &str, dir: &Path) -> Vec<String> {
    let out = dir.join(format!("out.{level}.{format}"));
    let level_arg = level.to_string();
    let run = filter(&["-d", &level_arg, "-f", format, "-c", codec, "--json"], &fixture.path, &out);
    if run.code() != Some(0) {
        return vec![format!("{format} -d {level}: exit {:?}: {}", run.code(), run.stderr)];
    }
    let mut faults = check::report(fixture, level, &run.stdout);
    faults.extend(match format {
        "elf" => check::elf(fixture, level, &out),
        _ => check::kdump(fixture, level, &out),
    });
    fs::remove_file(&out).unwrap();
    faults.into_iter().map(|f| format!("{format} -d {level}: {f}")).collect()
}

fn every_level(name: &str) {
    let dir = temp_dir();
    let fixture = Machine::new(era(name)).build(dir.path());
    let each = |level: u8| {
        let mut faults = judge(&fixture, level, "kdump", "none", dir.path());
        faults.extend(judge(&fixture, level, "elf", "none", dir.path()));
        faults
    };
    check::sound(name, &LEVELS.into_iter().flat_map(each).collect::<Vec<_>>());
}

macro_rules! eras {
    ($($test:ident: $name:literal),* $(,)?) => {
        $(#[test] fn $test() { every_level($name); })*

        #[test]
        fn no_era_is_forgotten() {
            let tested = [$($name),*];
            assert_eq!(ERAS.each_ref().map(|e| e.name), tested);
        }
    };
}

eras! {
    linux_3_10: "3.10",
    linux_4_4: "4.4",
    linux_4_18: "4.18",
    linux_5_15: "5.15",
    linux_6_1: "6.1",
    linux_6_3: "6.3",
    linux_6_6: "6.6",
    linux_6_9: "6.9",
    linux_6_10: "6.10",
    linux_6_11: "6.11",
    linux_6_12: "6.12",
    linux_6_17: "6.17",
    linux_7_1: "7.1",
    linux_without_a_slab_key: "no-slab-key",
}

/// A kernel that does not say which cache pages have private data: all may.
#[test]
fn without_pg_private_all_cache_is_private() {
    for era in &ERAS {
        let dir = temp_dir();
        let mut machine = Machine::small(era);
        machine.zoo.extend([(Kind::SwapCache, 3), (Kind::Tmpfs, 3), (Kind::LargeFolio(2), 2)]);
        machine.info.push(("NUMBER(PG_private)".into(), None));
        let mut fixture = machine.build(dir.path());
        let cache = fixture.truth.classes.values_mut().filter(|class| **class == Class::Cache);
        cache.for_each(|class| *class = Class::CachePrivate);
        let faults: Vec<String> =
            [2, 4, 31].into_iter().flat_map(|level| judge(&fixture, level, "kdump", "none", dir.path())).collect();
        check::sound(era.name, &faults);
    }
}

/// Every sum of bits, not only the bits.
#[test]
fn levels_add_up() {
    let dir = temp_dir();
    let fixture = Machine::new(era("6.12")).build(dir.path());
    let faults: Vec<String> = (0..32).flat_map(|level| judge(&fixture, level, "kdump", "none", dir.path())).collect();
    check::sound("levels 0 to 31", &faults);
}

/// One machine, both formats, at the level that uses everything.
fn fully_filtered(label: &str, machine: &Machine) {
    let dir = temp_dir();
    let fixture = machine.build(dir.path());
    let mut faults = judge(&fixture, 31, "kdump", "snappy", dir.path());
    faults.extend(judge(&fixture, 31, "elf", "none", dir.path()));
    check::sound(label, &faults);
}

fn usual() -> Machine {
    Machine::new(era("6.1"))
}

#[test]
fn five_levels() {
    fully_filtered("5 levels", &usual().five_levels());
    fully_filtered("5 levels, 6.12", &Machine::new(era("6.12")).five_levels());
}

#[test]
fn randomised_bases() {
    fully_filtered("4 levels", &usual().kaslr());
    fully_filtered("5 levels", &Machine::new(era("6.12")).five_levels().kaslr());
    // Moved in physical memory only.
    fully_filtered("phys_base > 0", &Machine { image_pa: 24 << 20, ..usual() });
}

#[test]
fn encrypted_memory() {
    fully_filtered("C-bit 47", &Machine { sme_mask: 1 << 47, ..usual() });
    fully_filtered("C-bit 51", &Machine { sme_mask: 1 << 51, ..usual().five_levels() });
}

#[test]
fn vmemmap_by_every_page_size() {
    for leaf in [Leaf::K4, Leaf::M2, Leaf::G1] {
        fully_filtered(&format!("{leaf:?}"), &Machine { leaf, ..usual() });
    }
}

#[test]
fn sparse_memory_without_vmemmap() {
    fully_filtered("extreme", &Machine { model: MemModel::Extreme, ..usual() });
    fully_filtered("plain", &Machine { model: MemModel::Plain, ..usual() });
    fully_filtered("3.10 extreme", &Machine { model: MemModel::Extreme, ..Machine::new(era("3.10")) });
}

#[test]
fn flat_memory() {
    for name in ["3.10", "6.1"] {
        fully_filtered(name, &Machine { model: MemModel::Flat, ..low_only(name) });
    }
}

/// RAM below 160 MiB only, as a flat map wants it.
fn low_only(name: &str) -> Machine {
    let mut machine = Machine::new(era(name));
    machine.ram.truncate(2);
    machine.arenas.truncate(2);
    machine.zoo.retain(|(kind, _)| *kind != Kind::Buddy(10));
    machine
}

#[test]
fn qemu_writes_physical_addresses_only() {
    fully_filtered("qemu", &Machine { style: Style::Qemu, ..usual() });
    fully_filtered("qemu, KASLR", &Machine { style: Style::Qemu, ..Machine::new(era("6.12")).five_levels().kaslr() });
}

#[test]
fn overlapping_loads() {
    fully_filtered("overlapping", &Machine { loads: Loads::Overlapping, ..usual() });
}

#[test]
fn more_loads_than_e_phnum_counts() {
    let machine = usual().with_many_loads();
    let dir = temp_dir();
    assert!(machine.build(dir.path()).placed.phnum > 0xffff);
    fully_filtered("PN_XNUM", &machine);
    fully_filtered("PN_XNUM, qemu", &Machine { style: Style::Qemu, ..machine });
}

#[test]
fn foreign_notes_pass() {
    fully_filtered("odd notes", &Machine { odd_notes: true, ..usual() });
    fully_filtered("three PT_NOTEs", &Machine { odd_notes: true, note_segments: 3, ..usual() });
}

/// What follows the padding of one PT_NOTE is as good as what comes before: VMCOREINFO is in the second.
#[test]
fn padding_between_notes_hides_nothing() {
    for note_padding in [4, 16, 4096] {
        fully_filtered("padded PT_NOTE", &Machine { note_padding, note_segments: 2, ..Machine::small(era("6.12")) });
    }
}

#[test]
fn gigantic_hugetlb_page() {
    let mut machine = Machine::new(era("6.6"));
    machine.ram = vec![1 << 20..160 << 20, 4 << 30..5 << 30];
    machine.arenas = vec![4 << 30..5 << 30];
    machine.zoo = vec![(Kind::Huge1G, 1)];
    machine.broken_sections = false;
    machine.unpainted = true;
    fully_filtered("1 GiB page", &machine);
}

#[test]
fn keys_that_old_kernels_lack_are_not_needed() {
    let mut machine = usual();
    for key in ["NUMBER(pgtable_l5_enabled)", "NUMBER(sme_mask)", "NUMBER(KERNEL_IMAGE_SIZE)", "KERNELOFFSET"] {
        machine.info.push((key.into(), None));
    }
    fully_filtered("fewer keys", &machine);
}

#[test]
fn loads_that_begin_and_end_inside_pages() {
    for style in [Style::ProcVmcore, Style::Qemu] {
        fully_filtered("cut in a page", &Machine { loads: Loads::MidPage, style, ..usual() });
        let mut machine = Machine { style, ..usual() };
        machine.ram[0].start += 0x800;
        machine.ram[1].end -= 0x123;
        fully_filtered("odd ends", &machine);
    }
}

#[test]
fn loads_in_any_order() {
    fully_filtered("reversed", &Machine { loads: Loads::Reversed, ..usual() });
    fully_filtered("reversed, qemu", &Machine { loads: Loads::Reversed, style: Style::Qemu, ..usual() });
}

/// Notes of many CPUs fill more than the 60 KiB before the first place for a bitmap.
#[test]
fn any_number_of_cpus() {
    for cpus in [0, 1, 150, 400] {
        fully_filtered(&format!("{cpus} CPUs"), &Machine { cpus, ..Machine::small(era("6.12")) });
    }
}

#[test]
fn vmcoreinfo_may_be_padded() {
    for info_padding in [1, 3, 2000] {
        fully_filtered("padded", &Machine { info_padding, ..Machine::small(era("6.12")) });
    }
}

/// RAM at 1 TiB: nothing but the bitmaps may grow with the addresses.
#[test]
fn memory_far_away() {
    let mut machine = Machine::new(era("6.12"));
    machine.ram = vec![1 << 20..160 << 20, 1 << 40..(1 << 40) + (32 << 20)];
    machine.arenas = vec![100 << 20..128 << 20, 1 << 40..(1 << 40) + (32 << 20)];
    fully_filtered("1 TiB", &machine);
}

#[test]
fn memory_without_a_map_is_kept() {
    let mut machine = usual();
    machine.zoo = vec![(Kind::CacheClean, 50)];
    let dir = temp_dir();
    let fixture = machine.build(dir.path());
    let out = dir.path().join("out");
    let run = filter(&["-d", "31", "--json"], &fixture.path, &out).ok();
    check::sound("two broken sections", &check::report(&fixture, 31, &run.stdout));
    // Section 33 is not present, which is no fault; section 34 leads nowhere, which is one.
    assert!(run.stderr.contains("0x110000"), "does not name the bad section: {}", run.stderr);
    fs::remove_file(&out).unwrap();
    let strict = filter(&["-d", "31", "--strict"], &fixture.path, &out);
    none_of(&badly_failed(&strict, &out));
    assert!(strict.stderr.contains("--strict"), "{}", strict.stderr);
}
