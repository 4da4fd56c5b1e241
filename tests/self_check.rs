//! What the kernel's own structures and counts say stands against struct pages that lie: its memory is never lost, a class with
//! too many pages is kept, and the report says so.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::check;
use crate::harness::{filter, temp_dir};
use crate::read::kdump::Kdump;
use crate::synth::kallsyms::Addresses;
use crate::synth::kernels::era;
use crate::synth::kinds::Kind;
use crate::synth::klog::Record;
use crate::synth::machine::{MAPS, MIB};
use crate::synth::pagetable::Leaf;
use crate::synth::truth::Class;
use crate::synth::{Fixture, Machine};

const VMALLOC: u64 = 0xffff_c900_0000_0000;
/// Frames of a machine's structures; the rest of this memory is in use by nobody knows whom.
const NODE: u64 = 0x1480;
pub const PER_CPU: [u64; 2] = [0x1500, 0x1510];
/// Pages of static variables, and those with what follows them of the first chunk.
pub const STATIC_PAGES: u64 = 3;
const CHUNK_PAGES: u64 = 5;
const STACK: u64 = 0x1520;
const IDLE_STACK: u64 = 0x1530;
pub const VMALLOCED: u64 = 0x1540;
const NOBODYS: u64 = 0x1600;

/// Variables of the kernel, as offsets from `_text`.
const DATA: u64 = 0x20_8000;
const SYMBOLS: [(u64, &str); 25] = [
    (0, "_text"),
    (0, "_stext"),
    (0x10_0000, "_etext"),
    (0x10_0000, "__start_rodata"),
    (0x18_0000, "__end_rodata"),
    (0x18_0000, "_sdata"),
    (DATA, "__per_cpu_offset"),
    (DATA + 0x100, "nr_cpu_ids"),
    (DATA + 0x108, "pcpu_base_addr"),
    (DATA + 0x110, "pcpu_unit_size"),
    (DATA + 0x118, "pcpu_first_chunk"),
    (DATA + 0x120, "vm_node_stat"),
    (DATA + 0x200, "_totalram_pages"),
    (DATA + 0x208, "num_poisoned_pages"),
    (DATA + 0x210, "hugetlb_max_hstate"),
    (DATA + 0x218, "hstates"),
    (DATA + 0x300, "init_task"),
    (0x24_0000, "_edata"),
    (0x24_0000, "__init_begin"),
    (0x24_0000, "__per_cpu_start"),
    (0x24_0000 + STATIC_PAGES * 4096, "__per_cpu_end"),
    (0x24_0000 + 0x10, "idle_threads"),
    (0x30_0000, "__init_end"),
    (0x30_0000, "__bss_start"),
    (0x3f_0000, "__bss_stop"),
];
const CHUNK: u64 = DATA + 0x400;
const SIGNAL: u64 = DATA + 0x500;
const NODE_TABLE: u64 = DATA + 0x600;

const ZONE: u64 = 1664;
const FREE_AREA: u64 = 104;
const NR_FREE: u64 = 96;

/// A machine with all the structures that are looked at. `free_blocks` of order 3 and `huge` pages of 2 MiB are counted.
pub struct Kernel {
    pub machine: Machine,
    pub base: u64,
}

impl Kernel {
    pub fn new(name: &str) -> Kernel {
        let mut machine = Machine::small(era(name));
        machine.symbols = Some((Addresses::AbsolutePercpu, SYMBOLS.to_vec()));
        machine.log = (0..40).map(|n| Record::new(n * 1000, format!("message {n}"))).collect();
        let base = machine.image_va();
        let mut kernel = Kernel { machine, base };
        kernel.types();
        kernel.per_cpu();
        kernel.tasks();
        kernel.counts();
        let direct = kernel.machine.page_offset;
        kernel.key("NUMBER(VMALLOC_START)", format!("{VMALLOC:#x}"));
        kernel.key("SYMBOL(vmemmap)", format!("{:x}", kernel.machine.vmemmap));
        kernel.machine.maps.push((VMALLOC, VMALLOCED * 4096, 4 * 4096, Leaf::K4));
        // A module, too.
        kernel.machine.maps.push((0xffff_ffff_c000_0000, (VMALLOCED + 8) * 4096, 2 * 4096, Leaf::K4));
        assert_eq!(direct, 0xffff_8880_0000_0000);
        kernel
    }

