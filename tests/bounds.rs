//! Inputs that claim or unpack to far more than they are: an answer comes soon, and without the memory they ask for.
//!
//! Knows limits of processes. Must not know how the product bounds itself. Fails when it is killed, hangs or says nothing.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::disks::limited;
use crate::harness::{Run, filter, run, temp_dir, vdump, vdump_with};
use crate::read::elf::{Elf, Found};
use crate::read::kdump::Kdump;
use crate::refusal::{badly_failed, none_of};
use crate::synth::elf::{Load, PHDR, Style};
use crate::synth::image::{Fill, Image, PAGE, fill_of, pattern};
use crate::synth::kernels::era;
use crate::synth::{self, Fixture, Machine};

/// Address space in KiB, and files in blocks of 512 bytes: 1 GiB each.
const GIB_EACH: &str = "ulimit -v 1048576; ulimit -f 2097152";
/// What a header says that a machine's last piece of memory has: 8 TiB.
const CLAIMED: u64 = 1 << 43;
/// Sections of 256 KiB, with a table that is as long as that makes it.
const TINY_SECTIONS: [(&str, &str); 2] = [("NUMBER(SECTION_SIZE_BITS)", "18"), ("LENGTH(mem_section)", "1048576")];

/// A core whose last PT_LOAD is nearly all a claim.
fn claiming(dir: &Path, keys: &[(&str, &str)]) -> Fixture {
    claiming_bytes(dir, keys, CLAIMED)
}

/// The same with a claim of so many bytes.
pub fn claiming_bytes(dir: &Path, keys: &[(&str, &str)], claimed: u64) -> Fixture {
    let mut machine = Machine::small(era("6.12"));
    machine.info = keys.iter().map(|(key, value)| ((*key).into(), Some((*value).into()))).collect();
    let fixture = machine.build(dir);
    let memsz = fixture.placed.phoff + PHDR * (fixture.placed.phnum - 1) + 40;
    File::options().write(true).open(&fixture.path).unwrap().write_all_at(&claimed.to_le_bytes(), memsz).unwrap();
    fixture
}

fn filter_within(limits: &str, options: &[&str], input: &Path, out: &Path) -> Run {
    let (input, out) = (input.to_str().unwrap(), out.to_str().unwrap());
    run(&mut limited(limits, [&["filter", "--progress", "none"], options, &[input, out]].concat()))
}

#[test]
fn memory_that_is_only_claimed_is_refused_soon_where_nothing_can_hold_its_bitmaps() {
    let dir = temp_dir();
    let fixture = claiming(dir.path(), &[]);
    let in_memory = tempfile::tempdir_in("/dev/shm").unwrap();
    let out = in_memory.path().join("out");
    let mut faults = Vec::new();
    for level in ["0", "1", "31"] {
        for format in ["kdump", "elf"] {
            let options = ["-d", level, "-f", format, "--memory-limit", "64M"];
            let run = filter_within(GIB_EACH, &options, &fixture.path, &out);
            faults.extend(badly_failed(&run, &out).into_iter().map(|f| format!("{options:?}: {f}")));
        }
    }
    none_of(&faults);
}

/// A bitmap for 8 TiB has 256 MiB: a run that may use 64 MiB keeps it in a file beside the output, and writes the same dump.
#[test]
fn bitmaps_that_do_not_fit_the_limit_lie_beside_the_output() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let fixture = claiming(dir.path(), &[]);
    let [narrow, wide] = ["narrow.elf", "wide.elf"].map(|name| dir.path().join(name));
    filter_within(GIB_EACH, &["--memory-limit", "64M"], &fixture.path, &narrow).ok();
    filter_within("true", &["--memory-limit", "2G"], &fixture.path, &wide).ok();
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 3, "a file of bitmaps is left");
    assert!(fs::read(narrow).unwrap() == fs::read(wide).unwrap());
}

#[test]
fn sections_that_are_too_small_are_not_listed() {
    let dir = temp_dir();
    let fixture = claiming(dir.path(), &TINY_SECTIONS);
    let out = dir.path().join("out");
    let run = filter_within(GIB_EACH, &["-d", "31"], &fixture.path, &out);
    none_of(&badly_failed(&run, &out));
    assert!(run.stderr.contains("SECTION_SIZE_BITS"), "{}", run.stderr);
}

/// A frame that needs a window of 1 GiB, as `zstd --long=30` makes them: header, then one raw block.
fn long_window(content: &[u8]) -> Vec<u8> {
    const WINDOW_LOG: u8 = 30;
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0, (WINDOW_LOG - 10) << 3];
    frame.extend(&((content.len() as u32) << 3 | 1).to_le_bytes()[..3]);
    frame.extend(content);
    frame
}

