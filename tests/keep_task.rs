//! User memory of tasks: lists of tasks, page tables and mappings, sound and hostile.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::harness::{Run, filter, temp_dir};
use crate::read::kdump::Kdump;
use crate::synth::kernels::era;
use crate::synth::kinds::Kind;
use crate::synth::machine::MIB;
use crate::synth::truth::Class;
use crate::synth::{Fixture, Machine};

/// Where a task has what; no kernel exports it, but a note may say it all the same.
const OFFSETS: [(&str, u64); 15] = [
    ("task_struct.tasks", 0),
    ("task_struct.pid", 16),
    ("task_struct.tgid", 20),
    ("task_struct.comm", 24),
    ("task_struct.mm", 40),
    ("task_struct.stack", 48),
    ("task_struct.signal", 56),
    ("task_struct.thread_node", 64),
    ("signal_struct.thread_head", 0),
    ("mm_struct.pgd", 0),
    ("mm_struct.start_stack", 8),
    ("mm_struct.mmap", 16),
    ("vm_area_struct.vm_start", 0),
    ("vm_area_struct.vm_end", 8),
    ("vm_area_struct.vm_next", 16),
];
const TASKS: u64 = 20 * MIB;
const STACKS: u64 = 21 * MIB;
const TABLES: u64 = 22 * MIB;
/// Frames of user memory: anonymous pages, and a huge one.
const USER: u64 = 24 * MIB;
const HUGE: u64 = 26 * MIB;
const SIGNAL: u64 = 0x400;
const MM: u64 = 0x800;
const VMA: u64 = 0xa00;
const NODE: u64 = 64;

const STACK_TOP: u64 = 0x7ffd_1234_5000;
const HEAP: u64 = 0x5555_0000_0000;
const USER_PAGE: u64 = 0x67;
const LARGE: u64 = 0x80;

/// A machine with processes, given by the numbers of their threads.
struct World {
    machine: Machine,
    tables: BTreeMap<(u64, u64), u64>,
    next_table: u64,
}

fn place(index: u64) -> u64 {
    TASKS + index * 0x1000
}

impl World {
    fn new(processes: &[&[u64]]) -> World {
        let mut machine = Machine::small(era("6.12"));
        let word = |value: u64| Some(value.to_string());
        machine.info.extend(OFFSETS.map(|(name, at)| (format!("OFFSET({name})"), word(at))));
        let va = machine.page_offset;
        machine.info.push(("SYMBOL(init_task)".into(), Some(format!("{:x}", va + place(0)))));
        machine.planted.extend((0..64).map(|n| (USER / 4096 + n, Kind::Anon, Class::User)));
        machine.planted.push((HUGE / 4096, Kind::AnonThp, Class::User));
        let mut world = World { machine, tables: BTreeMap::new(), next_table: TABLES };
        let leaders: Vec<u64> = processes.iter().map(|threads| threads[0]).collect();
        for (index, threads) in processes.iter().enumerate() {
            let leader = leaders[index];
            let next = leaders[(index + 1) % leaders.len()];
            world.poke(place(leader), va + place(next));
            let head = place(leader) + SIGNAL;
            let links: Vec<u64> = [head].into_iter().chain(threads.iter().map(|n| place(*n) + NODE)).collect();
            for (from, to) in links.iter().zip(links.iter().cycle().skip(1)) {
                world.poke(*from, va + to);
            }
            for thread in *threads {
                let at = place(*thread);
                world.poke(at + 16, thread | leader << 32);
                let comm = format!("task-{thread}\0\0\0\0\0\0\0\0\0\0\0\0");
                for (n, word) in (0u64..).zip(comm.as_bytes()[..16].as_chunks::<8>().0) {
                    world.poke(at + 24 + n * 8, u64::from_le_bytes(*word));
                }
                world.poke(at + 48, va + stack(*thread));
                world.poke(at + 56, va + head);
            }
        }
        world
    }

    fn poke(&mut self, pa: u64, word: u64) {
        self.machine.pokes.push((pa, word));
    }

