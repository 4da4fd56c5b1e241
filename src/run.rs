//! The one way through all rooms, once for each command.
//!
//! Knows the order of the rooms, and only that. The work is in the rooms; what is said about it is in `report`.

mod bench;
mod called;
mod check;
mod classes;
mod dmesg;
mod explain;
mod facts;
mod filter;
mod info;
mod layout;
mod load;
mod merge;
mod pool;

use std::{
    fmt::Display,
    io::{self, Write},
    path::{Path, PathBuf},
};

pub use called::called;
use serde::Serialize;

use crate::{
    cli::{Cli, Command},
    error::{Error, Kind, Result},
    medium::{Inputs, Target},
    report::{Document, Failure, Head},
    sys::{out::StandardOutput, stop::Stop},
};

/// Runs the command.
///
/// # Errors
/// What failed, with the exit code in its kind.
pub fn run(cli: &Cli) -> Result<()> {
    let done = dispatch(&cli.command);
    if let (Err(error), Some(head)) = (&done, json_head(&cli.command))
        && error.kind() != Kind::Said
    {
        // With standard output gone the exit code and standard error still tell.
        let _ = print_json(&head, &Failure::of(error));
    }
    done
}

fn dispatch(command: &Command) -> Result<()> {
    match command {
        Command::Filter(filter) => filter::run(filter),
        Command::Convert(convert) => filter::run(&convert.as_filter()),
        Command::Merge(merge) => merge::run(merge),
        Command::Info(info) => info::run(info),
        Command::Dmesg(dmesg) => dmesg::run(dmesg),
        Command::Classes(classes) => classes::run(classes),
        Command::Explain(explain) => explain::run(explain),
        Command::Layout(layout) => layout::run(layout),
        Command::Check(check) => check::run(check),
        Command::Bench(bench) => bench::run(bench),
        Command::Load(load) => load::load(load),
        Command::Unload(unload) => load::unload(unload),
        Command::Exec(exec) => load::exec(exec),
        Command::Status(status) => load::status(status),
    }
}

/// The head of the command's JSON, where JSON was asked for and can be printed: not where standard output is the dump's.
fn json_head(command: &Command) -> Option<Head> {
    let head = |json: bool, name, inputs: &[PathBuf]| json.then(|| Head::new(name, inputs));
    match command {
        Command::Filter(filter) => filter::json_head(filter),
        Command::Convert(convert) => filter::json_head(&convert.as_filter()),
        Command::Merge(merge) => filter::json_head(&merge.as_filter()),
        Command::Info(info) => head(info.report.json, "info", &info.inputs),
        Command::Classes(classes) => head(classes.report.json, "classes", &classes.inputs),
        Command::Explain(explain) => head(explain.report.json, "explain", &explain.inputs),
        Command::Check(check) => head(check.report.json, "check", &check.inputs),
        Command::Bench(bench) => head(bench.report.json, "bench", &bench.inputs),
        Command::Layout(layout) => layout.report.json.then(|| layout::head(layout)),
        Command::Load(load) => head(load.json, "load", std::slice::from_ref(&load.kernel)),
        Command::Status(status) => head(status.report.json, "status", &[]),
        Command::Dmesg(_) | Command::Unload(_) | Command::Exec(_) => None,
    }
}

/// Listens to the signals that ask a program to end.
fn stop_on_signals() -> Result<Stop> {
    Stop::on_signals()
        .map_err(|error| Error::new(Kind::Output, "cannot listen to signals").because(crate::error::plain_io(&error)))
}

/// Says something that is no error.
fn note(text: &str) {
    let _ = writeln!(io::stderr(), "vdump: note: {}", crate::error::printable(text));
}

/// Prints an error the way every error is printed.
pub fn complain(error: &Error) {
    // With standard error gone there is nobody left to tell; the exit code still does.
    if error.kind() != Kind::Said {
        let _ = writeln!(io::stderr(), "vdump: {error}");
    }
}

/// Prints a report: as JSON, or as text for people.
fn print_report(head: &Head, report: &(impl Serialize + Display), json: bool) -> Result<()> {
    if json { print_json(head, report) } else { print(|out| write!(out, "{report}")) }
}

fn print_json(head: &Head, body: &impl Serialize) -> Result<()> {
    print(|out| {
        serde_json::to_writer_pretty(&mut *out, &Document { head, body })?;
        writeln!(out)
    })
}

/// Writes a file beside its final name first, as every output.
fn write_file(name: &Path, text: &[u8], force: bool, inputs: &Inputs) -> Result<()> {
    let mut target = Target::create(name, force, inputs)?;
    target.write(text, 0)?;
    target.finish()?;
    target.remarks().iter().for_each(|remark| note(remark));
    Ok(())
}

/// Writes to standard output; a reader that has seen enough (`| head`) is no failure, and a slow one is waited for.
fn print(write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<()> {
    let printed = StandardOutput::open().and_then(|out| {
        let mut out = io::BufWriter::new(out);
        write(&mut out).and_then(|()| out.flush())
    });
    match printed {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::new(Kind::Output, "cannot write to standard output").because(crate::error::plain_io(&error)))
        }
        _ => Ok(()),
    }
}
