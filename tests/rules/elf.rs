//! ELF cores that break one rule each.

use super::corpus::{Broken, broken};
use super::kdump::INFO;
use crate::synth::core::{Core, PAGE, Segment, load};
use crate::synth::elf::{Note, note_bytes};

pub fn notes() -> Vec<u8> {
    let info = Note { name: "VMCOREINFO", kind: 0, desc: INFO.as_bytes().to_vec() };
    let cpu = Note { name: "CORE", kind: 1, desc: vec![0; 336] };
    [note_bytes(&cpu), note_bytes(&info)].concat()
}

/// One that breaks no rule.
pub fn plain() -> Core {
    Core::new(notes())
}

fn with(change: impl FnOnce(&mut Core)) -> Vec<u8> {
    let mut core = plain();
    change(&mut core);
    core.build()
}

/// With one field of the second PT_LOAD changed.
fn second(change: impl FnOnce(&mut Segment)) -> Vec<u8> {
    with(|core| change(&mut core.segments[2]))
}

fn first(change: impl FnOnce(&mut Segment)) -> Vec<u8> {
    with(|core| change(&mut core.segments[1]))
}

/// `count` segments of one page, all with the same data.
pub fn many(count: u64) -> Core {
    let mut core = plain();
    let note = core.segments[0].clone();
    let data = 64 + (count + 2) * 56 + PAGE;
    let data = data.next_multiple_of(PAGE);
    core.segments = (0..count).map(|n| load(data + PAGE, n * 2 * PAGE, 1)).collect();
    core.segments.insert(0, Segment { offset: data, ..note });
    core.data = vec![(data + PAGE, vec![7; PAGE as usize])];
    if count + 1 >= 0xffff {
        core.section = Some((64, 1, count as u32 + 1));
    }
    core.len = (data + 2 * PAGE) as usize;
    core
}

/// Many segments that show the same memory, from other bytes of the file that are equal: more to compare than the file is
/// worth.
pub fn same_memory(count: u64) -> Vec<u8> {
    const SHARED: u64 = 16 * PAGE;
    let mut core = many(count);
    let data = core.data[0].0;
    core.data = vec![(data, vec![7; (SHARED + count * PAGE) as usize])];
    core.len = (data + SHARED + count * PAGE) as usize;
    for (n, load) in (0..).zip(&mut core.segments[1..]) {
        (load.offset, load.paddr, load.filesz, load.memsz) = (data + n * PAGE, 1 << 20, SHARED, SHARED);
        load.vaddr = 0xffff_8880_0000_0000 + n * SHARED;
    }
    core.build()
}

fn misplaced_notes() -> Vec<u8> {
    with(|core| {
        core.segments[0].offset = 0xc000;
        core.len = 0xd000;
    })
}

pub fn corpus() -> Vec<Broken> {
    let one = |label: &str, rules: &[&'static str], file: Vec<u8>| broken(label, rules, vec![file]);
    let cut = |at: usize| plain().build()[..at].to_vec();
    let mut all = vec![
        one("magic only", &["elf-header"], cut(4)),
        one("header cut", &["elf-header"], cut(63)),
        one("class 3", &["elf-core"], with(|core| core.class = Some(3))),
        one("a program", &["elf-core"], with(|core| core.kind = 2)),
        one("odd program headers", &["elf-phentsize"], with(|core| core.phentsize = Some(57))),
        one("another machine", &["elf-machine"], with(|core| core.machine = 1)),
        one("cut behind the header", &["elf-phdrs", "notes-vmcoreinfo"], cut(64)),
        one(
            "cut in the program headers",
            &["elf-loads", "elf-phdrs", "notes-in-file", "notes-vmcoreinfo"],
            cut(64 + 56 + 10),
        ),
        one("no PT_LOAD", &["elf-loads"], with(|core| core.segments.truncate(1))),
        one("far program headers", &["elf-phdrs-follow", "elf-phoff"], with(|core| core.phoff = 0x3000)),
        // As QEMU has them, behind its section headers.
        one("program headers at 192", &["elf-phdrs-follow"], with(|core| core.phoff = 192)),
        one(
            "no memory in any PT_LOAD",
            &["elf-load-memory"],
            with(|core| core.segments[1..].iter_mut().for_each(|load| (load.filesz, load.memsz) = (0, 0))),
        ),
        one(
            "no section header",
            &["elf-xnum"],
            with(|core| {
                core.phnum = Some(0xffff);
            }),
        ),
        one("the note is last", &["elf-note-first", "elf-note-only"], with(|core| core.segments.rotate_left(1))),
        one("two notes", &["elf-note-only"], with(|core| core.segments.insert(1, core.segments[0].clone()))),
        one(
            "something else",
            &["elf-only-loads"],
            with(|core| {
                core.segments.push(Segment { kind: 0x6474_e551, ..core.segments[2].clone() });
            }),
        ),
        one("aligned notes", &["elf-note-align"], with(|core| core.segments[0].align = 8)),
        one("notes behind data", &["elf-note-before-loads"], misplaced_notes()),
        one("no place for the first", &["elf-first-offset"], first(|load| (load.offset, load.filesz) = (0, 0))),
        one("aligned data", &["elf-load-align"], first(|load| load.align = 4096)),
        one("more data than memory", &["elf-load-sizes"], second(|load| load.memsz = PAGE)),
        one(
            "past the last address",
            &["elf-load-sizes"],
            second(|load| {
                load.paddr = u64::MAX - 8191;
            }),
        ),
        one("cut in the data", &["elf-load-in-file"], cut(0xa000)),
        one(
            "no physical address",
            &["elf-load-address"],
            second(|load| {
                load.paddr = u64::MAX;
            }),
        ),
        one("addresses at other bytes", &["elf-load-congruent"], second(|load| load.vaddr += 8)),
        one("memory twice", &["elf-load-overlap"], second(|load| load.paddr = 1 << 20)),
        one("addresses twice", &["elf-load-virtual"], second(|load| load.vaddr = 0xffff_8880_0010_0000)),
        one("very many", &["elf-load-count"], many(8193).build()),
        one("one alone", &["elf-load-single"], with(|core| core.segments.truncate(2))),
        one("incomplete", &["elf-complete"], with(|core| core.flags = 1)),
        one(
            "notes past the end",
            &["elf-note-before-loads", "notes-in-file", "notes-vmcoreinfo"],
            with(|core| {
                core.segments[0].offset = 1 << 40;
            }),
        ),
        one("no VMCOREINFO", &["notes-vmcoreinfo"], Core { notes: Vec::new(), ..Core::new(vec![]) }.build()),
    ];
    all.iter_mut().for_each(|broken| broken.label.insert_str(0, "ELF: "));
    all
}
