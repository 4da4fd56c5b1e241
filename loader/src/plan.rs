//! The plan: every segment with its bytes and its place, before any system call.
//!
//! Knows the order of the parts. Pure: what it needs of the machine is in [`Host`], of the files in [`Image`]. It can be
//! printed, compared and tested anywhere; [`crate::arm`] hands it to the kernel.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::{
    cmdline,
    corehdr::{self, Class, CoreHeaders},
    error::{Error, Result},
    handover::{self, Handoff},
    host::Host,
    image::{Image, Machine, bzimage, elf},
    place::{Need, place_in_ram, place_in_reserved},
    range::{PAGE, Range, align_up, human, subtract, total},
    x86::{
        backup,
        e820::{self, Entry},
        params::{self, Params},
    },
};

/// When the lowest memory is copied aside.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backup {
    /// When the running kernel may have data there.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// How the capture kernel is told which memory it may use.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemoryMap {
    /// In the boot parameters.
    #[default]
    E820,
    /// As `memmap=` on its command line.
    Exactmap,
}

/// What the purgatory does when a loaded segment was overwritten.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mismatch {
    /// Stop, with the message on the console.
    #[default]
    Hang,
    /// Reset the machine.
    Reboot,
}

/// A serial port that the purgatory speaks on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SerialPort {
    /// Its first I/O port.
    pub port: u16,
    /// Its speed; 0 leaves it as it is.
    pub baud: u32,
}

/// How the kernel is to be loaded.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Options {
    /// For a crash, into reserved memory; else for the next reboot.
    pub panic: bool,
    /// Width of the core headers.
    pub core_headers: Class,
    /// When the lowest memory is copied aside.
    pub backup: Backup,
    /// How the capture kernel is told its memory.
    pub memory_map: MemoryMap,
    /// Let the kernel rewrite the core headers when CPUs and memory come and go.
    pub hotplug: bool,
    /// Where the purgatory speaks; `None`: on the serial console of the command line.
    pub serial: Option<SerialPort>,
    /// Speak on QEMU's debug port too.
    pub debug_port: bool,
    /// What to do when a segment was overwritten.
    pub on_mismatch: Mismatch,
}

/// What is to be loaded.
#[derive(Debug)]
pub struct Request<'a> {
    /// The kernel.
    pub image: &'a Image,
    /// Its initial file system.
    pub initrd: Option<&'a [u8]>,
    /// Its command line, without what the loader adds.
    pub command_line: &'a str,
    /// How.
    pub options: &'a Options,
    /// A seed for its random numbers.
    pub seed: Option<[u8; 32]>,
}

/// One piece of memory that the kernel fills.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Segment<'a> {
    /// Its name.
    pub name: &'static str,
    /// Where.
    pub range: Range,
    /// What; the rest of the range is zeros.
    #[serde(serialize_with = "length")]
    pub data: Cow<'a, [u8]>,
    /// SHA-256 of `data`, where the purgatory verifies it.
    #[serde(serialize_with = "in_hex", skip_serializing_if = "Option::is_none")]
    pub sha256: Option<[u8; 32]>,
}

/// Everything that one load does.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Plan<'a> {
    /// What the image is.
    pub image: String,
    /// For a crash, or for the next reboot.
    pub panic: bool,
    /// The architecture, as the system call names it.
    pub machine: String,
    /// The reserved range that is loaded into.
    pub region: Option<Range>,
    /// Segments, lowest first.
    pub segments: Vec<Segment<'a>>,
    /// Where the running kernel jumps to.
    pub entry: u64,
    /// Where the next kernel is entered.
    pub kernel_entry: u64,
    /// Its boot parameters (x86_64).
    pub boot_params: u64,
    /// Its command line, with what the loader added.
    pub command_line: String,
    /// Its memory map.
    pub e820: Vec<Entry>,
    /// The core headers.
    pub core_headers: Option<CoreHeaders>,
    /// The memory that is copied aside.
    pub backup: Option<Range>,
    /// Where the purgatory speaks.
    pub serial: Option<SerialPort>,
    /// Bytes left free for the running kernel's own tables.
    pub slack: u64,
    /// Bytes of the region that nothing is loaded to.
    pub left: u64,
    /// Let the kernel rewrite the core headers.
    pub hotplug: bool,
    /// What could be better.
    pub notes: Vec<String>,
}

