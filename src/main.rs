//! The program: signals, exit codes, and nothing else.

use std::process::ExitCode;

use clap::Parser as _;
use vdump::{cli::Cli, run};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run::run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            run::complain(&error);
            ExitCode::from(error.exit_code())
        }
    }
}
