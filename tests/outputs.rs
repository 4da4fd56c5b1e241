//! What the files look like: codecs, threads, headers, modes, filtering again.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use crate::check;
use crate::harness::{filter, temp_dir};
use crate::read::elf::{Elf, Found};
use crate::read::kdump::{self, Kdump};
use crate::synth::image::{Fill, fill_of};
use crate::synth::kernels::era;
use crate::synth::kinds::Kind;
use crate::synth::odd::Odd;
use crate::synth::{Fixture, Machine};

/// Codec names with the flag that marks a page of each.
const CODECS: [(&str, u32); 8] = [
    ("none", 0),
    ("zlib", kdump::ZLIB),
    ("zlib:9", kdump::ZLIB),
    ("lzo", kdump::LZO),
    ("snappy", kdump::SNAPPY),
    ("zstd", kdump::ZSTD),
    ("zstd:1", kdump::ZSTD),
    ("zstd:12", kdump::ZSTD),
];

fn usual(dir: &Path) -> Fixture {
    Machine::new(era("6.12")).build(dir)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Which codecs the non-zero pages of a dump use.
fn flags_by_fill(fixture: &Fixture, dump: &Kdump, fill: Fill) -> Vec<u32> {
    let painted = dump.kept().into_iter().filter(|pfn| fixture.truth.classes.contains_key(pfn));
    let mut flags: Vec<u32> =
        painted.filter(|pfn| fill_of(*pfn) == fill).filter_map(|pfn| dump.desc(pfn)).map(|d| d.flags).collect();
    flags.sort_unstable();
    flags.dedup();
    flags
}

#[test]
fn each_codec_decodes_to_the_same_pages() {
    let dir = temp_dir();
    let fixture = usual(dir.path());
    for (codec, flag) in CODECS {
        for level in [1u8, 31] {
            let out = dir.path().join("out");
            let level_arg = level.to_string();
            filter(&["-d", &level_arg, "-c", codec, "--force"], &fixture.path, &out).ok();
            check::sound(&format!("{codec} -d {level}"), &check::kdump(&fixture, level, &out));
            let dump = Kdump::open(&out);
            assert_eq!(flags_by_fill(&fixture, &dump, Fill::Noise), [0], "{codec}: what does not shrink is raw");
            let text = flags_by_fill(&fixture, &dump, Fill::Text);
            // At level 31 the zoo leaves hardly a page; those few must still be compressed.
            assert!(text.iter().all(|f| *f == flag), "{codec}: text has flags {text:?}");
            assert!(level == 31 || !text.is_empty(), "{codec}: no page of text is left to judge by");
        }
    }
}

#[test]
fn the_default_is_zstd_in_kdump_and_level_31() {
    let dir = temp_dir();
    let fixture = usual(dir.path());
    let out = dir.path().join("vmcore.out");
    let run = filter(&["--json"], &fixture.path, &out).ok();
    check::sound("defaults", &check::kdump(&fixture, 31, &out));
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(report["format"], "kdump");
    assert!(report["compress"].as_str().unwrap().starts_with("zstd"), "{report}");
    assert_eq!(report["bytes_written"], fs::metadata(&out).unwrap().len());
}

#[test]
fn output_does_not_depend_on_threads() {
    let dir = temp_dir();
    let fixture = usual(dir.path());
    for options in [["-f", "kdump", "-c", "zstd"], ["-f", "kdump", "-c", "lzo"], ["-f", "elf", "-c", "none"]] {
        for level in ["1", "31"] {
            let bytes = ["1", "2", "7"].map(|threads| {
                let out = dir.path().join(threads);
                let all = [&options[..], &["-d", level, "-j", threads, "--force"]].concat();
                filter(&all, &fixture.path, &out).ok();
                fs::read(&out).unwrap()
            });
            assert!(bytes[0] == bytes[1] && bytes[0] == bytes[2], "{options:?} -d {level}: threads change the bytes");
        }
    }
}

#[test]
fn output_does_not_depend_on_the_memory_limit() {
    let dir = temp_dir();
    let fixture = usual(dir.path());
    let bytes = ["32M", "512M"].map(|limit| {
        let out = dir.path().join(limit);
        filter(&["-d", "31", "--memory-limit", limit], &fixture.path, &out).ok();
        fs::read(&out).unwrap()
    });
    assert!(bytes[0] == bytes[1], "the memory limit changes the bytes");
}

/// A capture kernel has 256 MiB for everything: 2 GiB of RAM must pass through a quarter of that.
#[test]
fn memory_in_use_stays_within_the_limit() {
    let dir = temp_dir();
    let mut machine = Machine::small(era("6.12"));
    machine.ram = vec![1 << 20..160 << 20, 4 << 30..6 << 30];
    let fixture = machine.build(dir.path());
    for format in ["kdump", "elf", "elf.zst", "elf.lz4"] {
        let options = ["--json", "--memory-limit", "48M", "-j", "2"];
        let run = filter(&options, &fixture.path, &dir.path().join(format!("out.{format}"))).ok();
        let report: Value = serde_json::from_str(&run.stdout).unwrap();
        let peak = report["peak_resident"].as_u64().expect("the report says how much memory was used");
        assert!(peak < 64 << 20, "{format}: {peak} bytes");
    }
}

#[test]
fn only_the_owner_may_read_a_dump() {
    let dir = temp_dir();
    let fixture = Machine::small(era("6.12")).build(dir.path());
    for format in ["kdump", "elf"] {
        let out = dir.path().join(format);
        filter(&["-f", format], &fixture.path, &out).ok();
        let mode = mode(&out);
        assert!([0o600, 0o400].contains(&mode), "{format}: mode {mode:o}");
    }
}

#[test]
fn nothing_else_is_left_beside_the_output() {
    let dir = temp_dir();
    let fixture = Machine::small(era("6.12")).build(dir.path());
    let into = dir.path().join("into");
    fs::create_dir(&into).unwrap();
    filter(&[], &fixture.path, &into.join("out")).ok();
    let names: Vec<_> = fs::read_dir(&into).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["out"]);
}

