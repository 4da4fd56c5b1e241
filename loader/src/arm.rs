//! Loading, unloading, and starting what is loaded.
//!
//! Knows the order: every check, then the system call, then the proof that it worked; and after a failure the last good
//! kernel again, because a failed load has dropped it. Must not know file formats or placement.

use std::{ffi::CString, io, os::fd::AsFd as _, path::Path, thread, time::Duration};

use crate::{
    corehdr::Class,
    errno::{self, Attempt, Call, Doing},
    error::{Error, Kind, Result, plain_io},
    host::{Host, Loaded},
    image::Machine,
    job::{Job, Method, Prepared},
    options::{Backup, MemoryMap, Mismatch, Options},
    plan::Plan,
    state::{Record, State},
    sys::{self, Piece},
};

/// Tries while another load or a hotplug update holds the kernel's lock, and the pause between them.
const BUSY_TRIES: u32 = 30;
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// What a load did.
#[derive(Debug)]
pub struct Outcome {
    /// How the kernel was handed over.
    pub method: Method,
    /// What the user should know.
    pub notes: Vec<String>,
}

/// Options that only a load by segments can honour.
#[must_use]
pub fn needs_segments(options: &Options) -> Option<&'static str> {
    let default = Options::default();
    [
        (options.core_headers == Class::Elf32, "--core-headers 32"),
        (options.backup == Backup::Always, "--backup always"),
        (options.memory_map == MemoryMap::Exactmap, "--memory-map exactmap"),
        (options.serial != default.serial, "--serial"),
        (options.debug_port, "--debug-port"),
        (options.on_mismatch == Mismatch::Reboot, "--on-mismatch reboot"),
    ]
    .into_iter()
    .find_map(|(given, name)| given.then_some(name))
}

/// The ways to try, in order.
///
/// # Errors
/// When an option and the method exclude each other.
pub fn ways(job: &Job) -> Result<&'static [Call]> {
    let segments_only = needs_segments(&job.options);
    match (job.method, segments_only) {
        (Method::File, Some(option)) => Err(Error::usage(format!("{option} cannot be honoured with --method file"))
            .because("the running kernel makes that part itself then")
            .next_step("use --method segments, or leave the option out")),
        (Method::File, None) => Ok(&[Call::File]),
        (Method::Segments, _) | (Method::Auto, Some(_)) => Ok(&[Call::Segments]),
        (Method::Auto, None) => Ok(&[Call::File, Call::Segments]),
    }
}

/// Loads a kernel on this machine, `host`, whose files are under `root`.
///
/// # Errors
/// What is wrong with the request, the files or the machine, before anything is changed; or what the kernel refused, and
/// whether the machine is still armed.
pub fn load(root: &Path, host: &Host, prepared: &Prepared) -> Result<Outcome> {
    let ways = ways(&prepared.job)?;
    prepared.check_machine()?;
    let before = known(root)?;
    let plan = prepared.plan(host)?;
    let ways: &[Call] = match prepared.kernel.image.machine() {
        Machine::Arm64 if ways.contains(&Call::File) => &[Call::File],
        Machine::Arm64 => return Err(Error::usage("arm64 kernels are loaded with --method file only")),
        Machine::X86_64 => ways,
    };
    let denied = |call: &Call| errno::foresee(root, &attempt(*call, &plan)).err();
    let foreseen: Vec<Error> = ways.iter().filter_map(denied).collect();
    if foreseen.len() == ways.len()
        && let Some(error) = foreseen.into_iter().next_back()
    {
        return Err(error);
    }
    let mut notes = plan.notes.clone();
    // From here to the record or the old kernel loaded again nothing may end us: the machine would be left disarmed.
    let _held = sys::hold_signals();
    match try_ways(root, prepared, &plan, ways, &mut notes) {
        Ok(method) => {
            remember(root, prepared, &plan, method, &mut notes);
            Ok(Outcome { method, notes })
        }
        Err(error) if plan.panic && before.crash == Some(true) => Err(rearm(root, error)),
        Err(error) => Err(error),
    }
}

fn attempt(call: Call, plan: &Plan<'_>) -> Attempt {
    Attempt { call, panic: plan.panic, doing: Doing::Load, region: plan.region }
}

