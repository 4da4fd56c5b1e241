//! The options that arm a machine: `vdump load`, `unload`, `exec`, `status`.
//!
//! Knows options and their help. Must not look at files. The parsed line goes to `run`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use vdump_loader::plan::{SerialPort, serial_port};

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

    /// Its command line; after the running kernel's with --reuse-cmdline. A capture kernel gets acpi_no_memhotplug too,
    /// so that it does not treat the dead kernel's memory as hot-added
    #[arg(long, value_name = "STRING", default_value = "", allow_hyphen_values = true, hide_default_value = true)]
    pub append: String,

    /// Take the running kernel's command line, without BOOT_IMAGE= and, with --panic, crashkernel=
    #[arg(long)]
    pub reuse_cmdline: bool,

    /// How to hand it to the running kernel
    #[arg(long, value_enum, default_value_t = Method::Auto)]
    pub method: Method,

    /// Width of the core headers, which the capture kernel shows as /proc/vmcore [default: 64]
    #[arg(long, value_enum)]
    pub core_headers: Option<CoreHeaders>,

    /// When the purgatory copies the lowest 640 KiB aside [default: auto, for kernels before 5.5]
    #[arg(long, value_enum)]
    pub backup: Option<Backup>,

    /// How the capture kernel is told its memory [default: e820, in its boot parameters]
    #[arg(long, value_enum)]
    pub memory_map: Option<MemoryMap>,

    /// Let the running kernel rewrite the core headers when CPUs and memory come and go
    #[arg(long)]
    pub hotplug: bool,

    /// Where the purgatory says that loaded memory was overwritten: ttyS0 to ttyS3 or an I/O port [default: the serial console
    /// in the command line]
    #[arg(long, value_name = "PORT[,BAUD]", value_parser = parse_serial)]
    pub serial: Option<SerialPort>,

    /// What the purgatory does then [default: hang]
    #[arg(long, value_enum)]
    pub on_mismatch: Option<Mismatch>,

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
    #[arg(long, value_enum, default_value_t = Method::Auto)]
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
    /// Print JSON
    #[arg(long)]
    pub json: bool,

    /// Read /proc and /sys under this folder
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub root: PathBuf,
}

/// How a kernel is handed over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Method {
    /// As files; as segments where the running kernel cannot, or an option needs it
    Auto,
    /// As files, which the running kernel checks (kexec_file_load)
    File,
    /// As segments, placed by vdump (kexec_load)
    Segments,
}

/// Width of the core headers.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum CoreHeaders {
    /// ELF64
    #[value(name = "64")]
    Elf64,
    /// ELF32, where all RAM is below 4 GiB
    #[value(name = "32")]
    Elf32,
}

/// When the lowest memory is copied aside.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Backup {
    /// When the running kernel may have data there
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// How the capture kernel is told its memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum MemoryMap {
    /// In its boot parameters
    E820,
    /// As memmap= on its command line as well
    Exactmap,
}

/// What the purgatory does when loaded memory was overwritten.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Mismatch {
    /// Stop, so that the message can be read
    Hang,
    /// Reset the machine
    Reboot,
}
