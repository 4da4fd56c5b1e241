//! What every plan for a recorded machine must say of its memory, by the machine's own /proc/iomem and /proc/kcore.
//!
//! Reads the files itself, byte range by byte range. Shares no code with the loader.

use std::{fs, path::Path};

use vdump_loader::{
    host::iomem::Kind,
    plan::{Backup, Plan},
};

use crate::{
    asked, check,
    headers::{Header, parse},
    images::BzImage,
    tree::{text, tree, write},
};

/// Machines that a capture kernel can be loaded on.
pub const MACHINES: [&str; 6] =
    ["debian-6.12-kaslr", "debian-6.1-la57", "efi", "high-and-low", "many-entries", "hot-added"];

/// Start, end and name of each line of /proc/iomem, at any depth.
pub struct Memory(Vec<(u64, u64, String)>);

impl Memory {
    pub fn of(root: &Path) -> Self {
        let text = fs::read_to_string(root.join("proc/iomem")).unwrap();
        let line = |line: &str| {
            let (range, name) = line.trim().split_once(" : ").unwrap();
            let (start, last) = range.split_once('-').unwrap();
            let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
            (number(start), number(last) + 1, name.to_owned())
        };
        Self(text.lines().map(line).collect())
    }

    pub fn named(&self, name: &str) -> Vec<(u64, u64)> {
        self.0.iter().filter(|line| line.2 == name).map(|line| (line.0, line.1)).collect()
    }

    fn names_at(&self, address: u64) -> Vec<&str> {
        let here = self.0.iter().filter(|line| (line.0..line.1).contains(&address));
        here.map(|line| line.2.as_str()).collect()
    }

    /// What of the dead kernel's memory is there to be dumped.
    fn is_dumped(&self, address: u64) -> bool {
        let names = self.names_at(address);
        address >= 1 << 20
            && names.iter().any(|name| name.starts_with("System RAM"))
            && !names.contains(&"Crash kernel")
    }

    /// What a capture kernel may know memory as; what is not RAM wins.
    fn capture_kind(&self, address: u64) -> Option<Kind> {
        let names = self.names_at(address);
        let has = |name: &str| names.iter().any(|have| have.starts_with(name));
        Some(match () {
            () if has("Reserved") => Kind::Reserved,
            () if has("ACPI Non-volatile Storage") => Kind::Nvs,
            () if has("ACPI Tables") => Kind::Acpi,
            () if has("Persistent Memory (legacy)") => Kind::Pram,
            () if has("Persistent Memory") => Kind::Pmem,
            () if has("Crash kernel") => Kind::Ram,
            () if has("System RAM") && address < 1 << 20 => Kind::Ram,
            () => return None,
        })
    }
}

/// Virtual address, physical address and size of what the running kernel has mapped.
pub fn kcore(name: &str) -> Vec<[u64; 3]> {
    let text = text(name);
    let lines =
        text.split("== kcore\n").nth(1).unwrap().lines().take_while(|line| !line.starts_with("==")).map(|line| {
            let words: Vec<u64> = line.split(' ').filter_map(|word| u64::from_str_radix(word, 16).ok()).collect();
            <[u64; 3]>::try_from(words)
        });
    lines.filter_map(Result::ok).filter(|mapping| mapping[1] != u64::MAX).collect()
}

pub fn number(root: &Path, file: &str) -> u64 {
    let text = fs::read_to_string(root.join(file)).unwrap();
    u64::from_str_radix(text.split_whitespace().next().unwrap().trim_start_matches("0x"), 16).unwrap()
}

pub fn core(plan: &Plan<'_>) -> Vec<Header> {
    parse(&plan.segment("elfcorehdr").unwrap().data)
}

/// The core headers' mapping of the kernel's image, and those of RAM.
pub fn split(core: Vec<Header>) -> (Vec<Header>, Vec<Header>) {
    core.into_iter().filter(Header::is_load).partition(|load| load.vaddr >= 0xffff_ffff_8000_0000)
}

