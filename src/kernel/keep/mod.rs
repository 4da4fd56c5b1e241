//! The user memory of tasks that is kept whatever its class, as `--keep-task` says.
//!
//! Must not know classes, nor where the frames are noted: they are handed over.

mod memory;
mod wanted;

use std::collections::HashSet;

use clap::ValueEnum;
use vdump_filters::PfnRange;

use super::{
    Kernel, Tasks, panicked, tasks,
    user::{self, UserMemory},
};
use crate::{
    error::{Error, Result},
    layout::VmcoreInfo,
    memory::{Mappings, VirtReader},
    report::TaskLine,
    source::Source,
};
use memory::{Frames, Keeper};
pub use wanted::TaskName;
use wanted::{Found, Wanted};

/// As many tasks as are kept.
const MOST_TASKS: usize = 1 << 16;
/// As many as the report lists.
const LISTED: usize = 100;
/// Which memory of a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub enum TaskMemory {
    /// The stacks of its threads
    #[default]
    Stack,
    /// Everything that its page tables map
    All,
}

/// What is to be kept.
#[derive(Clone, Copy, Debug)]
pub struct KeepTasks<'a> {
    /// Of which tasks.
    pub names: &'a [TaskName],
    /// Which memory.
    pub what: TaskMemory,
    /// Whether all of it must be found.
    pub strict: bool,
}

/// What there is to say of the tasks whose memory is kept.
#[derive(Debug, Default)]
pub struct KeptTasks {
    /// One for each of the first.
    pub lines: Vec<TaskLine>,
    /// What could not be found.
    pub warnings: Vec<String>,
}

/// What must be known of the kernel's types, as keys of VMCOREINFO.
pub fn keys() -> impl Iterator<Item = &'static str> {
    tasks::KEYS.iter().chain(&user::KEYS).copied()
}

/// The error of tasks that cannot be found.
pub fn cannot(cause: String) -> Error {
    Error::input("cannot find the crashed kernel's tasks").because(cause).next_step(
        "give the kernel's vmlinux (-x) or its BTF (--btf), or more memory (--memory-limit) for the BTF in the dump, or \
         leave out --keep-task",
    )
}

impl KeepTasks<'_> {
    /// Hands the frames of the tasks' memory to `put`. Tasks that are not there are warnings; `stopped` ends the search early.
    ///
    /// # Errors
    /// No task can be found; with `strict`, that not everything was.
    pub fn find(
        &self,
        source: &Source,
        (info, kernel): (&VmcoreInfo, &Kernel),
        page_shift: u32,
        stopped: &dyn Fn() -> bool,
        put: &mut dyn FnMut(PfnRange),
    ) -> Result<KeptTasks> {
        let space = &kernel.layout.space;
        let virt = VirtReader::new(source, space);
        let tasks = Tasks::find(info, &virt).map_err(cannot)?;
        let memory = UserMemory::find(info, &virt).map_err(cannot)?;
        let mut found = Wanted::new(self.names, || panicked::find(info, &virt, &tasks)).search(&tasks);
        if self.strict {
            found.must_be_whole()?;
        }
        let Found { mut tasks, problems, missing } = found;
        let may_miss = |problem: &String| format!("tasks may be missing among those to keep: {problem}");
        let mut warnings: Vec<String> = missing.iter().map(ToString::to_string).collect();
        warnings.extend(problems.iter().map(may_miss));
        if tasks.len() > MOST_TASKS {
            warnings.push(format!("more than {MOST_TASKS} tasks are to be kept: the memory of the others is not"));
            tasks.truncate(MOST_TASKS);
        }
        let mut keeper = Keeper {
            memory,
            mappings: Mappings::new(source, space, stopped),
            what: self.what,
            seen: HashSet::new(),
            frames: Frames::new(source, page_shift, put),
            warnings,
        };
        let lines = keeper.keep_each(&tasks, self.strict)?;
        Ok(KeptTasks { lines, warnings: keeper.warnings })
    }
}
