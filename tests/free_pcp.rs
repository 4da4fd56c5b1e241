//! Free pages on the page allocator's per-CPU lists: dropped with 16 where every link, count and struct page agrees, and kept where
//! anything does not.

use serde_json::Value;

use crate::check;
use crate::harness::{filter, temp_dir, vdump_with};
use crate::read::kdump::Kdump;
use crate::self_check::{Kernel, PER_CPU, STATIC_PAGES, VMALLOCED, run, verdict};
use crate::synth::kinds::Kind;
use crate::synth::pcp::{PAGESET, SHAPES, Shape, ZONE_START, link_at};
use crate::synth::truth::Class;

/// Frames that nothing else has, two of them at multiples of 512.
const FREE: u64 = 0x1700;
const HUGE: [u64; 2] = [0x1800, 0x1a00];
/// The zone of these frames, as their flags say: `NODE_ZONE_BITS`.
const ZONE: u64 = 2;
const ZONE_FRAMES: (u64, u64) = (0x1400, 0x1000);
const CHECK: &str = "free pages on per-CPU lists";

/// A machine with lists of two CPUs.
struct Lists {
    kernel: Kernel,
    shape: Shape,
    /// List and first frame of each entry, by CPU.
    entries: [Vec<(usize, u64)>; 2],
}

impl Lists {
    fn new(era: &str, shape: Shape) -> Lists {
        let mut kernel = Kernel::new(era);
        shape.keys().into_iter().for_each(|(key, value)| kernel.key(&key, value));
        kernel.key("LENGTH(node_data)", 1024);
        let zone = kernel.zone(ZONE);
        let pointer = kernel.base + 0x24_0000 + STATIC_PAGES * 4096 + 0x100;
        let words = [(ZONE_START, ZONE_FRAMES.0), (112, ZONE_FRAMES.1), (PAGESET, pointer)];
        kernel.machine.pokes.extend(words.map(|(at, word)| (zone + at, word)));
        // The other zone has its own, and nothing on them.
        let other = kernel.zone(0);
        kernel.machine.pokes.extend([(other + ZONE_START, 1), (other + PAGESET, pointer + 0x400)]);
        let entries = [Self::entries_of(shape, FREE, HUGE[0]), Self::entries_of(shape, FREE + 0x80, HUGE[1])];
        let mut lists = Lists { kernel, shape, entries };
        lists.write();
        lists
    }

    /// One entry on the second list, three on the third, and one on the first of each further order.
    fn entries_of(shape: Shape, mut next: u64, huge: u64) -> Vec<(usize, u64)> {
        let mut entries = vec![(2, next), (1, next + 3), (1, next + 2), (1, next + 5)];
        next += 8;
        for (list, order) in shape.orders.iter().enumerate().skip(3).step_by(3) {
            let pfn = if *order > 3 { huge } else { next.next_multiple_of(1 << order) };
            entries.push((list, pfn));
            next = next.max(if *order > 3 { 0 } else { pfn + (1 << order) });
        }
        entries
    }

    fn at(cpu: usize) -> u64 {
        (PER_CPU[cpu] + STATIC_PAGES) * 4096 + 0x100
    }

    /// Writes the lists as they are.
    fn write(&mut self) {
        for cpu in 0..2 {
            let words = self.shape.words(&self.kernel.machine, Self::at(cpu), &self.entries[cpu]);
            let others = self.shape.words(&self.kernel.machine, Self::at(cpu) + 0x400, &[]);
            self.kernel.machine.pokes.extend(words.into_iter().chain(others));
        }
    }

    fn plant(&mut self, cpu: usize, class: Class) {
        for (list, pfn) in self.entries[cpu].clone() {
            self.kernel.plant(pfn, Kind::FreePcp(self.shape.orders[list]), class);
        }
    }

    fn pages(&self, cpu: usize) -> u64 {
        self.entries[cpu].iter().map(|(list, _)| self.shape.pages(*list)).sum()
    }