/// Streams with the words that help: what is inside, or how to make one that can be read.
#[test]
fn zstd_streams_that_cannot_be_used() {
    const NO_ROOM: &str = "ulimit -f 2048";
    let dir = temp_dir();
    let large = vec![b'A'; 64 << 20];
    for (what, packed, word) in [
        ("64 MiB that are no core", zstd::encode_all(&large[..], 1).unwrap(), "no dump inside"),
        ("a window of 1 GiB", long_window(b"\x7fELF\x02\x01\x01"), "--long=27"),
    ] {
        let input = dir.path().join("packed");
        fs::write(&input, packed).unwrap();
        let out = dir.path().join("out");
        let run = filter_within(NO_ROOM, &[], &input, &out);
        none_of(&badly_failed(&run, &out).into_iter().map(|f| format!("{what}: {f}")).collect::<Vec<_>>());
        assert!(run.stderr.contains(word), "{what}: {}", run.stderr);
    }
}

/// Addresses for 64 MiB: the program, its threads' stacks and all that it maps.
const ADDRESSES: &str = "ulimit -v 65536";

/// A hard limit of 64 MiB that nobody told vdump of: every format is written, and is what a run without limits writes.
#[test]
fn addresses_for_64_mib_do() {
    let dir = temp_dir();
    let fixture = Machine::small(era("6.12")).build(dir.path());
    let [narrow, wide] = ["narrow", "wide"].map(|name| dir.path().join(name));
    let mut faults = Vec::new();
    for codec in ["kdump/lzo", "kdump/zstd", "kdump/zlib:12", "elf/none", "elf/zstd", "elf/zstd:19", "elf/lz4"] {
        let (format, codec) = codec.split_once('/').unwrap();
        let options = ["-d", "31", "-f", format, "-c", codec, "--force", "-j"];
        filter_within("true", &[&options[..], &["2"]].concat(), &fixture.path, &wide).ok();
        for threads in ["1", "2", "64"] {
            let run = filter_within(ADDRESSES, &[&options[..], &[threads]].concat(), &fixture.path, &narrow);
            if run.code() != Some(0) || fs::read(&narrow).unwrap() != fs::read(&wide).unwrap() {
                faults.push(format!("{format} {codec} -j {threads}: {}", run.stderr));
            }
        }
    }
    none_of(&faults);
    // The bitmaps of 1 TiB have 32 MiB, half of all addresses: in a file, which takes as many, and the rest makes do.
    let terabyte = huge(dir.path(), 1 << 40, true);
    filter_within("true", &["-d", "1", "--force"], &terabyte, &wide).ok();
    filter_within(ADDRESSES, &["-d", "1", "--force"], &terabyte, &narrow).ok();
    assert!(fs::read(&narrow).unwrap() == fs::read(&wide).unwrap());
    // A limit that was said is no more than what there is.
    let refused = filter_within(ADDRESSES, &["--memory-limit", "8G"], &huge(dir.path(), HUGE, true), &narrow);
    none_of(&badly_failed(&refused, &dir.path().join("none")));
    assert!(refused.stderr.contains("not enough memory: 2.0 GiB"), "{}", refused.stderr);
}

/// The most memory that Linux has run on: 2^34 pages, whose bitmaps have 2 GiB each.
const HUGE: u64 = 64 << 40;
/// Pages with something in them at each end.
const ENDS: u64 = 100;

/// A core of so many bytes of memory with something at each end; between them are zeros that no file has, or, with `holes`,
/// nothing.
fn huge(dir: &Path, memory: u64, holes: bool) -> PathBuf {
    let path = dir.join(format!("huge-{memory}-{holes}"));
    let mut image = Image::default();
    let last = memory / PAGE - ENDS;
    (0..ENDS).chain(last..memory / PAGE).for_each(|pfn| image.paint(pfn));
    let load = |paddr| Load { paddr, vaddr: paddr.wrapping_add(0xffff_8880_0000_0000), len: ENDS * PAGE };
    let placed = synth::elf::write(&path, Style::ProcVmcore, &[], &[load(0), load(last * PAGE)], &image);
    if !holes {
        let file = File::options().write(true).open(&path).unwrap();
        file.write_all_at(&(last * PAGE).to_le_bytes(), placed.phoff + 40).unwrap();
    }
    path
}

