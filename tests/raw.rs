//! Raw memory: core headers or a saved iomem say what of it is RAM, and nothing else is believed.
//!
//! Knows the raw files of `synth`. Must not know the product. Judges dumps by the truth, refusals by what they say.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::bad_device::library;
use crate::check;
use crate::harness::{Run, run, temp_dir, vdump, vdump_with};
use crate::read::elf::{Elf, Found};
use crate::read::kdump::Kdump;
use crate::refusal::{badly_failed, none_of};
use crate::synth::elf::{Note, note_bytes};
use crate::synth::kernels::era;
use crate::synth::machine::LOW_END;
use crate::synth::raw::{Backup, HEADERS, Layout, PLAIN, Raw, iomem, put, write};
use crate::synth::{Fixture, Machine};

/// Kernel memory without contents, below the image: the note of `/sys/kernel/vmcoreinfo` goes here.
const NOTE: u64 = 2 << 20;

fn small() -> Machine {
    Machine::small(era("6.12"))
}

fn built(dir: &Path, layout: Layout) -> (Machine, Fixture, Raw) {
    let machine = small();
    let fixture = machine.build(dir);
    let raw = write(&machine, &fixture, layout);
    (machine, fixture, raw)
}

/// A machine whose kernel keeps its VMCOREINFO note at these places and no other knowledge of it exists.
fn noted(dir: &Path, places: &[u64]) -> (Machine, Fixture, Raw) {
    let machine = Machine { cpus: 0, ..small() };
    let mut fixture = machine.build(dir);
    let note = note_bytes(&Note { name: "VMCOREINFO", kind: 0, desc: fixture.info.clone().into_bytes() });
    places.iter().for_each(|at| fixture.image.poke(*at, &note));
    let raw = write(&machine, &fixture, PLAIN);
    (machine, fixture, raw)
}

fn vdump_on<S: AsRef<OsStr>>(command: &str, options: &[S], raw: &Path, out: &Path) -> Run {
    run(vdump().arg(command).args(["--progress", "plain"]).args(options).arg(raw).arg(out))
}

/// Levels and formats that take other ways to the pages must make of the raw memory what the truth says.
fn same_as_truth<S: AsRef<OsStr>>(label: &str, fixture: &Fixture, raw: &Path, options: &[S]) -> String {
    let mut said = String::new();
    for (level, format) in [(0u8, "elf"), (31, "kdump")] {
        let out = raw.with_file_name("out");
        let level_word = level.to_string();
        let mut words: Vec<&OsStr> = ["-f", format, "-d", &level_word, "--force"].map(OsStr::new).into();
        words.extend(options.iter().map(AsRef::as_ref));
        said += &vdump_on("filter", &words, raw, &out).ok().stderr;
        let faults =
            if format == "elf" { check::elf(fixture, level, &out) } else { check::kdump(fixture, level, &out) };
        check::sound(&format!("{label}, {format} -d {level}"), &faults);
    }
    said
}

#[test]
fn core_headers_at_an_address() {
    for layout in [
        PLAIN,
        Layout { absent_cpus: 3, ..PLAIN },
        Layout { backup: Backup::Full, ..PLAIN },
        Layout { backup: Backup::Empty, ..PLAIN },
        Layout { bits: 32, absent_cpus: 1, ..PLAIN },
    ] {
        let dir = temp_dir();
        let (_, fixture, raw) = built(dir.path(), layout);
        let address = format!("{}K", HEADERS >> 10);
        let said = same_as_truth(&format!("{layout:?}"), &fixture, &raw.path, &["--elfcorehdr", &address]);
        assert!(!said.contains("missing"), "{said}");
        assert_eq!(said.contains("had not crashed yet"), layout.backup == Backup::Empty, "{said}");
    }
}