    /// The struct page of a frame: adds to a word at an offset.
    fn poke_page(&mut self, pfn: u64, at: usize, word: u64) {
        let (link, _) = link_at(&self.kernel.machine, pfn);
        let lru = self.kernel.machine.era.page.lru;
        self.kernel.machine.pokes.push((link - lru as u64 + at as u64, word));
    }
}

fn pages(report: &Value) -> u64 {
    check::class_row(report, "free-pcp")["pages"].as_u64().unwrap_or(0)
}

#[test]
fn pages_on_the_lists_of_every_release_are_free() {
    for (era, shape) in SHAPES.into_iter().flat_map(|shape| ["6.1", "6.12"].map(|era| (era, shape))) {
        let mut lists = Lists::new(era, shape);
        (0..2).for_each(|cpu| lists.plant(cpu, Class::FreePcp));
        let label = format!("{era}, lists {}", shape.name);
        let all = lists.pages(0) + lists.pages(1);
        for level in [31, 16, 15] {
            let dir = temp_dir();
            let (fixture, report, _) = run(&lists.kernel.machine, dir.path(), level);
            check::sound(&label, &check::kdump(&fixture, level, &dir.path().join("out")));
            check::sound(&label, &check::report(&fixture, level, &report.to_string()));
            let checked = verdict(&report, CHECK);
            assert_eq!(report["self_check"]["violated"], 0, "{label} {report:#}");
            assert_eq!(
                (checked["verdict"].as_str(), checked["expected"].as_u64()),
                (Some("sound"), Some(all)),
                "{label}"
            );
            assert_eq!(pages(&report), all, "{label}");
            // They are none of the allocator's blocks.
            assert_eq!(verdict(&report, "free pages")["expected"], 16);
        }
    }
}

