//! One test for each recorded machine.

use vdump_loader::{
    corehdr::Class,
    host::iomem::Kind,
    plan::{Backup, MemoryMap, Plan},
    range::Range,
};

use crate::{
    asked, check,
    images::{BzImage, arm64, vmlinux},
    recorded::{Memory, core, number, split},
    tree::{tree, write},
};

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
fn five_levels_need_a_kernel_that_knows_them() {
    let root = tree("debian-6.1-la57");
    let able = asked(&BzImage::default().bytes());
    let plan = able.plan(root.path()).unwrap();
    check(&plan);
    // The direct mapping begins at 0xff11000000000000 with five levels, and KASLR moves it upwards.
    assert!(split(core(&plan)).1.iter().all(|load| load.vaddr >> 48 < 0xffff));
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
    // More entries than the recorded firmware has: numbers of two digits.
    for n in 7..12 {
        for (file, value) in
            [("type", 5), ("phys_addr", n << 12), ("virt_addr", n << 12), ("num_pages", 1), ("attribute", 1)]
        {
            let name = format!("sys/firmware/efi/runtime-map/{n}/{file}");
            write(root.path(), &name, format!("{value:#x}\n").as_bytes());
        }
    }
    let said = |file: &str| number(root.path(), &format!("sys/firmware/efi/{file}"));
    let systab = std::fs::read_to_string(root.path().join("sys/firmware/efi/systab")).unwrap();
    let table = |name: &str| {
        let line = systab.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        u64::from_str_radix(line.trim_start_matches("0x"), 16).unwrap()
    };
    let mut asked = asked(&BzImage::default().bytes());
    let plan = asked.plan(root.path()).unwrap();
    check(&plan);
    let params = plan.segment("params").unwrap();
    let bytes = &params.data;
    assert_eq!(&bytes[0x1c0..0x1c4], b"EL64");
    assert_eq!(bytes[0x1ec], 2, "secure boot is off");
    assert_eq!(word(bytes, 0x70), table("ACPI20="), "ACPI's root table");
    // The frame buffer that the firmware set up: the capture kernel's messages are seen on it.
    assert_eq!((bytes[0x0f], bytes[0x12..0x16].to_vec()), (0x70, vec![0, 5, 0x20, 3]), "1280x800 by EFI");
    let size = u32::from_le_bytes(bytes[0x1d4..0x1d8].try_into().unwrap());
    let map = u64::from(u32::from_le_bytes(bytes[0x1d0..0x1d4].try_into().unwrap()));
    let at = (map - params.range.start) as usize;
    let physical: Vec<u64> = (0..size as usize / 40).map(|entry| word(bytes, at + entry * 40 + 8)).collect();
    let shown: Vec<u64> = (0..12).map(|n| said(&format!("runtime-map/{n}/phys_addr"))).collect();
    assert_eq!((size, physical), (12 * 40, shown), "entry 10 comes behind entry 9, not behind entry 1");
    let kinds: Vec<u64> = (0..7).map(|entry| word(bytes, at + entry * 40)).collect();
    assert_eq!(kinds, [11, 6, 5, 6, 6, 4, 3], "the firmware's types");
    // The chain: EFI's addresses, then the seed.
    let first = (word(bytes, 0x250) - params.range.start) as usize;
    assert_eq!(bytes[first + 8], 4);
    let tables: Vec<u64> = (0..4).map(|slot| word(bytes, first + 16 + slot * 8)).collect();
    assert_eq!(tables, [said("fw_vendor"), said("runtime"), said("config_table"), table("SMBIOS=")]);
    let second = (word(bytes, first) - params.range.start) as usize;
    assert_eq!((bytes[second + 8], bytes[second + 16], word(bytes, second)), (9, 9, 0));
    assert!(!plan.command_line.contains("acpi_rsdp"));

    asked.command_line = "noefi".to_owned();
    let plan = asked.plan(root.path()).unwrap();
    let params = plan.segment("params").unwrap();
    let rsdp = format!("acpi_rsdp={:#x} ", table("ACPI20="));
    assert!(plan.command_line.contains(&rsdp), "{}", plan.command_line);
    assert_eq!(params.data[0x1c0..0x1e0], [0; 32]);
}

#[test]
fn the_high_range_is_loaded_into_and_both_are_the_capture_kernels() {
    let root = tree("high-and-low");
    let asked = asked(&BzImage::default().bytes());
    let plan = asked.plan(root.path()).unwrap();
    check(&plan);
    let crash = Memory::of(root.path()).named("Crash kernel");
    let [low, high] = [crash[0], crash[1]].map(|(start, end)| Range::new(start, end));
    assert_eq!((low.len(), high.len(), crash.len()), (72 << 20, 512 << 20, 2));
    assert!(low.end < 1 << 32 && high.start > 1 << 32);
    assert_eq!(plan.region, Some(high));
    assert!(ram(&plan).contains(&low), "{:x?}", ram(&plan));
    let params = &plan.segment("params").unwrap().data;
    let ext = |at: usize| u32::from_le_bytes(params[at..at + 4].try_into().unwrap());
    let initrd = plan.segment("initrd").unwrap().range.start;
    assert_eq!((ext(0x218), ext(0xc0)), (initrd as u32, (initrd >> 32) as u32), "initrd above 4 GiB");
    let line = u64::from(ext(0x228)) | u64::from(ext(0xc8)) << 32;
    assert!(plan.segment("params").unwrap().range.contains(&Range::with_len(line, 2048)));
    let low_only = crate::asked(&BzImage { xloadflags: 1, ..BzImage::default() }.bytes());
    let error = low_only.plan(root.path()).unwrap_err().to_string();
    assert!(error.contains("does not fit"), "{error}");
}