#[test]
fn core_headers_in_a_file_and_addresses_in_every_spelling() {
    let dir = temp_dir();
    let (_, fixture, raw) = built(dir.path(), Layout { backup: Backup::Full, absent_cpus: 2, ..PLAIN });
    let file = put(dir.path(), "headers", &raw.headers);
    same_as_truth("file", &fixture, &raw.path, &[OsStr::new("--elfcorehdr"), file.as_os_str()]);
    let spellings = [format!("{HEADERS:#x}"), format!("{HEADERS}"), format!("64K@{}m", HEADERS >> 20)];
    let said = spellings.map(|spelling| {
        vdump_with(["info", "--json", "--elfcorehdr", &spelling, raw.path.to_str().unwrap()]).ok().stdout
    });
    let said = said.map(|text| serde_json::from_str::<Value>(&text).unwrap());
    for info in &said {
        assert_eq!(info, &said[0]);
        assert_eq!(info["cpus"], 2);
        assert_eq!(info["vmcoreinfo"], true);
        let ram: Vec<&str> =
            info["ram"].as_array().unwrap().iter().map(|line| line["start"].as_str().unwrap()).collect();
        assert_eq!(ram, ["0x1000", "0x100000", "0x5000000"]);
    }
    assert!(said[0]["format"].as_str().unwrap().starts_with("raw memory"), "{}", said[0]["format"]);
}

#[test]
fn a_core_of_the_same_machine_as_headers() {
    let dir = temp_dir();
    let (_, fixture, raw) = built(dir.path(), PLAIN);
    let words = [OsStr::new("--elfcorehdr"), fixture.path.as_os_str()];
    let said = same_as_truth("a core", &fixture, &raw.path, &words);
    assert!(said.contains("is a core of its own"), "{said}");
}

#[test]
fn converting_keeps_every_page() {
    let dir = temp_dir();
    let (_, fixture, raw) = built(dir.path(), Layout { backup: Backup::Full, ..PLAIN });
    let out = dir.path().join("out.elf");
    vdump_on("convert", &["--elfcorehdr", &HEADERS.to_string()], &raw.path, &out).ok();
    let core = Elf::open(&out);
    check::sound("converted", &core.faults());
    for pfn in fixture.truth.pfns() {
        let page = match core.page(pfn) {
            Found::Stored(page) => page,
            Found::Unstored => vec![0; 4096],
            Found::Absent => panic!("{pfn:#x} is missing"),
        };
        assert!(page == fixture.image.page(pfn), "{pfn:#x}");
    }
    // The crash kernel's region and what lies between RAM ranges is not in it.
    assert_eq!(core.page(HEADERS >> 12), Found::Absent);
    assert_eq!(core.page(LOW_END.div_ceil(4096)), Found::Absent);
}

#[test]
fn a_saved_iomem_and_a_note_that_is_found() {
    let dir = temp_dir();
    // Any place in RAM will do, also a second copy; none outside of it.
    let (machine, fixture, raw) = noted(dir.path(), &[NOTE, NOTE + (4 << 12)]);
    let file = put(dir.path(), "iomem", iomem(&machine));
    let words = [OsStr::new("--iomem"), file.as_os_str()];
    let said = same_as_truth("iomem", &fixture, &raw.path, &words);
    assert!(said.contains(&format!("found by its content at {NOTE:#x}")), "{said}");
    let dmesg = |words: &[&OsStr]| run(vdump().arg("dmesg").args(words).arg(&raw.path)).stderr;
    assert!(dmesg(&words).contains("kernel log"), "{}", dmesg(&words));
}

#[test]
fn a_note_that_begins_no_page_is_taken_if_it_is_the_only_one() {
    let dir = temp_dir();
    let (machine, fixture, raw) = noted(dir.path(), &[NOTE + 0x124]);
    let file = put(dir.path(), "iomem", iomem(&machine));
    same_as_truth("iomem", &fixture, &raw.path, &[OsStr::new("--iomem"), file.as_os_str()]);
}

