//! `vdump check`.

use super::{Stop, print_report};
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
    print_report(&report, options.json)?;
    if report.whole { Ok(()) } else { Err(Error::new(Kind::Said, "the dump is not whole")) }
}
