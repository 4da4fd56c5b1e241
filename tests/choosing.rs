//! What is kept and dropped by class and by address: the kept frames are those that the words say, no more and no fewer.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::harness::{filter, temp_dir};
use crate::read::kdump::Kdump;
use crate::synth::kernels::era;
use crate::synth::kinds::Kind;
use crate::synth::truth::Class;
use crate::synth::{Fixture, Machine};

/// Filters and gives the kept frames, the level in the header, and the report, after holding them against one another.
#[track_caller]
fn kept(fixture: &Fixture, options: &[&str], out: &Path) -> (BTreeSet<u64>, u64, Value) {
    let run = filter(&[&["--json", "--force"], options].concat(), &fixture.path, out).ok();
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    let dump = Kdump::open(out);
    assert_eq!(dump.faults(), Vec::<String>::new());
    let (kept, ram) = (dump.kept().len() as u64, fixture.truth.pfns().count() as u64);
    assert_eq!(report["pages"]["kept"], kept, "{options:?}");
    assert_eq!(report["pages"]["dropped"], ram - kept, "{options:?}");
    assert_eq!(report["dump_level"], dump.field("dump_level"), "{options:?}");
    (dump.kept(), dump.field("dump_level"), report)
}

fn machine() -> Machine {
    let mut machine = Machine::small(era("6.12"));
    machine.zoo.extend([(Kind::Buddy(0), 9), (Kind::Poison, 2), (Kind::Offline, 2), (Kind::Huge2MAnon, 1)]);
    machine
}

/// All RAM but what cannot be read, and without frames of these classes.
fn without(fixture: &Fixture, dropped: &[Class]) -> BTreeSet<u64> {
    let gone = |class| dropped.contains(&class) || class == Class::HwPoison || class == Class::Offline;
    fixture.truth.pfns().filter(|pfn| !gone(fixture.truth.class(*pfn))).collect()
}

#[test]
fn classes_by_name_are_all_that_is_dropped_or_kept() {
    use Class::{Cache, CachePrivate, Free, Hugetlb, User};
    let dir = temp_dir();
    let fixture = machine().build(dir.path());
    /// Options, what they drop, the level in the header, and the names in the report.
    type Case<'a> = (&'a [&'a str], &'a [Class], u64, &'a [&'a str]);
    let cases: [Case<'_>; 8] = [
        (&["--drop", "user"], &[User], 8, &["user"]),
        (&["--drop", "free,hugetlb"], &[Free, Hugetlb], 24, &["free", "free-pcp", "hugetlb"]),
        (&["--drop", "cache-private"], &[CachePrivate], 4, &["cache-private"]),
        (&["-d", "16", "--drop", "cache"], &[Free, Cache], 18, &["free", "free-pcp", "unaccepted", "cache"]),
        (
            &["--keep", "user"],
            &[Free, Cache, CachePrivate, Hugetlb],
            31,
            &["free", "free-pcp", "unaccepted", "cache", "cache-private", "hugetlb", "zero"],
        ),
        (&["-d", "24", "--keep", "hugetlb", "--keep", "free,unaccepted"], &[User], 8, &["user"]),
        (&["-d", "8", "--keep", "user,hugetlb", "--drop", "free"], &[Free], 16, &["free", "free-pcp"]),
        (&["-d", "1", "--keep", "zero"], &[], 0, &[]),
    ];
    for (options, dropped, level, names) in cases {
        let (kept, recorded, report) = kept(&fixture, options, &dir.path().join("out"));
        let want = without(&fixture, dropped);
        assert!(kept == want, "{options:?}: {} frames differ", kept.symmetric_difference(&want).count());
        assert_eq!(recorded, level, "{options:?}");
        assert_eq!(report["drops"], serde_json::json!(names), "{options:?}");
    }
}

/// A zero page that is kept takes room in an ELF dump; one that is dropped lies behind a segment's end.
#[test]
fn zero_pages_are_a_class_too() {
    let dir = temp_dir();
    let fixture = machine().build(dir.path());
    let size = |options: &[&str]| {
        let out = dir.path().join("out.elf");
        filter(&[&["--force"], options].concat(), &fixture.path, &out).ok();
        std::fs::metadata(&out).unwrap().len()
    };
    let zeros = fixture.truth.pfns().filter(|pfn| fixture.image.is_zero(*pfn)).count() as u64;
    let (kept, dropped) = (size(&["-d", "1", "--keep", "zero"]), size(&["--drop", "zero"]));
    assert!(kept > dropped + zeros / 2 * 4096, "{kept} and {dropped} with {zeros} zero pages");
    assert_eq!((size(&["-d", "0"]), size(&["-d", "1"])), (kept, dropped));
}