/// Tries one way after the other, as kexec-tools does: another way only where the first was not understood.
fn try_ways(
    root: &Path,
    prepared: &Prepared,
    plan: &Plan<'_>,
    ways: &[Call],
    notes: &mut Vec<String>,
) -> Result<Method> {
    let mut ways = ways.iter().peekable();
    while let Some(call) = ways.next() {
        let (method, outcome) = match call {
            Call::File => (Method::File, by_file(prepared)?),
            Call::Segments => (Method::Segments, by_segments(prepared, plan)),
        };
        match outcome {
            Ok(()) => return confirmed(root, plan.panic, method),
            Err(error) if ways.peek().is_some() && errno::worth_another_way(&error) => {
                notes.push(format!("loaded by segments: the kernel did not take the files ({})", plain_io(&error)));
            }
            Err(error) => return Err(errno::explain(root, &attempt(*call, plan), &error)),
        }
    }
    Err(Error::usage("there is no way to load it"))
}

/// Asks the kernel whether it has what it took.
fn confirmed(root: &Path, panic: bool, method: Method) -> Result<Method> {
    let loaded = Loaded::read(root);
    let flag = if panic { loaded.crash } else { loaded.normal };
    if flag == Some(false) {
        return Err(Error::new(Kind::Kernel, "the kernel took what was loaded, but says that nothing is loaded")
            .next_step("another program unloaded it meanwhile: try again"));
    }
    Ok(method)
}

fn by_segments(prepared: &Prepared, plan: &Plan<'_>) -> io::Result<()> {
    let pieces: Vec<Piece<'_>> =
        plan.segments.iter().map(|segment| Piece { data: &segment.data, range: segment.range }).collect();
    let mut flags = if plan.panic { sys::ON_CRASH } else { 0 };
    flags |= if plan.hotplug { sys::UPDATE_ELFCOREHDR } else { 0 };
    with_debug_fallback(prepared.job.debug, |debug| {
        sys::load_segments(plan.entry, &pieces, flags | if debug { sys::DEBUG } else { 0 })
    })
}

/// The outer result is about our files, the inner one is the kernel's answer.
fn by_file(prepared: &Prepared) -> Result<io::Result<()>> {
    let job = &prepared.job;
    let line =
        CString::new(job.command_line.as_str()).map_err(|_| Error::usage("the command line holds a NUL character"))?;
    let (kernel, initrd) = (prepared.kernel_file()?, prepared.initrd_file()?);
    let initrd = initrd.as_ref().map(std::os::fd::AsFd::as_fd);
    Ok(with_debug_fallback(job.debug, |debug| sys::load_file(kernel.as_fd(), initrd, &line, job.options.panic, debug)))
}

/// Asks for messages in the kernel's log only where the kernel knows that flag.
fn with_debug_fallback(debug: bool, call: impl Fn(bool) -> io::Result<()>) -> io::Result<()> {
    match retry_while_busy(|| call(debug)) {
        Err(error) if debug && error.raw_os_error() == Some(libc::EINVAL) => retry_while_busy(|| call(false)),
        outcome => outcome,
    }
}

/// Waits a little while the kernel is busy with another load.
fn retry_while_busy(call: impl Fn() -> io::Result<()>) -> io::Result<()> {
    for _ in 1..BUSY_TRIES {
        match call() {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => thread::sleep(BUSY_PAUSE),
            outcome => return outcome,
        }
    }
    call()
}

fn remember(root: &Path, prepared: &Prepared, plan: &Plan<'_>, method: Method, notes: &mut Vec<String>) {
    let record = Record {
        job: prepared.job.clone(),
        method,
        files: prepared.marks.clone(),
        core_headers: plan.core_headers.clone(),
        region: plan.region,
    };
    let mut state = State::read(root);
    state.set(prepared.job.options.panic, Some(record));
    if let Err(error) = state.write(root) {
        notes.push(format!(
            "what was loaded could not be remembered in /run/vdump ({error}): 'vdump status' will not know it"
        ));
    }
}

