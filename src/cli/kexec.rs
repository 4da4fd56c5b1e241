//! kexec-tools' command line, for scripts that call vdump by the name `kexec`.
//!
//! Knows its options (kexec(8), 2.0.32) as a table, and what each means here. Must not look at files. Gives the same parsed
//! lines that our own spelling gives, and what to do after a load.

use std::{ffi::OsString, path::PathBuf};

use vdump_filters::number;
use vdump_loader::{
    cmdline,
    corehdr::Class,
    job::Method,
    plan::{Backup, MemoryMap, Mismatch, SerialPort, serial_port},
};

use super::getopt::{Row, Table, Word};
use super::load::{Exec, Load, Unload};
use super::voice::Dictionary;
use crate::error::{Error, Kind, Result};

/// What an option does here.
#[derive(Clone, Copy)]
enum Does {
    /// Says what to do.
    Act(Action),
    /// For a crash.
    Panic,
    Method(Method),
    Append,
    ReuseCommandLine,
    Initrd,
    Debug,
    CoreHeaders(Class),
    MemoryMap,
    Hotplug,
    NoEfi,
    Serial,
    SerialBaud,
    SpeakSerial,
    /// As a matter of course: that is what we do.
    Same,
    /// The kind of image: taken if we load it.
    Type,
    /// Has no meaning here; why.
    Ignored(&'static str),
    /// Cannot be honoured; why, and what to do.
    Refused(&'static str),
    /// The same, with a value.
    RefusedValue(&'static str),
}

/// The things that kexec can be asked to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Action {
    Load,
    Exec,
    LoadAndExec,
    Unload,
    Status,
    CrashSize,
    Help,
    Version,
}

const NO_JUMP_BACK: &str = "the running kernel does not survive a kexec here";
const NO_XEN: &str = "Xen is not supported";
const ONLY_LINUX: &str = "only Linux kernels are loaded, at their 64-bit entry";
const PLACED: &str = "segments are placed where the reserved memory is; 'vdump load --dry-run' shows where";

/// Every option: short name, long name, what it does.
const OPTIONS: &[Row<Does>] = &[
    (Some('l'), Some("load"), Does::Act(Action::Load)),
    (Some('p'), Some("load-panic"), Does::Panic),
    (Some('e'), Some("exec"), Does::Act(Action::Exec)),
    (Some('f'), Some("force"), Does::Act(Action::LoadAndExec)),
    (Some('u'), Some("unload"), Does::Act(Action::Unload)),
    (Some('S'), Some("status"), Does::Act(Action::Status)),
    (Some('h'), Some("help"), Does::Act(Action::Help)),
    (Some('?'), None, Does::Act(Action::Help)),
    (Some('v'), Some("version"), Does::Act(Action::Version)),
    (None, Some("print-ckr-size"), Does::Act(Action::CrashSize)),
    (Some('s'), Some("kexec-file-syscall"), Does::Method(Method::File)),
    (Some('c'), Some("kexec-syscall"), Does::Method(Method::Segments)),
    (Some('a'), Some("kexec-syscall-auto"), Does::Method(Method::Auto)),
    (Some('d'), Some("debug"), Does::Debug),
    (None, Some("append"), Does::Append),
    (None, Some("command-line"), Does::Append),
    (None, Some("reuse-cmdline"), Does::ReuseCommandLine),
    (None, Some("initrd"), Does::Initrd),
    (None, Some("ramdisk"), Does::Initrd),
    (None, Some("elf64-core-headers"), Does::CoreHeaders(Class::Elf64)),
    (None, Some("elf32-core-headers"), Does::CoreHeaders(Class::Elf32)),
    (None, Some("pass-memmap-cmdline"), Does::MemoryMap),
    (None, Some("hotplug"), Does::Hotplug),
    (None, Some("noefi"), Does::NoEfi),
    (None, Some("serial"), Does::Serial),
    (None, Some("serial-baud"), Does::SerialBaud),
    (None, Some("console-serial"), Does::SpeakSerial),
    (Some('t'), Some("type"), Does::Type),
    (None, Some("args-linux"), Does::Same),
    (Some('x'), Some("no-ifdown"), Does::Same),
    (None, Some("no-cma"), Does::Ignored("no memory of the running kernel's allocator is taken")),
    (Some('y'), Some("no-sync"), Does::Ignored("file systems are always synced")),
    (Some('i'), Some("no-checks"), Does::Ignored("what was loaded is always verified")),
    (None, Some("console-vga"), Does::Ignored("the purgatory speaks on a serial port only")),
    (None, Some("reset-vga"), Does::Ignored("the next kernel sets up its screen itself")),
    (None, Some("reuse-video-type"), Does::Ignored("the screen's type is always passed on")),
    (None, Some("mem-min"), Does::RefusedValue(PLACED)),
    (None, Some("mem-max"), Does::RefusedValue(PLACED)),
    (None, Some("entry"), Does::RefusedValue(NO_JUMP_BACK)),
    (None, Some("load-preserve-context"), Does::Refused(NO_JUMP_BACK)),
    (None, Some("load-jump-back-helper"), Does::Refused(NO_JUMP_BACK)),
    (None, Some("load-live-update"), Does::Refused(NO_XEN)),
    (None, Some("exec-live-update"), Does::Refused(NO_XEN)),
    (None, Some("reuseinitrd"), Does::Refused("give the initrd by --initrd=FILE")),
    (None, Some("dtb"), Does::RefusedValue("the running machine's device tree is used")),
    (None, Some("force-dtb"), Does::Refused("the running machine's device tree is used")),
    (None, Some("args-elf"), Does::Refused(ONLY_LINUX)),
    (None, Some("args-none"), Does::Refused(ONLY_LINUX)),
    (None, Some("module"), Does::RefusedValue(ONLY_LINUX)),
    (None, Some("entry-32bit"), Does::Refused(ONLY_LINUX)),
    (None, Some("real-mode"), Does::Refused(ONLY_LINUX)),
];

/// What `kexec --help` prints.
pub const HELP: &str = "\
This is vdump, called as kexec.

  kexec -l KERNEL [--initrd=FILE] [--append=STRING] [--reuse-cmdline]      for the next reboot
  kexec -p KERNEL [--initrd=FILE] [--append=STRING] [--reuse-cmdline]      for a crash
  kexec -e | kexec -f KERNEL ... | kexec KERNEL ...       start it: now; loaded first; after stopping the services
  kexec -u [-p]                                            unload
  kexec -S [-l]                                            exit code 1: a capture kernel (-l: a next kernel) is loaded

  -s by file, -c by segments, -a by file and else by segments (the default), -d more messages in the kernel's log,
  --hotplug, --elf32-core-headers, --elf64-core-headers, --pass-memmap-cmdline, --noefi, --console-serial, --serial=PORT,
  --serial-baud=SPEED, --print-ckr-size

Options that change nothing are noted, options that cannot be honoured are refused with the reason.
'vdump help' shows what else there is.
";

/// How kexec spells what errors advise.
const WORDS: Dictionary = Dictionary {
    words: &[
        ("--memory-map e820", "no --pass-memmap-cmdline"),
        ("--memory-map exactmap", "--pass-memmap-cmdline"),
        ("--core-headers 32", "--elf32-core-headers"),
        ("--core-headers", "--elf32-core-headers"),
        ("--memory-map", "--pass-memmap-cmdline"),
        ("--method segments", "-c"),
        ("--method file", "-s"),
        ("--panic", "-p"),
        ("--debug", "-d"),
    ],
    command: "vdump load",
};

/// The error with kexec's options in its advice.
#[must_use]
pub fn in_their_words(error: Error) -> Error {
    WORDS.translated(error)
}

/// What a line in kexec-tools' spelling asks for.
#[derive(Clone, Debug)]
pub enum Request {
    /// Load, then go on as said.
    Load(Box<Load>, Then),
    /// Unload.
    Unload(Unload),
    /// Start what is loaded.
    Exec(Exec),
    /// Exit with 1 if something is loaded: a capture kernel, or a next kernel.
    Status {
        /// Whether the capture kernel is meant.
        panic: bool,
    },
    /// Print the reserved bytes.
    CrashSize,
    /// How to use it.
    Help,
    /// Which version this is.
    Version,
}

/// What follows a load.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Then {
    /// Nothing.
    Stop,
    /// Start it at once.
    Exec,
    /// Start it after services were stopped.
    Orderly,
}

/// Parses the words after the program's name; also gives notes about options that changed nothing.
///
/// # Errors
/// An unknown option, or one that cannot be honoured; says why.
pub fn parse(words: impl IntoIterator<Item = OsString>) -> Result<(Request, Vec<String>)> {
    let mut line = Line::default();
    for word in TABLE.parse(words)? {
        match word {
            Word::Plain(file) => line.files.push(file.into()),
            Word::Option(name, does, value) => line.take(&name, does, value)?,
        }
    }
    let notes = std::mem::take(&mut line.notes);
    line.request().map(|(request, more)| (request, [notes, more].concat()))
}

#[derive(Default)]
struct Line {
    actions: Vec<Action>,
    panic: bool,
    method: Option<Method>,
    append: String,
    reuse: bool,
    initrd: Option<PathBuf>,
    debug: bool,
    core_headers: Option<Class>,
    exact_map: bool,
    hotplug: bool,
    no_efi: bool,
    speaks: bool,
    serial: Option<SerialPort>,
    baud: Option<u32>,
    files: Vec<PathBuf>,
    notes: Vec<String>,
}

impl Line {
    fn take(&mut self, name: &str, does: Does, typed: OsString) -> Result<()> {
        let value = typed.to_string_lossy();
        let bad = |what: &str| usage(format!("'{value}' is not {what} for {name}"));
        match does {
            Does::Act(action) => self.actions.push(action),
            Does::Panic => self.panic = true,
            Does::Method(method) => self.method = Some(method),
            // A part of it, or another one, is not what the next kernel is to be started with.
            Does::Append => self.append = typed.into_string().map_err(|_| usage(format!("{name} is not UTF-8")))?,
            Does::ReuseCommandLine => self.reuse = true,
            Does::Initrd => self.initrd = Some(typed.into()),
            Does::Debug => self.debug = true,
            Does::CoreHeaders(class) => self.core_headers = Some(class),
            Does::MemoryMap => self.exact_map = true,
            Does::Hotplug => self.hotplug = true,
            Does::NoEfi => self.no_efi = true,
            Does::Serial => self.serial = Some(serial_port(&value).ok_or_else(|| bad("a serial port"))?),
            Does::SerialBaud => {
                let speed = number::decimal(&value).and_then(|speed| u32::try_from(speed).ok());
                self.baud = Some(speed.ok_or_else(|| bad("a speed"))?);
            }
            Does::SpeakSerial => self.speaks = true,
            Does::Type => check_type(&value)?,
            Does::Same => {}
            Does::Ignored(why) => self.notes.push(format!("{name} changes nothing: {why}")),
            Does::Refused(why) | Does::RefusedValue(why) => {
                return Err(Error::new(Kind::Usage, format!("{name} cannot be honoured")).because(why));
            }
        }
        Ok(())
    }

