//! The one way through all rooms, once for each command.
//!
//! Knows the order of the rooms, and only that. The work is in the rooms; what is said about it is in `report`.

mod dmesg;
mod facts;
mod filter;
mod info;
mod stop;

use std::io::{self, Write};

pub use stop::Stop;

use crate::{
    cli::{Cli, Command},
    error::{Error, Kind, Result},
};

/// Runs the command.
///
/// # Errors
/// What failed, with the exit code in its kind.
pub fn run(cli: &Cli) -> Result<()> {
    match &cli.command {
        Command::Filter(filter) => filter::run(filter),
        Command::Info(info) => info::run(info),
        Command::Dmesg(dmesg) => dmesg::run(dmesg),
    }
}

/// Prints an error the way every error is printed.
pub fn complain(error: &Error) {
    // With standard error gone there is nobody left to tell; the exit code still does.
    let _ = writeln!(io::stderr(), "vdump: {error}");
}

/// Writes to standard output; a reader that has seen enough (`| head`) is no failure.
fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let mut out = io::BufWriter::new(io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::new(Kind::Output, "cannot write to standard output").because(crate::error::plain_io(&error)))
        }
        _ => Ok(()),
    }
}
