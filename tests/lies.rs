//! Cores that are whole but whose kernel says what cannot be: VMCOREINFO and page tables gone wrong.
//!
//! Nothing here may crash the product, hang it, or make it drop a page that it should keep.

use std::fs::File;
use std::os::unix::fs::FileExt;

use crate::harness::{filter, temp_dir};
use crate::read::kdump::Kdump;
use crate::refusal::{badly_failed, fails_well, none_of};
use crate::synth::Machine;
use crate::synth::elf::Style;
use crate::synth::kernels::era;

/// What a run on bad input may end in.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Expect {
    /// Exit code 1, one line, no file.
    Refused,
    /// That, or a dump in which nothing was dropped that should have been kept.
    RefusedOrSafe,
}

/// VMCOREINFO values that cannot be right, and what may come of each.
const LIES: [(&str, Option<&str>, Expect); 40] = [
    ("PAGESIZE", None, Expect::RefusedOrSafe),
    ("PAGESIZE", Some("0"), Expect::Refused),
    ("PAGESIZE", Some("4095"), Expect::Refused),
    ("PAGESIZE", Some("18446744073709551615"), Expect::Refused),
    ("SIZE(page)", None, Expect::Refused),
    ("SIZE(page)", Some("0"), Expect::Refused),
    ("SIZE(page)", Some("1"), Expect::Refused),
    ("SIZE(page)", Some("-64"), Expect::Refused),
    ("SIZE(page)", Some("4096"), Expect::Refused),
    ("SIZE(page)", Some("99999999999999999999999"), Expect::Refused),
    ("SIZE(page)", Some("sixty-four"), Expect::Refused),
    ("SIZE(page)", Some("1099511627776"), Expect::Refused),
    ("OFFSET(page.flags)", None, Expect::Refused),
    ("OFFSET(page.flags)", Some("64"), Expect::Refused),
    ("OFFSET(page.flags)", Some("-8"), Expect::Refused),
    ("OFFSET(page.mapping)", Some("60"), Expect::Refused),
    ("OFFSET(page._mapcount)", Some("18446744073709551612"), Expect::Refused),
    ("OFFSET(page.private)", Some("4096"), Expect::Refused),
    ("OFFSET(page.compound_head)", Some("63"), Expect::Refused),
    ("OFFSET(mem_section.section_mem_map)", Some("-1"), Expect::Refused),
    ("OFFSET(mem_section.section_mem_map)", Some("4096"), Expect::Refused),
    ("SIZE(mem_section)", Some("0"), Expect::Refused),
    ("SIZE(mem_section)", Some("9223372036854775807"), Expect::Refused),
    ("LENGTH(mem_section)", Some("0"), Expect::RefusedOrSafe),
    ("LENGTH(mem_section)", Some("-1"), Expect::RefusedOrSafe),
    ("LENGTH(mem_section)", Some("18446744073709551615"), Expect::RefusedOrSafe),
    ("LENGTH(mem_section)", Some("1152921504606846976"), Expect::RefusedOrSafe),
    ("SYMBOL(mem_section)", None, Expect::Refused),
    ("SYMBOL(mem_section)", Some("0"), Expect::RefusedOrSafe),
    ("SYMBOL(mem_section)", Some("ffffffffffffffff"), Expect::RefusedOrSafe),
    ("SYMBOL(mem_section)", Some("0000800000000000"), Expect::RefusedOrSafe),
    ("NUMBER(SECTION_SIZE_BITS)", Some("0"), Expect::RefusedOrSafe),
    ("NUMBER(SECTION_SIZE_BITS)", Some("18"), Expect::Refused),
    ("NUMBER(SECTION_SIZE_BITS)", Some("64"), Expect::RefusedOrSafe),
    ("NUMBER(SECTION_SIZE_BITS)", Some("-27"), Expect::RefusedOrSafe),
    ("NUMBER(MAX_PHYSMEM_BITS)", Some("200"), Expect::RefusedOrSafe),
    ("NUMBER(PG_lru)", Some("64"), Expect::RefusedOrSafe),
    ("NUMBER(PG_lru)", Some("-1"), Expect::RefusedOrSafe),
    ("NUMBER(PG_head_mask)", Some("0"), Expect::RefusedOrSafe),
    ("LENGTH(zone.free_area)", Some("200"), Expect::RefusedOrSafe),
];