    /// The last action counts, but for those that kexec lets win: help, version, status.
    fn action(&self) -> Option<Action> {
        let winners = [Action::Help, Action::Version, Action::CrashSize, Action::Status, Action::Unload];
        let winner = winners.into_iter().find(|winner| self.actions.contains(winner));
        winner.or_else(|| self.actions.last().copied())
    }

    fn request(self) -> Result<(Request, Vec<String>)> {
        let normal = self.actions.contains(&Action::Load) && !self.panic;
        let request = match self.action() {
            Some(Action::Help) => Request::Help,
            Some(Action::Version) => Request::Version,
            Some(Action::CrashSize) => Request::CrashSize,
            Some(Action::Status) => Request::Status { panic: !normal },
            Some(Action::Unload) => {
                Request::Unload(Unload { panic: self.panic, method: self.method.unwrap_or(Method::Auto) })
            }
            Some(Action::Exec) if self.files.is_empty() => Request::Exec(Exec { orderly: false }),
            Some(Action::LoadAndExec | Action::Exec) => return self.load(Then::Exec),
            Some(Action::Load) => return self.load(Then::Stop),
            None if self.panic => return self.load(Then::Stop),
            None if self.files.is_empty() => return Err(no_kernel()),
            None => return self.load(Then::Orderly),
        };
        Ok((request, Vec::new()))
    }

