//! The command line: what was typed.
//!
//! Knows options and their help. Must not look at files, terminals or CPUs: that is [`resolve`]'s. The parsed line goes to
//! `run`.

pub mod bench;
pub mod choosing;
pub mod classes;
pub mod compat;
pub mod explain;
mod getopt;
pub mod kexec;
pub mod load;
pub mod resolve;
pub mod usage;
pub mod vmcore_dmesg;
mod voice;

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use clap::{
    Args, Parser, Subcommand, ValueEnum,
    builder::{PathBufValueParser, TypedValueParser as _},
};
use vdump_filters::{DumpLevel, number};

use crate::{
    codec::Compression,
    source::{CoreHeaders, Opening, RamGiven},
};

/// Turn a crashed Linux machine's memory into a small dump that engineers can debug
#[derive(Clone, Debug, Parser)]
#[command(name = "vdump", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Whose command line it is, by the name that the program was called by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CalledAs {
    /// Our own.
    Vdump,
    /// makedumpfile(8).
    Makedumpfile,
    /// kexec(8).
    Kexec,
    /// vmcore-dmesg(8).
    VmcoreDmesg,
}

impl CalledAs {
    /// `program`: the first word of the command line.
    #[must_use]
    pub fn of(program: &Path) -> Self {
        match program.file_name().and_then(OsStr::to_str) {
            Some("makedumpfile") => Self::Makedumpfile,
            Some("kexec") => Self::Kexec,
            Some("vmcore-dmesg") => Self::VmcoreDmesg,
            _ => Self::Vdump,
        }
    }
}

/// The subcommands.
#[derive(Clone, Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one in a run")]
pub enum Command {
    /// Write a dump without the pages nobody needs
    Filter(Filter),
    /// Write a dump in another format; keeps every page and needs no knowledge of the kernel
    Convert(Convert),
    /// Put the parts of a split dump together, or a stream in order, without compressing anything again
    Merge(Merge),
    /// Say what a dump is
    Info(Info),
    /// Print the crashed kernel's log
    Dmesg(Dmesg),
    /// Say what memory was used for, and how much of it a dump would have; also of the running kernel (/proc/kcore)
    Classes(classes::Classes),
    /// Tell all about one page: what it was used for, how that is known, and why a dump has it or not
    Explain(explain::Explain),
    /// Load a capture kernel (--panic), or a kernel for the next reboot
    Load(load::Load),
    /// Unload it
    Unload(load::Unload),
    /// Start the kernel that is loaded for the next reboot, now and without firmware
    Exec(load::Exec),
    /// Say what is reserved and loaded, and whether it still fits this machine
    Status(load::Status),
    /// Write down how a kernel's data structures are laid out, for 'vdump filter --layout', or compare two kernels
    Layout(Layout),
    /// Say whether a dump keeps every rule of its format, and which programs will open it
    Check(Check),
    /// Measure each stage of a dump on this machine, and predict how long dumps take and how large they become
    Bench(bench::Bench),
}

/// What the exit codes of commands that write dumps mean.
const WRITING_CODES: &str = "Exit codes: 0 the dump is written, 1 it is not, 2 wrong usage, 130 stopped by Ctrl-C (SIGINT), \
    143 by SIGTERM, 129 by SIGHUP. OUTPUT-incomplete stays if the device is full or fails, and if a signal comes when a tenth \
    of the pages is written.";

/// Options of `vdump filter`.
#[derive(Clone, Debug, Args)]
#[command(
    override_usage = "vdump filter [OPTIONS] <INPUT>... <OUTPUT>\n       vdump filter [OPTIONS] -o <OUTPUT> [-o <OUTPUT>]... <INPUT>...\n       vdump filter [OPTIONS] --dry-run <INPUT>...",
    after_help = WRITING_CODES
)]
pub struct Filter {
    /// INPUT: the memory to read: /proc/vmcore, a copy of it, QEMU's dump-guest-memory, or a kdump-compressed dump (all parts
    /// of a split one, in any order), each also flattened or inside zstd or lz4. OUTPUT: the dump to write; '-' is standard
    /// output: kdump then comes flattened, as 'makedumpfile -R' or crash take it, and ELF as it is; not needed with --dry-run
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// What to drop: the sum of 1 (zero pages), 2 (page cache), 4 (page cache with private data), 8 (user memory), 16 (free
    /// pages)
    ///
    /// Several, separated by commas: the next one is taken where the dump does not fit the device or --limit [default: 31;
    /// with --drop 0]
    #[arg(short, long, value_name = "LEVEL[,LEVEL]...", value_delimiter = ',', num_args = 1)]
    pub dump_level: Vec<DumpLevel>,