/// After a failed load: loads the last good capture kernel again if the failure dropped it. Gives the error, which tells
/// how it ended.
fn rearm(root: &Path, error: Error) -> Error {
    if Loaded::read(root).crash != Some(false) {
        return also(error, "the capture kernel that was loaded before stays loaded");
    }
    let mut state = State::read(root);
    let Some(record) = state.panic.clone() else {
        return also(error, "the machine is not armed any more: what was loaded before was not loaded by vdump");
    };
    match again(root, &record) {
        Ok(()) => also(error, "the capture kernel that vdump loaded last is loaded again"),
        Err(second) => {
            state.set(true, None);
            // Nothing is loaded, and the file would say otherwise only until the next boot.
            let _ = state.write(root);
            also(
                error,
                &format!(
                    "the machine is NOT armed any more: loading the last good capture kernel again failed: {second}"
                ),
            )
        }
    }
}

fn again(root: &Path, record: &Record) -> Result<()> {
    let host = Host::read(root)?;
    let prepared = Prepared::read(record.job.clone(), &host)?;
    if prepared.marks != record.files {
        return Err(Error::input("its files have changed since it was loaded"));
    }
    let plan = prepared.plan(&host)?;
    let ways: &[Call] = if record.method == Method::File { &[Call::File] } else { &[Call::Segments] };
    try_ways(root, &prepared, &plan, ways, &mut Vec::new()).map(drop)
}

fn also(mut error: Error, more: &str) -> Error {
    error.message.next = Some(match error.message.next {
        Some(next) => format!("{next}; {more}"),
        None => more.to_owned(),
    });
    error
}

/// Unloads; gives whether anything was loaded, as far as the kernel says. `method` as for loading: where a security policy
/// forbids segments, unloading by segments is forbidden as well.
///
/// # Errors
/// What the kernel refused.
pub fn unload(root: &Path, panic: bool, method: Method) -> Result<bool> {
    let loaded = known(root)?;
    let flag = if panic { loaded.crash } else { loaded.normal };
    let attempt = |call| Attempt {
        call,
        panic,
        doing: Doing::Unload,
        region: Host::read(root).ok().and_then(|host| host.iomem.crash_kernel().last().copied()),
    };
    let file = || retry_while_busy(|| sys::unload_file(panic));
    let segments = || retry_while_busy(|| sys::unload_segments(panic));
    let (call, outcome) = match method {
        Method::File => (Call::File, file()),
        Method::Segments => (Call::Segments, segments()),
        Method::Auto => match file() {
            Err(error) if errno::worth_another_way(&error) => (Call::Segments, segments()),
            outcome => (Call::File, outcome),
        },
    };
    outcome.map_err(|error| errno::explain(root, &attempt(call), &error))?;
    let mut state = State::read(root);
    if state.record(panic).is_some() {
        state.set(panic, None);
        // The kernel is asked first by all who read the file.
        let _ = state.write(root);
    }
    Ok(flag != Some(false))
}

/// What is loaded, from a kernel that can load at all.
fn known(root: &Path) -> Result<Loaded> {
    let loaded = Loaded::read(root);
    if loaded == Loaded::default() {
        return Err(Error::input("the running kernel cannot load other kernels")
            .because("it was built without kexec (/sys/kernel/kexec_loaded is missing)")
            .next_step("boot a kernel that has CONFIG_KEXEC or CONFIG_KEXEC_FILE"));
    }
    Ok(loaded)
}

/// Starts the kernel that is loaded for the next reboot: file systems are synced, nothing is shut down.
///
/// # Errors
/// When none is loaded, or the kernel refuses. Does not return otherwise.
pub fn exec(root: &Path) -> Result<()> {
    check_exec(root)?;
    rustix::fs::sync();
    sys::reboot_into_loaded().map_err(|error| {
        let failed = Error::new(Kind::Kernel, "cannot start the loaded kernel").because(plain_io(&error));
        match error.raw_os_error() {
            Some(libc::EPERM) => failed.next_step("run this as root, with CAP_SYS_BOOT"),
            Some(libc::EBUSY) => failed.next_step("another load or unload is going on: try again in a second"),
            _ => failed.next_step("load the kernel again, and look into the running kernel's log (dmesg)"),
        }
    })
}

/// Whether there is a kernel to start.
///
/// # Errors
/// When there is none.
pub fn check_exec(root: &Path) -> Result<()> {
    if known(root)?.normal == Some(true) {
        return Ok(());
    }
    Err(Error::input("no kernel is loaded to be started")
        .next_step("load one with 'vdump load KERNEL' (without --panic)"))
}
