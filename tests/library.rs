//! The reader that other programs use, as they use it: every container, every error, and the examples.
//!
//! Knows fixtures, specifications of files and outside readers. The library is the subject here: its answers are compared with
//! those of drgn and makedumpfile, and with what the fixtures put there.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use vdump::{Dump, Error, ErrorKind, Options, PageState};

use crate::found_note::in_all_containers;
use crate::harness::{filter, run, temp_dir, vdump};
use crate::judges::{drgn, installed};
use crate::read::elf::{Elf, Found};
use crate::synth::kdump::{Spec, Stored};
use crate::synth::kernels::era;
use crate::synth::klog::Record;
use crate::synth::raw::iomem;
use crate::synth::{Fixture, Machine};

#[path = "../examples/log.rs"]
#[allow(dead_code, reason = "its main is not run here")]
mod log;
#[path = "../examples/release.rs"]
#[allow(dead_code, reason = "its main is not run here")]
mod release;

const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/vmcore-6.12.zst");
/// A page with data.
const PFN: u64 = 0x10;

/// The sample as others read it.
fn unpacked(dir: &Path) -> PathBuf {
    let core = dir.join("vmcore");
    run(Command::new("zstd").args(["-dqf", SAMPLE, "-o"]).arg(&core)).ok();
    core
}

fn kind_of<T>(result: Result<T, Error>) -> (ErrorKind, Option<u64>) {
    let error = result.err().expect("an error");
    let text = error.to_string();
    assert!(!text.is_empty() && !text.contains('\n') && !text.contains(": :"), "{text}");
    (error.kind(), error.address())
}

/// The first program that anybody writes with it.
#[test]
fn five_lines_print_the_release_and_a_page_of_the_sample() {
    let dir = temp_dir();
    let core = unpacked(dir.path());
    let mut printed = Vec::new();
    release::release_and_page(SAMPLE, PFN, &mut printed).unwrap();
    let printed = String::from_utf8(printed).unwrap();
    let Found::Stored(page) = Elf::open(&core).page(PFN) else { panic!("the page is not there") };
    let lines: String = page.chunks(32).map(|line| format!("{line:02x?}\n")).collect();
    let (release, rest) = printed.split_once('\n').unwrap();
    assert!(rest == lines && page.iter().any(|byte| *byte != 0), "{rest}");
    let Some(python) = drgn() else { return };
    let script =
        "import drgn, sys\np = drgn.Program(); p.set_core_dump(sys.argv[1])\nprint(p['VMCOREINFO'].string_().decode())";
    let said = run(Command::new(python).args(["-c", script]).arg(&core)).ok().stdout;
    assert!(said.contains(&format!("OSRELEASE={release}\n")), "{release}\n{said}");
}

#[test]
fn virtual_memory_is_what_drgn_reads() {
    let dir = temp_dir();
    let core = unpacked(dir.path());
    let Some(python) = drgn() else { return };
    let dump = Dump::open(SAMPLE).unwrap();
    let addresses: Vec<u64> = ["linux_banner", "init_uts_ns", "swapper_pg_dir", "_stext", "vmcoreinfo_note"]
        .iter()
        .map(|name| dump.symbol(name).unwrap().unwrap_or_else(|| panic!("{name} is not there")))
        .collect();
    let note = {
        // A pointer of the kernel's, into the direct mapping.
        let mut word = [0; 8];
        dump.reader().read_virtual(addresses[4], &mut word).unwrap();
        u64::from_le_bytes(word)
    };
    let script = "import drgn, sys\np = drgn.Program(); p.set_core_dump(sys.argv[1])\n\
                  for at in sys.argv[2:]: print(p.read(int(at), 9000).hex())";
    let places: Vec<u64> = addresses[..4].iter().copied().chain([note & !0xfff]).collect();
    let mut command = Command::new(python);
    command.args(["-c", script]).arg(&core).args(places.iter().map(u64::to_string));
    let said = run(&mut command).ok().stdout;
    assert_eq!(said.lines().count(), places.len());
    let mut reader = dump.reader();
    for (at, line) in places.iter().zip(said.lines()) {
        let mut bytes = vec![0; 9000];
        reader.read_virtual(*at, &mut bytes).unwrap();
        assert_eq!(bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>(), line, "{at:#x}");
    }
    assert_eq!(dump.symbol("no_such_symbol_anywhere").unwrap(), None);
}