    pub fn key(&mut self, key: &str, value: impl std::fmt::Display) {
        self.machine.info.push((key.to_owned(), Some(format!("{value}"))));
    }

    /// Writes a word at an offset into the image.
    fn set(&mut self, at: u64, value: u64) {
        let pa = self.machine.image_pa + at;
        self.machine.pokes.retain(|(old, _)| *old != pa);
        self.machine.pokes.push((pa, value));
    }

    fn direct(&self, pfn: u64) -> u64 {
        self.machine.page_offset + pfn * 4096
    }

    fn types(&mut self) {
        for (key, value) in [
            ("SIZE(thread_union)", 16384),
            ("SIZE(spinlock)", 4),
            ("OFFSET(zone.lock)", 1400),
            ("OFFSET(pcpu_chunk.base_addr)", 0),
            ("OFFSET(pcpu_chunk.nr_pages)", 8),
            ("OFFSET(task_struct.tasks)", 0),
            ("OFFSET(task_struct.pid)", 16),
            ("OFFSET(task_struct.tgid)", 20),
            ("OFFSET(task_struct.comm)", 24),
            ("OFFSET(task_struct.mm)", 40),
            ("OFFSET(task_struct.stack)", 48),
            ("OFFSET(task_struct.signal)", 56),
            ("OFFSET(task_struct.thread_node)", 64),
            ("OFFSET(signal_struct.thread_head)", 0),
            ("SIZE(hstate)", 32),
            ("OFFSET(hstate.order)", 4),
            ("OFFSET(hstate.nr_huge_pages)", 8),
            ("NUMBER(NR_INACTIVE_ANON)", 0),
            ("NUMBER(NR_ACTIVE_ANON)", 1),
            ("NUMBER(NR_INACTIVE_FILE)", 2),
            ("NUMBER(NR_ACTIVE_FILE)", 3),
            ("NUMBER(NR_UNEVICTABLE)", 4),
            ("NUMBER(NR_ISOLATED_ANON)", 7),
            ("NUMBER(NR_ISOLATED_FILE)", 8),
            ("LENGTH(node_data)", 4),
        ] {
            self.key(key, value);
        }
        self.key("SYMBOL(node_data)", format!("{:x}", self.base + NODE_TABLE));
    }

    fn per_cpu(&mut self) {
        let start = self.base + 0x24_0000;
        // CPU 0 is the first; there is no CPU 2, whose offset is still that of the image's own copy.
        let mut offsets = PER_CPU.map(|pfn| self.direct(pfn).wrapping_sub(start)).to_vec();
        offsets.push(0x1000);
        for (at, offset) in (DATA..).step_by(8).zip(offsets) {
            self.set(at, offset);
        }
        self.set(DATA + 0x100, 3);
        self.set(DATA + 0x108, self.direct(PER_CPU[0]));
        self.set(DATA + 0x110, 16 * 4096);
        self.set(DATA + 0x118, self.base + CHUNK);
        self.set(CHUNK, self.direct(PER_CPU[0] + STATIC_PAGES));
        self.set(CHUNK + 8, CHUNK_PAGES - STATIC_PAGES);
    }

    /// The first task, and an idle one of the second CPU that is in no list.
    fn tasks(&mut self) {
        let first = DATA + 0x300;
        let idle = PER_CPU[1] * 4096 + 0x800;
        self.set(first, self.base + first);
        self.set(first + 48, self.direct(STACK));
        self.set(first + 56, self.base + SIGNAL);
        self.set(first + 64, self.base + SIGNAL);
        self.set(SIGNAL, self.base + first + 64);
        let pointers = [0, self.machine.page_offset + idle];
        for (pfn, pointer) in PER_CPU.into_iter().zip(pointers) {
            self.machine.pokes.push((pfn * 4096 + 0x10, pointer));
        }
        self.machine.pokes.push((idle + 48, self.direct(IDLE_STACK)));
    }