/// The serialized form of bytes is their number.
#[allow(clippy::ptr_arg, reason = "serde gives the field as it is")]
fn length<S: serde::Serializer>(data: &Cow<'_, [u8]>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(data.len() as u64)
}

fn in_hex<S: serde::Serializer>(digest: &Option<[u8; 32]>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&digest.as_ref().map(handover::hex).unwrap_or_default())
}

/// The crash memory that is loaded into: the last range; the others are only RAM for the capture kernel.
///
/// # Errors
/// When nothing is reserved; says what to do.
pub fn region(host: &Host) -> Result<Range> {
    host.iomem.crash_kernel().last().copied().ok_or_else(|| {
        let asked = cmdline::value(&host.command_line, "crashkernel");
        let (cause, next) = match asked {
            Some(value) => (
                format!("the kernel could not reserve what crashkernel={value} asks for (its log says why)"),
                "try a smaller size, or crashkernel=SIZE,high, and reboot",
            ),
            None => (
                "the running kernel was booted without crashkernel=".to_owned(),
                "add crashkernel=256M to its command line (more for large machines) and reboot",
            ),
        };
        Error::input("no memory is reserved for a capture kernel").because(cause).next_step(next)
    })
}

impl<'a> Plan<'a> {
    /// Plans a load by segments.
    ///
    /// # Errors
    /// When the kernel cannot run here, nothing is reserved, or it does not fit; says what to do.
    pub fn make(host: &Host, request: &Request<'a>) -> Result<Self> {
        match request.image.machine() {
            Machine::X86_64 => X86 { host, request, options: request.options }.plan(),
            Machine::Arm64 => crate::arm64::plan(host, request),
        }
    }

    /// The segment called `name`.
    #[must_use]
    pub fn segment(&self, name: &str) -> Option<&Segment<'a>> {
        self.segments.iter().find(|segment| segment.name == name)
    }
}

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

/// Places below this are not for us: the BIOS, and what the purgatory's predecessors kept free.
const LOWEST: u64 = 1 << 20;
/// What x86 kernels keep for a command line, without the NUL (COMMAND_LINE_SIZE).
const COMMAND_LINE_LIMIT: u64 = 2047;
/// Entries that the memory map grows by when what is held is cut out of it: two pieces of RAM become one more each.
const MOST_ADDED_RAM: usize = 4;