#[test]
fn the_log_is_the_one_that_makedumpfile_prints() {
    let dir = temp_dir();
    let mut summary = Vec::new();
    log::summarize(SAMPLE, &mut summary).unwrap();
    let summary = String::from_utf8(summary).unwrap();
    assert!(summary.contains("\nLinux version 6.12") && summary.contains(" 0 lost\n"), "{summary}");
    let log = Dump::open(SAMPLE).unwrap().log().unwrap();
    assert!(summary.ends_with(&log.to_string()) && log.records().iter().all(|record| record.ts_nsec.is_some()));
    if !installed("makedumpfile") {
        return;
    }
    let theirs = dir.path().join("log");
    run(Command::new("makedumpfile").arg("--dump-dmesg").arg(unpacked(dir.path())).arg(&theirs)).ok();
    assert_eq!(log.to_string(), fs::read_to_string(theirs).unwrap());
}

fn small() -> Machine {
    Machine { log: vec![Record::new(7, "a machine that crashed")], ..Machine::small(era("6.12")) }
}

/// All memory of a fixture, page by page.
fn has_all(dump: &Dump, fixture: &Fixture, container: &str) {
    let mut reader = dump.reader();
    let mut page = vec![0; dump.page_size()];
    let mut pfns = Vec::new();
    for frame in dump.pages() {
        pfns.push(frame.pfn);
        match (frame.state, reader.page(frame.pfn, &mut page)) {
            (PageState::Partial, read) => assert_eq!(kind_of(read).0, ErrorKind::NotInDump),
            (state, read) => {
                read.unwrap();
                assert!(page == fixture.image.page(frame.pfn), "{container}: {:#x}", frame.pfn);
                assert!(state == PageState::Stored || page.iter().all(|byte| *byte == 0));
            }
        }
    }
    assert!(pfns.iter().copied().eq(fixture.truth.pfns()), "{container}");
    let ranges: u64 = dump.ranges().map(|range| (range.end - 1) / 4096 - range.start / 4096 + 1).sum();
    assert_eq!(ranges, pfns.len() as u64);
}

#[test]
fn every_container_is_the_same_memory() {
    let dir = temp_dir();
    let machine = small();
    let fixture = machine.build(dir.path());
    for (container, path) in in_all_containers(&fixture.path, dir.path()) {
        let dump = Dump::open(&path).unwrap();
        assert_eq!(
            (dump.release(), dump.architecture(), dump.page_size()),
            (Some(machine.era.release), "x86_64", 4096)
        );
        has_all(&dump, &fixture, container);
        let info = dump.vmcoreinfo().unwrap();
        assert!(info.as_bytes().starts_with(fixture.info.as_bytes()), "{container}");
        let uts = info.symbol("init_uts_ns").unwrap() + info.offset("uts_namespace.name").unwrap_or(4);
        let mut name = [0; 6];
        dump.reader().read_virtual(uts, &mut name).unwrap();
        assert_eq!(&name, b"Linux\0", "{container}");
        assert!(dump.log().unwrap().to_string().contains("a machine that crashed"), "{container}");
        assert_eq!(dump.notes().filter(|note| note.name == b"VMCOREINFO").count(), 1);
        assert_eq!(dump.notes().filter(|note| note.name == b"CORE" && note.kind == 1).count(), machine.cpus);
        assert!(!dump.is_incomplete());
        let (mut one, mut two) = ([0; 300], [0; 300]);
        dump.reader().read_virtual(info.symbol("_stext").unwrap(), &mut one).unwrap();
        let paddr = dump.reader().translate(info.symbol("_stext").unwrap()).unwrap();
        dump.reader().read_physical(paddr, &mut two).unwrap();
        assert_eq!((paddr, one), (machine.image_pa, two));
    }
}

#[test]
fn threads_share_a_dump() {
    let dir = temp_dir();
    let fixture = small().build(dir.path());
    let kdump = dir.path().join("kdump");
    run(vdump().arg("convert").arg(&fixture.path).arg(&kdump)).ok();
    let dump = Dump::open(&kdump).unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| has_all(&dump, &fixture, "a thread"));
        }
    });
    // A reader may go to another thread.
    let mut reader = dump.reader();
    thread::scope(|scope| scope.spawn(move || reader.page(0x1000, &mut [0; 4096])).join().unwrap()).unwrap();
}