    /// One node, of whose zones the first and the third have memory.
    fn counts(&mut self) {
        self.set(NODE_TABLE, self.direct(NODE));
        self.machine.pokes.push((NODE * 4096 + 133_440, 3));
        for zone in [0, 2] {
            self.machine.pokes.push((self.zone(zone) + 112, 0x1000));
        }
        // The small machine's zoo.
        self.free_blocks(2);
        self.set(DATA + 0x120 + 16, 9 + 3);
        self.set(DATA + 0x120 + 8, 9);
        self.set(DATA + 0x200, 1000);
        self.set(DATA + 0x208, 0);
        self.set(DATA + 0x210, 1);
        self.set(DATA + 0x218, 9 << 32);
        self.set(DATA + 0x220, 1);
    }

    pub fn zone(&self, number: u64) -> u64 {
        NODE * 4096 + number * ZONE
    }

    fn free_blocks(&mut self, blocks: u64) {
        let at = self.zone(2) + 192 + 3 * FREE_AREA + NR_FREE;
        self.machine.pokes.retain(|(old, _)| *old != at);
        self.machine.pokes.push((at, blocks));
    }

    pub fn plant(&mut self, pfn: u64, kind: Kind, class: Class) {
        self.machine.planted.push((pfn, kind, class));
    }
}

/// The frame of the table of `level` that maps `va`, as the machine's tables lead to it.
fn table(fixture: &Fixture, machine: &Machine, va: u64, level: u32) -> u64 {
    let mut pfn = (machine.image_pa + 2 * MIB) / 4096;
    for level in (level + 1..=machine.levels).rev() {
        let at = (va >> (12 + 9 * (level - 1)) & 511) as usize * 8;
        let entry = u64::from_le_bytes(fixture.image.page(pfn)[at..at + 8].try_into().unwrap());
        pfn = (entry & 0x000f_ffff_ffff_f000) / 4096;
    }
    pfn
}

/// The frame of the log's text.
fn log(fixture: &Fixture, machine: &Machine) -> u64 {
    let key = |name: &str| fixture.info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap();
    let word = |va: u64| {
        let pa =
            va - if va >= machine.image_va() { machine.image_va() - machine.image_pa } else { machine.page_offset };
        u64::from_le_bytes(fixture.image.page(pa / 4096)[(pa % 4096) as usize..][..8].try_into().unwrap())
    };
    let offset = |name: &str| key(&format!("OFFSET({name})")).parse::<u64>().unwrap();
    let ring = word(u64::from_str_radix(key("SYMBOL(prb)"), 16).unwrap());
    let text = word(ring + offset("printk_ringbuffer.text_data_ring") + offset("prb_data_ring.data"));
    (text - machine.page_offset) / 4096
}

pub fn run(machine: &Machine, dir: &Path, level: u8) -> (Fixture, Value, String) {
    let fixture = machine.build(dir);
    let out = dir.join("out");
    let run = filter(&["-d", &level.to_string(), "--json"], &fixture.path, &out).ok();
    let report = serde_json::from_str(&run.stdout).unwrap();
    (fixture, report, run.stderr)
}

/// `--strict` refuses the machine, and says `why`.
#[track_caller]
fn strictly_refused(fixture: &Fixture, dir: &Path, why: &str) {
    let strict = filter(&["-d", "31", "--strict"], &fixture.path, &dir.join("strict"));
    assert_eq!(strict.code(), Some(1), "{}", strict.stderr);
    assert!(strict.stderr.contains(why), "{}", strict.stderr);
    assert!(!dir.join("strict").exists());
}

pub fn verdict<'r>(report: &'r Value, name: &str) -> &'r Value {
    let checks = report["self_check"]["checks"].as_array().unwrap();
    checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("no check of {name}"))
}