/// What a CPU that was stopped, or damage, leaves: its pages stay, those of the other go.
#[test]
fn lists_that_do_not_agree_are_kept() {
    type Damage = (&'static str, &'static str, fn(&mut Lists));
    const ENTRY: u64 = FREE + 2;
    let damages: [Damage; 22] = [
        ("a page more than was counted", "pages that its count leaves", |lists| {
            let count = lists.pages(0) - 1;
            lists.kernel.machine.pokes.push((lists.shape.count_at(Lists::at(0)), count << 32));
        }),
        ("a page less than was counted", "pages that its count leaves", |lists| {
            let count = lists.pages(0) + 1;
            lists.kernel.machine.pokes.push((lists.shape.count_at(Lists::at(0)), count << 32));
        }),
        ("a count below zero", "is no number of pages in the zone", |lists| {
            lists.kernel.machine.pokes.push((lists.shape.count_at(Lists::at(0)), 0xffff_ffff << 32));
        }),
        ("a count beyond the zone", "is no number of pages in the zone", |lists| {
            lists.kernel.machine.pokes.push((lists.shape.count_at(Lists::at(0)), 0x1001 << 32));
        }),
        ("a link that leads nowhere", "is in no struct page", |lists| {
            let (link, _) = link_at(&lists.kernel.machine, ENTRY);
            lists.kernel.machine.pokes.push((link, 0xdead_0000_0000_0100));
        }),
        ("a link into a struct page's middle", "is in no struct page", |lists| {
            let (link, va) = link_at(&lists.kernel.machine, ENTRY);
            lists.kernel.machine.pokes.push((link, va + 16));
        }),
        ("a link to the page itself", "leads back to", |lists| {
            let (link, va) = link_at(&lists.kernel.machine, ENTRY);
            lists.kernel.machine.pokes.push((link, va));
        }),
        ("a link past a page", "leads back to", |lists| {
            let (link, _) = link_at(&lists.kernel.machine, FREE + 3);
            let (_, va) = link_at(&lists.kernel.machine, FREE + 5);
            lists.kernel.machine.pokes.push((link, va));
        }),
        ("a link back to another page", "leads back to", |lists| {
            let (link, _) = link_at(&lists.kernel.machine, ENTRY);
            let (_, va) = link_at(&lists.kernel.machine, FREE + 5);
            lists.kernel.machine.pokes.push((link + 8, va));
        }),
        ("a head that leads back elsewhere", "does not close", |lists| {
            let head = lists.shape.head_at(Lists::at(0), 1);
            let (_, va) = link_at(&lists.kernel.machine, ENTRY);
            lists.kernel.machine.pokes.push((head + 8, va));
        }),
        ("an empty list that leads back elsewhere", "does not close", |lists| {
            let head = lists.shape.head_at(Lists::at(0), 0);
            lists.kernel.machine.pokes.push((head + 8, 0));
        }),
        ("a page with a user", "is not at rest", |lists| {
            let word = 1 << 32 | 0xffff_ffff;
            lists.poke_page(ENTRY, lists.kernel.machine.era.page.mapcount, word);
        }),
        ("a page with a type", "is not at rest", |lists| {
            lists.poke_page(ENTRY, lists.kernel.machine.era.page.mapcount, 0xffff_ff7f);
        }),
        ("a page with a mapping", "is not at rest", |lists| {
            lists.poke_page(ENTRY, lists.kernel.machine.era.page.mapping, 0xffff_8881_0123_4540);
        }),
        ("a page with a flag", "is not at rest", |lists| {
            lists.poke_page(ENTRY, 0, 0x0017_ffff_c000_0004);
        }),
        ("a page of another zone", "says that it is of another zone", |lists| {
            lists.poke_page(ENTRY, 0, 0x000f_ffff_c000_0000);
        }),
        ("a page of another node", "says that it is of another zone", |lists| {
            lists.poke_page(ENTRY, 0, 0x0057_ffff_c000_0000);
        }),
        ("a block with a page that is used", "is not at rest", |lists| {
            let word = 1 << 32 | 0xffff_ffff;
            lists.poke_page(HUGE[0] + 0x123, lists.kernel.machine.era.page.mapcount, word);
        }),
        ("a block with a tail", "is not at rest", |lists| {
            let (_, va) = link_at(&lists.kernel.machine, 0x2000);
            lists.poke_page(HUGE[0] + 0x123, lists.kernel.machine.era.page.lru, va | 1);
        }),
        ("a block that is nowhere aligned", "is no place for order", |lists| {
            let moved: Vec<_> =
                lists.entries[0].iter().map(|(list, pfn)| (*list, pfn + u64::from(*list == 9))).collect();
            lists.entries[0] = moved;
            lists.write();
        }),
        ("a page beyond the zone", "is not in the zone", |lists| {
            let zone = lists.kernel.zone(ZONE);
            // The frames of the other CPU stay in it.
            lists.kernel.machine.pokes.extend([(zone + ZONE_START, FREE + 3), (zone + 112, 0x1000)]);
        }),
        ("huge pages of two sizes", "cannot be the", |lists| {
            lists.entries[0].pop();
            lists.write();
            let count = lists.pages(0) + 48;
            lists.entries[0].push((12, HUGE[0]));
            lists.write();
            lists.kernel.machine.pokes.push((lists.shape.count_at(Lists::at(0)), count << 32));
        }),
    ];
    for (name, why, damage) in damages {
        let mut lists = Lists::new("6.12", SHAPES[3]);
        damage(&mut lists);
        lists.plant(0, Class::Kernel);
        lists.plant(1, Class::FreePcp);
        let dir = temp_dir();
        let (fixture, report, _) = run(&lists.kernel.machine, dir.path(), 31);
        let kept = Kdump::open(&dir.path().join("out")).kept();
        for (list, pfn) in &lists.entries[0] {
            let frames = *pfn..pfn + lists.shape.pages(*list);
            assert!(frames.clone().all(|pfn| kept.contains(&pfn)), "{name}: lost some of {frames:x?}\n{report:#}");
        }
        let checked = verdict(&report, CHECK);
        let gap = checked["gap"].as_str().unwrap_or_default();
        assert!(gap.contains(why) && gap.contains("CPU 0, node 0 zone 2"), "{name}: {gap}");
        assert_eq!(
            checked["verdict"],
            if checked["found"] == checked["expected"] { "unknown" } else { "fewer" },
            "{name}"
        );
        assert_eq!(report["self_check"]["violated"], 0, "{name} {report:#}");
        assert_eq!(pages(&report), lists.pages(1), "{name}: the other CPU's lists are sound");
        check::sound(name, &check::kdump(&fixture, 31, &dir.path().join("out")));
    }
}