#[test]
fn the_next_level_has_the_same_classes_besides() {
    let dir = temp_dir();
    let fixture = machine().build(dir.path());
    let out = dir.path().join("out");
    kept(&fixture, &["-d", "23", "-c", "none", "--drop", "user"], &out);
    let limit = (std::fs::metadata(&out).unwrap().len() + 4096).to_string();
    let (kept, level, _) = kept(&fixture, &["-d", "0,23", "--drop", "user", "-c", "none", "--limit", &limit], &out);
    assert_eq!(level, 31);
    assert!(!kept.iter().any(|pfn| fixture.truth.class(*pfn) == Class::User));
    assert!(kept.iter().any(|pfn| fixture.truth.class(*pfn) == Class::Hugetlb));
}

#[test]
fn what_cannot_be_chosen_is_wrong_usage_and_says_why() {
    let dir = temp_dir();
    let fixture = Machine::small(era("6.12")).build(dir.path());
    let out = dir.path().join("out");
    for (options, said) in [
        (&["--drop", "user,cache", "--keep", "user"][..], "both"),
        (&["--drop", "slab"], "the kernel needs them"),
        (&["--drop", "kernel"], "hugetlb, zero"),
        (&["--keep", "hwpoison"], "end the capture"),
        (&["--keep", "offline"], "nothing behind"),
        (&["--drop", "usr"], "no such class"),
        (&["--keep-range", "0x2000-0x1000"], "before its start"),
        (&["--drop-range", "00100000-001fffff"], "0x00100000"),
        (&["--drop-range", "1M+0"], "size is 0"),
        (&["--keep-range", "0xffffffffffffffff+4K"], "beyond"),
        (&["--keep-range", "4096"], "START+SIZE"),
        (&["--keep-task-memory", "all"], "--keep-task"),
        (&["--keep-task", "99999999999"], "larger"),
    ] {
        let run = filter(options, &fixture.path, &out);
        assert_eq!(run.code(), Some(2), "{options:?}: {}", run.stderr);
        assert!(run.stderr.contains(said), "{options:?}: {}", run.stderr);
        assert!(!out.exists());
    }
}

/// Frames of RAM from one to another, the last one excluded.
fn span(fixture: &Fixture, start: u64, end: u64) -> BTreeSet<u64> {
    fixture.truth.pfns().filter(|pfn| (start..end).contains(pfn)).collect()
}

fn unreadable(fixture: &Fixture) -> BTreeSet<u64> {
    fixture.truth.pfns().filter(|pfn| [Class::HwPoison, Class::Offline].contains(&fixture.truth.class(*pfn))).collect()
}

/// Frames of the kernel's image, which the text segment bounds.
const IMAGE: std::ops::Range<u64> = 0x1000..0x1400;

#[test]
fn ranges_are_kept_and_dropped_whatever_the_class() {
    let dir = temp_dir();
    let fixture = machine().build(dir.path());
    let poison = unreadable(&fixture);
    let max = fixture.truth.max_pfn();
    let image = span(&fixture, IMAGE.start, IMAGE.end);
    type Ranges<'a> = &'a [(u64, u64)];
    let cases: [(&[&str], Ranges<'_>, Ranges<'_>); 10] = [
        // A byte is enough to keep a page; a byte less than all of it leaves it to its class.
        (&["--keep-range", "0x2100fff+0x2"], &[(0x2100, 0x2102)], &[]),
        (&["--keep-range", "33M-0x2ffffff"], &[(0x2100, 0x3000)], &[]),
        (&["--drop-range", "0x1c00001-0x1c03ffe"], &[], &[(0x1c01, 0x1c03)]),
        (&["--drop-range", "0x1c00001+0xfff", "--drop-range", "28M+4K"], &[], &[(0x1c00, 0x1c01)]),
        // The ends of RAM, one of which lies inside a page, and beyond.
        (&["--drop-range", "0-0x9fbff"], &[], &[(0, 0x9f)]),
        (&["--keep-range", "0x57ff000-0xffffffffffffffff"], &[(0x57ff, u64::MAX)], &[]),
        // Everything, but for the image; and but for what is to be kept besides.
        (&["--drop-range", "0-0xffffffffffffffff"], &[], &[(0, IMAGE.start), (IMAGE.end, u64::MAX)]),
        (&["--keep-range", "0-0xffffffffffffffff"], &[(0, u64::MAX)], &[]),
        (
            &["--drop-range", "20M-40M", "--keep-range", "30M-31M"],
            &[(0x1e00, 0x1f01)],
            &[(IMAGE.end, 0x1e00), (0x1f01, 0x2800)],
        ),
        (&["--drop-range", "20M-40M", "--keep-range", "1G-2G"], &[], &[(IMAGE.end, 0x2800)]),
    ];
    for level in [0u8, 1, 31] {
        for (options, keep, drop) in cases {
            let level_text = level.to_string();
            let options = [&["-d", &level_text], options].concat();
            let (kept, recorded, report) = kept(&fixture, &options, &dir.path().join("out"));
            let mut want = fixture.truth.kept(level);
            drop.iter().for_each(|(start, end)| want = &want - &span(&fixture, *start, (*end).min(max)));
            keep.iter().for_each(|(start, end)| want = &want | &(&span(&fixture, *start, (*end).min(max)) - &poison));
            // Where classes are known, so are page tables and the memory map: they stay, and nothing else does.
            let own = if level < 2 {
                BTreeSet::new()
            } else {
                &span(&fixture, 0x1c00, 0x1e00) | &span(&fixture, 0x5000, 0x5800)
            };
            let wrong: Vec<_> =
                kept.symmetric_difference(&want).filter(|pfn| want.contains(pfn) || !own.contains(pfn)).collect();
            assert!(
                wrong.is_empty(),
                "{options:?}: {} frames differ: {:x?}",
                wrong.len(),
                &wrong[..wrong.len().min(5)]
            );
            assert_eq!(recorded, u64::from(level));
            assert!(image.is_subset(&kept));
            let picked = &report["picked"];
            let by_class = fixture.truth.kept(level);
            assert_eq!(picked["kept_by_range"], (&kept - &by_class).len(), "{options:?}");
            assert_eq!(picked["dropped_by_range"], (&by_class - &kept).len(), "{options:?}");
            if options.contains(&"0-0xffffffffffffffff") && !drop.is_empty() {
                assert_eq!(picked["protected"], kept.len());
            }
        }
    }
}

