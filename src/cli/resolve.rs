//! From what was typed to what will be done: here files, terminals, memory and CPUs are looked at.
//!
//! Knows defaults. Must not do the work. The [`Job`] goes to `run`.

use std::{
    collections::HashSet,
    ffi::OsStr,
    fmt,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use vdump_filters::{DumpLevel, Selection};

use super::{
    Filter, Format, KernelArgs, MemoryArgs, OutputArgs, ProgressArgs, ProgressStyle, ThreadArgs,
    choosing::SelectionArgs,
};
use crate::{
    codec::Compression,
    error::{Error, Kind, Result},
    report::Mode,
    source::{self, Opening},
    sys::host,
};

/// As many parts as a split set may have.
const MOST_PARTS: usize = 64;
/// What kdump scripts add to a name until the dump is whole.
const INCOMPLETE: &str = "-incomplete";

/// A filter run with every default decided.
#[derive(Clone, Debug)]
pub struct Job {
    /// The input: one file, or all parts of a split dump, or raw memory.
    pub input: Opening,
    /// The output; `None` in a dry run.
    pub output: Option<Destination>,
    /// The files that a dry run would write; else as many as the output names.
    pub parts: usize,
    /// The most bytes that each output may have.
    pub limit: Option<u64>,
    /// What to drop.
    pub level: DumpLevel,
    /// What to keep and to drop besides.
    pub selection: SelectionArgs,
    /// What is known about the kernel besides.
    pub kernel_args: KernelArgs,
    /// The file of rules that say what must not be in the dump.
    pub redact: Option<PathBuf>,
    /// What to drop if the dump does not fit: one after the other.
    pub next_levels: Vec<DumpLevel>,
    /// Why the levels before did not do, for the report.
    pub tried: Vec<String>,
    /// What the output is.
    pub container: Container,
    /// The codec.
    pub compression: Compression,
    /// Worker threads wanted; the memory budget may allow fewer.
    pub threads: usize,
    /// Memory limit, bytes.
    pub memory_limit: u64,
    /// How to show progress.
    pub progress: Mode,
    /// Overwrite.
    pub force: bool,
    /// Fail instead of going on.
    pub strict: bool,
    /// Explain.
    pub verbose: bool,
    /// Keep every page without asking what it was used for.
    pub keep_all: bool,
    /// Show mapped memory at its virtual addresses.
    pub map_virtual: bool,
    /// Copy compressed pages as they are.
    pub copy: bool,
    /// Standard output gets the records of a flattened stream.
    pub flattened: bool,
    /// Show VMCOREINFO.
    pub show_vmcoreinfo: bool,
}

/// What is written, and in which order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Container {
    /// A kdump-compressed dump.
    Kdump,
    /// An ELF core whose headers are written again as data comes.
    Elf,
    /// An ELF core from its first byte to its last.
    ElfStream {
        /// In compressed frames.
        frames: bool,
    },
}

impl Container {
    /// What this format is in, with this codec, at its destination.
    fn of(format: Format, compression: Compression, output: Option<&Destination>) -> Self {
        match format {
            Format::Kdump => Self::Kdump,
            Format::Elf if compression.makes_frames() => Self::ElfStream { frames: true },
            Format::Elf if output == Some(&Destination::StandardOutput) => Self::ElfStream { frames: false },
            Format::Elf => Self::Elf,
        }
    }

    /// Whether it is an ELF core of any kind.
    #[must_use]
    pub fn is_elf(self) -> bool {
        self != Self::Kdump
    }

    /// The format's name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        if self.is_elf() { "elf" } else { "kdump" }
    }
}

/// Where the dump goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Destination {
    /// A file.
    File(PathBuf),
    /// The parts of a split set.
    Files(Vec<PathBuf>),
    /// Standard output, in one pass.
    StandardOutput,
}

impl Destination {
    /// The files that it names, in order.
    #[must_use]
    pub fn files(&self) -> &[PathBuf] {
        match self {
            Self::File(name) => std::slice::from_ref(name),
            Self::Files(names) => names,
            Self::StandardOutput => &[],
        }
    }

    /// The folder of the first of them.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        let folder = self.files().first()?.parent()?;
        Some(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
    }

