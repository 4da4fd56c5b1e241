//! Plans for x86_64: a bzImage or an ELF kernel, for a crash or for the next reboot.
//!
//! Knows which parts a kernel needs around it, and their order. Must not know bytes of the boot protocol ([`crate::x86`]).

use std::borrow::Cow;

use super::{
    parts::{Plan, Request, Segment},
    reserved::{LITTLE, region},
};
use crate::{
    cmdline,
    corehdr::{self, Class, CoreHeaders},
    error::{Error, Result},
    handover::{self, Handoff, Region},
    host::{Host, firmware::Efi, iomem::Kind},
    image::{Image, Machine, bzimage, elf},
    options::{Backup, MemoryMap, Options, SerialPort, serial_port},
    place::{Need, place_in_ram, place_in_reserved},
    range::{PAGE, Range, align_up, human, subtract, total},
    x86::{
        backup,
        e820::{self, Entry},
        params::{self, Params},
    },
};

struct X86<'h, 'a> {
    host: &'h Host,
    request: &'h Request<'a>,
    options: &'h Options,
}

/// What is known of the kernel's own segment.
struct KernelPart<'a> {
    data: Cow<'a, [u8]>,
    need: Need,
    entry: u64,
    header: Option<&'a [u8]>,
    command_line_limit: u64,
    efi_kexec: bool,
    above_4g: bool,
}

impl KernelPart<'_> {
    /// Bytes kept for the command line, the NUL included.
    fn command_line_room(&self) -> usize {
        self.command_line_limit as usize + 1
    }
}

/// Places below this are not for us: the BIOS, and what the purgatory's predecessors kept free.
const LOWEST: u64 = 1 << 20;
/// What x86 kernels keep for a command line, without the NUL (COMMAND_LINE_SIZE).
const COMMAND_LINE_LIMIT: u64 = 2047;
/// Entries that the memory map grows by when what is held is cut out of it: two pieces of RAM become one more each.
const MOST_ADDED_RAM: usize = 4;

/// Plans an x86_64 kernel: sizes first, for nothing among them depends on a place; then places; then bytes.
pub(super) fn plan<'a>(host: &Host, request: &Request<'a>) -> Result<Plan<'a>> {
    let job = X86 { host, request, options: request.options };
    let mut notes = Vec::new();
    let initrd = request.initrd.map_or(0, |initrd| initrd.len() as u64);
    let Placed { region, parts, needs, ranges, slack } = job.place(initrd, &mut notes)?;
    let left = region.map_or(0, |region| region.len().saturating_sub(total(&ranges)));
    note_little_memory(region, left, &mut notes);
    let filled = job.fill(parts, &Places { needs: &needs, ranges: &ranges })?;
    Ok(Plan { region, slack, left, notes, ..filled })
}

/// Whether everything has a place with an initrd of so many bytes.
pub(super) fn measure(host: &Host, request: &Request<'_>, initrd: u64) -> Result<()> {
    X86 { host, request, options: request.options }.place(initrd, &mut Vec::new()).map(drop)
}

/// Everything with its place, and nothing filled.
struct Placed<'h, 'a> {
    region: Option<Range>,
    parts: Parts<'h, 'a>,
    needs: Vec<Need>,
    ranges: Vec<Range>,
    slack: u64,
}

/// All that goes into segments, before anything has a place.
struct Parts<'h, 'a> {
    kernel: KernelPart<'a>,
    initrd: Option<&'a [u8]>,
    efi: Option<&'h Efi>,
    /// The purgatory without a table: its size.
    purgatory: handover::Image,
    headers: Option<CoreHeaders>,
    backup: Option<Range>,
}

/// Where each need came to lie.
struct Places<'p> {
    needs: &'p [Need],
    ranges: &'p [Range],
}

impl Places<'_> {
    fn at(&self, name: &str) -> Option<Range> {
        self.needs.iter().zip(self.ranges).find(|(need, _)| need.name == name).map(|(_, range)| *range)
    }

    /// 0 for what is not there: the caller has no use for it then.
    fn start(&self, name: &str) -> u64 {
        self.at(name).map_or(0, |range| range.start)
    }
}