#[test]
fn a_dry_run_writes_nothing_and_counts_the_same() {
    let dir = temp_dir();
    let fixture = usual(dir.path());
    let into = dir.path().join("into");
    fs::create_dir(&into).unwrap();
    let out = into.join("out");
    for level in ["31", "30"] {
        let dry = filter(&["--dry-run", "--json", "-d", level], &fixture.path, &out).ok();
        assert_eq!(fs::read_dir(&into).unwrap().count(), 0, "a dry run left a file");
        let wet = filter(&["--json", "-d", level], &fixture.path, &out).ok();
        fs::remove_file(&out).unwrap();
        let [mut dry, mut wet]: [Value; 2] = [dry, wet].map(|run| serde_json::from_str(&run.stdout).unwrap());
        if level == "30" {
            // Nobody looks for zeros in a dry run that would not leave them out.
            for report in [&mut dry, &mut wet] {
                report["classes"].as_array_mut().unwrap().retain(|row| row["name"] != "zero");
            }
        }
        for key in ["pages", "classes"] {
            assert_eq!(dry[key], wet[key], "-d {level}: {key}");
        }
    }
    let shown = filter(&["--dry-run"], &fixture.path, &dir.path().join("out")).ok();
    assert!(shown.stdout.contains("free") || shown.stderr.contains("free"), "the plan names no classes");
}

/// A machine whose ELF dump can be filtered again with the same result: a bad page is gone after the first run, and a head
/// that is no memory does not speak for its block in the second.
pub fn filtered_twice() -> Machine {
    let mut machine = Machine::new(era("6.12"));
    machine.zoo.retain(|(kind, _)| *kind != Kind::Odd(Odd::PoisonedFreeHead));
    machine
}

#[test]
fn a_dump_can_be_filtered_again() {
    let dir = temp_dir();
    let fixture = filtered_twice().build(dir.path());
    for first in ["0", "1", "2"] {
        let full = dir.path().join("full.elf");
        let again = dir.path().join("again");
        filter(&["-f", "elf", "-d", first, "--force"], &fixture.path, &full).ok();
        filter(&["-f", "elf", "-d", "31", "--force"], &full, &again).ok();
        check::sound(&format!("elf -d {first} then elf -d 31"), &check::elf(&fixture, 31, &again));
    }
}

#[test]
fn a_zstd_file_around_the_core_is_read_through() {
    let dir = temp_dir();
    let fixture = Machine::small(era("6.12")).build(dir.path());
    let packed = dir.path().join("vmcore.zst");
    fs::write(&packed, zstd::encode_all(fs::File::open(&fixture.path).unwrap(), 1).unwrap()).unwrap();
    let out = dir.path().join("out");
    filter(&[], &packed, &out).ok();
    check::sound("zst", &check::kdump(&fixture, 31, &out));
}

/// Readers take minutes with very many PT_LOADs, and zeros cost no bytes.
#[test]
fn an_elf_core_is_compact() {
    let dir = temp_dir();
    let fixture = usual(dir.path());
    let out = dir.path().join("out");
    for level in [1u8, 31] {
        filter(&["-f", "elf", "-d", &level.to_string(), "--force"], &fixture.path, &out).ok();
        let core = Elf::open(&out);
        let kept = fixture.truth.kept(level);
        let full = kept.iter().filter(|pfn| !fixture.image.is_zero(**pfn)).count() as u64;
        let stored: u64 = core.loads().map(|l| l.filesz).sum::<u64>() / 4096;
        assert!(stored <= full * 3 / 2, "-d {level}: {stored} pages stored for {full} that are not zero");
        assert!(core.phdrs.len() < 4096, "-d {level}: {} program headers", core.phdrs.len());
        let zeros = kept.iter().filter(|pfn| fixture.image.is_zero(**pfn));
        let lost: Vec<_> = zeros.filter(|pfn| core.page(**pfn) == Found::Absent).take(4).collect();
        assert!(lost.is_empty(), "-d {level}: zero pages {lost:x?} cannot be read");
    }
}

/// The rules that a machine needs no look inside for: level 0 and 1 work on anything.
#[test]
fn levels_without_classes_need_no_vmcoreinfo() {
    let dir = temp_dir();
    let machine = Machine { vmcoreinfo: false, ..Machine::small(era("6.12")) };
    let mut fixture = machine.build(dir.path());
    fixture.info.clear();
    for level in [0u8, 1] {
        for format in ["kdump", "elf"] {
            let out = dir.path().join(format!("{format}.{level}"));
            filter(&["-f", format, "-d", &level.to_string()], &fixture.path, &out).ok();
            if format == "elf" {
                check::sound("elf", &check::elf(&fixture, level, &out));
                continue;
            }
            let dump = Kdump::open(&out);
            assert_eq!(dump.kept(), fixture.truth.kept(level));
            assert_eq!(dump.field("tv_usec"), 0);
            let wrong = dump.kept().into_iter().find(|pfn| dump.page(*pfn) != Ok(fixture.image.page(*pfn)));
            assert_eq!(wrong, None, "a page differs");
        }
    }
}
