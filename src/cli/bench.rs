//! The options of `vdump bench`.
//!
//! Knows their help. Must not look at files or CPUs. Goes to `run`.

use std::path::PathBuf;

use clap::Args;
use vdump_filters::{DumpLevel, number};

use super::{InputArgs, JsonArgs, KernelArgs, MemoryArgs, ProgressArgs, ThreadArgs, usage};
use crate::codec::Compression;

/// Options of `vdump bench`.
#[derive(Clone, Debug, Args)]
pub struct Bench {
    /// A dump of a machine like the one that is to be dumped: whatever 'vdump filter' reads (all parts of a split one)
    #[arg(required = true, value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,

    /// What the dump leaves out, as for 'vdump filter'
    #[arg(short, long, value_name = "LEVEL", default_value = "31")]
    pub dump_level: DumpLevel,

    /// Codecs to measure: on pages (none, zlib, lzo, snappy, zstd) and on frames of a mebibyte (zstd, lz4) [default: each,
    /// some at two levels]
    #[arg(short, long, value_name = "CODEC[:LEVEL]", value_delimiter = ',', allow_hyphen_values = true)]
    pub compress: Vec<Compression>,

    /// A folder to write into: how fast does its device take a dump? The file goes again
    #[arg(short, long, value_name = "DIR")]
    pub output: Option<PathBuf>,

    /// Kept pages to hold in memory and compress; less where the memory limit has no room
    #[arg(long, value_name = "SIZE", default_value = "128M", value_parser = number::size)]
    pub sample: u64,

    /// The longest that one measurement takes; all pages are classified once whatever it takes
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = usage::count(600))]
    pub seconds: u16,

    /// Memory of the machine that is to be dumped [default: this machine's]
    #[arg(long, value_name = "SIZE", value_parser = number::size)]
    pub ram: Option<u64>,

    /// How to read the dump.
    #[command(flatten)]
    pub input_args: InputArgs,

    /// What is known about the kernel.
    #[command(flatten)]
    pub kernel_args: KernelArgs,

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