impl<'h, 'a> X86<'h, 'a> {
    fn place(&self, initrd: u64, notes: &mut Vec<String>) -> Result<Placed<'h, 'a>> {
        self.check(notes)?;
        let parts = self.parts(notes)?;
        let needs = self.needs(&parts, initrd)?;
        let slack = slack(self.host);
        let (region, ranges) = if self.options.panic {
            let region = region(self.host, &needs, slack, initrd)?;
            (Some(region), place_in_reserved(&needs, region, slack)?)
        } else {
            (None, place_in_ram(&needs, &self.ordinary_ram())?)
        };
        Ok(Placed { region, parts, needs, ranges, slack })
    }

    fn parts(&self, notes: &mut Vec<String>) -> Result<Parts<'h, 'a>> {
        let kernel = self.kernel(notes)?;
        let backup = self.backup(notes)?;
        let describe = |notes| CoreHeaders::describe(self.host, Machine::X86_64, backup, notes);
        Ok(Parts {
            initrd: self.request.initrd.filter(|initrd| !initrd.is_empty()),
            efi: self.efi(&kernel, notes),
            purgatory: self.blank_purgatory()?,
            headers: if self.options.panic { Some(describe(notes)?) } else { None },
            backup,
            kernel,
        })
    }

    /// The kernel first: it has the most wishes.
    fn needs(&self, parts: &Parts<'_, '_>, initrd: u64) -> Result<Vec<Need>> {
        let max = if parts.kernel.above_4g { u64::MAX } else { 1 << 32 };
        let map = e820::whole(self.host).len().max(e820::for_capture(self.host, &[]).len()) + MOST_ADDED_RAM;
        let params = params::room(parts.kernel.command_line_room(), map, parts.efi);
        let mut needs = vec![parts.kernel.need.clone()];
        needs.extend((initrd > 0).then(|| Need { max, ..Need::new("initrd", initrd, LOWEST) }));
        needs.push(Need { max, ..Need::new("params", params, LOWEST) });
        needs.push(Need { align: parts.purgatory.align, ..Need::new("purgatory", parts.purgatory.mem_size, LOWEST) });
        if let Some(headers) = &parts.headers {
            needs.push(Need::new("elfcorehdr", self.headers_size(headers)?, LOWEST));
        }
        needs.extend(parts.backup.map(|source| Need::new("backup", source.len(), LOWEST)));
        Ok(needs)
    }

    fn fill(&self, mut parts: Parts<'_, 'a>, places: &Places<'_>) -> Result<Plan<'a>> {
        let backup = parts.backup.map(|source| (source, places.start("backup")));
        if let (Some(headers), Some((source, destination))) = (&mut parts.headers, backup) {
            headers.move_backup(source, destination);
        }
        let (e820, command_line) = self.memory_map(&parts, places)?;
        let mut segments = self.segments(&parts, places, &e820, &command_line);
        let kernel_entry = places.start("kernel") + parts.kernel.entry;
        let serial = self.options.serial.or_else(|| console(&command_line));
        let verified = segments.iter().filter_map(region_to_verify).collect();
        let purgatory = self.handoff(kernel_entry, places.start("params"), verified, backup, serial).image()?;
        let entry = places.start("purgatory") + purgatory.entry;
        // The same code with its table filled: not a byte longer.
        segments.push(segment("purgatory", places, purgatory.bytes.into(), false));
        segments.sort_unstable_by_key(|segment| segment.range.start);
        Ok(Plan {
            image: self.request.image.describe(),
            panic: self.options.panic,
            machine: Machine::X86_64.to_string(),
            region: None,
            segments,
            entry,
            kernel_entry,
            boot_params: places.start("params"),
            command_line,
            e820,
            core_headers: parts.headers,
            backup: parts.backup,
            serial,
            slack: 0,
            left: 0,
            hotplug: self.options.hotplug,
            notes: Vec::new(),
        })
    }

    /// The memory map of the boot parameters, and the command line with what the loader adds.
    fn memory_map(&self, parts: &Parts<'_, '_>, places: &Places<'_>) -> Result<(Vec<Entry>, String)> {
        let held: Vec<Range> = ["elfcorehdr", "backup"].into_iter().filter_map(|name| places.at(name)).collect();
        let capture_map = e820::for_capture(self.host, &held);
        let command_line = self.command_line(places.at("elfcorehdr"), parts.efi.is_some(), &capture_map);
        cmdline::check(&command_line, parts.kernel.command_line_limit)?;
        // With an exact map on the command line too: the decompressor's KASLR chooses the kernel's place by the boot
        // parameters alone (`parse_memmap` in arch/x86/boot/compressed/kaslr.c), and would write over the dead kernel.
        let map = if self.options.panic { capture_map } else { e820::whole(self.host) };
        Ok((map, command_line))
    }

    /// All segments but the purgatory, which needs their digests.
    fn segments(
        &self,
        parts: &Parts<'_, 'a>,
        places: &Places<'_>,
        e820: &[Entry],
        command_line: &str,
    ) -> Vec<Segment<'a>> {
        let params = Params {
            header: parts.kernel.header,
            command_line,
            command_line_room: parts.kernel.command_line_room(),
            initrd: parts.initrd.map(|initrd| Range::with_len(places.start("initrd"), initrd.len() as u64)),
            e820,
            efi: parts.efi,
            host: self.host,
            seed: self.request.seed,
        };
        let params = params.bytes(places.start("params"));
        let mut segments = vec![segment("kernel", places, parts.kernel.data.clone(), true)];
        segments.extend(parts.initrd.map(|initrd| segment("initrd", places, initrd.into(), true)));
        segments.push(segment("params", places, params.into(), true));
        if let Some(headers) = &parts.headers {
            let bytes = headers.bytes(self.options.core_headers, Machine::X86_64);
            // With hotplug the running kernel rewrites them.
            segments.push(segment("elfcorehdr", places, bytes.into(), !self.options.hotplug));
        }
        // It is written after everything was verified.
        segments.extend(parts.backup.map(|_| segment("backup", places, Cow::Borrowed(&[]), false)));
        segments
    }

