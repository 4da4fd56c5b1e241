//! The kernel's image and notes stay, whatever damaged struct pages say about them.

use crate::check;
use crate::harness::{filter, temp_dir};
use crate::synth::Machine;
use crate::synth::elf::Style;
use crate::synth::kallsyms::Addresses;
use crate::synth::kernels::era;
use crate::synth::kinds::Kind;
use crate::synth::truth::Class;

/// The parts of the image, as offsets from `_text`, and whether they are the kernel's for good.
const PARTS: [(u64, bool); 6] = [
    (0, true),          // text
    (0x10_0000, true),  // rodata
    (0x18_0000, true),  // data
    (0x24_0000, false), // init: freed at the end of boot
    (0x30_0000, true),  // bss
    (0x3f_0000, false), // beyond
];
const SYMBOLS: [(u64, &str); 14] = [
    (0, "_text"),
    (0, "_stext"),
    (0x10_0000, "_etext"),
    (0x10_0000, "__start_rodata"),
    (0x18_0000, "__end_rodata"),
    (0x18_0000, "_sdata"),
    (NOTE_POINTER, "vmcoreinfo_note"),
    (0x24_0000, "_edata"),
    (0x24_0000, "__init_begin"),
    (0x30_0000, "__init_end"),
    (0x30_0000, "__bss_start"),
    (0x3f_0000, "__bss_stop"),
    (0x40_0000, "_brk_start"),
    (0x40_0000, "_end"),
];
const NOTE_POINTER: u64 = 0x22_0008;
/// Kernel memory that is not the image: the note's pages.
const NOTE_PFN: u64 = 0x1f00;
const SUSPECTS: [(Kind, Class); 5] = [
    (Kind::CacheClean, Class::Cache),
    (Kind::Anon, Class::User),
    (Kind::Buddy(0), Class::Free),
    (Kind::Offline, Class::Offline),
    (Kind::Poison, Class::HwPoison),
];

/// A machine some of whose image pages look droppable. `stays` says of which parts they are kept.
fn damaged(mut machine: Machine, stays: impl Fn(bool) -> bool) -> Machine {
    let first = machine.image_pa / 4096;
    for (part, for_good) in PARTS {
        for (n, (kind, class)) in (0u64..).zip(SUSPECTS).filter(|(_, (kind, _))| kind.exists(machine.era)) {
            let pfn = first + part / 4096 + 8 + n;
            // Reading a bad page may end the capture, whatever it holds.
            let stays = stays(for_good) && class != Class::HwPoison;
            machine.planted.push((pfn, kind, if stays { Class::Protected } else { class }));
        }
    }
    machine
}

fn with_symbols(mut machine: Machine, how: Addresses) -> Machine {
    machine.symbols = Some((how, SYMBOLS.to_vec()));
    machine.pokes.push((machine.image_pa + NOTE_POINTER, machine.page_offset + NOTE_PFN * 4096));
    machine.planted.push((NOTE_PFN, Kind::Tmpfs, Class::Protected));
    damaged(machine, |for_good| for_good)
}

#[track_caller]
fn kept_rightly(label: &str, machine: &Machine) {
    let dir = temp_dir();
    let fixture = machine.build(dir.path());
    for level in [2u8, 31] {
        let out = dir.path().join(format!("out.{level}"));
        let run = filter(&["-d", &level.to_string(), "--json"], &fixture.path, &out).ok();
        let mut faults = check::kdump(&fixture, level, &out);
        if level == 31 {
            faults.extend(check::report(&fixture, level, &run.stdout));
        }
        check::sound(&format!("{label} -d {level}"), &faults);
    }
}

#[test]
fn the_kernels_own_symbols_bound_it() {
    for (name, how) in [
        ("6.1", Addresses::AbsolutePercpu),
        ("6.12", Addresses::AbsolutePercpu),
        ("6.17", Addresses::Relative),
        ("7.1", Addresses::PlaceRelative),
    ] {
        kept_rightly(&format!("{name} {how:?}"), &with_symbols(Machine::small(era(name)), how));
        let moved = with_symbols(Machine::small(era(name)).five_levels().kaslr(), how);
        kept_rightly(&format!("{name} {how:?}, KASLR"), &moved);
        kept_rightly(&format!("{name} {how:?}, qemu"), &Machine { style: Style::Qemu, ..moved });
    }
}

/// Without symbols the segment for the kernel's text says it, the init part included.
#[test]
fn the_text_segment_bounds_it_otherwise() {
    for name in ["4.18", "6.12"] {
        kept_rightly(name, &damaged(Machine::small(era(name)), |_| true));
        kept_rightly(&format!("{name} KASLR"), &damaged(Machine::small(era(name)).kaslr(), |_| true));
    }
}

/// Without that segment the kernel's own page tables do.
#[test]
fn the_page_tables_bound_it_where_no_segment_does() {
    for name in ["4.18", "6.12"] {
        let machine = Machine { style: Style::Qemu, ..Machine::small(era(name)) };
        kept_rightly(name, &damaged(machine.clone(), |_| true));
        kept_rightly(&format!("{name} KASLR"), &damaged(machine.five_levels().kaslr(), |_| true));
    }
}

/// Where nothing bounds it, struct pages are all there is.
#[test]
fn without_any_bounds_struct_pages_decide() {
    let mut machine = Machine { style: Style::Qemu, ..Machine::small(era("6.12")) };
    machine.info.push(("SYMBOL(_stext)".into(), None));
    kept_rightly("no bounds", &damaged(machine, |_| false));
}

/// A broken symbol table is as good as none; it must not take the dump with it.
#[test]
fn a_broken_symbol_table_is_no_symbol_table() {
    for (key, value) in [
        ("SYMBOL(kallsyms_names)", "0"),
        ("SYMBOL(kallsyms_num_syms)", "ffffffff81000000"),
        ("SYMBOL(kallsyms_token_index)", "ffffb0de00000000"),
        ("SYMBOL(kallsyms_token_table)", "ffffffff81000000"),
        ("SYMBOL(kallsyms_offsets)", "ffffb0de00000000"),
    ] {
        let mut machine = Machine::small(era("6.12"));
        machine.symbols = Some((Addresses::AbsolutePercpu, SYMBOLS.to_vec()));
        machine.info.push((key.into(), Some(value.into())));
        kept_rightly(key, &damaged(machine, |_| true));
    }
}
