//! `vdump info`.

use std::{
    fmt,
    time::{Duration, UNIX_EPOCH},
};

use serde::Serialize;

use super::facts;
use crate::{
    arch,
    cli::Info,
    error::{Result, printable},
    kernel::{self, LastWords},
    layout::{Fact, KernelLayout, VmcoreInfo},
    report::{Head, hex, hex_or_null, human_bytes, human_seconds},
    source::{RamMap, Source},
};

#[derive(Serialize)]
struct RamLine {
    #[serde(serialize_with = "hex")]
    start: u64,
    #[serde(serialize_with = "hex")]
    end: u64,
    bytes: u64,
}

#[derive(Serialize)]
struct FactLine {
    name: &'static str,
    value: String,
    origin: String,
}

#[derive(Serialize)]
struct Facts {
    format: String,
    architecture: &'static str,
    /// The machine's name in the network.
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    vmcoreinfo: bool,
    /// Physical address, where no note has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    vmcoreinfo_found_at: Option<String>,
    kernel: Option<String>,
    build_id: Option<String>,
    crash_time: Option<u64>,
    #[serde(flatten)]
    last_words: LastWords,
    cpus: usize,
    page_size: Option<u64>,
    paging_levels: Option<u32>,
    #[serde(serialize_with = "hex_or_null")]
    kaslr_offset: Option<u64>,
    #[serde(serialize_with = "hex_or_null")]
    phys_base: Option<u64>,
    encrypted: Option<bool>,
    /// Kdump-compressed dumps say so, and ELF cores where it is true.
    incomplete: Option<bool>,
    /// These are for kdump-compressed dumps only.
    dump_level: Option<u32>,
    parts: Option<usize>,
    /// `PT_LOAD` headers of an ELF core, of physical and of virtual memory.
    segments: usize,
    /// RAM that the machine had, as far as the input tells.
    ram_bytes: u64,
    /// Of it what the dump has; zeros that take no room in the file included.
    present_bytes: u64,
    /// Of it what the dump does not have.
    absent_bytes: u64,
    /// Where RAM is: the first ranges.
    ram: Vec<RamLine>,
    /// How many ranges there are.
    ram_ranges: u64,
    layout: Vec<FactLine>,
    warnings: Vec<String>,
}

pub(super) fn run(options: &Info) -> Result<()> {
    let source = kernel::open(&options.input_args.opening(&options.inputs))?;
    let facts = Facts::of(&source);
    super::print_report(&Head::new("info", &options.inputs), &facts, options.report.json)
}

impl Facts {
    fn of(source: &Source) -> Self {
        let info = kernel::vmcoreinfo(source);
        let text = |key: &str| info.as_ref().and_then(|info| info.text(key)).map(printable);
        let layout = info.as_ref().map(|info| KernelLayout::resolve(source, info));
        let space = info.as_ref().and_then(|info| KernelLayout::address_space(source, info).ok());
        let page_shift = kernel::page_shift(source, info.as_ref()).ok();
        let (layout, mut warnings) = match layout {
            Some(Ok(layout)) => (layout.facts.iter().map(FactLine::of).collect(), layout.limits),
            Some(Err(error)) => (Vec::new(), vec![error.to_string()]),
            None => {
                let none =
                    kernel::no_vmcoreinfo(source, "only dump levels 0 and 1 are possible", kernel::NAME_VMCOREINFO);
                (Vec::new(), vec![none.to_string()])
            }
        };
        warnings.extend(facts::incomplete(source, page_shift.unwrap_or(12)));
        warnings.extend(source.remarks().iter().cloned());
        let (recorded, (ram, ram_ranges)) = (source.recorded(), ram_lines(source.existing()));
        Self {
            format: source.describe(),
            architecture: arch::uname(source.machine()),
            host: host(source, info.as_ref()),
            vmcoreinfo: info.is_some(),
            vmcoreinfo_found_at: source.vmcoreinfo_found_at().map(|address| format!("{address:#x}")),
            kernel: text("OSRELEASE"),
            build_id: text("BUILD-ID"),
            crash_time: kernel::crash_time(source, info.as_ref()),
            last_words: LastWords::of(source, info.as_ref()),
            cpus: source.saved_cpus(),
            page_size: page_shift.map(|shift| 1 << shift),
            paging_levels: space.as_ref().map(|space| space.top().1),
            kaslr_offset: info.as_ref().and_then(kaslr_offset),
            phys_base: space.as_ref().map(|space| space.phys_base()),
            encrypted: space.as_ref().map(|space| space.is_encrypted()),
            dump_level: recorded.map(|recorded| recorded.dump_level),
            incomplete: recorded.map(|recorded| recorded.incomplete).or(source.is_incomplete().then_some(true)),
            parts: recorded.map(|recorded| recorded.parts),
            segments: source.loads().len(),
            ram_bytes: source.existing().bytes(),
            present_bytes: source.ram().bytes(),
            absent_bytes: source.existing().bytes().saturating_sub(source.ram().bytes()),
            ram,
            ram_ranges,
            layout,
            warnings,
        }
    }
}