    fn kernel(&self, notes: &mut Vec<String>) -> Result<KernelPart<'a>> {
        if self.host.five_levels && matches!(self.request.image, Image::Vmlinux(_)) {
            notes.push(
                "an ELF kernel does not say whether it knows page tables of five levels, which the running one has"
                    .to_owned(),
            );
        }
        Ok(match self.request.image {
            Image::BzImage(image) => {
                if self.host.five_levels && !image.five_levels {
                    return Err(Error::input("the kernel cannot be started from the running one")
                        .because("the running kernel has page tables of five levels, and the image cannot be entered with them")
                        .next_step("give a kernel built with CONFIG_X86_5LEVEL, or boot this one with no5lvl"));
                }
                KernelPart {
                    data: Cow::Borrowed(&image.kernel),
                    need: Need {
                        name: "kernel",
                        size: image.init_size,
                        align: image.alignment,
                        // Lower down it would move itself up, over whatever is there.
                        min: image.preferred.max(LOWEST),
                        max: if image.above_4g { u64::MAX } else { 1 << 32 },
                    },
                    entry: bzimage::ENTRY_64,
                    header: Some(&image.header),
                    command_line_limit: image.command_line_limit.clamp(1, COMMAND_LINE_LIMIT),
                    efi_kexec: image.efi_kexec,
                    above_4g: image.above_4g,
                }
            }
            Image::Vmlinux(image) => KernelPart {
                data: Cow::Borrowed(&image.bytes),
                need: Need {
                    name: "kernel",
                    size: image.memory,
                    align: elf::ALIGNMENT,
                    // A normal kernel takes any place too.
                    min: 16 << 20,
                    max: u64::MAX,
                },
                entry: image.entry,
                header: None,
                command_line_limit: COMMAND_LINE_LIMIT,
                efi_kexec: true,
                above_4g: true,
            },
            Image::Arm64(_) => return Err(Error::input("an arm64 kernel cannot be planned for x86_64")),
        })
    }

    /// Whether the request makes sense on this machine.
    fn check(&self, notes: &mut Vec<String>) -> Result<()> {
        let (host, options, line) = (self.host, self.options, self.request.command_line);
        for ours in ["elfcorehdr", "memmap"] {
            let clashes = ours == "elfcorehdr" || options.memory_map == MemoryMap::Exactmap;
            if options.panic && clashes && cmdline::has(line, ours) {
                return Err(Error::usage(format!("the command line has {ours}=, which the loader sets itself"))
                    .next_step(format!("leave out {ours}=")));
            }
        }
        if !options.panic {
            let panic_only = [
                (options.core_headers == Class::Elf32, "--core-headers"),
                (options.backup == Backup::Always, "--backup"),
                (options.memory_map == MemoryMap::Exactmap, "--memory-map"),
                (options.hotplug, "--hotplug"),
            ];
            if let Some((_, option)) = panic_only.iter().find(|(given, _)| *given) {
                return Err(Error::usage(format!("{option} is for capture kernels only"))
                    .next_step("add --panic, or leave it out"));
            }
            return Ok(());
        }
        if options.core_headers == Class::Elf32 {
            corehdr::check_elf32(host, options.hotplug)?;
        }
        if cmdline::has(line, "crashkernel") {
            notes.push(
                "the capture kernel's command line has crashkernel=: it will reserve memory that it needs itself"
                    .to_owned(),
            );
        }
        if host.asks_for_cma && host.crash_cma.is_empty() {
            notes.push(
                "crashkernel= has ,cma, but the kernel does not say which memory that is: the capture kernel will not use it, \
                 and it is dumped (a load by file knows it)"
                    .to_owned(),
            );
        }
        if options.hotplug && host.elfcorehdr_size.is_none() {
            return Err(Error::usage("--hotplug cannot be honoured")
                .because(
                    "the running kernel cannot rewrite core headers (/sys/kernel/crash_elfcorehdr_size is missing)",
                )
                .next_step("leave it out, and load again when CPUs or memory come or go"));
        }
        Ok(())
    }

    fn backup(&self, notes: &mut Vec<String>) -> Result<Option<Range>> {
        let wanted = match self.options.backup {
            Backup::Always => true,
            Backup::Never => false,
            Backup::Auto => backup::is_needed(self.host),
        };
        if !self.options.panic || !wanted {
            return Ok(None);
        }
        let source = backup::source(self.host);
        if source.is_none() {
            notes.push("there is no RAM below 640 KiB: nothing to back up".to_owned());
        }
        Ok(source)
    }

    /// EFI's tables, if kernel and machine allow to go on with them.
    fn efi(&self, kernel: &KernelPart<'_>, notes: &mut Vec<String>) -> Option<&'h Efi> {
        if !self.host.booted_by_efi || cmdline::has(self.request.command_line, "noefi") {
            return None;
        }
        if !kernel.efi_kexec || !params::efi_can_go_on(self.host) {
            notes.push(
                "EFI's runtime services are not passed on: the kernel gets ACPI's root table and no more".to_owned(),
            );
            return None;
        }
        self.host.efi.as_ref()
    }

    fn headers_size(&self, headers: &CoreHeaders) -> Result<u64> {
        let size = headers.size(self.options.core_headers);
        // What the kernel says leaves out the ELF header (arch_crash_get_elfcorehdr_size in arch/x86/kernel/crash.c).
        let asked =
            self.host.elfcorehdr_size.filter(|_| self.options.hotplug).map_or(0, |asked| asked.saturating_add(64));
        align_up(size.max(asked), PAGE).ok_or_else(|| Error::input("the kernel asks for impossibly large core headers"))
    }

    fn command_line(&self, headers: Option<Range>, with_efi: bool, map: &[Entry]) -> String {
        let mut ours = Vec::new();
        if let Some(headers) = headers {
            ours.push(format!("elfcorehdr={:#x}", headers.start));
        }
        if let Some(root) = self.host.acpi_root.filter(|_| self.host.booted_by_efi && !with_efi)
            && !cmdline::has(self.request.command_line, "acpi_rsdp")
        {
            ours.push(format!("acpi_rsdp={root:#x}"));
        }
        if self.options.panic && self.options.memory_map == MemoryMap::Exactmap {
            let of = |kinds: &[Kind]| -> Vec<Range> {
                map.iter().filter(|entry| kinds.contains(&entry.kind)).map(|entry| entry.range).collect()
            };
            ours.extend(cmdline::exact_map(&of(&[Kind::Ram]), &of(&[Kind::Acpi, Kind::Nvs])));
        }
        cmdline::prefixed(&ours, self.request.command_line.trim())
    }

    /// RAM that a kernel for the next reboot may be put to.
    fn ordinary_ram(&self) -> Vec<Range> {
        let mut holes = self.host.iomem.crash_kernel();
        holes.push(Range::new(0, LOWEST));
        let ram = subtract(&self.host.iomem.plain_ram(), &holes);
        // Hot-added memory may not be there at the next boot's first look.
        if self.host.firmware_map.is_empty() {
            return ram;
        }
        let firmware = self.host.firmware_map.iter().filter(|(_, kind)| *kind == Kind::Ram);
        let firmware: Vec<Range> = firmware.map(|(range, _)| *range).collect();
        ram.iter().flat_map(|range| firmware.iter().filter_map(|known| known.common(range))).collect()
    }

    /// The purgatory for a kernel of one page: its size is that of any other.
    fn blank_purgatory(&self) -> Result<handover::Image> {
        let kernel = Region { name: "kernel".to_owned(), start: LOWEST, len: PAGE, sha256: [0; 32] };
        self.handoff(LOWEST, LOWEST, vec![kernel], None, None).image()
    }

    fn handoff(
        &self,
        kernel_entry: u64,
        boot_params: u64,
        verified: Vec<Region>,
        backup: Option<(Range, u64)>,
        serial: Option<SerialPort>,
    ) -> Handoff {
        Handoff {
            kernel_entry,
            boot_params,
            verified,
            backup,
            serial,
            debug_port: self.options.debug_port,
            on_mismatch: self.options.on_mismatch,
        }
    }
}