/// Arithmetic at the far end, in little memory and within moments: nothing goes through such a machine page by page.
#[test]
fn a_machine_of_64_tib_is_looked_at_in_64_mib() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let look = |memory, options: &[&str]| {
        let core = huge(dir.path(), memory, false);
        let mut command = vdump();
        command.env("TMPDIR", dir.path()).args(["filter", "--dry-run", "--json", "-d", "1", "--memory-limit", "64M"]);
        run(command.args(options).arg(core))
    };
    let report: serde_json::Value = serde_json::from_str(&look(HUGE, &[]).ok().stdout).unwrap();
    assert_eq!(report["pages"]["kept"], HUGE / PAGE, "{report}");
    let zeros = (0..ENDS).chain(HUGE / PAGE - ENDS..HUGE / PAGE).filter(|pfn| fill_of(*pfn) == Fill::Zero).count();
    let class = report["classes"].as_array().unwrap().iter().find(|class| class["name"] == "zero").unwrap();
    assert_eq!(class["pages"], HUGE / PAGE - 2 * ENDS + zeros as u64, "{report}");
    // Nobody has more: then it is a header that lies.
    let more = look(HUGE + ENDS * PAGE, &[]);
    assert!(more.code() == Some(1) && more.stderr.contains("not enough memory: 2.0 GiB"), "{}", more.stderr);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "a file of bitmaps is left");
}

#[test]
fn the_far_end_of_terabytes_is_written() {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    // Zeros in between, as an ELF segment that ends in them: 4 TiB in bitmaps of 128 MiB.
    let (memory, out) = (4 << 40, dir.path().join("out.elf"));
    filter(&["-d", "1", "--memory-limit", "16M"], &huge(dir.path(), memory, false), &out).ok();
    let elf = Elf::open(&out);
    for pfn in (0..ENDS).chain(memory / PAGE - ENDS..memory / PAGE) {
        match elf.page(pfn) {
            Found::Stored(page) => assert!(page == pattern(pfn), "{pfn:#x}"),
            found => assert!(fill_of(pfn) == Fill::Zero && found == Found::Unstored, "{pfn:#x}: {found:?}"),
        }
    }
    assert_eq!(elf.page(memory / PAGE / 2), Found::Unstored);
    assert_eq!(elf.page(memory / PAGE), Found::Absent);
    // Nothing in between, in kdump: 1 TiB in bitmaps of 32 MiB.
    let (memory, out) = (1 << 40, dir.path().join("out"));
    filter(&["-d", "0", "--memory-limit", "16M"], &huge(dir.path(), memory, true), &out).ok();
    let dump = Kdump::open(&out);
    let ends: Vec<u64> = (0..ENDS).chain(memory / PAGE - ENDS..memory / PAGE).collect();
    assert!(dump.kept().iter().eq(&ends) && dump.ram().iter().eq(&ends));
    for pfn in ends {
        assert!(dump.page(pfn).unwrap() == pattern(pfn), "{pfn:#x}");
    }
}

/// Eight KiB of a stream that claim 2^40 page frames: nobody has the time to read as many zeros, which no record holds.
#[test]
fn zeros_that_a_stream_only_claims_are_not_read() {
    let dir = temp_dir();
    let seed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/seeds/dump/zlib.kdump");
    let mut headers = fs::read(seed).unwrap();
    headers.truncate(8192);
    let frames = 1u64 << 40;
    let blocks = 2 * (frames / 8 / 4096) as u32;
    // Behind the header and the 15 blocks of the one that follows it.
    let bitmaps = 16 * 4096;
    headers[436..440].copy_from_slice(&blocks.to_le_bytes());
    // The field of 32 bits in the header, and that of 64 behind it.
    headers[440..444].copy_from_slice(&u32::MAX.to_le_bytes());
    headers[4096 + 96..4096 + 104].copy_from_slice(&frames.to_le_bytes());
    let mut stream = b"makedumpfile\0\0\0\0".to_vec();
    stream.extend([1u64.to_be_bytes(), 1u64.to_be_bytes()].concat());
    stream.resize(4096, 0);
    for (offset, bytes) in [(0, &headers[..]), (bitmaps + frames / 8 + 5, &[0xff]), (1 << 60, &[1])] {
        stream.extend([offset.to_be_bytes(), (bytes.len() as u64).to_be_bytes()].concat());
        stream.extend_from_slice(bytes);
    }
    stream.extend([0xff; 16]);
    let path = dir.path().join("claims");
    fs::write(&path, stream).unwrap();
    let run = vdump_with([Path::new("check"), &path]);
    assert_eq!(run.code(), Some(1), "{}{}", run.stdout, run.stderr);
    // The eight bits that are set are seen all the same.
    assert!(run.stdout.contains("dumped, and does not exist"), "{}", run.stdout);
}