#[test]
fn memory_that_came_later_is_dumped_under_every_name() {
    let root = tree("hot-added");
    let asked = asked(&BzImage::default().bytes());
    let plan = asked.plan(root.path()).unwrap();
    check(&plan);
    let memory = Memory::of(root.path());
    let loads = loads(&plan);
    for name in ["System RAM (kmem)", "System RAM (virtio_mem)"] {
        let (start, end) = memory.named(name)[0];
        assert!(loads.iter().any(|(at, len)| *at <= start && end <= at + len), "{name}: {loads:x?}");
    }
    let kinds: Vec<Kind> = plan.e820.iter().map(|entry| entry.kind).collect();
    assert!(kinds.contains(&Kind::Pmem) && kinds.contains(&Kind::Pram), "{kinds:?}");
}

#[test]
fn memory_that_a_driver_added_is_dumped_but_not_given_to_the_next_kernel() {
    let root = tree("driver-managed");
    let mut asked = asked(&BzImage::default().bytes());
    let memory = Memory::of(root.path());
    let added = ["virtio_mem", "kmem", "hv_balloon"].map(|driver| memory.named(&format!("System RAM ({driver})"))[0]);
    let added = added.map(|(start, end)| Range::new(start, end));
    let plan = asked.plan(root.path()).unwrap();
    check(&plan);
    let dumped: Vec<Range> = loads(&plan).iter().map(|(at, len)| Range::with_len(*at, *len)).collect();
    for range in &added {
        assert!(dumped.iter().any(|load| load.contains(range)), "{range}: {dumped:x?}");
        assert!(ram(&plan).iter().all(|entry| !entry.overlaps(range)), "{range}");
    }
    asked.options.panic = false;
    let plan = asked.plan(root.path()).unwrap();
    let ordinary = Range::new(0x1_4000_0000, 0x1_8000_0000);
    assert!(ram(&plan).contains(&ordinary), "{:x?}", ram(&plan));
    for range in &added {
        assert!(plan.segments.iter().all(|segment| !segment.range.overlaps(range)), "{range}");
        assert!(ram(&plan).iter().all(|entry| !entry.overlaps(range)), "{range} is RAM of the next kernel");
    }
    // The device that the memory is made of stays what it is.
    let device = Range::new(0x8000_0000, 0x9000_0000);
    assert!(plan.e820.iter().any(|entry| entry.kind == Kind::Pmem && entry.range == device), "{:x?}", plan.e820);
    // Where it is all that there is, nothing can be loaded.
    let text = std::fs::read_to_string(root.path().join("proc/iomem")).unwrap();
    let renamed = format!("{text}\n").replace(" : System RAM\n", " : System RAM (kmem)\n");
    write(root.path(), "proc/iomem", renamed.as_bytes());
    let error = asked.plan(root.path()).unwrap_err().to_string();
    assert!(error.contains("does not fit"), "{error}");
}

#[test]
fn more_entries_than_the_boot_parameters_hold_go_into_the_chain() {
    let root = tree("many-entries");
    let asked = asked(&BzImage::default().bytes());
    let plan = asked.plan(root.path()).unwrap();
    check(&plan);
    assert!(plan.e820.len() > 140, "{}", plan.e820.len());
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
    assert_eq!(low.memsz, 0x9_ec00);
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
    let (acpi, end) = Memory::of(root.path()).named("ACPI Tables")[0];
    let acpi = format!("memmap={}K#{}K", (end - acpi) >> 10, acpi >> 10);
    for word in ["memmap=exactmap", "memmap=636K@4K", &acpi] {
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
    let error = asked.plan(tree("high-and-low").path()).unwrap_err().to_string();
    assert!(error.contains("0x1c0000000") && error.contains("4 GiB"), "{error}");
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

/// The purgatory's table is read here by its layout (purgatory/src/abi.rs): 16 regions of 64 bytes and a digest at the end.
#[test]
fn the_purgatory_verifies_a_segment_with_the_zeros_behind_its_data() {
    use sha2::{Digest as _, Sha256};
    let root = tree("debian-6.12-kaslr");
    let asked = asked(&BzImage { init_size: 3 << 20, ..BzImage::default() }.bytes());
    let plan = asked.plan(root.path()).unwrap();
    let purgatory = &plan.segment("purgatory").unwrap().data;
    let table = &purgatory[purgatory.len() - 32 - 16 * 64..];
    let verified: Vec<_> = plan.segments.iter().filter(|segment| segment.sha256.is_some()).collect();
    assert_eq!(verified.len(), 4, "kernel, initrd, params, elfcorehdr");
    for segment in verified {
        let region = table.chunks(64).find(|region| word(region, 0) == segment.range.start).unwrap();
        assert_eq!(word(region, 8), segment.range.len(), "{}", segment.name);
        let mut memory = segment.data.to_vec();
        memory.resize(segment.range.len() as usize, 0);
        assert_eq!(region[16..48], *Sha256::digest(&memory), "{}", segment.name);
    }
}

#[test]
fn a_kernel_for_the_next_reboot_gets_all_memory() {
    let root = tree("high-and-low");
    let mut asked = asked(&BzImage::default().bytes());
    asked.options.panic = false;
    let plan = asked.plan(root.path()).unwrap();
    assert_eq!(plan.command_line, "console=ttyS0 quiet");
    assert!(plan.core_headers.is_none() && plan.region.is_none());
    let whole: u64 = ram(&plan).iter().map(Range::len).sum();
    assert!(whole > (6 << 30) - (1 << 20), "{whole}");
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
