//! Inputs that claim or unpack to far more than they are: an answer comes soon, and without the memory they ask for.
//!
//! Knows limits of processes. Must not know how the product bounds itself. Fails when it is killed, hangs or says nothing.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::disks::limited;
use crate::harness::{Run, run, temp_dir};
use crate::refusal::{badly_failed, none_of};
use crate::synth::elf::PHDR;
use crate::synth::kernels::era;
use crate::synth::{Fixture, Machine};

/// Address space in KiB, and files in blocks of 512 bytes: 1 GiB each.
const GIB_EACH: &str = "ulimit -v 1048576; ulimit -f 2097152";
/// What a header says that a machine's last piece of memory has: 8 TiB.
const CLAIMED: u64 = 1 << 43;
/// Sections of 256 KiB, with a table that is as long as that makes it.
const TINY_SECTIONS: [(&str, &str); 2] = [("NUMBER(SECTION_SIZE_BITS)", "18"), ("LENGTH(mem_section)", "1048576")];

/// A core whose last PT_LOAD is nearly all a claim.
fn claiming(dir: &Path, keys: &[(&str, &str)]) -> Fixture {
    let mut machine = Machine::small(era("6.12"));
    machine.info = keys.iter().map(|(key, value)| ((*key).into(), Some((*value).into()))).collect();
    let fixture = machine.build(dir);
    let memsz = fixture.placed.phoff + PHDR * (fixture.placed.phnum - 1) + 40;
    File::options().write(true).open(&fixture.path).unwrap().write_all_at(&CLAIMED.to_le_bytes(), memsz).unwrap();
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

/// A plane for 8 TiB has 256 MiB: a run that may use 64 MiB keeps it in a file beside the output, and writes the same dump.
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