#[test]
fn without_a_note_nothing_is_guessed() {
    let dir = temp_dir();
    // A note where there is no RAM belongs to somebody else.
    let (machine, fixture, raw) = noted(dir.path(), &[]);
    let file = put(dir.path(), "iomem", iomem(&machine));
    let words = [OsStr::new("--iomem"), file.as_os_str()];
    let out = dir.path().join("out");
    let refused = vdump_on("filter", &words, &raw.path, &out);
    none_of(&badly_failed(&refused, &out));
    assert!(refused.stderr.contains("VMCOREINFO"), "{}", refused.stderr);
    let said = vdump_on("convert", &words, &raw.path, &out).ok().stderr;
    assert!(said.contains("--vmcoreinfo"), "{said}");
    let dump = Kdump::open(&out);
    for pfn in fixture.truth.pfns() {
        assert!(dump.page(pfn).as_ref() == Ok(&fixture.image.page(pfn)), "{pfn:#x}");
    }
}

#[test]
fn of_two_kernels_the_user_chooses() {
    let dir = temp_dir();
    let (machine, mut fixture, _) = noted(dir.path(), &[NOTE]);
    let other = fixture.info.replace("OSRELEASE=6.12", "OSRELEASE=6.11");
    assert_ne!(other, fixture.info);
    let desc = other.into_bytes();
    fixture.image.poke(NOTE + 0x4000, &note_bytes(&Note { name: "VMCOREINFO", kind: 0, desc }));
    let raw = write(&machine, &fixture, PLAIN);
    let file = put(dir.path(), "iomem", iomem(&machine));
    let words = [OsStr::new("--iomem"), file.as_os_str()];
    let out = dir.path().join("out");
    let refused = vdump_on("filter", &words, &raw.path, &out);
    none_of(&badly_failed(&refused, &out));
    for part in ["0x200000 (6.12", "0x204000 (6.11", "--vmcoreinfo"] {
        assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
    }
    let named = |at: &'static str| [&words[..], &["--vmcoreinfo", at].map(OsStr::new)].concat();
    same_as_truth("named", &fixture, &raw.path, &named("0x200000"));
    let nothing_there = vdump_on("filter", &named("0x201000"), &raw.path, &dir.path().join("never"));
    none_of(&badly_failed(&nothing_there, &dir.path().join("never")));
    assert!(nothing_there.stderr.contains("/sys/kernel/vmcoreinfo"), "{}", nothing_there.stderr);
}

#[test]
fn an_iomem_that_cannot_be_used() {
    let dir = temp_dir();
    let (machine, _, raw) = noted(dir.path(), &[NOTE]);
    let zeros: String = iomem(&machine)
        .lines()
        .map(|line| {
            let indent = line.len() - line.trim_start().len();
            format!("{}00000000-00000000 : {}\n", " ".repeat(indent), line.split_once(" : ").unwrap().1)
        })
        .collect();
    let beyond = iomem(&machine) + "100000000-10fffffff : System RAM\n";
    for (text, says) in [
        (zeros.as_bytes(), "not saved by root"),
        (b"", "no 'System RAM'"),
        (b"\x7fELF\x02\xff\xfe", "no text"),
        (b"1 2 3\n", "line 1"),
        (beyond.as_bytes(), "0x110000000"),
    ] {
        let file = put(dir.path(), "iomem", text);
        let out = dir.path().join("out");
        let run = vdump_on("filter", &[OsStr::new("--iomem"), file.as_os_str()], &raw.path, &out);
        none_of(&badly_failed(&run, &out));
        assert!(run.stderr.contains(says), "{says}: {}", run.stderr);
    }
}

