//! Options that several commands have: each command flattens in the structs that it needs.
//!
//! Their defaults, which depend on the machine, are [`super::resolve`]'s.

use std::path::{Path, PathBuf};

use clap::{
    Args, ValueEnum,
    builder::{PathBufValueParser, TypedValueParser as _},
};
use vdump_filters::number;

use super::usage;
use crate::{
    codec::Compression,
    kernel::NamedFiles,
    source::{CoreHeaders, Opening, RamGiven},
};

/// Who works.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Args)]
#[command(next_help_heading = "Threads and memory")]
pub struct ThreadArgs {
    /// Worker threads [default: the CPUs this process may use]
    #[arg(short = 'j', long, value_name = "N", value_parser = usage::count(4096))]
    pub threads: Option<u16>,
}

/// What the work may cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Args)]
#[command(next_help_heading = "Threads and memory")]
pub struct MemoryArgs {
    /// Memory to use at most, for example 64M [default: half of what is available to this process; in a capture kernel nearly all]
    #[arg(long, value_name = "SIZE", value_parser = number::size)]
    pub memory_limit: Option<u64>,
}

/// In which form the answer comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Args)]
#[command(next_help_heading = "Report")]
pub struct JsonArgs {
    /// Print the report as JSON on standard output
    #[arg(long)]
    pub json: bool,
}

/// What is said while the work goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Args)]
#[command(next_help_heading = "Report")]
pub struct ProgressArgs {
    /// How to show progress; 'none' prints nothing but errors
    #[arg(long, value_enum, default_value_t)]
    pub progress: ProgressStyle,
}

/// What is known about the crashed kernel besides what its dump says.
#[derive(Clone, PartialEq, Eq, Debug, Default, Args)]
#[command(next_help_heading = "Kernel")]
pub struct KernelArgs {
    /// The crashed kernel's vmlinux or vmlinux.debug: says (DWARF, BTF, symbols) what VMCOREINFO leaves out
    #[arg(short = 'x', long, value_name = "FILE")]
    pub vmlinux: Option<PathBuf>,

    /// A layout file of the crashed kernel, made by 'vdump layout' or 'makedumpfile -g'
    #[arg(short = 'i', long, value_name = "FILE")]
    pub layout: Option<PathBuf>,

    /// The crashed kernel's BTF, for example a copy of /sys/kernel/btf/vmlinux
    #[arg(long, value_name = "FILE")]
    pub btf: Option<PathBuf>,
}

impl KernelArgs {
    /// The files that are named.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.named().all()
    }

    /// The same, each for what it is.
    #[must_use]
    pub fn named(&self) -> NamedFiles<'_> {
        let Self { vmlinux, layout, btf } = self;
        NamedFiles { vmlinux: vmlinux.as_deref(), layout: layout.as_deref(), btf: btf.as_deref() }
    }
}

/// What must not be in a dump.
#[derive(Clone, PartialEq, Eq, Debug, Default, Args)]
#[command(next_help_heading = "Redaction")]
pub struct RedactionArgs {
    /// Overwrite what the rules in this file name, in every page that is written: 'erase SYMBOL.MEMBER', lists with 'for', as
    /// in makedumpfile.conf(5)
    ///
    /// Types come from --vmlinux, else from --btf or the BTF in the dump. See docs/redaction.md
    #[arg(long, value_name = "RULES")]
    pub redact: Option<PathBuf>,
}

/// What INPUT may not say itself: which of raw memory is RAM, and where the kernel describes itself.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Input")]
pub struct InputArgs {
    /// INPUT is raw memory, and the ELF core headers of a capture kernel say which of it is RAM: at a physical address (0x..., or
    /// with K, M or G, as in the kernel's elfcorehdr=) or in a file
    ///
    /// In raw memory a byte's offset is its physical address: QEMU's pmemsave, a device
    #[arg(long, value_name = "[SIZE@]ADDR|FILE", conflicts_with = "iomem",
          value_parser = PathBufValueParser::new().map(core_headers))]
    pub elfcorehdr: Option<CoreHeaders>,

    /// INPUT is raw memory, and a saved /proc/iomem says which parts are RAM
    #[arg(long, value_name = "FILE")]
    pub iomem: Option<PathBuf>,

    /// Physical address of the kernel's VMCOREINFO note (the first number of /sys/kernel/vmcoreinfo), to be used instead of the
    /// note that INPUT has [default: where INPUT has none, as hypervisors' dumps, memory is searched for it]
    #[arg(long, value_name = "ADDR", value_parser = number::address)]
    pub vmcoreinfo: Option<u64>,
}

