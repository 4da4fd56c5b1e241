//! What is reserved, what is loaded, and whether it still fits the machine.
//!
//! Knows what to compare. Must not change anything. The program prints it.

use std::path::Path;

use serde::Serialize;

use crate::{
    corehdr::CoreHeaders,
    error::Result,
    host::{Host, Loaded},
    image::Machine,
    job::{Job, Method},
    range::{Range, total},
    state::{Record, State},
    x86::backup,
};

/// The machine's state.
#[derive(Debug, Serialize)]
pub struct Status {
    /// Whether a crash now would be dumped as it should: a capture kernel is loaded, and still fits the machine.
    pub ready: bool,
    /// Memory that `crashkernel=` reserved.
    pub reserved: Vec<Range>,
    /// Bytes of it.
    pub reserved_bytes: u64,
    /// Reserved memory that user space may use until the crash.
    pub reserved_cma: Vec<Range>,
    /// The capture kernel.
    pub capture: Slot,
    /// The kernel for the next reboot.
    pub next: Slot,
    /// Whether the kernel itself keeps core headers up to date when CPUs and memory come and go.
    pub kernel_updates_headers: bool,
}

/// One of the two places that a kernel can be loaded to.
#[derive(Debug, Serialize)]
pub struct Slot {
    /// Whether one is loaded; `None` where the kernel does not say.
    pub loaded: Option<bool>,
    /// What we loaded there; `None` if another program did.
    pub job: Option<Job>,
    /// How.
    pub method: Option<Method>,
    /// Why it should be loaded again; empty if it still fits.
    pub stale: Vec<String>,
}

impl Status {
    /// Looks at the machine under `root`.
    ///
    /// # Errors
    /// When the machine's memory cannot be read.
    pub fn read(root: &Path) -> Result<Self> {
        let host = Host::read(root)?;
        let state = State::read(root);
        let Loaded { crash, normal } = host.loaded;
        let reserved = host.iomem.crash_kernel();
        let capture = Slot::of(&host, crash, state.panic.as_ref());
        Ok(Self {
            ready: capture.loaded == Some(true) && capture.stale.is_empty(),
            reserved_bytes: total(&reserved),
            reserved_cma: host.crash_cma.clone(),
            capture,
            next: Slot::of(&host, normal, state.normal.as_ref()),
            kernel_updates_headers: host.crash_hotplug,
            reserved,
        })
    }
}

impl Slot {
    fn of(host: &Host, loaded: Option<bool>, record: Option<&Record>) -> Self {
        let record = record.filter(|_| loaded != Some(false));
        Self {
            loaded,
            job: record.map(|record| record.job.clone()),
            method: record.map(|record| record.method),
            stale: record.map(|record| stale(host, record)).unwrap_or_default(),
        }
    }
}

/// What has changed since the load.
fn stale(host: &Host, record: &Record) -> Vec<String> {
    let mut reasons = Vec::new();
    let changed = record.files.iter().filter(|mark| !mark.still_holds());
    reasons.extend(changed.map(|mark| format!("{} has changed since it was loaded", mark.path.display())));
    let options = &record.job.options;
    if let Some(then) = record.core_headers.as_ref().filter(|_| options.panic) {
        let kept = host.crash_hotplug && (options.hotplug || record.method == Method::File);
        if !kept && today(host, record).as_ref() != Some(then) {
            reasons.push("memory or CPUs have come or gone: a dump would not show what came".to_owned());
        }
        if record.region != host.iomem.crash_kernel().last().copied() {
            reasons.push("the reserved memory has changed".to_owned());
        }
    }
    reasons
}

/// The core headers that a load would make now, with the backup where it is.
fn today(host: &Host, record: &Record) -> Option<CoreHeaders> {
    let then = record.core_headers.as_ref()?;
    let moved = then.loads.iter().find(|load| load.offset != load.physical);
    let source = moved.and_then(|_| backup::source(host));
    let machine = if std::env::consts::ARCH == "aarch64" { Machine::Arm64 } else { Machine::X86_64 };
    let mut headers = CoreHeaders::describe(host, machine, source, &mut Vec::new()).ok()?;
    if let (Some(source), Some(moved)) = (source, moved) {
        headers.move_backup(source, moved.offset.wrapping_sub(moved.physical - source.start));
    }
    Some(headers)
}
