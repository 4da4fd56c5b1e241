//! The options of `vdump dmesg`.

use std::path::PathBuf;

use clap::Args;

use super::{
    InputArgs, KernelArgs,
    usage::{Choice, one_of},
};
use crate::klog::CallerColumn;

const CALLERS: [Choice<CallerColumn>; 3] = [
    ("recorded", "Where the kernel recorded it: Linux 5.10 and later", CallerColumn::WhenStored),
    ("kernel", "Where the kernel's own dmesg shows it", CallerColumn::AsKernel),
    ("never", "Nowhere", CallerColumn::Never),
];

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

    /// When to say which thread (T) or CPU (C) logged a line
    #[arg(long, value_name = "WHEN", value_parser = one_of(&CALLERS), default_value = "recorded")]
    pub caller: CallerColumn,

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