#[test]
fn an_excluded_page_is_an_error_and_never_zeros() {
    let dir = temp_dir();
    let machine = small();
    let fixture = machine.build(dir.path());
    let (kdump, core) = (dir.path().join("kdump"), dir.path().join("core.elf"));
    filter(&["-d", "30"], &fixture.path, &kdump).ok();
    filter(&["-d", "30"], &fixture.path, &core).ok();
    let kept = fixture.truth.kept(30);
    for (path, excluded) in [(&kdump, ErrorKind::Excluded), (&core, ErrorKind::NotInDump)] {
        let dump = Dump::open(path).unwrap();
        let (mut reader, mut page) = (dump.reader(), vec![0; 4096]);
        let mut absent = 0;
        for pfn in fixture.truth.pfns() {
            let read = reader.page(pfn, &mut page);
            if kept.contains(&pfn) {
                read.unwrap();
                assert!(page == fixture.image.page(pfn), "{pfn:#x}");
            } else {
                assert_eq!(kind_of(read), (excluded, Some(pfn * 4096)));
                absent += 1;
            }
        }
        assert!(absent > 100, "{absent}");
        let beyond = fixture.truth.max_pfn() + 5;
        assert_eq!(kind_of(reader.page(beyond, &mut page)), (ErrorKind::NotInDump, Some(beyond * 4096)));
        assert_eq!(dump.pages().count(), kept.len());
        // What is read over such a page fails there, and virtual addresses do by the virtual one.
        let gone = fixture.truth.pfns().find(|pfn| !kept.contains(pfn) && kept.contains(&(pfn - 1))).unwrap() * 4096;
        assert_eq!(kind_of(reader.read_physical(gone - 4096, &mut [0; 9000])), (excluded, Some(gone)));
        let seen = machine.page_offset + gone;
        assert_eq!(kind_of(reader.read_virtual(seen - 10, &mut [0; 20])), (excluded, Some(seen)));
    }
    let dump = Dump::open(&kdump).unwrap();
    let machine_frames: u64 = dump.machine_ranges().map(|range| (range.end - range.start) / 4096).sum();
    assert_eq!(machine_frames, fixture.truth.pfns().count() as u64);
}

#[test]
fn addresses_that_are_none_are_not_mapped() {
    let dump = Dump::open(SAMPLE).unwrap();
    let mut reader = dump.reader();
    for address in [0, 0x1000, 0x8000_0000_0000, 0x1234_5678_9abc_def0, 0xffff_7fff_ffff_f000, u64::MAX] {
        assert_eq!(kind_of(reader.read_virtual(address, &mut [0])), (ErrorKind::NotMapped, Some(address)));
        assert_eq!(kind_of(reader.translate(address)).0, ErrorKind::NotMapped);
    }
    assert_eq!(kind_of(reader.read_physical(u64::MAX - 2, &mut [0; 8])).0, ErrorKind::NotInDump);
    for pfn in [u64::MAX, u64::MAX >> 12, 1 << 52] {
        assert_eq!(kind_of(reader.page(pfn, &mut [0; 4096])).0, ErrorKind::NotInDump);
    }
    assert_eq!(kind_of(reader.page(PFN, &mut [0; 100])).0, ErrorKind::InvalidArgument);
    reader.read_physical(0x1000, &mut []).unwrap();
    // However much is asked for: the first hole ends it.
    let end = dump.ranges().next().unwrap().end;
    assert_eq!(kind_of(reader.read_physical(0x1000, &mut vec![0; 8 << 20])), (ErrorKind::NotInDump, Some(end)));
}

#[test]
fn what_became_of_a_page_is_told_apart() {
    let dir = temp_dir();
    let path = dir.path().join("in");
    let cases =
        [(Stored::Broken, ErrorKind::Damaged), (Stored::Outside, ErrorKind::Lost), (Stored::Lost, ErrorKind::Lost)];
    for (bad, kind) in cases {
        let mut spec = Spec::new(6, 4096, 64).with_pages(16..24, &[Stored::Zlib]);
        spec.excluded = (30..32).collect();
        spec.pages.get_mut(&20).unwrap().1 = bad;
        fs::write(&path, spec.build().0).unwrap();
        let dump = Dump::open(&path).unwrap();
        let (mut reader, mut page) = (dump.reader(), vec![0; 4096]);
        assert_eq!((dump.release(), dump.pages().count()), (Some("5.14.0-synthetic"), 8));
        for pfn in [16, 19, 21, 23] {
            reader.page(pfn, &mut page).unwrap();
            assert!(page == spec.pages[&pfn].0);
        }
        assert_eq!(kind_of(reader.page(20, &mut page)), (kind, Some(20 * 4096)), "{bad:?}");
        assert_eq!(kind_of(reader.read_physical(16 * 4096, &mut [0; 8 * 4096])), (kind, Some(20 * 4096)), "{bad:?}");
        assert_eq!(kind_of(reader.page(30, &mut page)), (ErrorKind::Excluded, Some(30 * 4096)));
        assert_eq!(kind_of(reader.page(40, &mut page)), (ErrorKind::NotInDump, Some(40 * 4096)));
        // Its VMCOREINFO says nothing of page tables.
        assert_eq!(kind_of(reader.read_virtual(u64::MAX << 31, &mut page)).0, ErrorKind::UnknownKernel);
        assert_eq!(kind_of(dump.log()).0, ErrorKind::UnknownKernel);
        assert_eq!(kind_of(dump.symbol("linux_banner")).0, ErrorKind::UnknownKernel);
    }
}