    /// What to keep and to drop besides.
    #[command(flatten)]
    pub choosing: choosing::Choosing,

    /// How to read INPUT.
    #[command(flatten)]
    pub reading: Reading,

    /// What is known about the kernel.
    #[command(flatten)]
    pub knowing: Knowing,

    /// How to write it.
    #[command(flatten)]
    pub writing: Writing,

    /// What must not be in the dump.
    #[command(flatten)]
    pub redacting: Redacting,

    /// Print what would be dropped and kept, and about how large the dump would be; write nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Say where each fact about the kernel came from
    #[arg(short, long)]
    pub verbose: bool,

    /// Keep every page and ask nothing of the kernel: what `vdump convert` does.
    #[arg(skip)]
    pub keep_all: bool,

    /// Copy compressed pages as they are: what `vdump merge` does.
    #[arg(skip)]
    pub copy: bool,

    /// Put an ELF dump on standard output into the records of a flattened stream: what `makedumpfile -F -E` does.
    #[arg(skip)]
    pub flattened: bool,

    /// Show VMCOREINFO on standard error: what `makedumpfile --message-level 8` does.
    #[arg(skip)]
    pub show_vmcoreinfo: bool,
}

/// Options of `vdump convert`.
#[derive(Clone, Debug, Args)]
#[command(override_usage = "vdump convert [OPTIONS] <INPUT>... <OUTPUT>", after_help = WRITING_CODES)]
pub struct Convert {
    /// INPUT: a dump of any kind that 'vdump filter' reads (all parts of a split one). OUTPUT: the dump to write; '-' is
    /// standard output
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// How to read INPUT.
    #[command(flatten)]
    pub reading: Reading,

    /// What is known about the kernel; used by --redact and --virtual only.
    #[command(flatten)]
    pub knowing: Knowing,

    /// What must not be in the dump.
    #[command(flatten)]
    pub redacting: Redacting,

    /// How to write it.
    #[command(flatten)]
    pub writing: Writing,
}

impl Convert {
    /// The same as a filter run that drops nothing.
    #[must_use]
    pub fn as_filter(&self) -> Filter {
        Filter {
            files: self.files.clone(),
            reading: self.reading.clone(),
            dump_level: vec![DumpLevel::NONE],
            choosing: choosing::Choosing::default(),
            knowing: self.knowing.clone(),
            redacting: self.redacting.clone(),
            writing: self.writing.clone(),
            dry_run: false,
            verbose: false,
            keep_all: true,
            copy: false,
            flattened: false,
            show_vmcoreinfo: false,
        }
    }
}

/// What is known about the crashed kernel besides what its dump says.
#[derive(Clone, PartialEq, Eq, Debug, Default, Args)]
pub struct Knowing {
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

impl Knowing {
    /// The files that are named.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        [&self.vmlinux, &self.layout, &self.btf].into_iter().flatten().map(PathBuf::as_path)
    }
}

/// What must not be in a dump.
#[derive(Clone, PartialEq, Eq, Debug, Default, Args)]
pub struct Redacting {
    /// Overwrite what the rules in this file name, in every page that is written: 'erase SYMBOL.MEMBER', lists with 'for',
    /// as in makedumpfile.conf(5). Types come from --vmlinux, else from --btf or the BTF in the dump. See docs/redaction.md
    #[arg(long, value_name = "RULES")]
    pub redact: Option<PathBuf>,
}

/// Options of `vdump layout`.
#[derive(Clone, Debug, Args)]
pub struct Layout {
    /// The kernel's vmlinux or vmlinux.debug
    #[arg(short = 'x', long, value_name = "FILE")]
    pub vmlinux: Option<PathBuf>,

    /// The kernel's BTF, for example /sys/kernel/btf/vmlinux
    #[arg(long, value_name = "FILE")]
    pub btf: Option<PathBuf>,

    /// A dump of the kernel: its VMCOREINFO, the BTF in its memory, and its free pages
    #[arg(long, value_name = "DUMP")]
    pub from: Option<PathBuf>,

    /// How to read the dump.
    #[command(flatten)]
    pub reading: Reading,

    /// Show what differs between two kernels: each a dump, a vmlinux, BTF or a layout file
    #[arg(long, num_args = 2, value_names = ["A", "B"], conflicts_with_all = ["vmlinux", "btf", "from", "output"])]
    pub diff: Option<Vec<PathBuf>>,

