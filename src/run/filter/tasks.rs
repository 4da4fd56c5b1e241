//! `--keep-task`: the frames of tasks' user memory. The bitmap of them goes to classification, the lines to the report.

use crate::{
    bitmap::PageBitmap,
    cli::resolve::Job,
    error::{Error, Result},
    kernel::{
        Kernel,
        keep::{self, KeepTasks, KeptTasks},
    },
    layout::VmcoreInfo,
    report::TaskLine,
    run::Stop,
    source::Source,
};

/// What must be known of the kernel's types.
pub(super) fn keys(job: &Job) -> Vec<&'static str> {
    let wanted = !job.selection.keep_task.is_empty();
    keep::keys().filter(|_| wanted).collect()
}

/// The frames of the tasks, and what there is to say.
#[derive(Default)]
pub(super) struct OfTasks {
    pub(super) frames: Option<PageBitmap>,
    pub(super) lines: Vec<TaskLine>,
    pub(super) warnings: Vec<String>,
}

/// Finds what the job wants to keep of tasks. Those that are not there, or that cannot be found, are warnings.
///
/// # Errors
/// With `--strict`, that there is one of them.
pub(super) fn find(
    job: &Job,
    source: &Source,
    known: Option<(&VmcoreInfo, &Kernel)>,
    page_shift: u32,
    stop: &Stop,
) -> Result<OfTasks> {
    let (names, what, strict) = (&job.selection.keep_task, job.selection.keep_task_memory, job.strict);
    if names.is_empty() {
        return Ok(OfTasks::default());
    }
    let keep = KeepTasks { names, what, strict };
    let mut frames = PageBitmap::new(source.existing().max_pfn(page_shift));
    let found = known.ok_or_else(|| keep::cannot("nothing is known about the kernel".to_owned())).and_then(|known| {
        let is_stopped = || stop.signal().is_some();
        keep.find(source, known, page_shift, &is_stopped, &mut |range| frames.fill(range, true))
    });
    match found {
        Ok(KeptTasks { lines, warnings }) => Ok(OfTasks { frames: Some(frames), lines, warnings }),
        Err(error) if strict => Err(error),
        Err(error) => Ok(OfTasks::none(&error)),
    }
}

impl OfTasks {
    /// No task's memory could be kept; the dump is made all the same.
    fn none(error: &Error) -> Self {
        Self { warnings: vec![format!("no task's memory is kept: {error}")], ..Self::default() }
    }
}
