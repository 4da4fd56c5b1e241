//! The command line: what was typed.
//!
//! Knows options and their help. Must not look at files, terminals or CPUs: that is [`resolve`]'s. The parsed line goes to
//! `run`.

pub mod bench;
mod check;
pub mod choosing;
pub mod classes;
pub mod compat;
mod dmesg;
pub mod explain;
mod filter;
mod getopt;
mod info;
pub mod kexec;
mod layout;
pub mod load;
mod options;
pub mod resolve;
pub mod usage;
pub mod vmcore_dmesg;
mod voice;

use std::{ffi::OsStr, path::Path};

use clap::{Parser, Subcommand};

pub use check::Check;
pub use dmesg::Dmesg;
pub use filter::{Convert, Filter, Merge};
pub use info::Info;
pub use layout::Layout;
pub use options::{
    Format, InputArgs, JsonArgs, KernelArgs, MemoryArgs, OutputArgs, ProgressArgs, ProgressStyle, RedactionArgs,
    ThreadArgs,
};

/// Turn a crashed Linux machine's memory into a small dump that engineers can debug
#[derive(Clone, Debug, Parser)]
#[command(name = "vdump", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Whose command line it is, by the name that the program was called by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CalledAs {
    /// Our own.
    Vdump,
    /// makedumpfile(8).
    Makedumpfile,
    /// kexec(8).
    Kexec,
    /// vmcore-dmesg(8).
    VmcoreDmesg,
}

impl CalledAs {
    /// `program`: the first word of the command line.
    #[must_use]
    pub fn of(program: &Path) -> Self {
        match program.file_name().and_then(OsStr::to_str) {
            Some("makedumpfile") => Self::Makedumpfile,
            Some("kexec") => Self::Kexec,
            Some("vmcore-dmesg") => Self::VmcoreDmesg,
            _ => Self::Vdump,
        }
    }
}

/// The subcommands.
#[derive(Clone, Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one in a run")]
pub enum Command {
    /// Write a dump without the pages nobody needs
    Filter(Filter),
    /// Write a dump in another format; keeps every page and needs no knowledge of the kernel
    Convert(Convert),
    /// Put the parts of a split dump together, or a stream in order, without compressing anything again
    Merge(Merge),
    /// Say what a dump is
    Info(Info),
    /// Print the crashed kernel's log
    Dmesg(Dmesg),
    /// Say what memory was used for, and how much of it a dump would have; also of the running kernel (/proc/kcore)
    Classes(classes::Classes),
    /// Tell all about one page: what it was used for, how that is known, and why a dump has it or not
    Explain(explain::Explain),
    /// Load a capture kernel (--panic), or a kernel for the next reboot
    Load(load::Load),
    /// Take back what 'vdump load' loaded: the kernel for the next reboot, or the capture kernel (--panic)
    Unload(load::Unload),
    /// Start the kernel that is loaded for the next reboot, now and without firmware
    Exec(load::Exec),
    /// Say what is reserved and loaded, and whether it still fits this machine
    Status(load::Status),
    /// Write down how a kernel's data structures are laid out, for 'vdump filter --layout', or compare two kernels
    Layout(Layout),
    /// Say whether a dump keeps every rule of its format, and which programs will open it
    Check(Check),
    /// Measure each stage of a dump on this machine, and predict how long dumps take and how large they become
    Bench(bench::Bench),
}

/// What the exit codes of commands that write dumps mean.
const WRITING_CODES: &str = "Exit codes: 0 the dump is written, 1 it is not, 2 wrong usage, 130 stopped by Ctrl-C (SIGINT), \
    143 by SIGTERM, 129 by SIGHUP. OUTPUT-incomplete stays if the device is full or fails, and if a signal comes when a tenth \
    of the pages is written.";

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::codec::Compression;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn levels_of_codecs_may_be_negative() {
        let cli = Cli::try_parse_from(["vdump", "filter", "-c", "zstd:-3", "a", "b"]).unwrap();
        let Command::Filter(filter) = cli.command else { panic!() };
        assert_eq!(filter.output_args.compress, Some(Compression::Zstd(-3)));
    }

    #[test]
    fn only_a_dry_run_needs_no_output() {
        let job = |words: &[&str]| {
            let cli = Cli::try_parse_from([&["vdump", "filter"], words].concat()).unwrap();
            let Command::Filter(filter) = cli.command else { panic!() };
            resolve::Job::resolve(&filter).map(|job| (job.input.paths, job.output))
        };
        assert_eq!(job(&["a"]).unwrap_err().exit_code(), 2);
        let file = |name: &str| resolve::Destination::File(name.into());
        assert_eq!(job(&["a", "b"]), Ok((vec!["a".into()], Some(file("b")))));
        assert_eq!(job(&["a", "b", "c"]), Ok((vec!["a".into(), "b".into()], Some(file("c")))));
        assert_eq!(job(&["--dry-run", "a"]), Ok((vec!["a".into()], None)));
        assert_eq!(job(&["--dry-run", "a", "b.elf"]), Ok((vec!["a".into()], None)));
    }
}
