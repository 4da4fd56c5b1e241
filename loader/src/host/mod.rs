//! What the machine says about itself, read under a root folder so that recorded machines can be planned for.
//!
//! Knows which file holds which fact. Must not decide anything. One [`Host`] is all that a plan may know of the machine.

pub mod cpus;
pub mod files;
pub mod firmware;
pub mod iomem;
pub mod kcore;

use std::path::Path;

use cpus::NoteArea;
use firmware::Efi;
use iomem::{Iomem, Kind};
use kcore::Kcore;

use crate::{
    error::{Error, Result},
    range::Range,
};

/// The machine, as far as loading a kernel needs it.
#[derive(Clone, Debug)]
pub struct Host {
    /// `/proc/iomem`.
    pub iomem: Iomem,
    /// The firmware's memory map, empty where the kernel does not show it.
    pub firmware_map: Vec<(Range, Kind)>,
    /// Ranges of crash memory that user space may use until the crash (`crashkernel=SIZE,cma`).
    pub crash_cma: Vec<Range>,
    /// Whether `crashkernel=` asked for such memory.
    pub asks_for_cma: bool,
    /// Notes of the CPUs.
    pub cpu_notes: Vec<NoteArea>,
    /// VMCOREINFO.
    pub vmcoreinfo: Option<NoteArea>,
    /// Bytes that the kernel wants for core headers that it may rewrite.
    pub elfcorehdr_size: Option<u64>,
    /// Whether the kernel rewrites the core headers itself when CPUs and memory come and go.
    pub crash_hotplug: bool,
    /// The headers of `/proc/kcore`.
    pub kcore: Option<Kcore>,
    /// `/proc/cmdline`.
    pub command_line: String,
    /// `uname -r`.
    pub release: String,
    /// The boot parameters of the running kernel.
    pub boot_params: Option<Vec<u8>>,
    /// EFI's tables.
    pub efi: Option<Efi>,
    /// Whether the machine booted by EFI.
    pub booted_by_efi: bool,
    /// ACPI's root table, where EFI told it.
    pub acpi_root: Option<u64>,
    /// Whether the running kernel's page tables have five levels.
    pub five_levels: bool,
    /// Whether it maps memory in pages of 1 GiB where it can.
    pub gib_pages: bool,
    /// The device tree that the machine was booted with (arm64).
    pub device_tree: Option<Vec<u8>>,
    /// What is loaded now.
    pub loaded: Loaded,
}

/// What is loaded; `None` where the kernel does not say.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Loaded {
    /// A capture kernel.
    pub crash: Option<bool>,
    /// A kernel for the next reboot.
    pub normal: Option<bool>,
}

impl Host {
    /// Reads the machine whose `/proc` and `/sys` are under `root`.
    ///
    /// # Errors
    /// When `/proc/iomem` cannot be read or shows no addresses. Everything else may be missing.
    pub fn read(root: &Path) -> Result<Self> {
        let path = root.join("proc/iomem");
        let text = std::fs::read_to_string(&path).map_err(|error| Error::io(&path, "read", &error))?;
        let command_line = files::text(&root.join("proc/cmdline")).unwrap_or_default().trim_end().to_owned();
        let kcore = Kcore::read(&root.join("proc/kcore"));
        let cpu = files::text(&root.join("proc/cpuinfo")).unwrap_or_default();
        let has = |flag| cpu_has(&cpu, flag);
        Ok(Self {
            iomem: Iomem::parse(&text)?,
            firmware_map: firmware::memory_map(root),
            crash_cma: kernel_file(root, "crash_cma_ranges")
                .and_then(|path| files::text(&path))
                .map_or_else(Vec::new, |text| cma(&text)),
            asks_for_cma: asks_for_cma(&command_line),
            cpu_notes: cpus::notes(root),
            vmcoreinfo: cpus::vmcoreinfo(root),
            elfcorehdr_size: kernel_file(root, "crash_elfcorehdr_size").and_then(|path| files::decimal(&path)),
            crash_hotplug: crash_hotplug(root),
            five_levels: five_levels(kcore.as_ref(), has("la57"), &command_line),
            gib_pages: has("pdpe1gb") && !command_line.split_whitespace().any(|word| word == "nogbpages"),
            kcore,
            command_line,
            release: files::text(&root.join("proc/sys/kernel/osrelease")).unwrap_or_default().trim().to_owned(),
            boot_params: firmware::boot_params(root),
            efi: firmware::efi(root),
            booted_by_efi: firmware::booted_by_efi(root),
            acpi_root: firmware::acpi_root(root),
            device_tree: files::bytes(&root.join("sys/firmware/fdt")),
            loaded: Loaded::read(root),
        })
    }

    /// Major and minor number of the running kernel.
    #[must_use]
    pub fn version(&self) -> Option<(u32, u32)> {
        let mut numbers = self.release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
        Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
    }
}

impl Loaded {
    /// Asks the kernel under `root`.
    #[must_use]
    pub fn read(root: &Path) -> Self {
        let flag = |name| kernel_file(root, name).and_then(|path| files::decimal(&path)).map(|value| value != 0);
        Self { crash: flag("crash_loaded"), normal: flag("loaded") }
    }
}

/// `/sys/kernel/kexec/NAME` since 6.19, `/sys/kernel/kexec_NAME` before, `/sys/kernel/NAME` for two of them.
fn kernel_file(root: &Path, name: &str) -> Option<std::path::PathBuf> {
    let kernel = root.join("sys/kernel");
    let places = [kernel.join("kexec").join(name), kernel.join(format!("kexec_{name}")), kernel.join(name)];
    places.into_iter().find(|path| path.is_file())
}

/// Lines of `start-end`, both belonging to it.
fn cma(text: &str) -> Vec<Range> {
    let range = |line: &str| {
        let (start, last) = line.trim().split_once('-')?;
        let (start, last) = (files::hex_of(start)?, files::hex_of(last)?);
        (last >= start).then_some(Range { start, end: last.saturating_add(1) })
    };
    text.lines().filter_map(range).collect()
}

fn asks_for_cma(command_line: &str) -> bool {
    let mut words = command_line.split_whitespace();
    words.any(|word| word.strip_prefix("crashkernel=").is_some_and(|value| value.ends_with(",cma")))
}

fn crash_hotplug(root: &Path) -> bool {
    let system = root.join("sys/devices/system");
    ["cpu", "memory"].iter().all(|kind| {
        let folder = system.join(kind);
        // A kernel without memory hotplug has no such folder, and nothing to rewrite the headers for.
        !folder.is_dir() || files::decimal(&folder.join("crash_hotplug")) == Some(1)
    }) && system.join("cpu/crash_hotplug").is_file()
}

/// By the kernel's own word, by where it mapped its memory, or by the CPU and the command line.
fn five_levels(kcore: Option<&Kcore>, la57: bool, command_line: &str) -> bool {
    if let Some(value) = kcore.and_then(|kcore| kcore.value("NUMBER(pgtable_l5_enabled)")) {
        return value.trim() == "1";
    }
    // The direct mapping begins at 0xff11000000000000 with five levels, at 0xffff888000000000 with four.
    if let Some(offset) = kcore.and_then(Kcore::page_offset) {
        return offset < 0xffff_8000_0000_0000;
    }
    la57 && !command_line.split_whitespace().any(|word| word == "no5lvl")
}

/// Whether `/proc/cpuinfo` names the flag for its first CPU.
fn cpu_has(cpuinfo: &str, flag: &str) -> bool {
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags"));
    flags.is_some_and(|flags| flags.split_whitespace().any(|word| word == flag))
}