/// Lists of single pages alone: the count is all there is beside the links.
#[test]
fn a_count_that_is_one_off_keeps_them() {
    for (more, why) in
        [(u64::MAX, "have more pages than its count says"), (1, "its count is 5, but the lists have 4 pages")]
    {
        let mut lists = Lists::new("6.1", SHAPES[0]);
        let count = lists.pages(0).wrapping_add(more);
        lists.kernel.machine.pokes.push((lists.shape.count_at(Lists::at(0)), count << 32));
        lists.plant(0, Class::Kernel);
        lists.plant(1, Class::FreePcp);
        let dir = temp_dir();
        let (fixture, report, _) = run(&lists.kernel.machine, dir.path(), 31);
        check::sound(why, &check::kdump(&fixture, 31, &dir.path().join("out")));
        assert!(verdict(&report, CHECK)["gap"].as_str().unwrap().contains(why), "{report:#}");
    }
}

/// A frame that two CPUs have: whose it is, is in doubt, and so is all else of the second.
#[test]
fn a_frame_on_two_lists_stays() {
    let mut lists = Lists::new("6.12", SHAPES[3]);
    // A block of two pages of the first CPU holds a page of the second.
    let block = lists.entries[0].iter().find(|(list, _)| *list == 3).unwrap().1;
    lists.entries[1].push((0, block + 1));
    lists.write();
    lists.plant(0, Class::FreePcp);
    lists.plant(1, Class::Kernel);
    let dir = temp_dir();
    let (_, report, _) = run(&lists.kernel.machine, dir.path(), 31);
    let kept = Kdump::open(&dir.path().join("out")).kept();
    assert!(kept.contains(&(block + 1)));
    assert_eq!(pages(&report), lists.pages(0) - 1);
    assert!(verdict(&report, CHECK)["gap"].as_str().unwrap().contains("is on two lists"), "{report:#}");
}

/// Nothing is known of the lists: nothing is dropped, and nothing is said to be sound.
#[test]
fn lists_of_a_kind_that_is_not_known_are_kept() {
    for (key, value) in [
        ("LENGTH(per_cpu_pages.lists)", 11i64),
        ("LENGTH(per_cpu_pages.lists)", 200),
        ("NUMBER(__NR_PAGEFLAGS)", 64),
        ("NUMBER(MIGRATE_PCPTYPES)", 0),
        ("LENGTH(pglist_data.node_zones)", 0),
        ("OFFSET(zone.per_cpu_pageset)", 1 << 40),
        ("OFFSET(per_cpu_pages.lists)", 33),
        ("OFFSET(page.lru)", 16),
    ] {
        let mut lists = Lists::new("6.12", SHAPES[3]);
        (0..2).for_each(|cpu| lists.plant(cpu, Class::Kernel));
        lists.kernel.key(key, value);
        let dir = temp_dir();
        let (fixture, report, _) = run(&lists.kernel.machine, dir.path(), 31);
        check::sound(key, &check::kdump(&fixture, 31, &dir.path().join("out")));
        let checked = verdict(&report, CHECK);
        assert_ne!(checked["verdict"], "sound", "{key} {checked}");
        assert!(checked["gap"].is_string(), "{key} {checked}");
    }
}

