//! Plans and states as a person reads them.
//!
//! Knows columns. Must not compute anything that is not in what it shows.

use std::io::{self, Write};

use vdump_loader::{
    plan::Plan,
    range::human,
    status::{Slot, Status},
};

pub(super) fn plan(out: &mut dyn Write, plan: &Plan<'_>) -> io::Result<()> {
    writeln!(out, "image           {}", plan.image)?;
    if let Some(region) = plan.region {
        writeln!(out, "reserved        {} at {region}", human(region.len()))?;
    }
    writeln!(out, "segments        {}", plan.segments.len())?;
    for segment in &plan.segments {
        let verified = if segment.sha256.is_some() { "  verified" } else { "" };
        let (range, size) = (segment.range.to_string(), human(segment.range.len()));
        writeln!(out, "  {:10}  {range:25}  {size:>10}{verified}", segment.name)?;
    }
    if plan.region.is_some() {
        let (left, slack) = (human(plan.left), human(plan.slack));
        writeln!(out, "left free       {left}, of which the running kernel may take {slack} for its tables")?;
    }
    writeln!(out, "entry           purgatory {:#x}, kernel {:#x}", plan.entry, plan.kernel_entry)?;
    if let Some(serial) = plan.serial {
        writeln!(out, "messages        serial port {:#x}", serial.port)?;
    }
    if let Some(headers) = &plan.core_headers {
        writeln!(out, "memory to dump  {} notes, {} ranges", headers.notes.len(), headers.loads.len())?;
        for load in &headers.loads {
            let backup = if load.offset == load.physical { "" } else { "  from the backup" };
            let (start, size) = (load.physical, human(load.size));
            writeln!(out, "  {start:#014x}  {size:>12}  at {:#x}{backup}", load.virtual_address)?;
        }
    }
    writeln!(out, "memory map      {} entries", plan.e820.len())?;
    for entry in &plan.e820 {
        let (range, size) = (entry.range.to_string(), human(entry.range.len()));
        writeln!(out, "  {range:27}  {size:>12}  {}", entry.kind)?;
    }
    writeln!(out, "command line    {}", crate::error::printable(&plan.command_line))?;
    for note in &plan.notes {
        writeln!(out, "note            {note}")?;
    }
    Ok(())
}

pub(super) fn status(out: &mut dyn Write, status: &Status) -> io::Result<()> {
    match status.reserved.as_slice() {
        [] => {
            writeln!(out, "crash memory    none: boot with crashkernel=SIZE to reserve some")?;
            writeln!(out, "  what size     vdump load --panic --dry-run KERNEL --initrd FILE")?;
        }
        ranges => {
            writeln!(out, "crash memory    {}", human(status.reserved_bytes))?;
            for range in ranges {
                writeln!(out, "  {range}  {}", human(range.len()))?;
            }
        }
    }
    for range in &status.reserved_cma {
        writeln!(out, "  {range}  {}, shared with user space", human(range.len()))?;
    }
    slot(out, "capture kernel", &status.capture)?;
    if status.capture.loaded == Some(false) && !status.reserved.is_empty() {
        writeln!(out, "  to load one   vdump load --panic KERNEL --initrd FILE")?;
    }
    if status.capture.loaded == Some(true) && status.kernel_updates_headers {
        writeln!(out, "  the running kernel can follow CPUs and memory that come and go")?;
    }
    slot(out, "next kernel", &status.next)?;
    let ready = if status.ready { "yes" } else { "no: a crash now would not be dumped as it should" };
    writeln!(out, "ready to dump   {ready}")
}

fn slot(out: &mut dyn Write, name: &str, slot: &Slot) -> io::Result<()> {
    let loaded = match slot.loaded {
        Some(true) => "loaded",
        Some(false) => "not loaded",
        None => "unknown: this kernel has no kexec",
    };
    writeln!(out, "{name:15} {loaded}")?;
    let Some(job) = &slot.job else {
        return if slot.loaded == Some(true) { writeln!(out, "  by another program") } else { Ok(()) };
    };
    writeln!(out, "  kernel        {}", job.kernel.display())?;
    if let Some(initrd) = &job.initrd {
        writeln!(out, "  initrd        {}", initrd.display())?;
    }
    writeln!(out, "  command line  {}", crate::error::printable(&job.command_line))?;
    if let Some(method) = slot.method {
        writeln!(out, "  method        {method}")?;
    }
    if slot.stale.is_empty() {
        return writeln!(out, "  fits          yes");
    }
    slot.stale.iter().try_for_each(|reason| writeln!(out, "  load again    {reason}"))
}
