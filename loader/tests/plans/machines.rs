//! One test for each recorded machine.

use vdump_loader::{
    corehdr::Class,
    host::iomem::Kind,
    plan::{Backup, MemoryMap, Plan},
    range::Range,
};

use crate::{
    asked, check,
    headers::{Header, parse},
    images::{BzImage, arm64, vmlinux},
    tree::{tree, unpack},
};

fn core(plan: &Plan<'_>) -> Vec<Header> {
    parse(&plan.segment("elfcorehdr").unwrap().data)
}

fn loads(plan: &Plan<'_>) -> Vec<(u64, u64)> {
    core(plan).iter().filter(|header| header.is_load()).map(|header| (header.paddr, header.memsz)).collect()
}

fn ram(plan: &Plan<'_>) -> Vec<Range> {
    plan.e820.iter().filter(|entry| entry.kind == Kind::Ram).map(|entry| entry.range).collect()
}

fn word(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

#[test]
fn kaslr_is_in_the_virtual_addresses() {
    let root = tree("debian-6.12-kaslr");
    let asked = asked(&BzImage::default().bytes());
    let plan = asked.plan(root.path()).unwrap();
    check(&plan);
    assert!(plan.notes.is_empty(), "{:?}", plan.notes);
    let core = core(&plan);
    // As the recorded kernel's own headers were: two CPUs, VMCOREINFO, text, RAM on both sides of the crash memory.
    let notes: Vec<_> = core.iter().filter(|header| !header.is_load()).map(|note| (note.offset, note.filesz)).collect();
    assert_eq!(notes, [(0x2d23_d800, 368), (0x2d33_d800, 368), (0x2d34_6000, 0x1024)]);
    let text = &core[3];
    assert_eq!((text.paddr, text.vaddr, text.memsz), (0x1ec0_0000, 0xffff_ffff_8c00_0000, 0x2c3_0000));
    assert_eq!((core[4].paddr, core[4].vaddr), (0x10_0000, 0xffff_8a8e_0010_0000));
    assert_eq!(loads(&plan)[1..], [(0x10_0000, 0x0df0_0000), (0x1e00_0000, 0x11fe_0000)]);
    assert!(core.iter().all(|header| header.offset == header.paddr), "there is no backup");
}

#[test]
fn five_levels_need_a_kernel_that_knows_them() {
    let root = tree("debian-6.1-la57");
    let able = asked(&BzImage::default().bytes());
    let plan = able.plan(root.path()).unwrap();
    check(&plan);
    assert_eq!(core(&plan)[4].vaddr, 0xff23_b4ce_c010_0000);
    let old = asked(&BzImage { xloadflags: 0b11, ..BzImage::default() }.bytes());
    let error = old.plan(root.path()).unwrap_err().to_string();
    assert!(error.contains("five levels") && error.contains("no5lvl"), "{error}");
    assert!(old.plan(tree("debian-6.12-kaslr").path()).is_ok(), "with four levels it is all the same");
}

#[test]
fn a_vmlinux_moves_by_whole_two_mebibytes() {
    let root = tree("debian-6.12-kaslr");
    let asked = asked(&vmlinux(16 << 20, 3 << 20, 8 << 20));
    let plan = asked.plan(root.path()).unwrap();
    check(&plan);
    let kernel = plan.segment("kernel").unwrap();
    assert_eq!(kernel.range.start % (2 << 20), 0);
    assert_eq!(kernel.range.len(), 12 << 20);
    assert_eq!(kernel.data.len(), 3 << 20, "the bss is not in the file");
    assert_eq!(plan.kernel_entry, kernel.range.start + 0x40);
}

#[test]
fn efi_goes_on_with_its_tables() {
    let root = tree("efi");
    let mut asked = asked(&BzImage::default().bytes());
    let plan = asked.plan(root.path()).unwrap();
    check(&plan);
    let params = plan.segment("params").unwrap();
    let bytes = &params.data;
    assert_eq!(&bytes[0x1c0..0x1c4], b"EL64");
    assert_eq!(bytes[0x1ec], 3, "secure boot");
    assert_eq!(word(bytes, 0x70), 0x7a50_4014, "ACPI's root table");
    let size = u32::from_le_bytes(bytes[0x1d4..0x1d8].try_into().unwrap());
    assert_eq!(size, 11 * 40);
    let map = u64::from(u32::from_le_bytes(bytes[0x1d0..0x1d4].try_into().unwrap()));
    let at = (map - params.range.start) as usize;
    assert_eq!(word(bytes, at + 10 * 40 + 8), 0xe000_0000, "entry 10 comes behind entry 9, not behind entry 1");
    // The chain: EFI's addresses, then the seed.
    let first = (word(bytes, 0x250) - params.range.start) as usize;
    assert_eq!((bytes[first + 8], word(bytes, first + 16), word(bytes, first + 40)), (4, 0x7910_0000, 0x7910_5000));
    let second = (word(bytes, first) - params.range.start) as usize;
    assert_eq!((bytes[second + 8], bytes[second + 16], word(bytes, second)), (9, 9, 0));
    assert!(!plan.command_line.contains("acpi_rsdp"));
    let kinds: Vec<Kind> = plan.e820.iter().map(|entry| entry.kind).collect();
    assert!(kinds.contains(&Kind::Acpi) && kinds.contains(&Kind::Nvs));
    assert_eq!(loads(&plan).last(), Some(&(0x1_0000_0000, 0x3_8000_0000)));

    asked.command_line = "noefi".to_owned();
    let plan = asked.plan(root.path()).unwrap();
    let params = plan.segment("params").unwrap();
    assert!(plan.command_line.contains("acpi_rsdp=0x7a504014"), "{}", plan.command_line);
    assert_eq!(params.data[0x1c0..0x1e0], [0; 32]);
}

#[test]
fn the_high_range_is_loaded_into_and_both_are_the_capture_kernels() {
    let root = tree("high-and-low");
    let asked = asked(&BzImage::default().bytes());
    let plan = asked.plan(root.path()).unwrap();
    check(&plan);
    assert_eq!(plan.region, Some(Range::new(0x10_1b00_0000, 0x10_3b00_0000)));
    assert!(ram(&plan).contains(&Range::new(0x3b80_0000, 0x4000_0000)), "{:x?}", ram(&plan));
    let params = &plan.segment("params").unwrap().data;
    let ext = |at: usize| u32::from_le_bytes(params[at..at + 4].try_into().unwrap());
    assert_eq!((ext(0xc0), ext(0xc8)), (0x10, 0x10), "initrd and command line lie above 4 GiB");
    // Memory that was added since boot is dumped, whatever its name; persistent memory is not.
    let loads = loads(&plan);
    assert!(loads.contains(&(0x20_0000_0000, 0x1_0000_0000)), "{loads:x?}");
    assert!(loads.contains(&(0x30_0000_0000, 0x4000_0000)));
    let crash = [Range::new(0x3b80_0000, 0x4000_0000), Range::new(0x10_1b00_0000, 0x10_3b00_0000)];
    assert!(
        loads.iter().skip(1).all(|(at, len)| !crash.iter().any(|crash| crash.overlaps(&Range::with_len(*at, *len))))
    );
    assert!(loads[1..].iter().all(|(at, _)| *at >= 1 << 20));
    let low_only = crate::asked(&BzImage { xloadflags: 1, ..BzImage::default() }.bytes());
    let error = low_only.plan(root.path()).unwrap_err().to_string();
    assert!(error.contains("does not fit"), "{error}");
}

#[test]
fn more_entries_than_the_boot_parameters_hold_go_into_the_chain() {
    let mut text = String::from("#\n== proc/iomem\n00001000-0009fbff : System RAM\n00100000-7fffffff : System RAM\n");
    text += "  02000000-02ffffff : Kernel code\n  03000000-035fffff : Kernel bss\n  40000000-4fffffff : Crash kernel\n";
    for n in 0..300u64 {
        let start = 0x8000_0000 + n * 0x10_0000;
        text += &format!("{start:08x}-{:08x} : Reserved\n", start + 0xfff);
    }
    let root = unpack(&text);
    let asked = asked(&BzImage::default().bytes());
    let plan = asked.plan(root.path()).unwrap();
    check(&plan);
    assert!(plan.e820.len() > 300);
    let params = plan.segment("params").unwrap();
    assert_eq!(params.data[0x1e8], 128);
    let node = (word(&params.data, 0x250) - params.range.start) as usize;
    let (kind, len) =
        (params.data[node + 8], u32::from_le_bytes(params.data[node + 12..node + 16].try_into().unwrap()));
    assert_eq!((kind, len as usize), (1, (plan.e820.len() - 128) * 20));
    assert_eq!(word(&params.data, node + 16), plan.e820[128].range.start);
}

#[test]
fn crash_memory_shared_with_user_space_is_used_and_not_dumped() {
    let root = tree("cma");
    let asked = asked(&BzImage::default().bytes());
    let plan = asked.plan(root.path()).unwrap();
    check(&plan);
    let shared = Range::new(0x5000_0000, 0x7000_0000);
    assert!(ram(&plan).contains(&shared));
    assert!(loads(&plan).iter().all(|(at, len)| !shared.overlaps(&Range::with_len(*at, *len))));
}

#[test]
fn the_backup_has_its_own_place_in_the_headers() {
    let root = tree("debian-6.12-kaslr");
    let mut asked = asked(&BzImage::default().bytes());
    asked.options.backup = Backup::Always;
    let plan = asked.plan(root.path()).unwrap();
    check(&plan);
    let place = plan.segment("backup").unwrap();
    assert!(place.sha256.is_none() && place.data.is_empty());
    let low = core(&plan).into_iter().find(|header| header.is_load() && header.paddr == 0x1000).unwrap();
    assert_eq!((low.memsz, low.vaddr), (0x9_ec00, 0xffff_8a8e_0000_1000));
    let source = plan.backup.unwrap();
    assert_eq!(low.offset - place.range.start, low.paddr - source.start);
    // The capture kernel may use the low memory itself, but not the copy.
    assert!(ram(&plan).contains(&Range::new(0x1000, 0x9_fc00)));
    assert!(ram(&plan).iter().all(|range| !range.overlaps(&place.range)));
    asked.options.backup = Backup::Auto;
    assert!(asked.plan(root.path()).unwrap().backup.is_none(), "6.12 keeps nothing there");
    let old = tempfile::tempdir().unwrap();
    for name in ["proc/iomem", "proc/cmdline", "proc/kcore"] {
        crate::tree::write(old.path(), name, &std::fs::read(root.path().join(name)).unwrap());
    }
    assert!(asked.plan(old.path()).unwrap().backup.is_some(), "a kernel that does not say its version may");
    crate::tree::write(old.path(), "proc/sys/kernel/osrelease", b"4.18.0-553.el8.x86_64\n");
    assert!(asked.plan(old.path()).unwrap().backup.is_some());
    asked.options.backup = Backup::Never;
    assert!(asked.plan(old.path()).unwrap().backup.is_none());
}

#[test]
fn an_exact_map_is_on_the_command_line() {
    let root = tree("efi");
    let mut asked = asked(&BzImage::default().bytes());
    asked.options.memory_map = MemoryMap::Exactmap;
    let plan = asked.plan(root.path()).unwrap();
    check(&plan);
    for word in ["memmap=exactmap", "memmap=628K@4K", "memmap=4096K#1998848K"] {
        assert!(plan.command_line.split(' ').any(|have| have == word), "{word}: {}", plan.command_line);
    }
    let headers = plan.segment("elfcorehdr").unwrap().range;
    for word in plan.command_line.split(' ').filter_map(|word| word.strip_prefix("memmap=")?.split_once("K@")) {
        let (size, start) = (word.0.parse::<u64>().unwrap(), word.1.trim_end_matches('K').parse::<u64>().unwrap());
        assert!(!Range::with_len(start << 10, size << 10).overlaps(&headers), "the headers are given away");
    }
    // The boot parameters say the same: the decompressor places the kernel by them.
    let region = plan.region.unwrap();
    assert!(ram(&plan).iter().all(|range| range.end <= 1 << 20 || region.contains(range)), "{:x?}", ram(&plan));
    asked.command_line = "memmap=1G".to_owned();
    assert!(asked.plan(root.path()).unwrap_err().to_string().contains("memmap="));
}

#[test]
fn headers_of_32_bits_where_memory_ends_below_4_gib() {
    let mut asked = asked(&BzImage::default().bytes());
    asked.options.core_headers = Class::Elf32;
    let root = tree("debian-6.12-kaslr");
    let plan = asked.plan(root.path()).unwrap();
    check(&plan);
    let narrow = loads(&plan);
    asked.options.core_headers = Class::Elf64;
    assert_eq!(loads(&asked.plan(root.path()).unwrap()), narrow);
    asked.options.core_headers = Class::Elf32;
    let error = asked.plan(tree("efi").path()).unwrap_err().to_string();
    assert!(error.contains("0x480000000") && error.contains("4 GiB"), "{error}");
}

#[test]
fn headers_that_the_kernel_may_rewrite_have_room_and_no_digest() {
    let root = tree("debian-6.12-kaslr");
    let mut asked = asked(&BzImage::default().bytes());
    assert!(asked.plan(root.path()).unwrap().segment("elfcorehdr").unwrap().sha256.is_some());
    asked.options.hotplug = true;
    let plan = asked.plan(root.path()).unwrap();
    check(&plan);
    let headers = plan.segment("elfcorehdr").unwrap();
    assert!(headers.sha256.is_none() && headers.range.len() >= 917_616 + 64);
    let error = asked.plan(tree("debian-6.1-la57").path()).unwrap_err().to_string();
    assert!(error.contains("--hotplug") && error.contains("crash_elfcorehdr_size"), "{error}");
}

#[test]
fn a_kernel_for_the_next_reboot_gets_all_memory() {
    let root = tree("efi");
    let mut asked = asked(&BzImage::default().bytes());
    asked.options.panic = false;
    let plan = asked.plan(root.path()).unwrap();
    assert_eq!(plan.command_line, "console=ttyS0 quiet");
    assert!(plan.core_headers.is_none() && plan.region.is_none());
    let whole: u64 = ram(&plan).iter().map(Range::len).sum();
    assert!(whole > 15 << 30, "{whole}");
    for segment in &plan.segments {
        let range = &segment.range;
        assert!(ram(&plan).iter().any(|ram| ram.contains(range)), "{} at {range} is not in RAM", segment.name);
        assert!(range.start >= 1 << 20 && range.end <= 1 << 32);
    }
    asked.options.backup = Backup::Always;
    assert_eq!(asked.plan(root.path()).unwrap_err().kind, vdump_loader::Kind::Usage);
}

#[test]
fn an_arm64_image_is_planned() {
    let root = tree("arm64");
    let asked = asked(&arm64(30 << 20, 0));
    let plan = asked.plan(root.path()).unwrap();
    let region = Range::new(0xa000_0000, 0xb000_0000);
    assert_eq!(plan.region, Some(region));
    let names: Vec<&str> = plan.segments.iter().map(|segment| segment.name).collect();
    assert!(["kernel", "initrd", "dtb", "elfcorehdr"].iter().all(|name| names.contains(name)), "{names:?}");
    assert!(plan.segments.iter().all(|segment| region.contains(&segment.range)));
    assert_eq!(plan.segment("kernel").unwrap().range.start % (2 << 20), 0);
    assert!(plan.core_headers.as_ref().unwrap().loads.iter().any(|load| load.physical == 0x4400_0000));
}
