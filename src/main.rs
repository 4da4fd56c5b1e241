//! The program: signals, exit codes, and nothing else.

use std::process::ExitCode;

use vdump::internals::{called, keep_little};

fn main() -> ExitCode {
    keep_little();
    ExitCode::from(called(std::env::args_os()))
}