/// All of a segment's memory, with the zeros behind its data: a stray write anywhere in it is a sign that the rest cannot be
/// trusted either. kexec-tools and the kernel's own loader (`kexec_calculate_store_digests`) verify as much.
fn region_to_verify(segment: &Segment<'_>) -> Option<Region> {
    let Range { start, .. } = segment.range;
    Some(Region { name: segment.name.to_owned(), start, len: segment.range.len(), sha256: segment.sha256? })
}

/// Room for the running kernel's control pages: it maps all RAM one-to-one in tables that it takes from the reserved memory
/// (`kimage_alloc_crash_control_pages` and `init_pgtable`): a page for each GiB, or, where it has pages of 1 GiB, for the
/// first and the last GiB of each range at most (`ident_pud_init` in arch/x86/mm/ident_map.c).
fn slack(host: &Host) -> u64 {
    let gib = |range: &Range| (range.end.saturating_sub(1) >> 30) - (range.start >> 30) + 1;
    let ram = host.iomem.ram();
    let upper: u64 = ram.iter().map(|range| gib(range) / 512 + 1).sum();
    let tables: u64 = ram.iter().map(|range| if host.gib_pages { gib(range).min(2) } else { gib(range) }).sum();
    (tables + upper + 64) * PAGE
}

fn segment<'a>(name: &'static str, places: &Places<'_>, data: Cow<'a, [u8]>, verified: bool) -> Segment<'a> {
    let range = places.at(name).unwrap_or(Range::new(0, 0));
    let sha256 = verified.then(|| handover::digest(&data, range.len()));
    Segment { name, range, data, sha256 }
}

