//! From what was typed to what will be done: here files, terminals, memory and CPUs are looked at.
//!
//! Knows defaults. Must not do the work. The [`Job`] goes to `run`.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use vdump_filters::DumpLevel;

use super::{Filter, Format, Knowing, ProgressStyle};
use crate::{
    codec::Compression,
    error::{Error, Kind, Result},
    report::Mode,
    source,
    sys::host,
};

/// Assumed where the host does not say how much memory it has.
const UNKNOWN_MEMORY: u64 = 64 << 20;

/// A filter run with every default decided.
#[derive(Clone, Debug)]
pub struct Job {
    /// The input: one file, or all parts of a split dump.
    pub inputs: Vec<PathBuf>,
    /// The output; `None` in a dry run.
    pub output: Option<Destination>,
    /// What to drop.
    pub level: DumpLevel,
    /// What is known about the kernel besides.
    pub knowing: Knowing,
    /// The output format.
    pub format: Format,
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
    /// Print the report as JSON.
    pub json: bool,
    /// Explain.
    pub verbose: bool,
    /// Keep every page without asking what it was used for.
    pub keep_all: bool,
}

/// Where the dump goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Destination {
    /// A file.
    File(PathBuf),
    /// Standard output, in one pass.
    StandardOutput,
}

impl Destination {
    /// `-` is standard output.
    fn named(name: PathBuf) -> Self {
        if name.as_os_str() == "-" { Self::StandardOutput } else { Self::File(name) }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(name) => name.display().fmt(f),
            Self::StandardOutput => f.write_str("-"),
        }
    }
}

impl Job {
    /// Decides what was left open.
    ///
    /// # Errors
    /// Options that contradict each other.
    pub fn resolve(filter: &Filter) -> Result<Self> {
        let (inputs, named) = names(filter)?;
        let output = named.filter(|_| !filter.dry_run).map(|name| Destination::named(name.to_owned()));
        let (format, compression) = format(filter, named)?;
        if filter.writing.json && output == Some(Destination::StandardOutput) {
            return Err(Error::new(Kind::Usage, "cannot print the report as JSON")
                .because("standard output has the dump")
                .next_step("leave out --json (the summary is on standard error), or name an output file"));
        }
        let progress = match filter.writing.progress {
            ProgressStyle::Auto => Mode::detect(),
            ProgressStyle::Bar => Mode::Bar,
            ProgressStyle::Plain => Mode::Plain,
            ProgressStyle::None => Mode::None,
        };
        let available = || host::available_memory(Path::new("/")).map_or(UNKNOWN_MEMORY, |bytes| bytes / 2);
        Ok(Self {
            inputs: inputs.to_vec(),
            output,
            level: filter.dump_level,
            knowing: filter.knowing.clone(),
            format,
            compression,
            threads: threads(filter.writing.threads.map(usize::from)),
            memory_limit: filter.writing.memory_limit.unwrap_or_else(available),
            progress,
            force: filter.writing.force,
            strict: filter.writing.strict,
            json: filter.writing.json,
            verbose: filter.verbose,
            keep_all: filter.keep_all,
        })
    }
}

/// Tells inputs from the output, which is last. A dry run may go without: then the last name is an input too if it is, like
/// the others, a part of a split dump.
fn names(filter: &Filter) -> Result<(&[PathBuf], Option<&Path>)> {
    match filter.files.split_last() {
        Some((output, inputs)) if !inputs.is_empty() => {
            let all_parts = || filter.files.iter().all(|path| source::is_part(path));
            if filter.dry_run && all_parts() { Ok((&filter.files, None)) } else { Ok((inputs, Some(output))) }
        }
        _ if filter.dry_run => Ok((&filter.files, None)),
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

/// The output's format and how it is compressed, from the options, else from the output's name.
fn format(filter: &Filter, output: Option<&Path>) -> Result<(Format, Compression)> {
    let (named_format, named_compression) = by_extension(output);
    let format = filter.writing.format.unwrap_or(named_format);
    let default = match format {
        Format::Kdump => Compression::DEFAULT_ZSTD,
        Format::Elf => Compression::DEFAULT_FRAME_ZSTD,
    };
    let compression = filter.writing.compress.map(|asked| asked.or_level_of(default));
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

/// What an output's name asks for. kdump scripts add `-incomplete` to the name that the dump is to have in the end.
fn by_extension(output: Option<&Path>) -> (Format, Compression) {
    let name = output.and_then(Path::to_str).map(|name| name.strip_suffix("-incomplete").unwrap_or(name));
    let extension = name.map(Path::new).and_then(Path::extension).and_then(|extension| extension.to_str());
    match extension.map(str::to_ascii_lowercase).as_deref() {
        Some("elf") => (Format::Elf, Compression::None),
        // A kdump file is compressed inside: so called, it would mislead every tool.
        Some("zst") => (Format::Elf, Compression::DEFAULT_FRAME_ZSTD),
        Some("lz4") => (Format::Elf, Compression::Lz4),
        _ => (Format::Kdump, Compression::None),
    }
}

/// Reads `64M`, `1.5G`, `65536`; units are powers of 1024.
///
/// # Errors
/// The text is not a size.
pub fn parse_size(text: &str) -> std::result::Result<u64, String> {
    let bad = || format!("'{text}' is not a size: give bytes, or a number with K, M, G or T");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let shift = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => 0,
        "K" | "KB" | "KIB" => 10,
        "M" | "MB" | "MIB" => 20,
        "G" | "GB" | "GIB" => 30,
        "T" | "TB" | "TIB" => 40,
        _ => return Err(bad()),
    };
    if let Ok(whole) = digits.parse::<u64>() {
        return whole.checked_mul(1 << shift).ok_or_else(bad);
    }
    let value: f64 = digits.parse().map_err(|_| bad())?;
    let bytes = value * (1u64 << shift) as f64;
    if bytes.is_finite() && (0.0..u64::MAX as f64).contains(&bytes) { Ok(bytes as u64) } else { Err(bad()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, bytes) in [("65536", 65536), ("64M", 64 << 20), ("1.5g", 3 << 29), ("2KiB", 2048)] {
            assert_eq!(parse_size(text), Ok(bytes));
        }
        for text in ["", "M", "64X", "-1", "99999999999999999T", "1e400", "nan"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }

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
    }
}
