//! The options of `vdump info`.

use std::path::PathBuf;

use clap::Args;

use super::{InputArgs, JsonArgs};

/// Options of `vdump info`.
#[derive(Clone, Debug, Args)]
pub struct Info {
    /// The dump; all parts of a split one
    #[arg(required = true, value_name = "INPUT")]
    pub inputs: Vec<PathBuf>,

    /// How to read INPUT.
    #[command(flatten)]
    pub input_args: InputArgs,

    /// Whether JSON is printed.
    #[command(flatten)]
    pub report: JsonArgs,
}