/// Looks at every piece of memory between two addresses at which anything begins or ends.
#[track_caller]
fn describes_all_memory(memory: &Memory, plan: &Plan<'_>, loads: &[Header]) {
    let ends = memory.0.iter().map(|line| (line.0, line.1)).chain([(0, 1 << 20)]);
    let ends = ends.chain(loads.iter().map(|load| (load.paddr, load.paddr + load.memsz)));
    let ends = ends.chain(plan.e820.iter().map(|entry| (entry.range.start, entry.range.end)));
    let mut ends: Vec<u64> = ends.flat_map(|(start, end)| [start, end]).collect();
    ends.sort_unstable();
    ends.dedup();
    let held = ["elfcorehdr", "backup"].map(|name| plan.segment(name).map(|segment| segment.range));
    let backup = plan.segment("backup").is_some();
    for address in ends {
        let dumped = loads.iter().filter(|load| (load.paddr..load.paddr + load.memsz).contains(&address)).count();
        let low = backup && address < 0xa_0000 && memory.names_at(address).contains(&"System RAM");
        let expected = usize::from(memory.is_dumped(address) || low);
        assert_eq!(dumped, expected, "dumped at {address:#x}");
        let told: Vec<Kind> = plan
            .e820
            .iter()
            .filter(|entry| (entry.range.start..entry.range.end).contains(&address))
            .map(|entry| entry.kind)
            .collect();
        let kept = held.iter().flatten().any(|range| (range.start..range.end).contains(&address));
        let expected: Vec<Kind> = memory.capture_kind(address).into_iter().filter(|_| !kept).collect();
        assert_eq!(told, expected, "told at {address:#x}");
    }
}

#[test]
fn plans_say_what_the_machines_say() {
    for name in MACHINES {
        for backup in [Backup::Auto, Backup::Always] {
            let root = tree(name);
            let mut asked = asked(&BzImage::default().bytes());
            asked.options.backup = backup;
            let plan = asked.plan(root.path()).unwrap();
            check(&plan);
            assert!(plan.notes.is_empty(), "{name}: {:?}", plan.notes);
            let memory = Memory::of(root.path());
            let crash = *memory.named("Crash kernel").last().unwrap();
            assert_eq!(plan.region.map(|region| (region.start, region.end)), Some(crash), "{name}");
            let (image, ram) = split(core(&plan));
            describes_all_memory(&memory, &plan, &ram);
            // Each mapping of RAM lies where the running kernel has it, and none is missing.
            let direct = kcore(name).into_iter().find(|mapping| mapping[1] == 0x10_0000).unwrap();
            for load in &ram {
                assert_eq!(load.vaddr.wrapping_sub(load.paddr), direct[0] - direct[1], "{name}: {:#x}", load.paddr);
            }
            let code = memory.named("Kernel code")[0].0;
            let mapped = kcore(name).into_iter().find(|mapping| mapping[1] == code).unwrap();
            let mapped = [(mapped[0], mapped[1], mapped[2])];
            assert_eq!(image.iter().map(|load| (load.vaddr, load.paddr, load.memsz)).collect::<Vec<_>>(), mapped);
        }
    }
}

#[test]
fn notes_are_where_the_kernel_writes_them() {
    for name in MACHINES {
        let root = tree(name);
        let asked = asked(&BzImage::default().bytes());
        let plan = asked.plan(root.path()).unwrap();
        let file = |cpu: u32, file: &str| format!("sys/devices/system/cpu/cpu{cpu}/{file}");
        let cpu = |n| (number(root.path(), &file(n, "crash_notes")), 368);
        let vmcoreinfo = (number(root.path(), "sys/kernel/vmcoreinfo"), 0x1024);
        let notes: Vec<_> =
            core(&plan).into_iter().filter(|header| !header.is_load()).map(|note| (note.offset, note.filesz)).collect();
        assert_eq!(notes, [cpu(0), cpu(1), vmcoreinfo], "{name}");
    }
}

#[test]
fn the_judge_of_these_tests_can_fail() {
    let root = tree("hot-added");
    let asked = asked(&BzImage::default().bytes());
    let plan = asked.plan(root.path()).unwrap();
    let (_, ram) = split(core(&plan));
    let iomem = fs::read_to_string(root.path().join("proc/iomem")).unwrap();
    for (from, to) in [("System RAM (virtio_mem)", "busy"), ("(legacy)", ""), ("Crash kernel", "busy")] {
        write(root.path(), "proc/iomem", iomem.replace(from, to).as_bytes());
        let memory = Memory::of(root.path());
        let judged = std::panic::catch_unwind(|| describes_all_memory(&memory, &plan, &ram));
        assert!(judged.is_err(), "{from}");
    }
}
