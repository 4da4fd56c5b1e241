//! makedumpfile's command line, for scripts that call vdump by that name.
//!
//! Knows its options (makedumpfile(8), 1.7.9) as a table, and what each means here. Must not look at files. Gives the same
//! parsed line that our own spelling gives.

use std::{ffi::OsString, path::PathBuf};

use vdump_filters::{DumpLevel, number};

use super::{
    Cli, Command, Dmesg, Filter, Format, InputArgs, JsonArgs, KernelArgs, Layout, MemoryArgs, Merge, OutputArgs,
    ProgressArgs, ProgressStyle, RedactionArgs, ThreadArgs,
    choosing::SelectionArgs,
    classes::Classes,
    getopt::{Row, Table, Word},
    resolve::Job,
    voice::Dictionary,
};
use crate::{
    codec::Compression,
    error::{Error, Kind, Result},
    klog::CallerColumn,
};

/// What an option does here.
#[derive(Clone, Copy)]
enum Does {
    Compress(Compression),
    Elf,
    Flatten,
    Force,
    Debug,
    DryRun,
    CheckOnly,
    DumpDmesg,
    MemUsage,
    Split,
    Reassemble,
    Rearrange,
    Help,
    Version,
    Level(&'static str),
    Limit(&'static str),
    Messages(&'static str),
    Threads(&'static str),
    Vmlinux,
    LayoutFile,
    Rules,
    WriteLayout,
    /// Has no meaning here any more; why.
    Ignored(&'static str),
    /// The same, with a value.
    IgnoredValue(&'static str),
    /// Cannot be honoured; why, and what to do.
    Refused(&'static str),
    /// The same, with a value.
    RefusedValue(&'static str),
}

/// The bits of --message-level.
mod messages {
    /// The progress indicator.
    pub(super) const PROGRESS: u8 = 1;
    /// What helps to find faults.
    pub(super) const DEBUG: u8 = 8;
    /// All five.
    pub(super) const ALL: u8 = 31;
}

const ONE_SCAN: &str = "struct pages are scanned once, whatever the memory";
const NO_EPPIC: &str = "scripts are not run; say in --config what is to be erased";
const NO_XEN: &str = "Xen dumps are not read";
const NO_SADUMP: &str = "sadump dumps are not read";

/// Every option: short name, long name, what it does.
const OPTIONS: &[Row<Does>] = &[
    (Some('c'), None, Does::Compress(Compression::DEFAULT_ZLIB)),
    (Some('l'), None, Does::Compress(Compression::Lzo)),
    (Some('p'), None, Does::Compress(Compression::Snappy)),
    (Some('z'), None, Does::Compress(Compression::DEFAULT_ZSTD)),
    (Some('d'), None, Does::Level("a dump level")),
    (Some('E'), None, Does::Elf),
    (Some('F'), None, Does::Flatten),
    (Some('f'), None, Does::Force),
    (Some('D'), None, Does::Debug),
    (Some('h'), Some("help"), Does::Help),
    (Some('v'), Some("version"), Does::Version),
    (None, Some("message-level"), Does::Messages("a message level")),
    (None, Some("num-threads"), Does::Threads("a number of threads")),
    (None, Some("dry-run"), Does::DryRun),
    (None, Some("dump-dmesg"), Does::DumpDmesg),
    (None, Some("show-stats"), Does::Ignored("the summary is always shown")),
    (None, Some("check-params"), Does::CheckOnly),
    (None, Some("cyclic-buffer"), Does::IgnoredValue(ONE_SCAN)),
    (None, Some("non-cyclic"), Does::Ignored(ONE_SCAN)),
    (None, Some("work-dir"), Does::IgnoredValue(ONE_SCAN)),
    (None, Some("splitblock-size"), Does::IgnoredValue("the parts are about equally large whatever it says")),
    (Some('b'), None, Does::IgnoredValue("blocks are sized by --memory-limit")),
    (None, Some("non-mmap"), Does::Ignored("mapping falls back to reading by itself")),
    (Some('e'), None, Does::Ignored("the page structures of dropped pages are kept")),
    (Some('L'), Some("limit"), Does::Limit("a size in bytes")),
    (Some('R'), None, Does::Rearrange),
    (None, Some("reassemble"), Does::Reassemble),
    (None, Some("split"), Does::Split),
    (Some('x'), None, Does::Vmlinux),
    (Some('i'), None, Does::LayoutFile),
    (Some('g'), None, Does::WriteLayout),
    (None, Some("config"), Does::Rules),
    (None, Some("eppic"), Does::RefusedValue(NO_EPPIC)),
    (None, Some("extension"), Does::RefusedValue("plugins are not loaded; filter by level")),
    (None, Some("mem-usage"), Does::MemUsage),
    (None, Some("partial-dmesg"), Does::Ignored("the whole log is printed")),
    (None, Some("vtop"), Does::RefusedValue("use crash's vtop")),
    (Some('X'), None, Does::Refused(NO_XEN)),
    (None, Some("xen-syms"), Does::RefusedValue(NO_XEN)),
    (None, Some("xen-vmcoreinfo"), Does::RefusedValue(NO_XEN)),
    (None, Some("xen_phys_start"), Does::RefusedValue(NO_XEN)),
    (None, Some("diskset"), Does::RefusedValue(NO_SADUMP)),
];

/// What `makedumpfile --help` prints.
pub const HELP: &str = "\
This is vdump, called as makedumpfile.

  makedumpfile [-c|-l|-p|-z] [-d LEVEL[,LEVEL]...] [-L SIZE] [-E] [-f] [-x VMLINUX | -i LAYOUT] [--config RULES]
               [--num-threads N] VMCORE DUMPFILE
  makedumpfile -F [-c|-l|-p|-z|-E] [-d LEVEL] VMCORE > STREAM
  makedumpfile -R DUMPFILE < STREAM
  makedumpfile --split [-c|-l|-p|-z] [-d LEVEL] VMCORE DUMPFILE1 DUMPFILE2 ...
  makedumpfile --reassemble DUMPFILE1 DUMPFILE2 ... DUMPFILE
  makedumpfile --dump-dmesg VMCORE LOGFILE
  makedumpfile -F --dump-dmesg VMCORE > LOGFILE
  makedumpfile --dry-run [-d LEVEL] VMCORE
  makedumpfile --check-params OPTIONS...
  makedumpfile --mem-usage /proc/kcore
  makedumpfile -g LAYOUT -x VMLINUX

Options that change nothing are noted, options that cannot be honoured are refused with the reason.
'vdump help' shows what else there is.
";

/// What `makedumpfile -v` prints: the release whose options are taken, in the form in which scripts look for it, and the codecs
/// that can be had, each with its state behind a tab.
pub const VERSION: &str = concat!(
    "makedumpfile: version 1.7.9 (vdump ",
    env!("CARGO_PKG_VERSION"),
    ", called as makedumpfile)\nlzo\tenabled\nsnappy\tenabled\nzstd\tenabled\n\n"
);

/// How makedumpfile spells what errors advise.
const WORDS: Dictionary = Dictionary {
    words: &[
        ("-f elf", "-E"),
        ("-f kdump", "no -E"),
        ("-c none", "none of -c, -l, -p, -z"),
        ("--force", "-f"),
        ("--limit", "-L"),
        ("--dump-level", "-d"),
        ("--compress", "-z"),
        ("--vmlinux", "-x"),
        ("--layout", "-i"),
        ("--redact", "--config"),
        ("--output", "DUMPFILE"),
        ("-j", "--num-threads"),
    ],
    command: "vdump filter",
};

/// The error with makedumpfile's options in its advice.
#[must_use]
pub fn in_their_words(error: Error) -> Error {
    WORDS.translated(error)
}

/// What a line in makedumpfile's spelling asks for.
#[derive(Clone, Debug)]
pub enum Request {
    /// Something that we do; with notes about options that changed nothing.
    Run(Box<Cli>, Vec<String>),
    /// Nothing: the line was only to be checked (`--check-params`), and it makes sense.
    Checked,
    /// How to use it.
    Help,
    /// Which version this is.
    Version,
}

/// Parses the words after the program's name.
///
/// # Errors
/// An unknown option, or one that cannot be honoured; says why.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Request> {
    let mut line = Line::default();
    for word in TABLE.parse(words)? {
        match word {
            Word::Plain(file) => line.files.push(file.into()),
            Word::Option(name, does, value) => line.take(&name, does, value)?,
        }
    }
    line.request()
}

#[derive(Default)]
struct Line {
    compress: Option<Compression>,
    levels: Vec<DumpLevel>,
    limit: Option<u64>,
    split: bool,
    reassemble: bool,
    rearrange: bool,
    elf: bool,
    flatten: bool,
    force: bool,
    verbose: bool,
    dry_run: bool,
    check_only: bool,
    dmesg: bool,
    mem_usage: bool,
    quiet: bool,
    /// Show the dump's VMCOREINFO: openSUSE's kdump-save (in dracut/) has the kernel's release and the crash's time from there.
    debug: bool,
    threads: Option<u16>,
    kernel_args: KernelArgs,
    redaction_args: RedactionArgs,
    write_layout: Option<PathBuf>,
    files: Vec<PathBuf>,
    notes: Vec<String>,
    special: Option<Request>,
}

impl Line {
    fn take(&mut self, name: &str, does: Does, typed: OsString) -> Result<()> {
        let value = typed.to_string_lossy();
        let bad = |what: &str| usage(format!("'{value}' is not {what} for {name}"));
        match does {
            Does::Compress(compression) => self.compress = Some(compression),
            Does::Elf => self.elf = true,
            Does::Flatten => self.flatten = true,
            Does::Force => self.force = true,
            Does::Debug => (self.verbose, self.debug) = (true, true),
            Does::DryRun => self.dry_run = true,
            Does::CheckOnly => self.check_only = true,
            Does::DumpDmesg => self.dmesg = true,
            Does::MemUsage => self.mem_usage = true,
            Does::Split => self.split = true,
            Does::Reassemble => self.reassemble = true,
            Does::Rearrange => self.rearrange = true,
            Does::Limit(what) => self.limit = Some(number::size(&value).map_err(|_| bad(what))?),
            Does::Help => self.special = Some(Request::Help),
            Does::Version => self.special = Some(Request::Version),
            Does::Level(what) => {
                let levels = value.split(',').map(|level| level.trim().parse());
                self.levels = levels.collect::<std::result::Result<_, _>>().map_err(|_| bad(what))?;
            }
            Does::Messages(what) => {
                let bits: Option<u8> = value.parse().ok();
                let bits = bits.filter(|bits| *bits <= messages::ALL).ok_or_else(|| bad(what))?;
                self.quiet = bits & messages::PROGRESS == 0;
                self.debug = bits & messages::DEBUG != 0;
            }
            Does::Threads(what) => self.threads = Some(value.parse().map_err(|_| bad(what))?).filter(|n| *n > 0),
            Does::Vmlinux => self.kernel_args.vmlinux = Some(typed.into()),
            Does::LayoutFile => self.kernel_args.layout = Some(typed.into()),
            Does::Rules => self.redaction_args.redact = Some(typed.into()),
            Does::WriteLayout => self.write_layout = Some(typed.into()),
            Does::Ignored(why) | Does::IgnoredValue(why) => self.notes.push(format!("{name} changes nothing: {why}")),
            Does::Refused(why) | Does::RefusedValue(why) => {
                return Err(Error::new(Kind::Usage, format!("{name} cannot be honoured")).because(why));
            }
        }
        Ok(())
    }

    fn request(mut self) -> Result<Request> {
        if let Some(special) = self.special {
            return Ok(special);
        }
        if self.dry_run && (self.write_layout.is_some() || self.dmesg || self.reassemble || self.rearrange) {
            return Err(Error::new(Kind::Usage, "--dry-run cannot be honoured here")
                .because("-g, -R, --dump-dmesg and --reassemble always write"));
        }
        if let Some(output) = self.write_layout.take() {
            let vmlinux = self.kernel_args.vmlinux.take().ok_or_else(|| usage("-g needs the VMLINUX to read (-x)"))?;
            let (output, force) = (Some(output), self.force);
            let input_args = InputArgs::default();
            let layout = Layout {
                vmlinux: Some(vmlinux),
                btf: None,
                from: None,
                input_args,
                diff: None,
                output,
                force,
                report: JsonArgs::default(),
            };
            return self.ask(Command::Layout(layout));
        }
        let modes = [self.dmesg, self.mem_usage, self.split, self.reassemble, self.rearrange];
        if modes.iter().filter(|mode| **mode).count() > 1 {
            return Err(usage("-R, --dump-dmesg, --mem-usage, --split and --reassemble exclude each other"));
        }
        if self.flatten && (self.mem_usage || self.split || self.reassemble || self.rearrange) {
            return Err(usage("-F cannot be combined with -R, --mem-usage, --split and --reassemble"));
        }
        if self.flatten && self.levels.len() > 1 {
            self.levels.truncate(1);
            self.notes.push("of the levels only the first is used: a stream cannot be taken back".to_owned());
        }
        let command = match &self {
            Self { dmesg: true, .. } => self.log()?,
            Self { mem_usage: true, .. } => self.classes()?,
            Self { reassemble: true, .. } | Self { rearrange: true, .. } => self.merge()?,
            _ => self.filter()?,
        };
        self.ask(command)
    }

    /// What is left to do of a line that makes sense: with --check-params nothing.
    fn ask(self, command: Command) -> Result<Request> {
        if !self.check_only {
            return Ok(Request::Run(Box::new(Cli { command }), self.notes));
        }
        if let Command::Filter(filter) = &command {
            Job::resolve(filter)?;
        }
        Ok(Request::Checked)
    }

    fn log(&self) -> Result<Command> {
        let (input, output) = match self.files.as_slice() {
            [input] if self.flatten => (input, None),
            [input, output] if !self.flatten => (input, Some(output.clone())),
            _ if self.flatten => return Err(usage("-F --dump-dmesg takes one VMCORE, and writes to standard output")),
            _ => return Err(usage("--dump-dmesg takes one VMCORE and one LOGFILE")),
        };
        Ok(Command::Dmesg(Dmesg {
            inputs: vec![input.clone()],
            input_args: InputArgs::default(),
            kernel_args: self.kernel_args.clone(),
            output,
            force: self.force,
            // As since 1.7.5.
            caller: CallerColumn::WhenStored,
            show_vmcoreinfo: self.debug,
        }))
    }

    fn classes(&self) -> Result<Command> {
        let [input] = self.files.as_slice() else {
            return Err(usage("--mem-usage takes one file, /proc/kcore"));
        };
        Ok(Command::Classes(Classes {
            inputs: vec![input.clone()],
            input_args: InputArgs::default(),
            kernel_args: self.kernel_args.clone(),
            zero: false,
            verbose: self.verbose,
            report: JsonArgs::default(),
            threads: ThreadArgs { threads: self.threads },
            memory: MemoryArgs::default(),
            progress: ProgressArgs { progress: self.progress() },
        }))
    }

    fn merge(&self) -> Result<Command> {
        let files = match self.files.as_slice() {
            [output] if self.rearrange => vec!["-".into(), output.clone()],
            _ if self.rearrange => return Err(usage("-R takes one DUMPFILE, and the stream from standard input")),
            [] | [_] => return Err(usage("--reassemble takes the parts and one DUMPFILE")),
            files => files.to_vec(),
        };
        Ok(Command::Merge(Merge {
            files,
            limit: self.limit,
            threads: ThreadArgs { threads: self.threads },
            memory: MemoryArgs::default(),
            report: JsonArgs::default(),
            progress: ProgressArgs { progress: self.progress() },
            force: self.force,
            strict: false,
        }))
    }

    fn filter(&self) -> Result<Command> {
        let (input, outputs) = self.files.split_first().ok_or_else(|| usage("no VMCORE is given"))?;
        if self.elf && self.compress.is_some() {
            return Err(Error::new(Kind::Usage, "-E cannot be combined with -c, -l, -p or -z")
                .because("the pages of an ELF dump are not compressed")
                .next_step("leave out one of them; 'vdump filter -f elf -c zstd' compresses ELF dumps as a whole"));
        }
        let output = match outputs {
            [] if self.flatten => vec!["-".into()],
            [_, ..] if self.flatten => return Err(usage("-F writes to standard output: no DUMPFILE is named")),
            [] if !self.dry_run => return Err(usage("no DUMPFILE is given")),
            [_] if self.split => return Err(usage("--split takes two DUMPFILEs or more")),
            [_, _, ..] if !self.split => return Err(usage("more than one VMCORE and one DUMPFILE are given")),
            outputs => outputs.to_vec(),
        };
        Ok(Command::Filter(Filter {
            files: vec![input.clone()],
            input_args: InputArgs::default(),
            kernel_args: self.kernel_args.clone(),
            redaction_args: self.redaction_args.clone(),
            // makedumpfile's defaults: everything, as it is.
            dump_level: if self.levels.is_empty() { vec![DumpLevel::NONE] } else { self.levels.clone() },
            selection: SelectionArgs::default(),
            output_args: OutputArgs {
                format: Some(if self.elf { Format::Elf } else { Format::Kdump }),
                compress: Some(self.compress.unwrap_or(Compression::None)),
                map_virtual: false,
                split: None,
                output,
                limit: self.limit,
                threads: ThreadArgs { threads: self.threads },
                memory: MemoryArgs::default(),
                report: JsonArgs::default(),
                progress: ProgressArgs { progress: self.progress() },
                force: self.force,
                strict: false,
            },
            dry_run: self.dry_run,
            verbose: self.verbose,
            keep_all: false,
            copy: false,
            flattened: self.flatten,
            show_vmcoreinfo: self.debug,
        }))
    }

    fn progress(&self) -> ProgressStyle {
        if self.quiet { ProgressStyle::None } else { ProgressStyle::Auto }
    }
}

const TABLE: Table<Does> = Table { rows: OPTIONS, takes_value, usage };

fn usage(what: impl Into<String>) -> Error {
    Error::new(Kind::Usage, what).next_step("see makedumpfile(8), or 'vdump help' for our own spelling")
}

fn takes_value(does: Does) -> bool {
    matches!(
        does,
        Does::Level(_)
            | Does::Limit(_)
            | Does::Messages(_)
            | Does::Threads(_)
            | Does::Vmlinux
            | Does::LayoutFile
            | Does::Rules
            | Does::WriteLayout
            | Does::IgnoredValue(_)
            | Does::RefusedValue(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Request> {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn filter(line: &str) -> (Filter, Vec<String>) {
        match parsed(line) {
            Ok(Request::Run(cli, notes)) => match cli.command {
                Command::Filter(filter) => (filter, notes),
                other => panic!("{line}: {other:?}"),
            },
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn what_distributions_put_into_kdump_conf() {
        for (line, level, compress) in [
            ("-l --message-level 7 -d 31 /proc/vmcore /mnt/vmcore-incomplete", 31, Compression::Lzo),
            ("-c --message-level 1 -d 31 /proc/vmcore vmcore", 31, Compression::DEFAULT_ZLIB),
            ("-d 17 -c /proc/vmcore vmcore", 17, Compression::DEFAULT_ZLIB),
            ("-cd31 /proc/vmcore vmcore", 31, Compression::DEFAULT_ZLIB),
            ("-z -d31 --num-threads=4 /proc/vmcore vmcore", 31, Compression::DEFAULT_ZSTD),
            ("/proc/vmcore vmcore", 0, Compression::None),
        ] {
            let (filter, notes) = filter(line);
            assert_eq!((filter.dump_level[0].bits(), filter.output_args.compress), (level, Some(compress)), "{line}");
            assert_eq!(filter.output_args.format, Some(Format::Kdump));
            assert!(notes.is_empty(), "{notes:?}");
        }
    }

    #[test]
    fn what_no_longer_matters_is_noted_and_what_cannot_be_is_refused() {
        let (filter, notes) = filter("--cyclic-buffer 1024 --non-mmap --splitblock-size 9 -E in out");
        assert_eq!(
            (filter.output_args.format, filter.output_args.compress),
            (Some(Format::Elf), Some(Compression::None))
        );
        assert_eq!(notes.len(), 3, "{notes:?}");
        for line in ["-X in out", "--eppic script in out"] {
            let error = parsed(line).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains("cannot be honoured"), "{error}");
        }
    }

    #[test]
    fn rules_are_taken() {
        let (filter, notes) = filter("-d 31 -x vmlinux --config rules in out");
        assert_eq!(
            (filter.redaction_args.redact, filter.kernel_args.vmlinux),
            (Some("rules".into()), Some("vmlinux".into()))
        );
        assert!(notes.is_empty(), "{notes:?}");
    }

    #[test]
    fn nonsense_is_usage() {
        for line in [
            "",
            "in",
            "in a b",
            "-d",
            "-d 1,32 in out",
            "-L x in out",
            "--split in a",
            "-R",
            "-R a b",
            "--reassemble a",
            "-F --split in",
            "-d 32 in out",
            "-q in out",
            "--dry-run --reassemble a b out",
            "--dump-dmesg --dry-run in log",
            "--dry-run -g out -x vmlinux",
            "--no in out",
            "--nonsense in out",
            "--mem-usage",
            "--mem-usage /proc/kcore out",
            "--mem-usage --split /proc/kcore",
            "--help=1",
        ] {
            assert_eq!(parsed(line).map(|_| ()).unwrap_err().exit_code(), 2, "{line}");
        }
        let Ok(Request::Run(cli, notes)) = parsed("--mem-usage -f /proc/kcore") else { panic!() };
        let Command::Classes(classes) = cli.command else { panic!() };
        assert_eq!((classes.inputs.as_slice(), notes.len()), (["/proc/kcore".into()].as_slice(), 0));
        assert!(matches!(parsed("-h"), Ok(Request::Help)));
        assert!(matches!(parsed("-v"), Ok(Request::Version)));
        assert!(matches!(parsed("--dump-d in log"), Ok(Request::Run(..))));
    }
}
