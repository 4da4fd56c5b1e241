//! vmcore-dmesg's command line, for capture scripts that call vdump by that name.
//!
//! kdump-utils' kdump.sh runs `vmcore-dmesg /proc/vmcore` and takes what comes on standard output.

use std::ffi::OsString;

use super::{
    Dmesg, InputArgs, KernelArgs,
    getopt::{Row, Table, Word},
};
use crate::{
    error::{Error, Kind, Result},
    klog::CallerColumn,
};

/// What `vmcore-dmesg --help` prints.
pub const HELP: &str = "\
This is vdump, called as vmcore-dmesg.

  vmcore-dmesg VMCORE      prints the crashed kernel's log

Exit codes: 0 the log was printed, 1 wrong usage, 2 there is no log to print.
'vdump help dmesg' shows what else there is.
";

/// What a line in vmcore-dmesg's spelling asks for.
#[derive(Clone, Debug)]
pub enum Request {
    /// The log.
    Print(Dmesg),
    /// How to use it.
    Help,
    /// Which version this is.
    Version,
}

#[derive(Clone, Copy)]
enum Does {
    Help,
    Version,
}

const OPTIONS: &[Row<Does>] = &[(Some('h'), Some("help"), Does::Help), (Some('v'), Some("version"), Does::Version)];

const TABLE: Table<Does> = Table { rows: OPTIONS, takes_value: |_| false, usage };

fn usage(what: String) -> Error {
    Error::new(Kind::Usage, what).next_step("vmcore-dmesg takes one file, for example /proc/vmcore")
}

/// Parses the words after the program's name.
///
/// # Errors
/// An unknown option, or not exactly one file.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Request> {
    let mut files = Vec::new();
    for word in TABLE.parse(words)? {
        match word {
            Word::Option(_, Does::Help, _) => return Ok(Request::Help),
            Word::Option(_, Does::Version, _) => return Ok(Request::Version),
            Word::Plain(file) => files.push(file.into()),
        }
    }
    match files.len() {
        1 => Ok(Request::Print(Dmesg {
            inputs: files,
            kernel_args: KernelArgs::default(),
            input_args: InputArgs::default(),
            output: None,
            force: false,
            caller: CallerColumn::AsKernel,
            show_vmcoreinfo: false,
        })),
        0 => Err(usage("no file is given".to_owned())),
        _ => Err(usage("more than one file is given".to_owned())),
    }
}