/// The serial port of the capture kernel's console: `console=ttyS0,115200`.
fn console(command_line: &str) -> Option<SerialPort> {
    let words = cmdline::words(command_line);
    let consoles = words.iter().filter_map(|word| word.strip_prefix("console="));
    consoles.rev().find_map(serial_port)
}

fn note_little_memory(region: Option<Range>, left: u64, notes: &mut Vec<String>) {
    if region.is_some() && left < LITTLE {
        notes.push(format!("only {} of crash memory are left for the capture kernel to work in", human(left)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_of_a_gib_need_few_tables() {
        let slack = |flags: &str| {
            let root = tempfile::tempdir().unwrap();
            std::fs::create_dir_all(root.path().join("proc")).unwrap();
            let iomem = "00001000-0009ffff : System RAM\n100000000-18000000fff : System RAM\n";
            std::fs::write(root.path().join("proc/iomem"), iomem).unwrap();
            std::fs::write(root.path().join("proc/cpuinfo"), format!("flags\t\t: fpu {flags}\n")).unwrap();
            slack(&Host::read(root.path()).unwrap())
        };
        // 1.5 TiB: a page for each GiB is 6 MiB of them.
        assert!((6 << 20..7 << 20).contains(&slack("la57")), "{}", slack("la57"));
        assert!(slack("pdpe1gb") < 1 << 20);
    }

    #[test]
    fn the_last_serial_console_is_the_one() {
        assert_eq!(console("console=ttyS0 console=tty0"), Some(SerialPort { port: 0x3f8, baud: 0 }));
        assert_eq!(console("console=tty0"), None);
    }
}