    /// Gives tasks the memory of the first of them: its top page table.
    fn memory(&mut self, tasks: &[u64]) -> u64 {
        let va = self.machine.page_offset;
        let (mm, root) = (place(tasks[0]) + MM, self.table());
        for task in tasks {
            self.poke(place(*task) + 40, va + mm);
        }
        self.poke(mm, va + root);
        root
    }

    fn table(&mut self) -> u64 {
        self.next_table += 4096;
        self.next_table - 4096
    }

    /// Puts an entry into the table of `level` (1 is the lowest) of four levels.
    fn set(&mut self, root: u64, va: u64, level: u64, entry: u64) {
        let mut table = root;
        let index = |level: u64| va >> (12 + 9 * (level - 1)) & 511;
        for level in (level + 1..=4).rev() {
            let key = (table, index(level));
            let next = match self.tables.get(&key) {
                Some(next) => *next,
                None => self.table(),
            };
            self.tables.insert(key, next);
            self.poke(table + key.1 * 8, next | USER_PAGE);
            table = next;
        }
        self.poke(table + index(level) * 8, entry);
    }

    /// The mappings of a process, in order.
    fn mappings(&mut self, task: u64, ranges: &[(u64, u64)]) {
        let va = self.machine.page_offset;
        let at = |n: u64| place(task) + VMA + n * 32;
        self.poke(place(task) + MM + 16, va + at(0));
        for (n, (start, end)) in (0u64..).zip(ranges) {
            self.poke(at(n), *start);
            self.poke(at(n) + 8, *end);
            self.poke(at(n) + 16, if n + 1 < ranges.len() as u64 { va + at(n + 1) } else { 0 });
        }
    }

    /// The registers with which a task entered the kernel: its stack pointer in user mode.
    fn entered(&mut self, task: u64, sp: u64) {
        let top = stack(task) + (16 << 10);
        for (n, word) in [0x5555_0000_1000, 0x33, 0x202, sp, 0x2b].into_iter().enumerate() {
            self.poke(top - 40 + n as u64 * 8, word);
        }
    }

    /// A process whose stack has four pages, one of them swapped out and one nobody may use, and a heap of a huge page and
    /// two others.
    fn usual() -> World {
        let mut world = World::new(&[&[0], &[1], &[2, 3], &[5]]);
        let root = world.memory(&[2, 3]);
        for (n, entry) in [(1, USER), (2, USER + 0x1000), (4, USER + 0x2000)] {
            world.set(root, STACK_TOP - n * 4096, 1, entry | USER_PAGE);
        }
        world.set(root, STACK_TOP - 3 * 4096, 1, 0x1234_5600);
        // Not present, "for nobody", and its address inverted.
        world.set(root, STACK_TOP - 5 * 4096, 1, !(USER + 0x3000) & 0x000f_ffff_ffff_f000 | 0x100);
        world.set(root, HEAP, 2, HUGE | USER_PAGE | LARGE);
        world.set(root, HEAP + (2 << 20), 1, (USER + 0x4000) | USER_PAGE);
        world.set(root, HEAP + (2 << 20) + 4096, 1, (USER + 0x5000) | USER_PAGE);
        world.mappings(2, &[(HEAP, HEAP + (4 << 20)), (STACK_TOP - 0x5000, STACK_TOP)]);
        world.poke(place(2) + MM + 8, STACK_TOP - 0x100);
        world.entered(2, STACK_TOP - 0x2010);
        // The other thread's stack lies in the heap.
        world.entered(3, HEAP + 0x10_0000);
        let other = world.memory(&[1]);
        world.set(other, STACK_TOP - 4096, 1, (USER + 0x8000) | USER_PAGE);
        world.poke(place(1) + MM + 8, STACK_TOP - 8);
        world
    }
}

fn stack(task: u64) -> u64 {
    STACKS + task * (16 << 10)
}

/// The frames that are kept beyond the level, and the report.
#[track_caller]
fn kept(fixture: &Fixture, options: &[&str]) -> (Vec<u64>, Value, String) {
    let out = fixture.path.with_extension("out");
    let run = filter(&[&["--json", "--force"], options].concat(), &fixture.path, &out).ok();
    let (report, dump) = (serde_json::from_str(&run.stdout).unwrap(), Kdump::open(&out));
    assert_eq!(dump.faults(), Vec::<String>::new());
    let plain = fixture.truth.kept(31);
    assert!(dump.kept().is_superset(&plain));
    (dump.kept().difference(&plain).copied().collect(), report, run.stderr)
}