const PARTS: [&str; 7] =
    ["kernel image", "memory map", "page tables", "per-CPU areas", "task stacks", "log buffer", "vmalloc and modules"];
/// Counts of which the kernel may have had none.
const COUNTED_ZERO: [&str; 2] = ["unaccepted pages", "bad pages"];
const COUNTS: [&str; 4] = ["free pages", "reclaimable pages", "hugetlb pages", "all memory"];

#[test]
fn a_sound_machine_holds_in_every_respect() {
    for name in ["6.1", "6.12"] {
        let dir = temp_dir();
        let kernel = Kernel::new(name);
        let (fixture, report, text) = run(&kernel.machine, dir.path(), 31);
        check::sound(name, &check::kdump(&fixture, 31, &dir.path().join("out")));
        assert_eq!(report["self_check"]["violated"], 0, "{name} {report:#}");
        for part in PARTS {
            let check = verdict(&report, part);
            assert_eq!(check["verdict"], "sound", "{name} {check}");
            assert!(check["found"].as_u64().unwrap() > 0, "{name} {check}");
            assert_eq!(check["gap"], Value::Null, "{name} {check}");
        }
        for count in COUNTS {
            assert_eq!(verdict(&report, count)["verdict"], "sound", "{name} {}", verdict(&report, count));
        }
        let pages = |name| verdict(&report, name)["expected"].as_u64().unwrap();
        assert_eq!((pages("per-CPU areas"), pages("task stacks")), (2 * CHUNK_PAGES, 8));
        assert_eq!(pages("vmalloc and modules"), 6);
        assert_eq!((pages("free pages"), verdict(&report, "free pages")["slack"].as_u64()), (16, Some(0)));
        assert!(!text.contains("self-check"), "{text}");
    }
}

/// Every part of the kernel's own memory, made to look like all that can be dropped: nothing of it is lost.
#[test]
fn its_own_memory_stays_whatever_struct_pages_say() {
    const SUSPECTS: [Kind; 4] = [Kind::Buddy(0), Kind::CacheClean, Kind::Anon, Kind::Offline];
    for name in ["6.1", "6.12"] {
        let dir = temp_dir();
        let mut kernel = Kernel::new(name);
        let sound = kernel.machine.build(dir.path());
        let machine = kernel.machine.clone();
        let tables = [
            table(&sound, &machine, machine.vmemmap, 3),
            table(&sound, &machine, machine.vmemmap, 2),
            table(&sound, &machine, VMALLOC, 1),
            table(&sound, &machine, 0xffff_ffff_c000_0000, 1),
        ];
        let of_parts: [(&str, Vec<u64>); 6] = [
            ("kernel image", (0..4).map(|n| machine.image_pa / 4096 + 9 + n).collect()),
            ("memory map", (0..4).map(|n| MAPS / 4096 + n).collect()),
            ("page tables", tables.to_vec()),
            (
                "per-CPU areas",
                vec![PER_CPU[0], PER_CPU[0] + STATIC_PAGES + 1, PER_CPU[1], PER_CPU[1] + CHUNK_PAGES - 1],
            ),
            ("task stacks", vec![STACK, STACK + 3, IDLE_STACK, IDLE_STACK + 3]),
            ("log buffer", vec![log(&sound, &machine)]),
        ];
        for (pfn, kind) in of_parts.iter().flat_map(|(_, pfns)| pfns.iter().zip(SUSPECTS)) {
            kernel.plant(*pfn, kind, Class::Protected);
        }
        // What vmalloc's area maps may be a file's, too; free it cannot be.
        kernel.plant(VMALLOCED, Kind::Buddy(0), Class::Protected);
        kernel.plant(VMALLOCED + 9, Kind::Buddy(0), Class::Protected);
        kernel.plant(VMALLOCED + 1, Kind::CacheClean, Class::Cache);
        // Just behind what is known.
        kernel.plant(PER_CPU[0] + CHUNK_PAGES, Kind::CacheClean, Class::Cache);
        kernel.plant(STACK + 4, Kind::Anon, Class::User);
        let out = dir.path().join("out");
        let (fixture, report, text) = run(&kernel.machine, dir.path(), 31);
        check::sound(name, &check::kdump(&fixture, 31, &out));
        check::sound(name, &check::report(&fixture, 31, &report.to_string()));
        for (part, pfns) in &of_parts {
            let check = verdict(&report, part);
            let kept = check["kept"].as_u64().unwrap();
            assert_eq!((check["verdict"].as_str(), kept), (Some("violated"), pfns.len() as u64), "{check}");
            assert!(text.contains(&format!("self-check: {kept} pages of the {part} looked free (1)")), "{text}");
        }
        assert_eq!(verdict(&report, "vmalloc and modules")["kept"], 2);
        assert_eq!(report["self_check"]["kept_classes"], serde_json::json!([]), "no class has too many pages");
        strictly_refused(&fixture, dir.path(), "pages of the kernel image looked free");
    }
}