impl InputArgs {
    /// Whether anything is said.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.elfcorehdr.is_some() || self.iomem.is_some() || self.vmcoreinfo.is_some()
    }

    /// What is to be opened at `paths`.
    #[must_use]
    pub fn opening(&self, paths: &[PathBuf]) -> Opening {
        let headers = self.elfcorehdr.clone().map(RamGiven::CoreHeaders);
        let iomem = || self.iomem.clone().map(RamGiven::Iomem);
        let ram = headers.or_else(iomem);
        Opening { paths: paths.to_vec(), ram, vmcoreinfo: self.vmcoreinfo, limit: Opening::usual_limit() }
    }
}

/// How a dump is written.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Output format [default: elf if OUTPUT ends in .elf, .zst or .lz4, else kdump]
    #[arg(short, long, value_enum)]
    pub format: Option<Format>,

    /// Codec and level: none, zlib[:1-12], lzo, snappy, zstd[:-7..22]; for elf none, zstd[:-7..22] and lz4 [default: zstd for
    /// kdump, for elf what OUTPUT ends in, else none]
    #[arg(short, long, value_name = "CODEC[:LEVEL]", allow_hyphen_values = true)]
    pub compress: Option<Compression>,

    /// Show memory at the kernel's virtual addresses too, for gdb: modules, vmalloc's area, the memory map and all else that
    /// its page tables map; only for elf
    #[arg(long = "virtual")]
    pub map_virtual: bool,

    /// Write a split set: N files OUTPUT-1 to OUTPUT-N at once, each with its share of the pages (kdump only)
    ///
    /// Where OUTPUT ends in -incomplete the number comes before that
    #[arg(long, value_name = "N", value_parser = usage::count(64), conflicts_with = "output")]
    pub split: Option<u16>,

    /// The dump to write; then every FILE is an input. Several times: a split set of exactly these files (kdump only)
    #[arg(short, long, value_name = "FILE")]
    pub output: Vec<PathBuf>,

    /// Bytes that each output file may have at most, for example 2G; a dump that would be larger ends there, incomplete
    #[arg(long, value_name = "SIZE", value_parser = number::size)]
    pub limit: Option<u64>,

    /// Overwrite OUTPUT, and OUTPUT-incomplete of a run that did not finish; in a capture kernel that one is always overwritten
    #[arg(long)]
    pub force: bool,

    /// Fail where pages cannot be read or memory cannot be classified, instead of going on without or keeping it
    #[arg(long)]
    pub strict: bool,

    /// How many threads work.
    #[command(flatten)]
    pub threads: ThreadArgs,

    /// How much memory may be used.
    #[command(flatten)]
    pub memory: MemoryArgs,

    /// Whether JSON is printed.
    #[command(flatten)]
    pub report: JsonArgs,

    /// How progress is shown.
    #[command(flatten)]
    pub progress: ProgressArgs,
}

/// Output formats.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Format {
    /// kdump-compressed: each page compressed on its own; crash, drgn and libkdumpfile read it
    Kdump,
    /// A compact ELF core; gdb reads it too. With -c zstd or lz4 in frames, which vdump reads at random, and zstd -d or lz4 -d
    /// makes the plain ELF of
    Elf,
}

/// Ways to show progress.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum ProgressStyle {
    /// A bar on a terminal, lines on a console or in a log
    #[default]
    Auto,
    /// A bar
    Bar,
    /// A line every few seconds
    Plain,
    /// Nothing, and no summary either
    None,
}

/// `[SIZE@]ADDR` as the kernel's elfcorehdr= takes it, else a file. A file with such a name is given as `./NAME`.
fn core_headers(typed: PathBuf) -> CoreHeaders {
    let address = |text: &str| {
        let (size, address) = text.split_once('@').map_or((None, text), |(size, address)| (Some(size), address));
        let size = size.map(number::address).transpose().ok()?;
        Some(CoreHeaders::At { address: number::address(address).ok()?, size })
    };
    typed.to_str().and_then(address).unwrap_or(CoreHeaders::File(typed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_the_kernels_and_the_rest_are_files() {
        let at = |address, size| CoreHeaders::At { address, size };
        for (text, headers) in [
            ("0x1f000000", at(0x1f00_0000, None)),
            ("507904K", at(507_904 << 10, None)),
            ("1M@0X10g", at(16 << 30, Some(1 << 20))),
            ("520093696", at(520_093_696, None)),
            ("./520093696", CoreHeaders::File("./520093696".into())),
            ("headers", CoreHeaders::File("headers".into())),
            ("0x", CoreHeaders::File("0x".into())),
            ("+5", CoreHeaders::File("+5".into())),
            ("1x@5", CoreHeaders::File("1x@5".into())),
            ("0xffffffffffffffffG", CoreHeaders::File("0xffffffffffffffffG".into())),
            ("\u{e9}", CoreHeaders::File("\u{e9}".into())),
        ] {
            assert_eq!(core_headers(text.into()), headers, "{text}");
        }
    }
}