fn frames(pages: &[u64]) -> Vec<u64> {
    pages.iter().map(|page| USER / 4096 + page).collect()
}

fn huge() -> Vec<u64> {
    (HUGE / 4096..HUGE / 4096 + 512).collect()
}

fn refused(fixture: &Fixture, options: &[&str]) -> Run {
    let out = fixture.path.with_extension("refused");
    let run = filter(options, &fixture.path, &out);
    assert!(!out.exists());
    assert_eq!(run.code(), Some(1), "{}", run.stderr);
    run
}

#[test]
fn stacks_and_whole_memory_are_kept_and_nothing_else() {
    let dir = temp_dir();
    let fixture = World::usual().machine.build(dir.path());
    let stack = frames(&[0, 1, 2, 3]);
    let heap = [frames(&[4, 5]), huge()].concat();
    let all = [stack.clone(), heap.clone()].concat();
    let line = |pid: u64, pages: usize, swapped: u64| {
        serde_json::json!({"pid": pid, "tgid": 2, "comm": format!("task-{pid}"), "pages": pages,
                           "absent_pages": 0, "swapped_pages": swapped})
    };
    for (options, want, lines) in [
        (&["--keep-task", "task-3"][..], heap.clone(), vec![line(3, 514, 0)]),
        (&["--keep-task", "3"], heap, vec![line(3, 514, 0)]),
        (&["--keep-task", "2"], all.clone(), vec![line(2, 4, 1), line(3, 514, 0)]),
        (&["--keep-task", "comm:task-2", "--keep-task", "3"], all.clone(), vec![line(2, 4, 1), line(3, 514, 0)]),
        (&["--keep-task", "3", "--keep-task-memory", "all"], all.clone(), vec![line(3, 518, 1)]),
        (&["--keep-task", "2", "--keep-task-memory", "all"], all, vec![line(2, 518, 1)]),
    ] {
        let (kept, report, _) = kept(&fixture, options);
        assert_eq!(kept, want, "{options:?}");
        assert_eq!(report["tasks"], Value::from(lines), "{options:?}");
        assert_eq!(report["picked"]["kept_for_tasks"], kept.len(), "{options:?}");
    }
    // What is dropped by address is kept for a task all the same, and a range is said to be kept for its address.
    let (kept, report, _) = kept(&fixture, &["--keep-task", "3", "--drop-range", "26M+2M", "--keep-range", "27M+64K"]);
    assert_eq!(kept.len(), 514);
    assert_eq!((&report["picked"]["kept_for_tasks"], &report["picked"]["kept_by_range"]), (&498.into(), &16.into()));
}

#[test]
fn without_mappings_a_stack_is_what_follows_its_pointer() {
    let dir = temp_dir();
    let mut world = World::usual();
    // Without knowledge of the mappings a stack reaches as far as its pages follow each other.
    world.machine.info.push(("OFFSET(mm_struct.mmap)".into(), None));
    world.machine.info.retain(|(key, value)| key != "OFFSET(mm_struct.mmap)" || value.is_none());
    let fixture = world.machine.build(dir.path());
    let (kept, _, said) = kept(&fixture, &["--keep-task", "task-2"]);
    // From the stack pointer on, which is in the middle of the huge page.
    assert_eq!(kept, [frames(&[0, 1, 4, 5]), huge()[256..].to_vec()].concat());
    assert!(said.contains("was not found"), "{said}");
}