/// What is not known is not sound: before 6.0 nothing leads to the symbol table, so neither the image's bounds nor the notes are.
#[test]
fn what_no_symbol_tells_is_unknown() {
    let mut kernel = Kernel::new("6.1");
    kernel.machine.symbols = None;
    let dir = temp_dir();
    let (fixture, report, _) = run(&kernel.machine, dir.path(), 31);
    check::sound("no symbols", &check::kdump(&fixture, 31, &dir.path().join("out")));
    for (part, why) in [("kernel image", "no symbols bound it"), ("notes", "no symbols lead to them")] {
        let check = verdict(&report, part);
        assert_eq!((check["verdict"].as_str(), check["expected"].as_u64()), (Some("unknown"), Some(0)), "{check}");
        assert!(check["gap"].as_str().unwrap().contains(why), "{check}");
    }
    // Nor is an area of which nothing is mapped, or known.
    let mut kernel = Kernel::new("6.12");
    kernel.machine.maps.clear();
    let report = run(&kernel.machine, temp_dir().path(), 31).1;
    assert_eq!(verdict(&report, "vmalloc and modules")["verdict"], "unknown", "{report:#}");
    for check in report["self_check"]["checks"].as_array().unwrap() {
        let is_sound = check["verdict"] == "sound" && check["found"] == 0 && check["expected"] == 0;
        assert!(
            !is_sound
                || check["name"] == "free pages on per-CPU lists"
                || COUNTED_ZERO.contains(&check["name"].as_str().unwrap()),
            "{check}"
        );
    }
}

/// While a pool is made larger, its new pages are marked and not yet counted (`set_max_huge_pages`, since 6.7): any number.
#[test]
fn a_pool_that_is_being_resized_has_no_count() {
    for (lock, owner, verdict_is) in
        [(Some(24), 0xffff_8880_0200_0001, "unknown"), (Some(24), 0, "violated"), (None, 1, "violated")]
    {
        let mut kernel = Kernel::new("6.12");
        kernel.set(DATA + 0x220, 0);
        kernel.set(DATA + 0x230, owner);
        if let Some(at) = lock {
            kernel.key("OFFSET(hstate.resize_lock)", at);
            kernel.key("OFFSET(mutex.owner)", 0);
        }
        let dir = temp_dir();
        let (fixture, report, _) = run(&kernel.machine, dir.path(), 31);
        assert_eq!(verdict(&report, "hugetlb pages")["verdict"], verdict_is, "{lock:?} {owner:#x}");
        if verdict_is == "unknown" {
            check::sound("resized", &check::kdump(&fixture, 31, &dir.path().join("out")));
            assert!(verdict(&report, "hugetlb pages")["gap"].as_str().unwrap().contains("changing a pool's size"));
        }
    }
    // A mutex of another kind does not show whether it is held.
    let mut kernel = Kernel::new("6.12");
    kernel.set(DATA + 0x220, 0);
    kernel.key("OFFSET(hstate.resize_lock)", 24);
    assert_eq!(verdict(&run(&kernel.machine, temp_dir().path(), 31).1, "hugetlb pages")["verdict"], "unknown");
}

