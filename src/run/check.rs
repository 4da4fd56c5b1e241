//! `vdump check`.

use std::path::Path;

use super::print_report;
use crate::{
    check::{check, report::Report},
    cli::{Check, resolve},
    error::{Error, Kind, Result},
    report::{Head, Progress},
};

pub(super) fn run(options: &Check) -> Result<()> {
    options.inputs.iter().try_for_each(|input| refuse_running(input))?;
    let stop = super::stop_on_signals()?;
    let progress = Progress::new(options.progress.mode(), 4096, stop.flag());
    let threads = options.threads.count();
    let checked = check(&options.inputs, threads, resolve::available_memory(), &progress)?;
    let report = Report::of(&checked);
    print_report(&Head::new("check", &options.inputs), &report, options.report.json)?;
    if report.whole { Ok(()) } else { Err(Error::new(Kind::Said, "the dump is not whole")) }
}

/// The running kernel's memory is as large as its address space, and no dump.
fn refuse_running(input: &Path) -> Result<()> {
    if input.canonicalize().is_ok_and(|path| path == Path::new("/proc/kcore")) {
        return Err(Error::new(Kind::Usage, format!("cannot check {}", input.display()))
            .because("it is the memory of the kernel that runs here, not a dump of it")
            .next_step("'vdump info' and 'vdump classes' look at it"));
    }
    Ok(())
}
