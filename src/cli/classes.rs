//! The options of `vdump classes`.
//!
//! Knows options and their help. Must not look at files. The parsed line goes to `run`.

use std::path::PathBuf;

use clap::Args;

use super::{InputArgs, JsonArgs, KernelArgs, MemoryArgs, ProgressArgs, ThreadArgs};

/// Options of `vdump classes`.
#[derive(Clone, Debug, Args)]
pub struct Classes {
    /// The dump; all parts of a split one. /proc/kcore is this machine's memory as it is now: how large would a dump be?
    #[arg(required = true, value_name = "DUMP")]
    pub inputs: Vec<PathBuf>,

    /// Count zero pages too: reads all memory instead of the page structures alone
    #[arg(long)]
    pub zero: bool,

    /// Each node and zone on its own too
    #[arg(short, long)]
    pub verbose: bool,

    /// How to read the dump.
    #[command(flatten)]
    pub input_args: InputArgs,

    /// What is known about the kernel.
    #[command(flatten)]
    pub kernel_args: KernelArgs,

    /// Whether JSON is printed.
    #[command(flatten)]
    pub report: JsonArgs,

    /// How many threads work.
    #[command(flatten)]
    pub threads: ThreadArgs,

    /// How much memory may be used.
    #[command(flatten)]
    pub memory: MemoryArgs,

    /// How progress is shown.
    #[command(flatten)]
    pub progress: ProgressArgs,
}