#[track_caller]
fn kept_as_if(kernel: &Kernel, level: u8, classes: &[&str], text: &str) {
    let dir = temp_dir();
    let (fixture, report, said) = run(&kernel.machine, dir.path(), 31);
    // The header says what the dump is: one of the lower level.
    check::sound(text, &check::kdump(&fixture, level, &dir.path().join("out")));
    assert_eq!(report["self_check"]["kept_classes"], serde_json::json!(classes), "{report:#}");
    assert_eq!(report["dump_level"], level);
    assert!(said.contains(text), "{said}");
    strictly_refused(&fixture, dir.path(), text);
}

#[test]
fn a_class_with_more_pages_than_were_counted_is_kept() {
    let mut free = Kernel::new("6.12");
    let words = "there seem to be 17 free pages, but the kernel counted 16";
    free.plant(NOBODYS, Kind::Buddy(0), Class::Free);
    // As 15: of its bits, 4 says what 2 does.
    kept_as_if(&free, 13, &["free"], words);

    let mut huge = Kernel::new("6.12");
    huge.set(DATA + 0x220, 0);
    // The level has no bit for them alone: what it says must not be more than what was dropped for others.
    let dir = temp_dir();
    let (fixture, report, _) = run(&huge.machine, dir.path(), 31);
    let kept = Kdump::open(&dir.path().join("out")).kept();
    let pages: BTreeSet<u64> =
        fixture.truth.classes.iter().filter(|(_, class)| **class == Class::Hugetlb).map(|(pfn, _)| *pfn).collect();
    assert!(pages.len() == 512 && kept.is_superset(&pages));
    assert_eq!(report["self_check"]["kept_classes"], serde_json::json!(["hugetlb"]));
    strictly_refused(&fixture, dir.path(), "there seem to be 512 hugetlb pages, but the kernel counted 0");
}

/// What can be reclaimed is counted loosely, so it takes many: no machine is suspected for what was on its way.
#[test]
fn reclaimable_pages_are_kept_beyond_what_could_be_on_its_way() {
    for (pages, kept) in [(15_000usize, false), (17_000, true)] {
        let mut kernel = Kernel::new("6.12");
        let big = Machine::new(era("6.12"));
        (kernel.machine.ram, kernel.machine.arenas) = (big.ram, big.arenas);
        kernel.machine.zoo = vec![(Kind::CacheClean, pages / 2), (Kind::Anon, pages / 2)];
        (kernel.machine.unpainted, kernel.machine.broken_sections) = (true, false);
        kernel.set(DATA + 0x100, 1);
        if kept {
            kept_as_if(
                &kernel,
                17,
                &["cache", "cache-private", "user"],
                "17000 reclaimable pages, but the kernel counted 21",
            );
        } else {
            let dir = temp_dir();
            let (fixture, report, _) = run(&kernel.machine, dir.path(), 31);
            check::sound("few", &check::kdump(&fixture, 31, &dir.path().join("out")));
            assert_eq!(report["self_check"]["violated"], 0);
        }
    }
}

#[test]
fn bad_memory_that_the_kernel_never_heard_of_is_told() {
    let mut kernel = Kernel::new("6.12");
    kernel.plant(NOBODYS, Kind::Poison, Class::HwPoison);
    let dir = temp_dir();
    let (fixture, report, text) = run(&kernel.machine, dir.path(), 31);
    check::sound("poison", &check::kdump(&fixture, 31, &dir.path().join("out")));
    assert_eq!(verdict(&report, "bad pages")["verdict"], "violated");
    assert!(text.contains("1 pages are marked as bad memory, but the kernel counted none"), "{text}");
    strictly_refused(&fixture, dir.path(), "1 pages are marked as bad memory");
    kernel.set(DATA + 0x208, 1);
    assert_eq!(run(&kernel.machine, temp_dir().path(), 16).1["self_check"]["violated"], 0);
}