    /// `-` is standard output.
    fn named(name: PathBuf) -> Self {
        if name.as_os_str() == "-" { Self::StandardOutput } else { Self::File(name) }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(name) => name.display().fmt(f),
            Self::Files(names) => {
                let names: Vec<_> = names.iter().map(|name| name.display().to_string()).collect();
                f.write_str(&names.join(", "))
            }
            Self::StandardOutput => f.write_str("-"),
        }
    }
}

impl Job {
    /// The classes that are dropped.
    #[must_use]
    pub fn drop(&self) -> Selection {
        self.selection.applied(Selection::from(self.level))
    }

    /// Whether anything is asked of the crashed kernel.
    #[must_use]
    pub fn asks_kernel(&self) -> bool {
        !self.keep_all || self.redact.is_some() || self.map_virtual
    }

    /// Decides what was left open.
    ///
    /// # Errors
    /// Options that contradict each other.
    pub fn resolve(filter: &Filter) -> Result<Self> {
        let (inputs, typed) = told_apart(filter)?;
        let split = filter.output_args.split.map_or(1, usize::from);
        let (format, compression) = format(filter, typed, split)?;
        let named = output_names(typed, filter.output_args.split)?;
        let parts = named.len().max(split);
        let output = if filter.dry_run { None } else { destination(named) };
        filter.selection.check()?;
        let (level, next_levels) = levels(filter, output.as_ref())?;
        if filter.output_args.report.json && output == Some(Destination::StandardOutput) {
            return Err(Error::new(Kind::Usage, "cannot print the report as JSON")
                .because("standard output has the dump")
                .next_step("leave out --json (the summary is on standard error), or name an output file"));
        }
        if filter.output_args.map_virtual && format == Format::Kdump {
            return Err(Error::new(Kind::Usage, "--virtual is for ELF dumps only")
                .because(
                    "a kdump file has pages without virtual addresses: its readers walk the page tables themselves",
                )
                .next_step("give -f elf or an OUTPUT that ends in .elf, or leave out --virtual"));
        }
        let progress = filter.output_args.progress.mode();
        let container = Container::of(format, compression, output.as_ref());
        // A kdump file cannot be written from its first byte to its last.
        let flattened =
            filter.flattened || container == Container::Kdump && output == Some(Destination::StandardOutput);
        let memory_limit = filter.output_args.memory.bytes();
        Ok(Self {
            input: filter.input_args.opening(inputs).within(memory_limit),
            output,
            parts,
            limit: filter.output_args.limit,
            level,
            selection: filter.selection.clone(),
            next_levels,
            tried: Vec::new(),
            kernel_args: filter.kernel_args.clone(),
            redact: filter.redaction_args.redact.clone(),
            container,
            compression,
            threads: filter.output_args.threads.count(),
            memory_limit,
            progress,
            force: filter.output_args.force,
            strict: filter.output_args.strict,
            verbose: filter.verbose,
            keep_all: filter.keep_all,
            map_virtual: filter.output_args.map_virtual,
            copy: filter.copy,
            flattened,
            show_vmcoreinfo: filter.show_vmcoreinfo,
        })
    }
}

/// The names of all outputs.
fn output_names(typed: &[PathBuf], split: Option<u16>) -> Result<Vec<PathBuf>> {
    let outputs = match (typed, split) {
        ([output], Some(count)) => part_names(output, count),
        _ => typed.to_vec(),
    };
    let refused = |cause: String, next: &str| {
        Err(Error::new(Kind::Usage, "cannot write a split set").because(cause).next_step(next))
    };
    if outputs.len() < 2 {
        return Ok(outputs);
    }
    if outputs.iter().any(|name| name.as_os_str() == "-") {
        return refused("standard output cannot be one of several files".to_owned(), "name files, or write one dump");
    }
    if outputs.len() > MOST_PARTS {
        return refused(format!("{} files are named, and {MOST_PARTS} are the most", outputs.len()), "name fewer");
    }
    let mut seen = HashSet::new();
    match outputs.iter().find(|name| !seen.insert(*name)) {
        Some(twice) => refused(format!("{} is named twice", twice.display()), "give each part a name of its own"),
        None => Ok(outputs),
    }
}