#[test]
fn hostile_core_headers_are_refused() {
    let dir = temp_dir();
    let (_, _, raw) = built(dir.path(), PLAIN);
    let out = dir.path().join("out");
    let refused = |label: &str, address: &str| {
        let run = vdump_on("filter", &["--elfcorehdr", address], &raw.path, &out);
        none_of(&badly_failed(&run, &out).iter().map(|fault| format!("{label}: {fault}")).collect::<Vec<_>>());
    };
    for address in ["0", "0x1000", "88M", "0xfffffffffffff000", "0xffffffffffffffff", "16@70M", "1@70M", "no-such-file"]
    {
        refused(address, address);
    }
    let file = File::options().read(true).write(true).open(&raw.path).unwrap();
    let last = *raw.phdrs.last().unwrap() as u64;
    for (label, at, bytes) in [
        ("headers that a section counts", 56, &[0xff, 0xff][..]),
        ("no headers", 56, &[0, 0]),
        ("headers past the end", 32, &[0xff; 8]),
        ("a header of another size", 54, &[55, 0]),
        ("no core", 16, &[2, 0]),
        ("another class", 4, &[3]),
        ("big-endian", 5, &[2]),
        ("memory past the end", last + 8, &[0, 0, 0, 0, 1, 0, 0, 0]),
        ("an offset that wraps", last + 8, &[0xff; 8]),
        ("memory without end", last + 40, &[0xff; 8]),
    ] {
        let mut before = vec![0; bytes.len()];
        file.read_exact_at(&mut before, HEADERS + at).unwrap();
        file.write_all_at(bytes, HEADERS + at).unwrap();
        refused(label, "70M");
        file.write_all_at(&before, HEADERS + at).unwrap();
    }
}

/// Notes that cannot be had are said to be missing; the pages are all there.
#[test]
fn notes_that_lie_outside_cost_themselves() {
    let dir = temp_dir();
    let (_, fixture, raw) = built(dir.path(), PLAIN);
    let file = File::options().write(true).open(&raw.path).unwrap();
    // The registers of the first CPU.
    for (offset, len) in [(u64::MAX - 3, 1024), (1 << 40, 1024), (0, u64::MAX)] {
        file.write_all_at(&u64::to_le_bytes(offset), HEADERS + raw.phdrs[0] as u64 + 8).unwrap();
        file.write_all_at(&u64::to_le_bytes(len), HEADERS + raw.phdrs[0] as u64 + 40).unwrap();
        let out = dir.path().join("out");
        let said = vdump_on("filter", &["--elfcorehdr", "70M", "--force"], &raw.path, &out).ok().stderr;
        assert!(said.contains("1 segments of notes are missing"), "{said}");
        let dump = Kdump::open(&out);
        assert_eq!(dump.kept(), fixture.truth.kept(31));
        assert_eq!(dump.field("nr_cpus"), 1);
    }
}

#[test]
fn raw_memory_is_taken_at_its_word_and_nothing_else_is() {
    let dir = temp_dir();
    let (machine, fixture, raw) = built(dir.path(), PLAIN);
    let file = put(dir.path(), "iomem", iomem(&machine));
    let out = dir.path().join("out");
    let unsaid = vdump_on::<&str>("filter", &[], &raw.path, &out);
    none_of(&badly_failed(&unsaid, &out));
    let device = vdump_on::<&str>("filter", &[], Path::new("/dev/zero"), &out);
    for said in [&unsaid.stderr, &device.stderr] {
        assert!(said.contains("--elfcorehdr") && said.contains("--iomem"), "{said}");
    }
    let kdump = dir.path().join("kdump");
    vdump_on::<&str>("convert", &[], &fixture.path, &kdump).ok();
    let by_iomem = ["--iomem", file.to_str().unwrap()];
    let of_both = [&by_iomem[..], &["--elfcorehdr", "70M"]].concat();
    for (words, input, says) in [
        (&by_iomem[..], &fixture.path, "an ELF file"),
        (&["--elfcorehdr", "70M"], &fixture.path, "an ELF file"),
        (&by_iomem[..], &kdump, "a kdump-compressed dump"),
        (&of_both[..], &raw.path, "cannot be given together with"),
        (&["--iomem", file.to_str().unwrap(), raw.path.to_str().unwrap()], &raw.path, "several inputs"),
        (&["--iomem", file.to_str().unwrap(), "--vmcoreinfo", "here"], &raw.path, "not an address"),
    ] {
        let run = vdump_on("filter", words, input, &out);
        assert_eq!(run.code(), Some(2), "{words:?}: {}", run.stderr);
        assert!(run.stderr.contains(says) && !out.exists(), "{words:?}: {}", run.stderr);
    }
    // The output must not be what says where RAM is.
    let run = vdump_on("convert", &[&by_iomem[..], &["--force"]].concat(), &raw.path, &file);
    assert_eq!(run.code(), Some(2), "{}", run.stderr);
    assert_eq!(fs::read_to_string(&file).unwrap(), iomem(&machine));
}

