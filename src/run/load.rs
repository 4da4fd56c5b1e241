//! `vdump load`, `unload`, `exec` and `status`: the loader behind the command line.
//!
//! Knows how a typed line becomes the loader's job, and how its answers are printed. The work is the loader's.

mod show;

use std::{ffi::OsString, path::Path, process};

use vdump_loader::{
    self as loader, arm, cmdline,
    errno::Call,
    host::{Host, Loaded},
    job::{Job, Prepared},
    plan,
};

use crate::{
    cli::kexec::{self, Request, Then},
    cli::load::{Exec, Load, Status, Unload},
    error::{Error, Kind, Result},
    report::Head,
};

/// The machine that we run on.
const HERE: &str = "/";

/// The loader's error as the program's.
fn refused(error: loader::Error) -> Error {
    let kind = match error.kind {
        loader::Kind::Usage => Kind::Usage,
        loader::Kind::Input | loader::Kind::Kernel => Kind::Input,
    };
    Error::with_message(kind, error.message)
}

pub(super) fn load(options: &Load) -> Result<()> {
    let job = job(options)?;
    let host = Host::read(&options.root).map_err(refused)?;
    let prepared = Prepared::read(job, &host).map_err(refused)?;
    if options.dry_run {
        return dry_run(options, &host, &prepared);
    }
    let outcome = arm::load(Path::new(HERE), &host, &prepared).map_err(refused)?;
    say_notes(&outcome.notes);
    Ok(())
}

fn dry_run(options: &Load, host: &Host, prepared: &Prepared) -> Result<()> {
    let ways = arm::ways(&prepared.job).map_err(refused)?;
    let mut plan = prepared.plan(host).map_err(refused)?;
    if ways.first() == Some(&Call::File) {
        let places =
            "by file the running kernel places all this itself, in about the same way; this is --method segments";
        plan.notes.push(places.to_owned());
    }
    if options.root == Path::new(HERE) {
        prepared.check_machine().map_err(refused)?;
    }
    if options.json {
        return super::print_json(&Head::new("load", &[&options.kernel]), &plan);
    }
    super::print(|out| show::plan(out, &plan))
}

/// Notes go where errors go: standard output is for what was asked for.
fn say_notes(notes: &[String]) {
    notes.iter().for_each(|note| super::note(note));
}

fn job(options: &Load) -> Result<Job> {
    let running = if options.reuse_cmdline {
        let path = options.root.join("proc/cmdline");
        Some(std::fs::read_to_string(&path).map_err(|error| Error::io(&path, "read", &error))?)
    } else {
        None
    };
    let line = cmdline::joined(running.as_deref(), &options.append, options.panic);
    Ok(Job {
        kernel: absolute(&options.kernel),
        initrd: options.initrd.as_deref().map(absolute),
        command_line: if options.panic { cmdline::for_capture(&line) } else { line },
        method: options.method,
        options: plan::Options {
            panic: options.panic,
            core_headers: options.core_headers,
            backup: options.backup,
            memory_map: options.memory_map,
            hotplug: options.hotplug,
            serial: options.serial,
            debug_port: options.debug_port,
            on_mismatch: options.on_mismatch,
        },
        debug: options.debug,
    })
}

/// The path may be needed again, from another folder: after a failed load the last good one is loaded again.
fn absolute(path: &Path) -> std::path::PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

pub(super) fn unload(options: &Unload) -> Result<()> {
    if !arm::unload(Path::new(HERE), options.panic, options.method).map_err(refused)? {
        say_notes(&["nothing was loaded".to_owned()]);
    }
    Ok(())
}

pub(super) fn exec(options: &Exec) -> Result<()> {
    if options.orderly {
        return orderly();
    }
    arm::exec(Path::new(HERE)).map_err(refused)
}

/// Leaves stopping the services to the program that started them.
fn orderly() -> Result<()> {
    arm::check_exec(Path::new(HERE)).map_err(refused)?;
    let failed = |cause: String| {
        Error::input("cannot stop the services in order")
            .because(cause)
            .next_step("stop them yourself, then use 'vdump exec' without --orderly")
    };
    if !Path::new("/run/systemd/system").is_dir() {
        return Err(failed("systemd does not run here".to_owned()));
    }
    let status = process::Command::new("systemctl").arg("kexec").status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(failed(format!("systemctl kexec ended with {status}"))),
        Err(error) => Err(failed(crate::error::plain_io(&error))),
    }
}

pub(super) fn status(options: &Status) -> Result<()> {
    let status = loader::status::Status::read(&options.root).map_err(refused)?;
    if options.report.json {
        super::print_json(&Head::new("status", &[&options.root; 0]), &status)?;
    } else {
        super::print(|out| show::status(out, &status))?;
    }
    if status.ready { Ok(()) } else { Err(Error::new(Kind::Said, "no capture kernel is ready")) }
}

/// What kexec exits with when it could not do what it was asked for: -1, and 1 when it was not understood.
const KEXEC_FAILED: u8 = 255;
const KEXEC_USAGE: u8 = 1;

pub(super) fn as_kexec(words: impl Iterator<Item = OsString>) -> u8 {
    match kexec::parse(words).and_then(|(request, notes)| {
        say_notes(&notes);
        kexec_request(&request)
    }) {
        Ok(code) => code,
        Err(error) => {
            super::complain(&kexec::in_their_words(error.clone()));
            if error.kind() == Kind::Usage { KEXEC_USAGE } else { KEXEC_FAILED }
        }
    }
}

/// kexec takes a kernel that cannot be opened for a matter of usage.
fn unreadable(kernel: &Path) -> Option<Error> {
    std::fs::File::open(kernel).err().map(|error| Error::io(kernel, "open", &error).next_step("check the path"))
}

fn kexec_request(request: &Request) -> Result<u8> {
    match request {
        Request::Load(options, then) => {
            if let Some(error) = unreadable(&options.kernel) {
                super::complain(&error);
                return Ok(KEXEC_USAGE);
            }
            load(options)?;
            match then {
                Then::Stop => {}
                Then::Exec => exec(&Exec { orderly: false })?,
                Then::Orderly => exec(&Exec { orderly: true })?,
            }
        }
        Request::Unload(options) => unload(options)?,
        Request::Exec(options) => exec(options)?,
        Request::Status { panic } => {
            let loaded = Loaded::read(Path::new(HERE));
            let flag = if *panic { loaded.crash } else { loaded.normal };
            let unknown = || Error::input("cannot tell what is loaded").because("this kernel has no kexec");
            return flag.map(u8::from).ok_or_else(unknown);
        }
        Request::CrashSize => {
            let size = Host::read(Path::new(HERE))
                .map_err(refused)?
                .iomem
                .crash_kernel()
                .last()
                .map_or(0, loader::range::Range::len);
            super::print(|out| writeln!(out, "{size}"))?;
        }
        Request::Help => super::print(|out| out.write_all(kexec::HELP.as_bytes()))?,
        Request::Version => super::print(|out| {
            writeln!(out, "kexec-tools 2.0.32 (vdump {}, called as kexec)", env!("CARGO_PKG_VERSION"))
        })?,
    }
    Ok(0)
}