/// Nothing is known of the kernel: addresses are enough, and the text segment still bounds the image.
#[test]
fn ranges_need_no_knowledge_of_the_kernel() {
    let dir = temp_dir();
    let mut machine = machine();
    machine.vmcoreinfo = false;
    let fixture = machine.build(dir.path());
    let out = dir.path().join("out");
    for level in ["0", "1"] {
        let words = ["-d", level, "--drop-range", "0-40M", "--keep-range", "2M+1"];
        let (kept, _, report) = kept(&fixture, &words, &out);
        let all: BTreeSet<u64> = fixture.truth.pfns().collect();
        let dropped =
            &(&span(&fixture, 0, 0x2800) - &span(&fixture, IMAGE.start, IMAGE.end)) - &BTreeSet::from([0x200]);
        assert!(kept == &all - &dropped, "{} frames", kept.len());
        assert_eq!(report["picked"]["protected"], IMAGE.end - IMAGE.start);
        assert_eq!(report["picked"]["dropped_by_range"], dropped.len());
    }
    let run = filter(&["--drop", "user", "--force"], &fixture.path, &out);
    assert_eq!(run.code(), Some(1), "classes need it: {}", run.stderr);
    // Tasks need it too, but are no reason to make no dump.
    let words = ["-d", "0", "--keep-task", "1", "--force"];
    let run = filter(&words, &fixture.path, &out).ok();
    assert!(run.stderr.contains("no task's memory is kept: cannot find the crashed kernel's tasks"), "{}", run.stderr);
    let run = filter(&[&words[..], &["--strict"]].concat(), &fixture.path, &out);
    assert!(run.code() == Some(1) && run.stderr.contains("tasks"), "{}", run.stderr);
}

#[test]
fn what_comes_to_nothing_is_said() {
    let dir = temp_dir();
    let fixture = machine().build(dir.path());
    let out = dir.path().join("out");
    let run = filter(
        &["--keep-range", "3G-4G", "--drop-range", "0x200001+8K", "--drop-range", "0x200001+16"],
        &fixture.path,
        &out,
    )
    .ok();
    assert!(run.stderr.contains("--keep-range 0xc0000000-0x100000000: the dump has no memory there"), "{}", run.stderr);
    assert!(run.stderr.contains("--drop-range 0x200001-0x200010 holds no whole page"), "{}", run.stderr);
    assert_eq!(run.stderr.matches("whole page").count(), 1, "{}", run.stderr);
    let run = filter(&["--force", "--keep-range", "33M+8M", "--drop-range", "0-1T"], &fixture.path, &out);
    assert!(run.code() == Some(2), "T is no unit of addresses: {}", run.stderr);
    let run = filter(&["--force", "--keep-range", "0-64G", "--drop-range", "0-64G"], &fixture.path, &out).ok();
    assert!(run.stderr.contains("pages that were to be kept: poisoned or offline"), "{}", run.stderr);
}