/// Whatever lies at address 0 is memory: an interrupt table may hold any four bytes.
#[test]
fn magic_bytes_at_address_zero_are_memory() {
    let dir = temp_dir();
    let (_, fixture, raw) = built(dir.path(), PLAIN);
    let file = File::options().write(true).open(&raw.path).unwrap();
    for start in [&b"\x7fELF\xf0\x53\xff\x00"[..], b"KDUMP", &[0xff; 16]] {
        file.write_all_at(&[0; 16], 0).unwrap();
        file.write_all_at(start, 0).unwrap();
        let out = dir.path().join("out");
        vdump_on("filter", &["--elfcorehdr", "70M", "--force"], &raw.path, &out).ok();
        check::sound("magic at 0", &check::kdump(&fixture, 31, &out));
    }
}

#[test]
fn inside_zstd_and_lz4() {
    let dir = temp_dir();
    let (_, fixture, raw) = built(dir.path(), PLAIN);
    for tool in ["zstd", "lz4"] {
        let packed = dir.path().join("packed");
        let out = File::create(&packed).unwrap();
        let status = Command::new(tool).args(["-q", "-1", "-c"]).arg(&raw.path).stdout(out).status();
        assert!(status.unwrap().success());
        same_as_truth(tool, &fixture, &packed, &["--elfcorehdr", "70M"]);
    }
}

#[test]
fn a_page_that_cannot_be_read_costs_itself() {
    let dir = temp_dir();
    let library = library(dir.path());
    let (_, fixture, raw) = built(dir.path(), PLAIN);
    let bad = *fixture.truth.kept(31).iter().find(|pfn| !fixture.image.is_zero(**pfn) && **pfn > 33 << 8).unwrap();
    let mut command = vdump();
    command.env("LD_PRELOAD", library).env("BAD_FILE", &raw.path);
    command.env("BAD_FROM", (bad << 12).to_string()).env("BAD_TO", ((bad + 1) << 12).to_string());
    let out = dir.path().join("out");
    let run = run(command.args(["filter", "--json", "--elfcorehdr", "70M"]).arg(&raw.path).arg(&out)).ok();
    let report: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(report["read_errors"][0]["pfn"], bad);
    assert_eq!(report["unreadable_pages"], 1);
    let dump = Kdump::open(&out);
    let wrong = fixture.truth.kept(31).into_iter().find(|pfn| match dump.page(*pfn) {
        Ok(page) => *pfn == bad || page != fixture.image.page(*pfn),
        Err(_) => *pfn != bad,
    });
    assert_eq!(wrong, None);
}

/// A device that never ends: what is RAM is read, and no more.
#[test]
fn a_character_device() {
    let dir = temp_dir();
    let file = put(dir.path(), "iomem", "00001000-0009fbff : System RAM\n00100000-004fffff : System RAM\n");
    let out = dir.path().join("out");
    let words = [OsStr::new("--iomem"), file.as_os_str()];
    vdump_on("convert", &words, Path::new("/dev/zero"), &out).ok();
    let dump = Kdump::open(&out);
    let ram: Vec<u64> = (1..0xa0).chain(0x100..0x500).collect();
    assert_eq!(dump.ram().into_iter().collect::<Vec<_>>(), ram);
    assert!(ram.iter().all(|pfn| dump.page(*pfn) == Ok(vec![0; 4096])));
    let never = vdump_on("convert", &words, Path::new("/dev/tty"), &dir.path().join("never"));
    assert_eq!(never.code(), Some(1), "{}", never.stderr);
}
