//! What holds for any machine: random memory maps, images and options.

use std::fmt::Write as _;

use vdump_loader::{
    corehdr::Class,
    host::iomem::Kind,
    plan::{Backup, MemoryMap},
    range::Range,
};

use crate::{
    asked, check,
    headers::parse,
    images::{BzImage, vmlinux},
    tree::unpack,
};

/// Numbers that are the same in every run (xorshift).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }

    fn chance(&mut self, one_in: u64) -> bool {
        self.below(one_in) == 0
    }
}

struct Machine {
    text: String,
    ram: Vec<Range>,
    crash: Vec<Range>,
}

/// RAM in up to 40 ranges with reserved ones between, crash memory in one or two of them.
fn machine(random: &mut Random) -> Machine {
    let mut text = String::from("#\n== proc/iomem\n");
    let (mut ram, mut crash) = (Vec::new(), Vec::new());
    if !random.chance(4) {
        let end = 0x8_0000 + random.below(0x20) * 0x1000 + random.below(4) * 0x400;
        writeln!(text, "00001000-{:08x} : System RAM", end - 1).unwrap();
        ram.push(Range::new(0x1000, end));
    }
    let mut at = 1 << 20;
    let count = 1 + random.below(40);
    for number in 0..count {
        let most = if random.chance(3) { 4096 } else { 64 };
        let mut len = (1 + random.below(most)) << 20;
        let holds = crash.len() < 2 && (number + 1 == count || random.chance(8));
        len += if holds { 400 << 20 } else { 0 };
        let (start, end) = (at, at + len);
        let name = ["System RAM", "System RAM (kmem)", "System RAM (virtio_mem)"][random.below(3) as usize];
        writeln!(text, "{start:08x}-{:08x} : {name}", end - 1).unwrap();
        ram.push(Range::new(start, end));
        if holds {
            let size = (1 + random.below(24)) << 24;
            let begin = start + (random.below(len - size + 1) & !0xf_ffff);
            writeln!(text, "  {begin:08x}-{:08x} : Crash kernel", begin + size - 1).unwrap();
            crash.push(Range::with_len(begin, size));
        }
        at = end;
        if random.chance(2) {
            let gap = (1 + random.below(256)) << 12;
            let name =
                ["Reserved", "ACPI Tables", "ACPI Non-volatile Storage", "PCI Bus 0000:00"][random.below(4) as usize];
            writeln!(text, "{at:08x}-{:08x} : {name}", at + gap - 1).unwrap();
            at += gap;
        }
        at = (at + 0xf_ffff) & !0xf_ffff;
    }
    text += "== sys/devices/system/cpu/possible\n0-7\n== sys/kernel/vmcoreinfo\n0x0000000001000000 1024\n";
    for cpu in 0..random.below(8) {
        write!(text, "== sys/devices/system/cpu/cpu{cpu}/crash_notes\n{:x}\n", 0x100_0000 + cpu * 0x1000).unwrap();
    }
    if random.chance(2) {
        text += "== proc/sys/kernel/osrelease\n6.12.0\n== sys/kernel/crash_elfcorehdr_size\n458808\n";
    }
    Machine { text, ram, crash }
}

#[test]
fn every_plan_is_sound() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let (mut made, mut refused) = (0, 0);
    for round in 0..400 {
        let machine = machine(&mut random);
        let root = unpack(&machine.text);
        let image = if random.chance(3) {
            vmlinux(16 << 20, 4096 + random.below(1 << 20) as usize, 1 + random.below(40 << 20))
        } else {
            let init_size = ((1 + random.below(100)) << 20) as u32 + random.below(5000) as u32;
            BzImage { init_size, alignment: 4096 << random.below(13), ..BzImage::default() }.bytes()
        };
        let mut asked = asked(&image);
        asked.initrd.truncate(1 + random.below(1 << 20) as usize);
        asked.options.backup = [Backup::Auto, Backup::Always, Backup::Never][random.below(3) as usize];
        asked.options.hotplug = machine.text.contains("elfcorehdr_size") && random.chance(2);
        if random.chance(4) {
            asked.options.memory_map = MemoryMap::Exactmap;
        }
        let low = machine.ram.last().unwrap().end <= 1 << 32;
        if low && !asked.options.hotplug && random.chance(2) {
            asked.options.core_headers = Class::Elf32;
        }
        let plan = match asked.plan(root.path()) {
            Ok(plan) => plan,
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains("does not fit") || text.contains("the command line has"), "{round}: {text}");
                refused += 1;
                continue;
            }
        };
        made += 1;
        check(&plan);
        let crash = &machine.crash;
        assert_eq!(plan.region, crash.last().copied(), "{round}");
        // Every byte of RAM above 1 MiB is dumped once, and no byte of crash memory.
        let headers = parse(&plan.segment("elfcorehdr").unwrap().data);
        let mut dumped: Vec<Range> = headers
            .iter()
            .filter(|header| header.is_load())
            .map(|load| Range::with_len(load.paddr, load.memsz))
            .collect();
        dumped.sort_unstable();
        assert!(dumped.windows(2).all(|pair| pair[0].end <= pair[1].start), "{round}: dumped twice");
        let expected: u64 =
            machine.ram.iter().map(|ram| Range::new(ram.start.max(1 << 20), ram.end.max(1 << 20)).len()).sum();
        let crashed: u64 = crash.iter().map(Range::len).sum();
        let above: u64 = dumped.iter().filter(|range| range.start >= 1 << 20).map(Range::len).sum();
        assert_eq!(above, expected - crashed, "{round}");
        assert_eq!(dumped.iter().any(|range| range.start < 1 << 20), plan.backup.is_some(), "{round}");
        // The capture kernel is given nothing but crash memory, the lowest mebibyte, and not what must stay.
        let held = ["elfcorehdr", "backup"].map(|name| plan.segment(name).map(|segment| segment.range));
        for entry in plan.e820.iter().filter(|entry| entry.kind == Kind::Ram && entry.range.start >= 1 << 20) {
            assert!(crash.iter().any(|crash| crash.contains(&entry.range)), "{round}: {}", entry.range);
            assert!(held.iter().flatten().all(|held| !held.overlaps(&entry.range)), "{round}: {}", entry.range);
        }
        let serial = serde_json::to_string(&plan).unwrap();
        assert!(serial.len() < 1 << 20, "the plan's text holds no data");
    }
    assert!(made > 150 && refused > 20, "{made} made, {refused} refused");
}