/// A block on its way is no fault where the zone is locked, or where its lock cannot be seen.
#[test]
fn a_locked_zone_may_have_a_block_more() {
    for (lock, spinlock, sound) in [(0u64, 4u64, false), (1, 4, true), (0, 24, true)] {
        let mut kernel = Kernel::new("6.12");
        kernel.plant(NOBODYS, Kind::Buddy(0), Class::Free);
        let at = kernel.zone(0) + 1400;
        kernel.machine.pokes.push((at, lock));
        kernel.key("SIZE(spinlock)", spinlock);
        let dir = temp_dir();
        let (_, report, _) = run(&kernel.machine, dir.path(), 31);
        assert_eq!(report["self_check"]["violated"] == 0, sound, "lock {lock} of {spinlock} bytes");
    }
}

/// Levels that need no classes look at nothing.
#[test]
fn low_levels_check_nothing() {
    let dir = temp_dir();
    let (_, report, _) = run(&Kernel::new("6.12").machine, dir.path(), 1);
    assert_eq!(report["self_check"], Value::Null);
}

/// Structures that lie cost what they describe, and nothing else: the dump is written, and no kernel page is lost.
#[test]
fn structures_that_lie_do_no_harm() {
    type Lie = (&'static str, fn(&mut Kernel));
    let lies: [Lie; 10] = [
        ("CPUs", |kernel| kernel.set(DATA + 0x100, u64::MAX)),
        ("a chunk", |kernel| kernel.set(CHUNK + 8, u64::MAX)),
        ("a chunk's place", |kernel| kernel.set(CHUNK, 0)),
        ("tasks in a circle of their own", |kernel| {
            let first = DATA + 0x300;
            kernel.set(first, kernel.base + SIGNAL + 0x40);
            kernel.set(SIGNAL + 0x40, kernel.base + SIGNAL + 0x40);
        }),
        ("a stack anywhere", |kernel| kernel.set(DATA + 0x300 + 48, u64::MAX - 8)),
        ("a stack's size", |kernel| kernel.key("SIZE(thread_union)", u64::MAX)),
        ("zones", |kernel| kernel.machine.pokes.push((NODE * 4096 + 133_440, u64::MAX))),
        ("huge pages", |kernel| kernel.set(DATA + 0x210, u64::MAX)),
        ("a table that leads to itself", |kernel| {
            let top = kernel.machine.image_pa + 2 * MIB;
            kernel.machine.entries.push((VMALLOC + (1 << 39), 4, top | 3));
        }),
        ("sizes", |kernel| {
            for key in ["SIZE(zone)", "SIZE(free_area)", "SIZE(hstate)", "LENGTH(node_data)", "OFFSET(zone.lock)"] {
                kernel.key(key, i64::MAX);
            }
        }),
    ];
    for (name, lie) in lies {
        let mut kernel = Kernel::new("6.12");
        kernel.plant(STACK + 8, Kind::Slab, Class::Kernel);
        lie(&mut kernel);
        let dir = temp_dir();
        let (fixture, report, _) = run(&kernel.machine, dir.path(), 31);
        check::sound(name, &check::kdump(&fixture, 31, &dir.path().join("out")));
        assert_eq!(report["self_check"]["violated"], 0, "{name}");
    }
    // A count that cannot be is no count.
    let mut kernel = Kernel::new("6.12");
    kernel.free_blocks(u64::MAX);
    let dir = temp_dir();
    let (fixture, report, _) = run(&kernel.machine, dir.path(), 31);
    check::sound("free blocks", &check::kdump(&fixture, 31, &dir.path().join("out")));
    assert_eq!(verdict(&report, "free pages")["verdict"], "unknown");
    // Nor is one of no zone at all.
    let mut kernel = Kernel::new("6.12");
    kernel.machine.pokes.retain(|(at, _)| *at != NODE * 4096 + 133_440);
    let dir = temp_dir();
    let (fixture, report, _) = run(&kernel.machine, dir.path(), 31);
    check::sound("no zones", &check::kdump(&fixture, 31, &dir.path().join("out")));
    assert_eq!(verdict(&report, "free pages")["verdict"], "unknown");
}
