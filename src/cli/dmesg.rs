//! The options of `vdump dmesg`.

use std::path::PathBuf;

use clap::Args;

use super::{InputArgs, KernelArgs};

/// Options of `vdump dmesg`.
#[derive(Clone, Debug, Args)]
pub struct Dmesg {
    /// The dump; all parts of a split one
    #[arg(required = true, value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,

    /// Write to a file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Overwrite the file
    #[arg(long, requires = "output")]
    pub force: bool,

    /// What is known about the kernel.
    #[command(flatten)]
    pub kernel_args: KernelArgs,

    /// How to read INPUT.
    #[command(flatten)]
    pub input_args: InputArgs,

    /// Show VMCOREINFO on standard error: what `makedumpfile --message-level 8` does.
    #[arg(skip)]
    pub show_vmcoreinfo: bool,
}