impl FactLine {
    fn of(fact: &Fact) -> Self {
        Self { name: fact.name, value: fact.value.clone(), origin: fact.origin.to_string() }
    }
}

fn kaslr_offset(info: &VmcoreInfo) -> Option<u64> {
    info.value("KERNELOFFSET").map(i64::cast_unsigned)
}

/// The machine's name in the network, where its kernel or the dump's header has one.
fn host(source: &Source, info: Option<&VmcoreInfo>) -> Option<String> {
    let node = kernel::utsname(source, info, None)[1];
    let name = String::from_utf8_lossy(node.split(|byte| *byte == 0).next()?).into_owned();
    (!name.is_empty() && name != "(none)").then(|| printable(&name))
}

/// Ranges that are printed: a machine has a few dozen, and a damaged bitmap millions.
const SHOWN_RANGES: usize = 64;
/// The same in JSON.
const MOST_RANGES: usize = 4096;

/// Ranges of RAM that the machine had, pieces that touch each other joined: the first of them, and how many there are.
fn ram_lines(ram: &RamMap) -> (Vec<RamLine>, u64) {
    let (mut lines, mut ranges, mut end): (Vec<RamLine>, u64, _) = (Vec::new(), 0, None);
    for piece in ram.pieces() {
        if end != Some(piece.paddr) {
            ranges += 1;
            if lines.len() < MOST_RANGES {
                lines.push(RamLine { start: piece.paddr, end: 0, bytes: 0 });
            }
        }
        end = Some(piece.end());
        if let Some(line) = lines.last_mut().filter(|_| ranges <= MOST_RANGES as u64) {
            (line.end, line.bytes) = (piece.end(), piece.end() - line.start);
        }
    }
    (lines, ranges)
}

impl Facts {
    /// What of the machine's RAM is in the dump.
    fn share(&self) -> String {
        if self.absent_bytes == 0 {
            return String::new();
        }
        let (present, absent) = (human_bytes(self.present_bytes), human_bytes(self.absent_bytes));
        format!(", of which the dump has {present} and lacks {absent}")
    }

    /// What ended the kernel.
    fn end(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LastWords { uptime_seconds, panic_message, panic_task } = &self.last_words;
        if let Some(seconds) = uptime_seconds {
            writeln!(f, "uptime          {}, at the last line of its log", human_seconds(*seconds))?;
        }
        if let Some(message) = panic_message {
            writeln!(f, "panic           {message}")?;
        }
        if let Some(task) = panic_task {
            writeln!(f, "task            {} ({}), on CPU {}", task.pid, task.comm, task.cpu)?;
        }
        Ok(())
    }
}

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unknown = || "unknown".to_owned();
        let hex = |value: Option<u64>| value.map_or_else(unknown, |value| format!("{value:#x}"));
        let number = |value: Option<u64>| value.map_or_else(unknown, |value| value.to_string());
        let time = self.crash_time.map(|seconds| UNIX_EPOCH + Duration::from_secs(seconds.min(u32::MAX.into())));
        let time = time.map_or_else(unknown, |time| humantime::format_rfc3339_seconds(time).to_string());
        writeln!(f, "format          {}", printable(&self.format))?;
        writeln!(f, "architecture    {}", self.architecture)?;
        writeln!(f, "kernel          {}", self.kernel.as_deref().unwrap_or("unknown"))?;
        if let Some(host) = &self.host {
            writeln!(f, "host            {host}")?;
        }
        if let Some(build_id) = &self.build_id {
            writeln!(f, "build id        {build_id}")?;
        }
        writeln!(f, "crash time      {time}")?;
        self.end(f)?;
        writeln!(f, "CPUs saved      {}", self.cpus)?;
        writeln!(f, "page size       {}", number(self.page_size))?;
        writeln!(f, "paging levels   {}", number(self.paging_levels.map(u64::from)))?;
        writeln!(f, "KASLR offset    {}", hex(self.kaslr_offset))?;
        writeln!(f, "phys_base       {}", hex(self.phys_base))?;
        match &self.vmcoreinfo_found_at {
            Some(address) => writeln!(f, "VMCOREINFO      found in memory at {address}")?,
            None => writeln!(f, "VMCOREINFO      {}", if self.vmcoreinfo { "present" } else { "absent" })?,
        }
        if let Some(level) = self.dump_level {
            writeln!(f, "dump level      {level}")?;
        }
        if self.segments > 0 {
            writeln!(f, "PT_LOADs        {}", self.segments)?;
        }
        writeln!(f, "RAM             {}{}", human_bytes(self.ram_bytes), self.share())?;
        for line in self.ram.iter().take(SHOWN_RANGES) {
            writeln!(f, "  {:#014x}-{:#014x}  {:>10}", line.start, line.end, human_bytes(line.bytes))?;
        }
        if self.ram_ranges > SHOWN_RANGES as u64 {
            writeln!(f, "  and {} more ranges", self.ram_ranges - SHOWN_RANGES as u64)?;
        }
        for warning in &self.warnings {
            writeln!(f, "note            {}", printable(warning))?;
        }
        Ok(())
    }
}