    /// Write to a file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Overwrite the file
    #[arg(long, requires = "output")]
    pub force: bool,

    /// Print JSON: each value with who said it, and contradictions
    #[arg(long)]
    pub json: bool,
}

/// Options of `vdump merge`.
#[derive(Clone, Debug, Args)]
#[command(
    override_usage = "vdump merge [OPTIONS] <PART>... <OUTPUT>\n       vdump merge [OPTIONS] - <OUTPUT>",
    after_help = WRITING_CODES
)]
pub struct Merge {
    /// PART: all parts of a split kdump-compressed dump in any order, also flattened or compressed; or '-': a flattened dump
    /// from standard input, as 'makedumpfile -F' or 'vdump filter INPUT -' write it. OUTPUT: the whole dump
    #[arg(required = true, num_args = 2.., value_name = "FILE")]
    pub files: Vec<PathBuf>,

    /// Bytes that OUTPUT may have at most; a dump that would be larger ends there, incomplete
    #[arg(long, value_name = "SIZE", value_parser = number::size)]
    pub limit: Option<u64>,

    /// Threads that copy [default: the CPUs this process may use]
    #[arg(short = 'j', long, value_name = "N", value_parser = usage::count(4096))]
    pub threads: Option<u16>,

    /// Memory to use at most, for example 64M [default: half of what is available to this process; in a capture kernel nearly all]
    #[arg(long, value_name = "SIZE", value_parser = number::size)]
    pub memory_limit: Option<u64>,

    /// Print the report as JSON on standard output
    #[arg(long)]
    pub json: bool,

    /// How to show progress; 'none' prints nothing but errors
    #[arg(long, value_enum, default_value_t = ProgressStyle::Auto)]
    pub progress: ProgressStyle,

    /// Overwrite OUTPUT, and OUTPUT-incomplete of a run that did not finish; in a capture kernel that one is always overwritten
    #[arg(long)]
    pub force: bool,

    /// Decompress every page to see whether it is whole, and fail where one is not; otherwise pages are copied unseen.
    /// Not with '-'
    #[arg(long)]
    pub strict: bool,
}

impl Merge {
    /// The same as a filter run that drops nothing and copies what is compressed.
    #[must_use]
    pub fn as_filter(&self) -> Filter {
        let &Self { limit, threads, memory_limit, json, progress, force, strict, .. } = self;
        let format = Some(Format::Kdump);
        let (compress, split, output) = (Some(Compression::None), None, Vec::new());
        Filter {
            files: self.files.clone(),
            reading: Reading::default(),
            dump_level: vec![DumpLevel::NONE],
            choosing: choosing::Choosing::default(),
            knowing: Knowing::default(),
            redacting: Redacting::default(),
            writing: Writing {
                format,
                compress,
                map_virtual: false,
                split,
                output,
                limit,
                threads,
                memory_limit,
                json,
                progress,
                force,
                strict,
            },
            dry_run: false,
            verbose: false,
            keep_all: true,
            copy: true,
            flattened: false,
            show_vmcoreinfo: false,
        }
    }
}

/// What INPUT may not say itself: which of raw memory is RAM, and where the kernel describes itself.
#[derive(Clone, Debug, Default, Args)]
pub struct Reading {
    /// INPUT is raw memory (a byte's offset is its physical address: QEMU's pmemsave, a device). What of it is RAM say the ELF
    /// core headers of a capture kernel: at a physical address (0x..., or with K, M or G, as in the kernel's elfcorehdr=) or
    /// in a file
    #[arg(long, value_name = "[SIZE@]ADDR|FILE", conflicts_with = "iomem",
          value_parser = PathBufValueParser::new().map(resolve::core_headers))]
    pub elfcorehdr: Option<CoreHeaders>,

    /// INPUT is raw memory, and a saved /proc/iomem says what of it is RAM
    #[arg(long, value_name = "FILE")]
    pub iomem: Option<PathBuf>,

    /// Physical address of the kernel's VMCOREINFO note (the first number of /sys/kernel/vmcoreinfo), to be used instead of the
    /// note that INPUT has [default: where INPUT has none, as hypervisors' dumps, memory is searched for it]
    #[arg(long, value_name = "ADDR", value_parser = number::address)]
    pub vmcoreinfo: Option<u64>,
}

impl Reading {
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
pub struct Writing {
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
    /// Write a split set: N files OUTPUT-1 to OUTPUT-N at once, each with its share of the pages (kdump only). Where OUTPUT
    /// ends in -incomplete the number comes before that
    #[arg(long, value_name = "N", value_parser = usage::count(64), conflicts_with = "output")]
    pub split: Option<u16>,

