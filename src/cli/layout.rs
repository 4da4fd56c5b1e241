//! The options of `vdump layout`.

use std::path::PathBuf;

use clap::Args;

use super::{InputArgs, JsonArgs};

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

    /// Show what differs between two kernels: each a dump, a vmlinux, BTF or a layout file
    #[arg(long, num_args = 2, value_names = ["A", "B"], conflicts_with_all = ["vmlinux", "btf", "from", "output"])]
    pub diff: Option<Vec<PathBuf>>,

    /// Write to a file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,

    /// Overwrite the file
    #[arg(long, requires = "output")]
    pub force: bool,

    /// How to read the dump.
    #[command(flatten)]
    pub input_args: InputArgs,

    /// Whether JSON is printed.
    #[command(flatten)]
    pub report: JsonArgs,
}