    fn load(self, then: Then) -> Result<(Request, Vec<String>)> {
        let mut notes = Vec::new();
        let kernel = self.files.into_iter().next().ok_or_else(no_kernel)?;
        let method = self.method.unwrap_or(Method::Auto);
        let mut serial = self.serial.filter(|_| self.speaks).or_else(|| serial_port("ttyS0").filter(|_| self.speaks));
        if let (Some(port), Some(baud)) = (&mut serial, self.baud) {
            port.baud = baud;
        }
        let mut core_headers = self.core_headers.filter(|_| self.panic);
        let mut exact_map = self.exact_map && self.panic;
        if method == Method::File && (serial.is_some() || exact_map || core_headers == Some(Class::Elf32)) {
            notes.push("with -s the running kernel decides about core headers, memory map and messages".to_owned());
            (serial, core_headers, exact_map) = (None, None, false);
        }
        let mut append = self.append;
        if self.no_efi && !cmdline::has(&append, "noefi") {
            append = cmdline::prefixed(&["noefi".to_owned()], &append);
        }
        let load = Load {
            kernel,
            panic: self.panic,
            initrd: self.initrd,
            append,
            reuse_cmdline: self.reuse,
            method,
            core_headers: core_headers.unwrap_or_default(),
            backup: Backup::default(),
            memory_map: if exact_map { MemoryMap::Exactmap } else { MemoryMap::default() },
            hotplug: self.hotplug && self.panic,
            serial,
            on_mismatch: Mismatch::default(),
            debug_port: false,
            dry_run: false,
            json: false,
            root: "/".into(),
            debug: self.debug,
        };
        Ok((Request::Load(Box::new(load), if self.panic { Then::Stop } else { then }), notes))
    }
}

/// The kinds of image that are loaded, by kexec's names for them (kexec/arch/*/kexec-*.c: `file_type`). An image is told by what
/// is in it, whatever its kind is said to be.
const TAKEN_TYPES: [&str; 7] = ["bzImage64", "bzImage", "elf-x86_64", "vmlinux", "Image", "vmlinuz", "zImage"];

fn check_type(value: &str) -> Result<()> {
    if TAKEN_TYPES.contains(&value) {
        return Ok(());
    }
    // Not a matter of usage: kexec too says so by its exit code for what it cannot load.
    Err(Error::input(format!("cannot load a kernel of type '{value}'"))
        .because(ONLY_LINUX)
        .next_step("give -t bzImage64 or -t elf-x86_64, or leave out -t: the image itself tells"))
}

/// kexec has another exit code for this than for an option that it does not know.
fn no_kernel() -> Error {
    Error::input("no kernel is given").next_step("see kexec(8), or 'vdump help load' for our own spelling")
}

fn usage(what: impl Into<String>) -> Error {
    Error::new(Kind::Usage, what).next_step("see kexec(8), or 'vdump help load' for our own spelling")
}

const TABLE: Table<Does> = Table { rows: OPTIONS, takes_value, usage };

fn takes_value(does: Does) -> bool {
    use Does::{Append, Initrd, RefusedValue, Serial, SerialBaud, Type};
    matches!(does, Append | Initrd | RefusedValue(_) | Serial | SerialBaud | Type)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<(Request, Vec<String>)> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[track_caller]
    fn load(line: &str) -> (Load, Then) {
        match parsed(line) {
            Ok((Request::Load(load, then), notes)) => {
                assert!(notes.is_empty(), "{line}: {notes:?}");
                (*load, then)
            }
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn what_distributions_kdump_scripts_say() {
        // kdump-utils, Debian's kdump-config, openSUSE's kdump.
        let (fedora, then) = load("-s -d -p --command-line=quiet --initrd=/boot/initramfs /boot/vmlinuz");
        assert_eq!((fedora.method, fedora.panic, then), (Method::File, true, Then::Stop));
        assert_eq!((fedora.append.as_str(), fedora.debug), ("quiet", true));
        let (debian, _) = load("-p --args-linux --elf64-core-headers --append=irqpoll --initrd=/i /k");
        assert_eq!((debian.method, debian.core_headers), (Method::Auto, Class::Elf64));
        let (suse, _) = load("-p -a /boot/vmlinuz --append=x --initrd=/i");
        assert_eq!((suse.method, suse.kernel), (Method::Auto, "/boot/vmlinuz".into()));
        let (reboot, then) = load("-l /k --reuse-cmdline --initrd /i -tbzImage64");
        assert_eq!((reboot.panic, reboot.reuse_cmdline, then), (false, true, Then::Stop));
        assert_eq!(load("-f /k").1, Then::Exec);
        assert_eq!(load("/k").1, Then::Orderly);
    }

    #[test]
    fn actions_win_as_in_kexec() {
        for (line, panic) in [("-S", true), ("-S -p", true), ("-l -S", false)] {
            let Ok((Request::Status { panic: asked }, _)) = parsed(line) else { panic!("{line}") };
            assert_eq!(asked, panic, "{line}");
        }
        let Ok((Request::Unload(unload), _)) = parsed("-p -u -s") else { panic!() };
        assert_eq!((unload.panic, unload.method), (true, Method::File));
        assert!(matches!(parsed("-e -x"), Ok((Request::Exec(_), _))));
        assert!(matches!(parsed("--print-ckr-size"), Ok((Request::CrashSize, _))));
    }

    #[test]
    fn what_cannot_be_is_refused_and_what_changes_nothing_is_noted() {
        for line in ["--mem-max=1 -p k", "--load-preserve-context k", "--args-elf -p k", "--no", "-Z"] {
            assert_eq!(parsed(line).unwrap_err().kind(), Kind::Usage, "{line}");
        }
        for line in ["", "-l", "-p", "-f", "-d", "-s -l", "-t multiboot2-x86 -l k", "-t nosuch -l k"] {
            assert_eq!(parsed(line).unwrap_err().kind(), Kind::Input, "{line}");
        }
        let (_, notes) = parsed("-l -i -y k").unwrap();
        assert_eq!(notes.len(), 2, "{notes:?}");
        let (request, notes) = parsed("-s -p --console-serial k").unwrap();
        assert!(matches!(request, Request::Load(load, _) if load.serial.is_none()) && notes.len() == 1);
    }

    #[test]
    fn a_serial_console_has_a_speed() {
        let (load, _) = load("-p --console-serial --serial=0x2f8 --serial-baud=9600 k");
        assert_eq!(load.serial, Some(SerialPort { port: 0x2f8, baud: 9600 }));
    }
}