    /// The dump to write; then every FILE is an input. Several times: a split set of exactly these files (kdump only)
    #[arg(short, long, value_name = "FILE")]
    pub output: Vec<PathBuf>,

    /// Bytes that each output file may have at most, for example 2G; a dump that would be larger ends there, incomplete
    #[arg(long, value_name = "SIZE", value_parser = number::size)]
    pub limit: Option<u64>,

    /// Worker threads [default: the CPUs this process may use]
    #[arg(short = 'j', long, value_name = "N", value_parser = usage::count(4096))]
    pub threads: Option<u16>,

    /// Memory to use at most, for example 64M [default: half of what is available to this process; in a capture kernel nearly all]
    #[arg(long, value_name = "SIZE", value_parser = number::size)]
    pub memory_limit: Option<u64>,

    /// Print the report as JSON on standard output
    #[arg(long)]
    pub json: bool,

    /// How to show progress; 'none' prints nothing but errors
    #[arg(long, value_enum, default_value_t = ProgressStyle::Auto)]
    pub progress: ProgressStyle,

    /// Overwrite OUTPUT, and OUTPUT-incomplete of a run that did not finish; in a capture kernel that one is always overwritten
    #[arg(long)]
    pub force: bool,

    /// Fail where pages cannot be read or memory cannot be classified, instead of going on without or keeping it
    #[arg(long)]
    pub strict: bool,
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
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum ProgressStyle {
    /// A bar on a terminal, lines on a console or in a log
    Auto,
    /// A bar
    Bar,
    /// A line every few seconds
    Plain,
    /// Nothing, and no summary either
    None,
}

/// Options of `vdump info`.
#[derive(Clone, Debug, Args)]
pub struct Info {
    /// The dump; all parts of a split one
    #[arg(required = true, value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,

    /// How to read INPUT.
    #[command(flatten)]
    pub reading: Reading,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `vdump dmesg`.
#[derive(Clone, Debug, Args)]
pub struct Dmesg {
    /// The dump; all parts of a split one
    #[arg(required = true, value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,

    /// What is known about the kernel.
    #[command(flatten)]
    pub knowing: Knowing,
    /// How to read INPUT.
    #[command(flatten)]
    pub reading: Reading,

    /// Write to a file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Overwrite the file
    #[arg(long, requires = "output")]
    pub force: bool,

    /// Show VMCOREINFO on standard error: what `makedumpfile --message-level 8` does.
    #[arg(skip)]
    pub show_vmcoreinfo: bool,
}

/// Options of `vdump check`.
#[derive(Clone, Debug, Args)]
pub struct Check {
    /// The dump; all parts of a split one
    #[arg(required = true, value_name = "DUMP")]
    pub inputs: Vec<PathBuf>,

    /// Print JSON: every rule, where it is broken, and every reader
    #[arg(long)]
    pub json: bool,

    /// Worker threads [default: the CPUs this process may use]
    #[arg(short = 'j', long, value_name = "N", value_parser = usage::count(4096))]
    pub threads: Option<u16>,

    /// How to show progress
    #[arg(long, value_enum, default_value_t = ProgressStyle::Auto)]
    pub progress: ProgressStyle,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn levels_of_codecs_may_be_negative() {
        let cli = Cli::try_parse_from(["vdump", "filter", "-c", "zstd:-3", "a", "b"]).unwrap();
        let Command::Filter(filter) = cli.command else { panic!() };
        assert_eq!(filter.writing.compress, Some(Compression::Zstd(-3)));
    }

    #[test]
    fn only_a_dry_run_needs_no_output() {
        let job = |words: &[&str]| {
            let cli = Cli::try_parse_from([&["vdump", "filter"], words].concat()).unwrap();
            let Command::Filter(filter) = cli.command else { panic!() };
            resolve::Job::resolve(&filter).map(|job| (job.input.paths, job.output))
        };
        assert_eq!(job(&["a"]).unwrap_err().exit_code(), 2);
        let file = |name: &str| resolve::Destination::File(name.into());
        assert_eq!(job(&["a", "b"]), Ok((vec!["a".into()], Some(file("b")))));
        assert_eq!(job(&["a", "b", "c"]), Ok((vec!["a".into(), "b".into()], Some(file("c")))));
        assert_eq!(job(&["--dry-run", "a"]), Ok((vec!["a".into()], None)));
        assert_eq!(job(&["--dry-run", "a", "b.elf"]), Ok((vec!["a".into()], None)));
    }
}
