//! `vdump dmesg`.

use std::{
    io::{self, Write as _},
    path::Path,
};

use super::facts;
use crate::{
    cli::{Dmesg, resolve},
    error::{Error, Result},
    kernel,
    klog::{self, KernelLog},
    layout::KernelLayout,
    medium::Inputs,
    memory::VirtReader,
    source::Source,
};

pub(super) fn run(options: &Dmesg) -> Result<()> {
    let source = kernel::open(&options.input_args.opening(&options.inputs))?;
    if options.show_vmcoreinfo {
        facts::show_vmcoreinfo(&source);
    }
    let what = || format!("cannot find the kernel log in {}", source.path().display());
    let mut unsure = Vec::new();
    let info = kernel::known::read(&source, &options.kernel_args.named(), resolve::available_memory(), &mut unsure)?
        .ok_or_else(|| kernel::no_vmcoreinfo(&source, "so the log cannot be found", kernel::NAME_VMCOREINFO))?;
    for warning in &unsure {
        super::complain(&Error::input(warning));
    }
    let space = KernelLayout::address_space(&source, &info)
        .map_err(|error| facts::advised(Error::new(error.kind(), what()).because(error), None))?;
    let virt = VirtReader::new(&source, &space);
    let log = klog::read_log(&info, &virt).map_err(|error| Error::input(what()).because(error))?;
    match &options.output {
        Some(path) => write_file(path, options, &source, &log)?,
        None => super::print(|mut out| klog::write_dmesg(&log, options.caller, &mut out))?,
    }
    for (loss, count) in log.losses.iter().filter(|(loss, _)| loss.is_damage()) {
        let _ = writeln!(io::stderr(), "vdump: {count} log records: {}", loss.reason());
    }
    Ok(())
}

/// Writes the log to a file.
fn write_file(path: &Path, options: &Dmesg, source: &Source, log: &KernelLog) -> Result<()> {
    let mut text = Vec::new();
    // A Vec takes everything.
    let _ = klog::write_dmesg(log, options.caller, &mut text);
    let opening = options.input_args.opening(&[]);
    let inputs = Inputs::opened(source.opened()).and(options.kernel_args.files()).and(opening.ram_file());
    super::write_file(path, &text, options.force, &inputs)
}