#[test]
fn a_split_set_is_one_dump_and_a_missing_part_is_lost() {
    let dir = temp_dir();
    let mut spec = Spec::new(6, 4096, 1000).with_pages(1..300, &[Stored::Zlib]).with_pages(640..700, &[Stored::Raw]);
    spec.excluded = (300..640).collect();
    let paths: Vec<PathBuf> = (0..3).map(|n| dir.path().join(format!("part.{n}"))).collect();
    spec.split(&[128, 320, 1000]).iter().zip(&paths).for_each(|(bytes, path)| fs::write(path, bytes).unwrap());
    let whole = Options::new().part(&paths[0]).part(&paths[2]).open(&paths[1]).unwrap();
    let some = Options::new().part(&paths[2]).open(&paths[0]).unwrap();
    assert!(some.is_incomplete() && !whole.is_incomplete());
    let mut page = vec![0; 4096];
    for (pfn, (data, _)) in &spec.pages {
        whole.reader().page(*pfn, &mut page).unwrap();
        assert!(&page == data);
        match some.reader().page(*pfn, &mut page) {
            read if (128..320).contains(pfn) => assert_eq!(kind_of(read), (ErrorKind::Lost, Some(pfn * 4096))),
            read => read.unwrap(),
        }
    }
    assert_eq!(kind_of(some.reader().page(500, &mut page)).0, ErrorKind::Excluded);
    assert_eq!(kind_of(Options::new().part(SAMPLE).open(&paths[0])).0, ErrorKind::InvalidArgument);
}

#[test]
fn what_a_cut_copy_has_lost_is_lost() {
    let dir = temp_dir();
    let fixture = small().build(dir.path());
    let pfn = fixture.truth.pfns().nth(2000).unwrap();
    let file = fs::OpenOptions::new().write(true).open(&fixture.path).unwrap();
    file.set_len(fixture.offset_of(pfn * 4096) + 7).unwrap();
    let dump = Dump::open(&fixture.path).unwrap();
    let mut page = vec![0; 4096];
    assert!(dump.is_incomplete());
    dump.reader().page(pfn - 1, &mut page).unwrap();
    assert!(page == fixture.image.page(pfn - 1));
    assert_eq!(kind_of(dump.reader().page(pfn, &mut page)), (ErrorKind::Lost, Some(pfn * 4096)));
}

#[test]
fn raw_memory_is_opened_as_the_program_says() {
    let dir = temp_dir();
    let machine = small();
    let fixture = machine.build(dir.path());
    let (raw, list) = (dir.path().join("raw"), dir.path().join("iomem"));
    let mut file = fs::File::create(&raw).unwrap();
    for pfn in 0..fixture.truth.max_pfn() {
        file.write_all(&fixture.image.page(pfn)).unwrap();
    }
    fs::write(&list, iomem(&machine)).unwrap();
    assert_eq!(kind_of(Dump::open(&raw)).0, ErrorKind::InvalidDump);
    let dump = Options::new().iomem(&list).open(&raw).unwrap();
    has_all(&dump, &fixture, "raw memory");
}

#[test]
fn what_cannot_be_opened_says_why() {
    let dir = temp_dir();
    let (text, spec) = (dir.path().join("text"), dir.path().join("spec"));
    fs::write(&text, "no dump at all\n".repeat(1000)).unwrap();
    assert_eq!(kind_of(Dump::open(&text)).0, ErrorKind::InvalidDump);
    assert_eq!(kind_of(Dump::open(dir.path())).0, ErrorKind::InvalidDump);
    let missing = Dump::open(dir.path().join("none")).unwrap_err();
    assert_eq!((missing.kind(), missing.io_kind()), (ErrorKind::Io, Some(std::io::ErrorKind::NotFound)));
    assert_eq!(kind_of(Options::new().memory_limit(1 << 10).open(SAMPLE)).0, ErrorKind::MemoryLimit);
    // Another machine's memory is read, but not by virtual address.
    let machine = "aarch64";
    fs::write(&spec, Spec { machine, ..Spec::new(6, 4096, 64).with_pages(16..24, &[Stored::Zlib]) }.build().0).unwrap();
    let dump = Dump::open(&spec).unwrap();
    dump.reader().page(16, &mut [0; 4096]).unwrap();
    assert_eq!(dump.architecture(), machine);
    assert_eq!(kind_of(dump.reader().read_virtual(u64::MAX << 40, &mut [0; 8])).0, ErrorKind::Unsupported);
}
