//! The program: signals, exit codes, and nothing else.

use std::process::ExitCode;

use clap::Parser as _;
use vdump::{
    cli::{Cli, compat, kexec},
    run,
    sys::heap,
};

fn main() -> ExitCode {
    heap::keep_little();
    let mut words = std::env::args_os();
    let program = words.next().unwrap_or_default();
    if kexec::is_kexec(program.as_ref()) {
        return ExitCode::from(run::as_kexec(words));
    }
    let outcome =
        if compat::is_makedumpfile(program.as_ref()) { run::as_makedumpfile(words) } else { run::run(&Cli::parse()) };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            run::complain(&error);
            ExitCode::from(error.exit_code())
        }
    }
}