impl<'a> X86<'_, 'a> {
    fn plan(&self) -> Result<Plan<'a>> {
        let (host, options) = (self.host, self.options);
        let mut notes = Vec::new();
        let kernel = self.kernel()?;
        self.check(&mut notes)?;
        let region = if options.panic { Some(region(host)?) } else { None };
        let backup = self.backup(&mut notes)?;
        let mut headers =
            if options.panic { Some(CoreHeaders::describe(host, Machine::X86_64, backup, &mut notes)?) } else { None };

        // Sizes first: nothing below depends on a place.
        let efi = self.efi(&kernel, &mut notes);
        let most_entries = e820::whole(host).len().max(e820::for_capture(host, &[]).len()) + MOST_ADDED_RAM;
        let line_room = (kernel.command_line_limit + 1) as usize;
        let max = if kernel.above_4g { u64::MAX } else { 1 << 32 };
        let mut needs = vec![kernel.need.clone()];
        let initrd = self.request.initrd.filter(|initrd| !initrd.is_empty());
        if let Some(initrd) = initrd {
            needs.push(Need { max, ..Need::new("initrd", initrd.len() as u64, LOWEST) });
        }
        let params_size = params::room(line_room, most_entries, efi);
        needs.push(Need { max, ..Need::new("params", params_size, LOWEST) });
        let blank = self.blank_purgatory()?;
        needs.push(Need { align: blank.align, ..Need::new("purgatory", blank.mem_size, LOWEST) });
        if let Some(headers) = &headers {
            needs.push(Need::new("elfcorehdr", self.headers_size(headers)?, LOWEST));
        }
        if let Some(source) = backup {
            needs.push(Need::new("backup", source.len(), LOWEST));
        }

        let slack = slack(host);
        let places = match region {
            Some(region) => place_in_reserved(&needs, region, slack)?,
            None => place_in_ram(&needs, &self.ordinary_ram())?,
        };
        let at = |name: &str| needs.iter().zip(&places).find(|(need, _)| need.name == name).map(|(_, place)| *place);
        let start = |name| at(name).map_or(0, |place: Range| place.start);

        // Then the bytes.
        if let (Some(headers), Some(source), Some(place)) = (&mut headers, backup, at("backup")) {
            headers.move_backup(source, place.start);
        }
        let held: Vec<Range> = ["elfcorehdr", "backup"].into_iter().filter_map(at).collect();
        let capture_map = e820::for_capture(host, &held);
        let command_line = self.command_line(at("elfcorehdr"), efi.is_some(), &capture_map);
        cmdline::check(&command_line, kernel.command_line_limit)?;
        let e820 = match (options.panic, options.memory_map) {
            (true, MemoryMap::E820) => capture_map,
            _ => e820::whole(host),
        };
        let initrd_range = initrd.map(|initrd| Range::with_len(start("initrd"), initrd.len() as u64));
        let params = Params {
            header: kernel.header,
            command_line: &command_line,
            command_line_room: line_room,
            initrd: initrd_range,
            e820: &e820,
            efi,
            host,
            seed: self.request.seed,
        };
        let mut datas: Vec<(&str, Cow<'a, [u8]>)> = vec![("kernel", kernel.data.clone())];
        datas.extend(initrd.map(|initrd| ("initrd", Cow::Borrowed(initrd))));
        datas.push(("params", params.bytes(start("params")).into()));
        datas.push(("purgatory", blank.bytes.into()));
        datas.extend(
            headers.as_ref().map(|headers| ("elfcorehdr", headers.bytes(options.core_headers, Machine::X86_64).into())),
        );
        datas.extend(backup.map(|_| ("backup", Cow::Borrowed([].as_slice()))));
        let mut segments: Vec<Segment<'a>> = Vec::new();
        for ((need, place), (name, data)) in needs.iter().zip(&places).zip(datas) {
            debug_assert_eq!(need.name, name);
            // The purgatory changes its own memory, the backup is written after the check, and a running kernel may
            // rewrite its headers.
            let changes = matches!(name, "purgatory" | "backup") || (name == "elfcorehdr" && options.hotplug);
            let sha256 = (!changes).then(|| handover::digest(&data));
            segments.push(Segment { name: need.name, range: *place, data, sha256 });
        }
        let serial = options.serial.or_else(|| console(&command_line));
        let kernel_entry = start("kernel") + kernel.entry;
        let verified: Vec<&Segment<'a>> = segments.iter().filter(|segment| segment.sha256.is_some()).collect();
        let backup_to = backup.map(|source| (source, start("backup")));
        let purgatory = self.handoff(kernel_entry, start("params"), verified, backup_to, serial).image()?;
        if purgatory.mem_size > at("purgatory").map_or(0, |place| place.len()) {
            return Err(Error::input("the purgatory grew while it was filled: this is a bug in vdump"));
        }
        let entry = start("purgatory") + purgatory.entry;
        if let Some(segment) = segments.iter_mut().find(|segment| segment.name == "purgatory") {
            segment.data = purgatory.bytes.into();
        }
        segments.sort_unstable_by_key(|segment| segment.range.start);
        let left = region.map_or(0, |region| region.len().saturating_sub(total(&places)));
        note_little_memory(region, left, &mut notes);
        Ok(Plan {
            image: self.request.image.describe(),
            panic: options.panic,
            machine: Machine::X86_64.to_string(),
            region,
            segments,
            entry,
            kernel_entry,
            boot_params: start("params"),
            command_line,
            e820,
            core_headers: headers,
            backup,
            serial,
            slack,
            left,
            hotplug: options.hotplug,
            notes,
        })
    }

    fn kernel(&self) -> Result<KernelPart<'a>> {
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
                 and it is dumped (load with --method file to use it)"
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
    fn efi(&self, kernel: &KernelPart<'_>, notes: &mut Vec<String>) -> Option<&crate::host::firmware::Efi> {
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
            use crate::host::iomem::Kind;
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
        let firmware = self.host.firmware_map.iter().filter(|(_, kind)| *kind == crate::host::iomem::Kind::Ram);
        let firmware: Vec<Range> = firmware.map(|(range, _)| *range).collect();
        ram.iter().flat_map(|range| firmware.iter().filter_map(|known| known.common(range))).collect()
    }

    /// The purgatory for a kernel of one page: its size is that of any other.
    fn blank_purgatory(&self) -> Result<handover::Image> {
        let range = Range::with_len(LOWEST, PAGE);
        let kernel = Segment { name: "kernel", range, data: vec![0; PAGE as usize].into(), sha256: None };
        self.handoff(LOWEST, LOWEST, vec![&kernel], None, None).image()
    }

    fn handoff<'s>(
        &self,
        kernel_entry: u64,
        boot_params: u64,
        verified: Vec<&'s Segment<'s>>,
        backup: Option<(Range, u64)>,
        serial: Option<SerialPort>,
    ) -> Handoff<'s> {
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

