//! Which tasks are meant: by number, by name, or the one that panicked; and what to say of one that is not there.

use std::{collections::HashSet, fmt};

use super::MOST_TASKS;
use crate::{
    error::{Error, Result, printable},
    kernel::{Task, Tasks, panicked},
};

/// Tasks that are named where the one that was asked for is not there.
const CANDIDATES: usize = 8;
/// Bytes of a name that the kernel keeps.
const COMM_BYTES: usize = 15;

/// Which task.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TaskName {
    /// By number.
    Pid(i32),
    /// By the kernel's name for it.
    Comm(String),
    /// The one that panicked.
    Panic,
}

impl fmt::Display for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pid(pid) => pid.fmt(f),
            Self::Comm(comm) => write!(f, "'{comm}'"),
            Self::Panic => f.write_str("panic"),
        }
    }
}

/// Which tasks are meant.
pub(super) struct Wanted<'a> {
    names: &'a [TaskName],
    panicked: Option<panicked::Panicked>,
    /// Why nobody can tell which task panicked, where that is asked for.
    unknown: Option<String>,
}

/// The tasks that were found.
pub(super) struct Found {
    pub(super) tasks: Vec<Task>,
    pub(super) problems: Vec<String>,
    /// An error for each name that no task has.
    pub(super) missing: Vec<Error>,
}

impl Found {
    /// # Errors
    /// A task is not there, or may not have been found.
    pub(super) fn must_be_whole(&mut self) -> Result<()> {
        if !self.missing.is_empty() {
            return Err(self.missing.swap_remove(0));
        }
        match self.problems.first() {
            Some(problem) => Err(Error::input("cannot go through all tasks of the crashed kernel")
                .because(problem)
                .next_step("without --strict the tasks that are found are kept")),
            None => Ok(()),
        }
    }
}

impl<'a> Wanted<'a> {
    pub(super) fn new(
        names: &'a [TaskName],
        panicked: impl FnOnce() -> std::result::Result<panicked::Panicked, String>,
    ) -> Self {
        let panicked = names.contains(&TaskName::Panic).then(panicked);
        let (panicked, unknown) = match panicked {
            Some(Err(cause)) => (None, Some(cause)),
            found => (found.and_then(std::result::Result::ok), None),
        };
        Self { names, panicked, unknown }
    }

    pub(super) fn search(&self, tasks: &Tasks<'_>) -> Found {
        let mut found = Vec::new();
        let mut met = vec![false; self.names.len()];
        let mut seen = HashSet::new();
        if let (Some(panicked::Panicked::At(address)), Some(position)) = (&self.panicked, self.position_of_panic())
            && let Ok(task) = tasks.at(*address)
        {
            // The idle tasks are in no list.
            met[position] = true;
            seen.insert(task.address);
            found.push(task);
        }
        let mut candidates = Candidates::default();
        let mut leader = None;
        let mut all = tasks.iter();
        for task in all.by_ref() {
            if task.is_leader() {
                leader = Some((task.tgid, task.comm.clone()));
                candidates.look(&task, self.names);
            }
            let process = leader.as_ref().filter(|(tgid, _)| *tgid == task.tgid).map(|(_, comm)| comm.as_str());
            let mut is_wanted = false;
            for (name, met) in self.names.iter().zip(&mut met) {
                if self.means(name, &task, process) {
                    (*met, is_wanted) = (true, true);
                }
            }
            if is_wanted && found.len() <= MOST_TASKS && seen.insert(task.address) {
                found.push(task);
            }
        }
        let problems = all.problems().to_vec();
        let missing = self.names.iter().zip(met).filter(|(_, met)| !met);
        let missing = missing.map(|(name, _)| self.is_missing(name, problems.first(), &candidates)).collect();
        Found { tasks: found, problems, missing }
    }

    /// What there is to say about a name that no task has.
    fn is_missing(&self, name: &TaskName, problem: Option<&String>, candidates: &Candidates) -> Error {
        if let (TaskName::Panic, Some(cause)) = (name, &self.unknown) {
            return Error::input("cannot tell which task panicked")
                .because(cause)
                .next_step("name it: --keep-task PID ('vdump dmesg' may show it)");
        }
        let cause = match problem {
            Some(problem) => format!("it may be one of those that could not be found ({problem})"),
            None => format!(
                "it may have ended before the crash; tasks of the crashed kernel are, among others, {}",
                candidates.text()
            ),
        };
        Error::input(format!("there is no task {name}"))
            .because(cause)
            .next_step("give a number or a name as the kernel has it; 'vdump dmesg', crash or drgn show more of them")
    }

    fn position_of_panic(&self) -> Option<usize> {
        self.names.iter().position(|name| *name == TaskName::Panic)
    }

    /// Whether `name` means the task, of a process whose first thread is called `process`.
    fn means(&self, name: &TaskName, task: &Task, process: Option<&str>) -> bool {
        match (name, &self.panicked) {
            // The number of the first thread is that of the process.
            (TaskName::Pid(pid), _) => task.pid == *pid || task.tgid == *pid,
            (TaskName::Comm(comm), _) => {
                let comm = String::from_utf8_lossy(&comm.as_bytes()[..comm.len().min(COMM_BYTES)]);
                task.comm == comm || process == Some(&*comm)
            }
            (TaskName::Panic, Some(panicked::Panicked::At(address))) => task.address == *address,
            (TaskName::Panic, Some(panicked::Panicked::Pid(pid))) => task.pid == *pid,
            (TaskName::Panic, None) => false,
        }
    }
}

/// Processes to name where one is not found: first those whose names are like it.
#[derive(Default)]
struct Candidates {
    alike: Vec<String>,
    others: Vec<String>,
}

impl Candidates {
    fn look(&mut self, task: &Task, names: &[TaskName]) {
        if task.mm == 0 {
            return;
        }
        let comm = task.comm.to_lowercase();
        let is_alike = names.iter().any(|name| match name {
            TaskName::Comm(wanted) => comm.contains(&wanted.to_lowercase()),
            _ => false,
        });
        let list = if is_alike { &mut self.alike } else { &mut self.others };
        if list.len() < CANDIDATES {
            list.push(format!("{} ({})", task.pid, printable(&task.comm)));
        }
    }

    fn text(&self) -> String {
        let all: Vec<&str> = self.alike.iter().chain(&self.others).take(CANDIDATES).map(String::as_str).collect();
        if all.is_empty() { "only threads of the kernel".to_owned() } else { all.join(", ") }
    }
}
