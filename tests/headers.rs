//! The program headers of an ELF output: what they map where, and how many there are.
//!
//! Knows ELF headers. Must not know classes but by the truth. Fails with the mappings that differ.

use std::collections::BTreeSet;

use crate::check;
use crate::harness::{filter, temp_dir};
use crate::read::elf::{Elf, Found};
use crate::synth::elf::Load;
use crate::synth::kernels::era;
use crate::synth::kinds::Kind;
use crate::synth::truth::Class;
use crate::synth::{Fixture, Machine};

const PAGE: u64 = 4096;
/// vmalloc space: neighbours there are not neighbours in memory.
const SCATTERED: u64 = 0xffff_c900_0000_0000;
/// What QEMU's dump-guest-memory -p makes of three such pages: each next address, and where it leads.
const PIECES: [(u64, u64); 3] =
    [(SCATTERED, 0x10_0000), (SCATTERED + 2 * PAGE, 0x10_2000), (SCATTERED + PAGE, 0x20_0000)];

/// Pages as (virtual, physical) addresses.
type Mappings = BTreeSet<(u64, u64)>;

fn mappings(vaddr: u64, paddr: u64, len: u64) -> impl Iterator<Item = (u64, u64)> {
    let first = paddr / PAGE * PAGE;
    (first..paddr + len).step_by(PAGE as usize).map(move |pa| (vaddr.wrapping_add(pa.wrapping_sub(paddr)), pa))
}

fn wanted(fixture: &Fixture, level: u8) -> Mappings {
    let kept = fixture.truth.kept(level);
    let all = fixture.placed.loads.iter().flat_map(|(load, _)| mappings(load.vaddr, load.paddr, load.len));
    all.filter(|(_, pa)| kept.contains(&(pa / PAGE))).collect()
}

#[test]
fn no_mapping_is_invented() {
    let dir = temp_dir();
    let mut machine = Machine::small(era("6.12"));
    machine.views = PIECES.map(|(vaddr, paddr)| Load { vaddr, paddr, len: PAGE }).to_vec();
    // The page between the first two is somebody else's, once kept and once dropped.
    for between in [(Kind::Kernel, Class::Kernel), (Kind::Anon, Class::User)] {
        let pages = [(0x100, Kind::Kernel, Class::Kernel), (0x101, between.0, between.1)];
        machine.planted = [&pages[..], &[0x102, 0x200].map(|pfn| (pfn, Kind::Kernel, Class::Kernel))].concat();
        let fixture = machine.build(dir.path());
        for level in [0u8, 1, 31] {
            let out = dir.path().join("out");
            filter(&["-f", "elf", "-d", &level.to_string(), "--force"], &fixture.path, &out).ok();
            let core = Elf::open(&out);
            let got: Mappings = core.loads().flat_map(|l| mappings(l.vaddr, l.paddr, l.memsz)).collect();
            let want = wanted(&fixture, level);
            let show = |set: Mappings| format!("{} {:x?}", set.len(), set.iter().take(4).collect::<Vec<_>>());
            assert_eq!(got, want, "-d {level}: invented {}, lost {}", show(&got - &want), show(&want - &got));
            check::sound("scattered", &check::elf(&fixture, level, &out));
        }
    }
}

/// Readers search headers one by one, so zeros between many single pages must not make thousands of them.
#[test]
fn many_short_runs_of_zeros_share_segments() {
    const EVERY: usize = 17;
    const MOST: usize = 4097;
    let dir = temp_dir();
    let mut machine = Machine::small(era("6.12"));
    let wide = 4u64 << 30..(4 << 30) + (320 << 20);
    machine.ram.push(wide.clone());
    machine.broken_sections = false;
    let data: Vec<u64> = (wide.start / PAGE..wide.end / PAGE).step_by(EVERY).collect();
    assert!(data.len() > MOST);
    machine.pokes = data.iter().map(|pfn| (pfn * PAGE, 0xda7a_0000 + pfn)).collect();
    let fixture = machine.build(dir.path());
    let out = dir.path().join("out");
    filter(&["-f", "elf", "-d", "1"], &fixture.path, &out).ok();
    let core = Elf::open(&out);
    check::sound("short runs", &core.faults());
    assert!(core.phdrs.len() <= MOST, "{} program headers", core.phdrs.len());
    let differs = |pfn: &&u64| core.page(**pfn) != Found::Stored(fixture.image.page(**pfn));
    let wrong: Vec<&u64> = data.iter().filter(differs).take(4).collect();
    assert!(wrong.is_empty(), "pages {wrong:x?} differ");
}