/// Room for the running kernel's control pages: it maps all RAM one-to-one in tables that it takes from the reserved memory
/// (`kimage_alloc_crash_control_pages` and `init_pgtable`), a page for each GiB where the CPU has no pages of 1 GiB.
fn slack(host: &Host) -> u64 {
    let gib = |range: &Range| (range.end.saturating_sub(1) >> 30) - (range.start >> 30) + 1;
    let tables: u64 = host.iomem.ram().iter().map(gib).sum();
    (tables + tables / 512 + 64) * PAGE
}

/// The serial port of the capture kernel's console: `console=ttyS0,115200`.
fn console(command_line: &str) -> Option<SerialPort> {
    let words = cmdline::words(command_line);
    let consoles = words.iter().filter_map(|word| word.strip_prefix("console="));
    consoles.rev().find_map(serial_port)
}

/// `ttyS0`, `ttyS1,115200n8`, `0x3f8,9600`.
#[must_use]
pub fn serial_port(text: &str) -> Option<SerialPort> {
    let (device, speed) = text.split_once(',').unwrap_or((text, ""));
    let port = match device {
        "ttyS0" => 0x3f8,
        "ttyS1" => 0x2f8,
        "ttyS2" => 0x3e8,
        "ttyS3" => 0x2e8,
        other => u16::from_str_radix(other.strip_prefix("0x")?, 16).ok()?,
    };
    let digits: String = speed.chars().take_while(char::is_ascii_digit).collect();
    let baud = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    Some(SerialPort { port, baud })
}

/// Less than this is too little for a kernel, its initramfs unpacked, and a dump tool.
const LITTLE: u64 = 64 << 20;

fn note_little_memory(region: Option<Range>, left: u64, notes: &mut Vec<String>) {
    if region.is_some() && left < LITTLE {
        notes.push(format!("only {} of crash memory are left for the capture kernel to work in", human(left)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_ports_by_name_and_number() {
        assert_eq!(serial_port("ttyS1,115200n8"), Some(SerialPort { port: 0x2f8, baud: 115_200 }));
        assert_eq!(serial_port("0x3f8"), Some(SerialPort { port: 0x3f8, baud: 0 }));
        assert_eq!(serial_port("tty0"), None);
        assert_eq!(console("console=ttyS0 console=tty0"), Some(SerialPort { port: 0x3f8, baud: 0 }));
    }
}