/// Values by which no page table can be found; the tables of QEMU's cores have no other key.
const LOST_TABLES: [(&str, Option<&str>, Expect); 6] = [
    ("SYMBOL(init_top_pgt)", Some("0"), Expect::RefusedOrSafe),
    ("SYMBOL(init_top_pgt)", Some("ffffffff81000001"), Expect::RefusedOrSafe),
    ("NUMBER(phys_base)", Some("-9223372036854775808"), Expect::RefusedOrSafe),
    ("NUMBER(phys_base)", Some("4503599627370496"), Expect::RefusedOrSafe),
    ("NUMBER(sme_mask)", Some("-1"), Expect::RefusedOrSafe),
    ("NUMBER(pgtable_l5_enabled)", Some("1"), Expect::RefusedOrSafe),
];

fn lie(style: Style, (key, value, expect): (&str, Option<&str>, Expect)) -> Vec<String> {
    let dir = temp_dir();
    let mut machine = Machine { style, ..Machine::small(era("6.12")) };
    machine.info.push((key.into(), value.map(String::from)));
    let fixture = machine.build(dir.path());
    let out = dir.path().join("out");
    let run = filter(&["-d", "31"], &fixture.path, &out);
    let label = format!("{key}={}", value.unwrap_or("(absent)"));
    if expect == Expect::RefusedOrSafe && run.code() == Some(0) {
        let lost = &fixture.truth.kept(31) - &Kdump::open(&out).kept();
        let panicked = run.stderr.contains("panicked");
        let safe = lost.is_empty() && !panicked;
        return if safe { vec![] } else { vec![format!("{label}: lost {} pages; {}", lost.len(), run.stderr)] };
    }
    badly_failed(&run, &out).into_iter().map(|f| format!("{label}: {f}")).collect()
}

#[test]
fn vmcoreinfo_full_of_lies() {
    none_of(&LIES.into_iter().flat_map(|case| lie(Style::ProcVmcore, case)).collect::<Vec<_>>());
}

#[test]
fn page_tables_that_cannot_be_found() {
    none_of(&LOST_TABLES.into_iter().flat_map(|case| lie(Style::Qemu, case)).collect::<Vec<_>>());
}

/// Tables that lead back to themselves end like any other walk: after as many steps as levels.
#[test]
fn page_tables_that_loop() {
    let dir = temp_dir();
    let fixture = Machine { style: Style::Qemu, ..Machine::small(era("6.12")) }.build(dir.path());
    let file = File::options().write(true).open(&fixture.path).unwrap();
    let root = (16 << 20) + (2 << 20);
    let entry = (root | 0x63u64).to_le_bytes();
    let at = fixture.offset_of(root);
    file.write_all_at(&entry.repeat(512), at).unwrap();
    let out = dir.path().join("out");
    let run = filter(&["-d", "31"], &fixture.path, &out);
    if run.code() == Some(0) {
        assert!(Kdump::open(&out).kept().is_superset(&fixture.truth.kept(31)), "pages were lost");
    } else {
        none_of(&badly_failed(&run, &out));
    }
}

#[test]
fn a_core_without_vmcoreinfo_says_what_to_do() {
    let dir = temp_dir();
    let fixture = Machine { vmcoreinfo: false, ..Machine::small(era("6.12")) }.build(dir.path());
    let out = dir.path().join("out");
    let run = filter(&["-d", "31"], &fixture.path, &out);
    none_of(&badly_failed(&run, &out));
    assert!(run.stderr.contains("VMCOREINFO"), "{}", run.stderr);
    assert!(run.stderr.contains("-d") || run.stderr.contains("level"), "no next step: {}", run.stderr);
}

