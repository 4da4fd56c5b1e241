//! The options of `vdump classes`.
//!
//! Knows options and their help. Must not look at files. The parsed line goes to `run`.

use std::path::PathBuf;

use clap::Args;

use vdump_filters::number;

use super::{Knowing, ProgressStyle, Reading, usage};

/// Options of `vdump classes`.
#[derive(Clone, Debug, Args)]
pub struct Classes {
    /// The dump; all parts of a split one. /proc/kcore is this machine's memory as it is now: how large would a dump be?
    #[arg(required = true, value_name = "DUMP")]
    pub inputs: Vec<PathBuf>,

    /// How to read the dump.
    #[command(flatten)]
    pub reading: Reading,

    /// What is known about the kernel.
    #[command(flatten)]
    pub knowing: Knowing,

    /// Count zero pages too: reads all memory instead of the page structures alone
    #[arg(long)]
    pub zero: bool,

    /// Each node and zone on its own too
    #[arg(short, long)]
    pub verbose: bool,

    /// Print JSON
    #[arg(long)]
    pub json: bool,

    /// Worker threads [default: the CPUs this process may use]
    #[arg(short = 'j', long, value_name = "N", value_parser = usage::count(4096))]
    pub threads: Option<u16>,

    /// Memory to use at most, for example 64M [default: half of what is available to this process; in a capture kernel nearly all]
    #[arg(long, value_name = "SIZE", value_parser = number::size)]
    pub memory_limit: Option<u64>,

    /// How to show progress
    #[arg(long, value_enum, default_value_t = ProgressStyle::Auto)]
    pub progress: ProgressStyle,
}
