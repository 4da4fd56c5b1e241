//! The options of `vdump filter`, and of `convert` and `merge`, which are filter runs that drop nothing.

use std::path::PathBuf;

use clap::Args;
use vdump_filters::{DumpLevel, number};

use super::{
    Format, InputArgs, JsonArgs, KernelArgs, MemoryArgs, OutputArgs, ProgressArgs, RedactionArgs, ThreadArgs,
    WRITING_CODES, choosing::SelectionArgs,
};
use crate::codec::Compression;

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
    #[arg(short, long, value_name = "LEVEL[,LEVEL]...", value_delimiter = ',', num_args = 1, help_heading = "Pages")]
    pub dump_level: Vec<DumpLevel>,

    /// Print what would be dropped and kept, and about how large the dump would be; write nothing
    #[arg(long)]
    pub dry_run: bool,

    /// Say where each fact about the kernel came from
    #[arg(short, long)]
    pub verbose: bool,

    /// What to keep and to drop besides.
    #[command(flatten)]
    pub selection: SelectionArgs,

    /// How to read INPUT.
    #[command(flatten)]
    pub input_args: InputArgs,

    /// What is known about the kernel.
    #[command(flatten)]
    pub kernel_args: KernelArgs,

    /// How to write it.
    #[command(flatten)]
    pub output_args: OutputArgs,

    /// What must not be in the dump.
    #[command(flatten)]
    pub redaction_args: RedactionArgs,

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
    pub input_args: InputArgs,

    /// What is known about the kernel; used by --redact and --virtual only.
    #[command(flatten)]
    pub kernel_args: KernelArgs,

    /// What must not be in the dump.
    #[command(flatten)]
    pub redaction_args: RedactionArgs,

    /// How to write it.
    #[command(flatten)]
    pub output_args: OutputArgs,
}

impl Convert {
    /// The same as a filter run that drops nothing.
    #[must_use]
    pub fn as_filter(&self) -> Filter {
        Filter {
            files: self.files.clone(),
            input_args: self.input_args.clone(),
            dump_level: vec![DumpLevel::NONE],
            selection: SelectionArgs::default(),
            kernel_args: self.kernel_args.clone(),
            redaction_args: self.redaction_args.clone(),
            output_args: self.output_args.clone(),
            dry_run: false,
            verbose: false,
            keep_all: true,
            copy: false,
            flattened: false,
            show_vmcoreinfo: false,
        }
    }
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

    /// Overwrite OUTPUT, and OUTPUT-incomplete of a run that did not finish; in a capture kernel that one is always overwritten
    #[arg(long)]
    pub force: bool,

    /// Decompress every page to see whether it is whole, and fail where one is not; otherwise pages are copied unseen
    ///
    /// Not with '-'
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

impl Merge {
    /// The same as a filter run that drops nothing and copies what is compressed.
    #[must_use]
    pub fn as_filter(&self) -> Filter {
        let &Self { limit, threads, memory, report, progress, force, strict, .. } = self;
        let format = Some(Format::Kdump);
        let (compress, split, output) = (Some(Compression::None), None, Vec::new());
        Filter {
            files: self.files.clone(),
            input_args: InputArgs::default(),
            dump_level: vec![DumpLevel::NONE],
            selection: SelectionArgs::default(),
            kernel_args: KernelArgs::default(),
            redaction_args: RedactionArgs::default(),
            output_args: OutputArgs {
                format,
                compress,
                map_virtual: false,
                split,
                output,
                limit,
                threads,
                memory,
                report,
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