/// A kernel whose VMCOREINFO is one of ours but whose text is garbage.
#[test]
fn vmcoreinfo_that_is_no_text() {
    let dir = temp_dir();
    let fixture = Machine::small(era("6.12")).build(dir.path());
    let file = File::options().write(true).open(&fixture.path).unwrap();
    let end = fixture.placed.note_offset + fixture.placed.notes.len() as u64;
    let noise: Vec<u8> = (0..fixture.info.len()).map(|n| (n * 37) as u8 | 0x80).collect();
    file.write_all_at(&noise, end - fixture.info.len().next_multiple_of(4) as u64).unwrap();
    none_of(&fails_well("noise", &fixture.path, dir.path()));
}

/// Numbers that look random but are the same in each run.
fn noise(seed: u64) -> impl Iterator<Item = u64> {
    let mut rng = fastrand::Rng::with_seed(seed);
    std::iter::repeat_with(move || rng.u64(..))
}

/// Struct pages may hold anything; the counts must still add up.
#[test]
fn a_memory_map_of_noise() {
    for seed in 0..6 {
        let dir = temp_dir();
        let fixture = Machine::small(era(["3.10", "4.18", "6.1", "6.6", "6.12", "7.1"][seed])).build(dir.path());
        let file = File::options().write(true).open(&fixture.path).unwrap();
        // Sparse noise keeps some heads and tails where they were; dense noise leaves nothing.
        let every = 1 + seed % 3 * 7;
        for (n, word) in noise(seed as u64).take((2 << 20) / 8).enumerate().filter(|(n, _)| n % every == 0) {
            file.write_all_at(&word.to_le_bytes(), fixture.offset_of(80 << 20) + n as u64 * 8).unwrap();
        }
        let out = dir.path().join("out");
        let run = filter(&["-d", "31", "--json", "--progress", "none"], &fixture.path, &out).ok();
        let report: serde_json::Value = serde_json::from_str(&run.stdout).unwrap();
        let pages = |key: &str| report["pages"][key].as_u64().unwrap();
        assert_eq!(pages("ram"), fixture.truth.pfns().count() as u64);
        assert_eq!(pages("kept") + pages("dropped"), pages("ram"));
        assert_eq!(Kdump::open(&out).kept().len() as u64, pages("kept"));
    }
}

/// Any byte of the headers or notes may flip: then a refusal, or some dump, but never a crash.
#[test]
fn flipped_bytes_in_headers() {
    let dir = temp_dir();
    let fixture = Machine::small(era("6.12")).build(dir.path());
    let file = File::options().read(true).write(true).open(&fixture.path).unwrap();
    let end = fixture.placed.note_offset + fixture.placed.notes.len() as u64;
    let places: Vec<u64> = (0..64 + fixture.placed.phnum * 56).chain(fixture.placed.note_offset..end).collect();
    let mut faults = Vec::new();
    for round in noise(7).take(250) {
        let at = places[(round >> 8) as usize % places.len()];
        let mut old = [0];
        file.read_exact_at(&mut old, at).unwrap();
        file.write_all_at(&[old[0] ^ (1 << (round % 8))], at).unwrap();
        let out = dir.path().join("out");
        let run = filter(&["-d", "31", "--progress", "none"], &fixture.path, &out);
        let label = format!("byte {at:#x} bit {}", round % 8);
        match run.code() {
            Some(0) => drop(Kdump::open(&out)),
            _ => faults.extend(badly_failed(&run, &out).into_iter().map(|f| format!("{label}: {f}"))),
        }
        let _ = std::fs::remove_file(&out);
        file.write_all_at(&old, at).unwrap();
    }
    none_of(&faults);
}