/// OUTPUT-1 to OUTPUT-N; `-incomplete` stays at the end.
fn part_names(output: &Path, count: u16) -> Vec<PathBuf> {
    let name = match output.file_name() {
        Some(name) if !output.as_os_str().as_bytes().ends_with(b"/") => name,
        // No name of a file: whoever creates it says so.
        _ => return vec![output.to_owned()],
    };
    let bytes = name.as_bytes();
    let (stem, end) = match bytes.strip_suffix(INCOMPLETE.as_bytes()) {
        Some(stem) => (OsStr::from_bytes(stem), INCOMPLETE),
        None => (name, ""),
    };
    let part = |number: u16| {
        let mut name = stem.to_owned();
        name.push(format!("-{number}{end}"));
        output.with_file_name(name)
    };
    // Standard output is refused later, under its own name.
    if output.as_os_str() == "-" { vec![output.to_owned(); 2] } else { (1..=count).map(part).collect() }
}

fn destination(mut names: Vec<PathBuf>) -> Option<Destination> {
    if names.len() > 1 { Some(Destination::Files(names)) } else { names.pop().map(Destination::named) }
}

/// The level to begin with, and those for a dump that does not fit.
fn levels(filter: &Filter, output: Option<&Destination>) -> Result<(DumpLevel, Vec<DumpLevel>)> {
    let Some((first, next)) = filter.dump_level.split_first() else {
        // Who names what to drop wants nothing else dropped.
        return Ok((if filter.selection.drop.is_empty() { DumpLevel::MAX } else { DumpLevel::NONE }, Vec::new()));
    };
    if !next.is_empty() && output == Some(&Destination::StandardOutput) {
        return Err(Error::new(Kind::Usage, "cannot try several dump levels")
            .because("what went to standard output cannot be taken back")
            .next_step("give one level, or name an output file"));
    }
    Ok((*first, next.to_vec()))
}

impl ThreadArgs {
    /// Threads wanted.
    #[must_use]
    pub fn count(self) -> usize {
        threads(self.threads.map(usize::from))
    }
}

impl MemoryArgs {
    /// The limit, bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        memory_limit(self.memory_limit)
    }
}

impl ProgressArgs {
    /// How progress is shown here.
    #[must_use]
    pub fn mode(self) -> Mode {
        mode(self.progress)
    }
}

/// How progress is shown here.
fn mode(style: ProgressStyle) -> Mode {
    match style {
        ProgressStyle::Auto => Mode::detect(),
        ProgressStyle::Bar => Mode::Bar,
        ProgressStyle::Plain => Mode::Plain,
        ProgressStyle::None => Mode::None,
    }
}

/// What a run may use if nothing else was said, bytes.
pub(crate) fn available_memory() -> u64 {
    Opening::usual_limit()
}

/// What a run may use where `said` is what its caller allows, bytes: never more than the process can have.
fn memory_limit(said: Option<u64>) -> u64 {
    said.map_or_else(available_memory, |said| host::mappable_memory().map_or(said, |most| said.min(most)))
}

/// Tells inputs from the outputs: those of `-o`, else the last name. A dry run may go without: then the last name is an
/// input too if it is, like the others, a part of a split dump.
pub(crate) fn told_apart(filter: &Filter) -> Result<(&[PathBuf], &[PathBuf])> {
    let Filter { files, output_args: OutputArgs { output, .. }, .. } = filter;
    if !output.is_empty() {
        return Ok((files, output));
    }
    match files.split_at_checked(files.len().saturating_sub(1)) {
        Some((inputs, output)) if !inputs.is_empty() => {
            let all_parts = || files.iter().all(|path| source::is_part(path));
            if filter.dry_run && all_parts() { Ok((files, &[])) } else { Ok((inputs, output)) }
        }
        _ if filter.dry_run => Ok((files, &[])),
        _ => Err(Error::new(Kind::Usage, "no OUTPUT was named")
            .next_step("vdump filter INPUT OUTPUT, or --dry-run to write nothing; see --help")),
    }
}

/// More threads than this on each CPU only wait for one another and take memory.
const THREADS_PER_CPU: usize = 4;
/// So many are always allowed: to see whether the output depends on it.
const ALWAYS_ALLOWED: usize = 16;

