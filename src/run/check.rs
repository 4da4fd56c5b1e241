//! `vdump check`.

use super::{Stop, print};
use crate::{
    check::{check, report::Report},
    cli::{Check, resolve},
    error::{Error, Kind, Result},
    report::Progress,
};

pub(super) fn run(options: &Check) -> Result<()> {
    let stop = Stop::on_signals()?;
    let progress = Progress::new(resolve::mode(options.progress), 4096, stop.flag());
    let threads = resolve::threads(options.threads.map(usize::from));
    let checked = check(&options.inputs, threads, resolve::available_memory(), &progress)?;
    let report = Report::of(&checked);
    print(|out| {
        if options.json {
            serde_json::to_writer_pretty(&mut *out, &report)?;
            writeln!(out)
        } else {
            write!(out, "{report}")
        }
    })?;
    if report.whole { Ok(()) } else { Err(Error::new(Kind::Said, "the dump is not whole")) }
}
