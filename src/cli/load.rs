//! The options that arm a machine: `vdump load`, `unload`, `exec`, `status`.
//!
//! Knows options and their help. Must not look at files. The parsed line goes to `run`.

use std::path::PathBuf;

use clap::Args;
use vdump_loader::{
    corehdr::Class,
    job::Method,
    plan::{Backup, MemoryMap, Mismatch, SerialPort, serial_port},
};

use super::{
    JsonArgs,
    usage::{Choice, one_of},
};

const METHODS: [Choice<Method>; 3] = [
    ("auto", "As files; as segments where the running kernel cannot, or an option needs it", Method::Auto),
    ("file", "As files, which the running kernel checks (kexec_file_load)", Method::File),
    ("segments", "As segments, placed by vdump (kexec_load)", Method::Segments),
];
const CORE_HEADERS: [Choice<Class>; 2] =
    [("64", "ELF64", Class::Elf64), ("32", "ELF32, where all RAM is below 4 GiB", Class::Elf32)];
const BACKUPS: [Choice<Backup>; 3] = [
    ("auto", "When the running kernel may have data there", Backup::Auto),
    ("always", "Always", Backup::Always),
    ("never", "Never", Backup::Never),
];
const MEMORY_MAPS: [Choice<MemoryMap>; 2] = [
    ("e820", "In its boot parameters", MemoryMap::E820),
    ("exactmap", "As memmap= on its command line as well", MemoryMap::Exactmap),
];
const MISMATCHES: [Choice<Mismatch>; 2] = [
    ("hang", "Stop, so that the message can be read", Mismatch::Hang),
    ("reboot", "Reset the machine", Mismatch::Reboot),
];

/// Options of `vdump load`.
#[derive(Clone, Debug, Args)]
pub struct Load {
    /// The kernel: a bzImage (/boot/vmlinuz-...), an uncompressed vmlinux, or either inside gzip, zstd or xz
    #[arg(value_name = "KERNEL")]
    pub kernel: PathBuf,

    /// Load it into the memory that crashkernel= reserved, to be started when the running kernel crashes
    #[arg(short, long)]
    pub panic: bool,

    /// Its initial file system
    #[arg(long, value_name = "FILE")]
    pub initrd: Option<PathBuf>,

    /// Its command line; after the running kernel's with --reuse-cmdline
    ///
    /// A capture kernel gets acpi_no_memhotplug too, so that it does not treat the dead kernel's memory as hot-added
    #[arg(long, value_name = "STRING", default_value = "", allow_hyphen_values = true, hide_default_value = true)]
    pub append: String,

    /// Take the running kernel's command line, without BOOT_IMAGE= and, with --panic, crashkernel=
    #[arg(long)]
    pub reuse_cmdline: bool,

    /// How to hand it to the running kernel
    #[arg(long, value_parser = one_of(&METHODS), default_value = "auto")]
    pub method: Method,

    /// Width of the core headers, which the capture kernel shows as /proc/vmcore
    #[arg(long, value_name = "BITS", value_parser = one_of(&CORE_HEADERS), default_value = "64")]
    pub core_headers: Class,

    /// When the purgatory copies the lowest 640 KiB aside; auto: for kernels before 5.5
    #[arg(long, value_name = "WHEN", value_parser = one_of(&BACKUPS), default_value = "auto")]
    pub backup: Backup,

    /// How the capture kernel is told its memory
    #[arg(long, value_name = "HOW", value_parser = one_of(&MEMORY_MAPS), default_value = "e820")]
    pub memory_map: MemoryMap,

    /// Let the running kernel rewrite the core headers when CPUs and memory come and go
    #[arg(long)]
    pub hotplug: bool,

    /// Where the purgatory says that loaded memory was overwritten: ttyS0 to ttyS3 or an I/O port [default: the serial console
    /// in the command line]
    #[arg(long, value_name = "PORT[,BAUD]", value_parser = parse_serial)]
    pub serial: Option<SerialPort>,

    /// What the purgatory does then
    #[arg(long, value_name = "ACTION", value_parser = one_of(&MISMATCHES), default_value = "hang")]
    pub on_mismatch: Mismatch,

    /// Let the purgatory speak on QEMU's debug port (0xe9)
    #[arg(long, hide = true)]
    pub debug_port: bool,

    /// Print what would be loaded where; load nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Print the plan as JSON on standard output
    #[arg(long, requires = "dry_run")]
    pub json: bool,

    /// Read /proc and /sys under this folder, to plan for another machine
    #[arg(long, value_name = "DIR", default_value = "/", requires = "dry_run")]
    pub root: PathBuf,

    /// Let the running kernel say more in its log
    #[arg(long)]
    pub debug: bool,
}

fn parse_serial(text: &str) -> Result<SerialPort, String> {
    serial_port(text)
        .ok_or_else(|| "neither ttyS0 to ttyS3 nor an I/O port such as 0x3f8, with a speed behind a comma".to_owned())
}

/// Options of `vdump unload`.
#[derive(Clone, Debug, Args)]
pub struct Unload {
    /// Unload the capture kernel; else the kernel for the next reboot
    #[arg(short, long)]
    pub panic: bool,

    /// How to ask the running kernel
    #[arg(long, value_parser = one_of(&METHODS), default_value = "auto")]
    pub method: Method,
}

/// Options of `vdump exec`.
#[derive(Clone, Debug, Args)]
pub struct Exec {
    /// Stop services and unmount file systems first (systemctl kexec)
    #[arg(long)]
    pub orderly: bool,
}

/// Options of `vdump status`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Exit codes: 0 a capture kernel is loaded and fits the machine, 1 none is, or it should be loaded again, or \
                        that cannot be found out, 2 wrong usage. 'vdump status || vdump load --panic ...' keeps a machine armed."
)]
pub struct Status {
    /// Read /proc and /sys under this folder
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,

    /// Whether JSON is printed.
    #[command(flatten)]
    pub report: JsonArgs,
}