fn threads(wanted: Option<usize>) -> usize {
    let cpus = host::usable_cpus();
    wanted.map_or(cpus, |wanted| wanted.min((cpus * THREADS_PER_CPU).max(ALWAYS_ALLOWED)))
}

/// The output's format and how it is compressed, from the options, else from the output's name as it was typed.
fn format(filter: &Filter, outputs: &[PathBuf], split: usize) -> Result<(Format, Compression)> {
    let named = |path: &PathBuf| by_extension(Some(path));
    // One name of a set that asks for ELF is enough to be refused.
    let elf = outputs.iter().map(named).find(|(format, _)| *format == Format::Elf);
    let (named_format, named_compression) = elf.unwrap_or((Format::Kdump, Compression::None));
    let format = filter.output_args.format.unwrap_or(named_format);
    if format == Format::Elf && outputs.len().max(split) > 1 {
        return Err(Error::new(Kind::Usage, "cannot split an ELF dump")
            .because("no reader puts the parts of one together")
            .next_step("write a split set with -f kdump, or one ELF file"));
    }
    let default = match format {
        Format::Kdump => Compression::DEFAULT_ZSTD,
        Format::Elf => Compression::DEFAULT_FRAME_ZSTD,
    };
    let compression = filter.output_args.compress.map(|asked| asked.or_level_of(default));
    match (format, compression) {
        (Format::Kdump, Some(Compression::Lz4)) => {
            Err(Error::new(Kind::Usage, "a kdump file cannot be compressed with lz4")
                .because("no reader knows it: crash would show garbage")
                .next_step("give -c none, zlib, lzo, snappy or zstd, or write an ELF dump with -f elf"))
        }
        (Format::Kdump, compression) => Ok((format, compression.unwrap_or(default))),
        (Format::Elf, None) => Ok((format, named_compression)),
        (Format::Elf, Some(known)) if known == Compression::None || known.makes_frames() => Ok((format, known)),
        (Format::Elf, Some(other)) => {
            Err(Error::new(Kind::Usage, format!("an ELF dump cannot be compressed with {other}"))
                .because("it is compressed in frames, which only zstd and lz4 have")
                .next_step("give -c none, zstd or lz4, or use -f kdump"))
        }
    }
}

/// What an output's name asks for; it may have any bytes. kdump scripts add `-incomplete` to the name that the dump is to have
/// in the end.
fn by_extension(output: Option<&Path>) -> (Format, Compression) {
    let name = output.map_or(&b""[..], |name| name.as_os_str().as_bytes());
    let name = Path::new(OsStr::from_bytes(name.strip_suffix(INCOMPLETE.as_bytes()).unwrap_or(name)));
    let extension = name.extension().map(|extension| extension.as_bytes().to_ascii_lowercase());
    match extension.as_deref() {
        Some(b"elf") => (Format::Elf, Compression::None),
        // A kdump file is compressed inside: so called, it would mislead every tool.
        Some(b"zst") => (Format::Elf, Compression::DEFAULT_FRAME_ZSTD),
        Some(b"lz4") => (Format::Elf, Compression::Lz4),
        _ => (Format::Kdump, Compression::None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_extension_picks_the_format() {
        for (name, format, compression) in [
            ("a/vmcore", Format::Kdump, Compression::None),
            ("a/vmcore-incomplete", Format::Kdump, Compression::None),
            ("a/vmcore.elf", Format::Elf, Compression::None),
            ("a/vmcore.elf-incomplete", Format::Elf, Compression::None),
            ("a/vmcore.elf.zst", Format::Elf, Compression::DEFAULT_FRAME_ZSTD),
            ("a/vmcore.zst-incomplete", Format::Elf, Compression::DEFAULT_FRAME_ZSTD),
            ("a/vmcore.elf.lz4", Format::Elf, Compression::Lz4),
        ] {
            assert_eq!(by_extension(Some(Path::new(name))), (format, compression), "{name}");
        }
        let foreign = |name: &'static [u8]| by_extension(Some(Path::new(OsStr::from_bytes(name)))).0;
        assert_eq!(foreign(b"vmcore-\xff.elf-incomplete"), Format::Elf);
        assert_eq!(foreign(b"\xff/vmcore.\xff"), Format::Kdump);
    }
}
