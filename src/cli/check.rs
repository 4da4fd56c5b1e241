//! The options of `vdump check`.

use std::path::PathBuf;

use clap::Args;

use super::{JsonArgs, ProgressArgs, ThreadArgs};

/// Options of `vdump check`.
#[derive(Clone, Debug, Args)]
pub struct Check {
    /// The dump; all parts of a split one
    #[arg(required = true, value_name = "DUMP")]
    pub inputs: Vec<PathBuf>,

    /// Whether JSON is printed.
    #[command(flatten)]
    pub report: JsonArgs,

    /// How many threads work.
    #[command(flatten)]
    pub threads: ThreadArgs,

    /// How progress is shown.
    #[command(flatten)]
    pub progress: ProgressArgs,
}