/// A task may have died between the choice and the crash: no reason to make no dump.
#[test]
fn a_task_that_is_not_there_is_told_with_others_and_the_rest_is_kept() {
    let dir = temp_dir();
    let fixture = World::usual().machine.build(dir.path());
    let of_two = kept(&fixture, &["--keep-task", "task-2"]).0;
    for name in ["77", "task", "comm:2"] {
        let (all, report, said) = kept(&fixture, &["--keep-task", name, "--keep-task", "task-2"]);
        assert_eq!(all, of_two, "{name}");
        let texts = ["no task", "may have ended", "1 (task-1)", "2 (task-2)"];
        assert!(texts.iter().all(|text| said.contains(text)), "{said}");
        assert!(report["warnings"].to_string().contains("no task"), "{report:#}");
        let run = refused(&fixture, &["--strict", "--keep-task", name, "--keep-task", "task-2"]);
        assert!(texts.iter().all(|text| run.stderr.contains(text)), "{}", run.stderr);
    }
    let (none, _, said) = kept(&fixture, &["--keep-task", "panic"]);
    assert!(none.is_empty() && said.contains("which task panicked"), "{said}");
    let run = refused(&fixture, &["--strict", "--keep-task", "panic"]);
    assert!(run.stderr.contains("which task panicked"), "{}", run.stderr);
    // Threads of the kernel have nothing to keep, which is no error.
    let (kept, _, said) = kept(&fixture, &["--keep-task", "5", "-d", "31"]);
    assert!(kept.is_empty() && said.contains("task 5 (task-5) has no user memory"), "{said}");
}

#[test]
fn damage_costs_what_it_touches_and_never_the_dump() {
    const NOWHERE: u64 = 0xffff_b0de_0000_0000;
    /// What is wrong, who makes it so, which task is kept, how many pages of it, and what is said.
    type Case = (&'static str, fn(&mut World, u64), &'static str, Option<usize>, &'static str);
    let cases: [Case; 9] = [
        ("a list that leads into itself", |w, va| w.poke(place(2), va + place(1)), "2", Some(518), "may be missing"),
        ("the same, and a task behind it", |w, va| w.poke(place(1), va + place(1)), "2", None, "leads back"),
        ("threads that lead nowhere", |w, _| w.poke(place(2) + NODE, NOWHERE), "2", Some(4), "may be missing"),
        ("no mm", |w, _| w.poke(place(2) + 40, NOWHERE), "task-2", Some(514), "cannot keep the memory of task 2"),
        ("no tables", |w, _| w.poke(place(2) + MM, NOWHERE), "3", Some(0), "page tables"),
        (
            "mappings in a circle",
            |w, va| w.poke(place(2) + VMA + 16, va + place(2) + VMA),
            "2",
            Some(516),
            "was not found",
        ),
        (
            "a table that leads to itself",
            |w, va| {
                let root = w.memory(&[2, 3]);
                (0..512).for_each(|n| w.poke(root + n * 8, root | USER_PAGE));
                w.poke(place(2) + MM, va + root);
            },
            "3",
            None,
            "",
        ),
        (
            "tables outside memory",
            |w, _| w.tables.clone().keys().for_each(|(at, n)| w.poke(at + n * 8, 0x00ff_0000_0000_0067)),
            "3",
            Some(0),
            "could not be read",
        ),
        ("a stack pointer of the kernel", |w, va| w.entered(3, va), "3", Some(0), "cannot tell where the stack"),
    ];
    for (name, damage, task, pages, said) in cases {
        let dir = temp_dir();
        let mut world = World::usual();
        let va = world.machine.page_offset;
        damage(&mut world, va);
        let fixture = world.machine.build(dir.path());
        for memory in ["stack", "all"] {
            let options = ["--keep-task", task, "--keep-task-memory", memory];
            let out = dir.path().join("out");
            let run = filter(&[&["--force"], &options[..]].concat(), &fixture.path, &out);
            let Some(pages) = pages.filter(|_| memory == "stack") else {
                assert!([Some(0), Some(1)].contains(&run.code()), "{name}: {}", run.stderr);
                continue;
            };
            assert_eq!(run.code(), Some(0), "{name}: {}", run.stderr);
            let plain: BTreeSet<u64> = fixture.truth.kept(31);
            assert_eq!(Kdump::open(&out).kept().difference(&plain).count(), pages, "{name}: {}", run.stderr);
            assert!(run.stderr.contains(said), "{name}: {}", run.stderr);
        }
    }
}
