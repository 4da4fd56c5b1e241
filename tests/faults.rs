//! Bad input: files that are no cores, cores truncated, headers full of lies.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::harness::{filter, run, temp_dir, vdump};
use crate::refusal::{badly_failed, fails_well, none_of};
use crate::synth::elf::{PHDR, Style};
use crate::synth::kernels::era;
use crate::synth::{Fixture, Machine};

fn small(dir: &Path) -> Fixture {
    Machine::small(era("6.12")).build(dir)
}

#[test]
fn files_that_are_no_cores() {
    let dir = temp_dir();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    fs::create_dir(dir.path().join("folder")).unwrap();
    // Nobody will ever write to it: whoever opens it for reading waits for ever.
    let fifo = dir.path().join("fifo");
    mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    let inputs = [
        dir.path().join("missing"),
        dir.path().join("no-such-folder/missing"),
        dir.path().join("folder"),
        file("empty", b""),
        file("one-byte", b"\x7f"),
        file("text", b"This is a text file.\n".repeat(500).as_slice()),
        file("zeros", &[0; 8192]),
        file("magic-only", b"\x7fELF"),
        file("zstd-magic", b"\x28\xb5\x2f\xfd garbage that is no frame"),
        file("zstd-of-text", &zstd::encode_all(&b"no core in here"[..], 1).unwrap()),
        file("kdump-magic", b"KDUMP   "),
        file("name\nwith\nnewlines", b"no core"),
        PathBuf::from("/dev/null"),
        fifo,
    ];
    let faults: Vec<String> = inputs.iter().flat_map(|p| fails_well(&p.display().to_string(), p, dir.path())).collect();
    none_of(&faults);
    for command in ["info", "dmesg"] {
        for input in &inputs {
            let run = run(vdump().arg(command).arg(input));
            none_of(&badly_failed(&run, &dir.path().join("none")));
        }
    }
}

#[test]
fn a_core_cut_short_before_its_memory() {
    for style in [Style::ProcVmcore, Style::Qemu] {
        let dir = temp_dir();
        let fixture = Machine { style, ..Machine::small(era("6.12")) }.build(dir.path());
        let placed = &fixture.placed;
        let cuts = [
            1,
            15,
            16,
            52,
            63,
            64,
            placed.phoff + 1,
            placed.phoff + PHDR,
            placed.phoff + placed.phnum * PHDR - 1,
            placed.note_offset,
            placed.note_offset + 11,
            placed.note_offset + placed.notes.len() as u64 - 1,
            // Only here everything is lost; tests/cut_short.rs has what is left of others.
            placed.data_offset,
        ];
        let mut faults = Vec::new();
        for cut in cuts.into_iter().rev() {
            OpenOptions::new().write(true).open(&fixture.path).unwrap().set_len(cut).unwrap();
            faults.extend(fails_well(&format!("{style:?} cut at {cut}"), &fixture.path, dir.path()));
        }
        none_of(&faults);
    }
}

/// Bytes to overwrite: (what, offset, bytes).
type Patch = (&'static str, u64, Vec<u8>);

fn patches(fixture: &Fixture) -> Vec<Patch> {
    let le = |value: u64| value.to_le_bytes().to_vec();
    let half = |value: u16| value.to_le_bytes().to_vec();
    let word = |value: u32| value.to_le_bytes().to_vec();
    let note = fixture.placed.phoff;
    let at_56_from_40 = [&[0u8; 8][..], &half(0xffff), &half(64), &half(1)].concat();
    let load = note + 2 * PHDR;
    let notes = fixture.placed.note_offset;
    vec![
        ("32-bit class", 4, vec![1]),
        ("big endian", 5, vec![2]),
        ("no class at all", 4, vec![9]),
        ("not a core", 16, half(2)),
        ("another machine", 18, half(183)),
        ("e_phoff beyond the file", 32, le(u64::MAX - 5)),
        ("e_phoff in the middle of nowhere", 32, le(fixture.placed.len - 10)),
        ("e_phentsize 0", 54, half(0)),
        ("e_phentsize 1", 54, half(1)),
        ("e_phnum 0", 56, half(0)),
        ("e_phnum says PN_XNUM without sections", 56, half(0xffff)),
        // e_shoff, e_phnum, e_shentsize and e_shnum, with "sections" that are the notes: names and words.
        ("e_phnum leaves the count to garbage", 40, [le(notes), at_56_from_40].concat()),
        ("note: p_offset huge", note + 8, le(u64::MAX - 4096)),
        ("note: p_filesz huge", note + 32, le(1 << 62)),
        ("note: p_filesz above the file", note + 32, le(fixture.placed.len)),
        ("note: namesz huge", notes, word(u32::MAX)),
        ("note: descsz huge", notes + 4, word(u32::MAX - 2)),
        ("note: both huge", notes, [word(u32::MAX), word(u32::MAX)].concat()),
        ("load: p_offset huge", load + 8, le(u64::MAX - 4095)),
        ("load: p_paddr wraps", load + 24, le(u64::MAX - 4095)),
        ("load: p_paddr beyond 52 bits", load + 24, le(1 << 60)),
        ("load: p_filesz huge", load + 32, le(1 << 62)),
        ("load: p_memsz 2^63", load + 40, le(1 << 63)),
        ("load: sizes 2^63", load + 32, [le(1 << 63), le(1 << 63)].concat()),
        ("load: p_memsz all ones", load + 40, le(u64::MAX)),
        ("load: p_filesz above p_memsz", load + 40, le(16)),
    ]
}

#[test]
fn headers_full_of_lies() {
    let dir = temp_dir();
    let fixture = small(dir.path());
    let file = OpenOptions::new().read(true).write(true).open(&fixture.path).unwrap();
    let mut faults = Vec::new();
    for (what, at, bytes) in patches(&fixture) {
        let mut old = vec![0; bytes.len()];
        file.read_exact_at(&mut old, at).unwrap();
        file.write_all_at(&bytes, at).unwrap();
        faults.extend(fails_well(what, &fixture.path, dir.path()));
        file.write_all_at(&old, at).unwrap();
    }
    none_of(&faults);
    filter(&["-d", "31"], &fixture.path, &dir.path().join("out")).ok();
}
