//! The program: signals, exit codes, and nothing else.

use std::process::ExitCode;

use vdump::{run, sys::heap};

fn main() -> ExitCode {
    heap::keep_little();
    ExitCode::from(run::called(std::env::args_os()))
}