/// What the kernel maps as its own is not free, whatever list it is on.
#[test]
fn a_page_that_vmalloc_maps_stays() {
    let mut lists = Lists::new("6.12", SHAPES[3]);
    lists.entries[0].push((0, VMALLOCED));
    lists.write();
    (0..2).for_each(|cpu| lists.plant(cpu, Class::FreePcp));
    lists.kernel.plant(VMALLOCED, Kind::FreePcp(0), Class::Protected);
    let dir = temp_dir();
    let (fixture, report, _) = run(&lists.kernel.machine, dir.path(), 31);
    check::sound("vmalloc", &check::kdump(&fixture, 31, &dir.path().join("out")));
    assert_eq!(verdict(&report, "vmalloc and modules")["verdict"], "violated");
}

#[test]
fn a_poisoned_page_on_a_list_costs_no_other_its_class() {
    let mut lists = Lists::new("6.12", SHAPES[3]);
    (0..2).for_each(|cpu| lists.plant(cpu, Class::FreePcp));
    let poison = 1 << lists.kernel.machine.era.bits.hwpoison;
    lists.poke_page(FREE + 2, 0, 0x0017_ffff_c000_0000 | poison);
    let (_, report, _) = run(&lists.kernel.machine, temp_dir().path(), 16);
    assert_eq!(pages(&report), lists.pages(0) + lists.pages(1) - 1);
    assert_eq!(check::class_row(&report, "hwpoison")["pages"], 1);
}

#[test]
fn free_means_these_too_unless_they_are_named() {
    let mut lists = Lists::new("6.12", SHAPES[3]);
    (0..2).for_each(|cpu| lists.plant(cpu, Class::FreePcp));
    let dir = temp_dir();
    let fixture = lists.kernel.machine.build(dir.path());
    for (options, free, pcp) in [
        (&["--drop", "free"][..], true, true),
        (&["--drop", "free-pcp"], false, true),
        (&["--drop", "free", "--keep", "free-pcp"], true, false),
        (&["-d", "31", "--keep", "free"], false, false),
        (&["-d", "31", "--keep", "free-pcp"], true, false),
        (&["-d", "31", "--keep", "free", "--drop", "free-pcp"], false, true),
    ] {
        let out = dir.path().join("out");
        filter(&[options, &["--force"]].concat(), &fixture.path, &out).ok();
        let kept = Kdump::open(&out).kept();
        let lacks = |class: Class| fixture.truth.classes.iter().all(|(pfn, of)| *of != class || !kept.contains(pfn));
        assert_eq!((lacks(Class::Free), lacks(Class::FreePcp)), (free, pcp), "{options:?}");
    }
}

#[test]
fn explain_and_classes_tell_of_them() {
    let mut lists = Lists::new("6.12", SHAPES[3]);
    (0..2).for_each(|cpu| lists.plant(cpu, Class::FreePcp));
    let dir = temp_dir();
    let fixture = lists.kernel.machine.build(dir.path());
    let path = fixture.path.to_str().unwrap();
    let told = vdump_with(["explain", "--json", "--pfn", &format!("{:#x}", HUGE[0] + 5), path]).ok().stdout;
    let told: Value = serde_json::from_str(&told).unwrap();
    let page = &told["pages"][0];
    assert_eq!(page["class"], "free-pcp", "{page:#}");
    assert!(page["why"].to_string().contains("per-CPU list of the page allocator"), "{page:#}");
    let dropped: Vec<u64> = page["dropped_at"].as_array().unwrap().iter().filter_map(Value::as_u64).collect();
    assert_eq!(dropped, (16..32).collect::<Vec<_>>());
    let counted = vdump_with(["classes", "--json", path]).ok().stdout;
    let counted: Value = serde_json::from_str(&counted).unwrap();
    assert_eq!(pages(&counted), lists.pages(0) + lists.pages(1));
}
