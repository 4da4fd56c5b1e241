//! `--keep-task`: the frames of tasks' user memory.
//!
//! Knows which tasks are meant, and how to say what was found. Must not know what classes are. The bitmap of frames goes to
//! classification, the lines to the report.

use std::{collections::HashSet, ops::RangeInclusive};

use vdump_filters::PfnRange;

use crate::{
    bitmap::PageBitmap,
    cli::{
        choosing::{TaskMemory, TaskName},
        resolve::Job,
    },
    error::{Error, Result, printable},
    kernel::{
        Kernel, Task, Tasks, panicked, tasks,
        user::{self, UserMemory},
    },
    layout::VmcoreInfo,
    memory::{Ended, Leaf, Mappings, VirtReader, Visit, Walked},
    report::TaskLine,
    run::Stop,
    source::{RamMap, Source},
};

/// As many tasks as are kept.
const MOST_TASKS: usize = 1 << 16;
/// As many as the report lists.
const LISTED: usize = 100;
/// Tasks that are named where the one that was asked for is not there.
const CANDIDATES: usize = 8;
/// Bytes of a name that the kernel keeps.
const COMM_BYTES: usize = 15;

/// What must be known of the kernel's types.
pub(super) fn keys(job: &Job) -> Vec<&'static str> {
    let wanted = !job.selection.keep_task.is_empty();
    tasks::KEYS.iter().chain(&user::KEYS).filter(|_| wanted).copied().collect()
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
    if job.selection.keep_task.is_empty() {
        return Ok(OfTasks::default());
    }
    known
        .ok_or_else(|| cannot("nothing is known about the kernel".to_owned()))
        .and_then(|known| keep_all(job, source, known, page_shift, stop))
        .or_else(|error| if job.strict { Err(error) } else { Ok(OfTasks::none(&error)) })
}

impl OfTasks {
    /// No task's memory could be kept; the dump is made all the same.
    fn none(error: &Error) -> Self {
        Self { warnings: vec![format!("no task's memory is kept: {error}")], ..Self::default() }
    }
}

fn cannot(cause: String) -> Error {
    Error::input("cannot find the crashed kernel's tasks").because(cause).next_step(
        "give the kernel's vmlinux (-x) or its BTF (--btf), or more memory (--memory-limit) for the BTF in the dump, or \
         leave out --keep-task",
    )
}

/// Keeps all that are found.
fn keep_all(
    job: &Job,
    source: &Source,
    (info, kernel): (&VmcoreInfo, &Kernel),
    page_shift: u32,
    stop: &Stop,
) -> Result<OfTasks> {
    let space = &kernel.layout.space;
    let virt = VirtReader::new(source, space);
    let tasks = Tasks::find(info, &virt).map_err(cannot)?;
    let memory = UserMemory::find(info, &virt).map_err(cannot)?;
    let names = &job.selection.keep_task;
    let mut found = Wanted::new(names, || panicked::find(info, &virt, &tasks)).search(&tasks);
    if job.strict {
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
    let is_stopped = || stop.signal().is_some();
    let frames = PageBitmap::new(source.existing().max_pfn(page_shift));
    let mut keeper = Keeper {
        memory,
        mappings: Mappings::new(source, space, &is_stopped),
        what: job.selection.keep_task_memory,
        seen: HashSet::new(),
        frames: Frames { source, page_shift, bitmap: frames, count: Count::default(), contiguous_from: None },
        warnings,
    };
    let lines = keeper.keep_each(&tasks, job.strict)?;
    Ok(OfTasks { frames: Some(keeper.frames.bitmap), lines, warnings: keeper.warnings })
}

/// Which tasks are meant.
struct Wanted<'a> {
    names: &'a [TaskName],
    panicked: Option<panicked::Panicked>,
    /// Why nobody can tell which task panicked, where that is asked for.
    unknown: Option<String>,
}

/// The tasks that were found.
struct Found {
    tasks: Vec<Task>,
    problems: Vec<String>,
    /// An error for each name that no task has.
    missing: Vec<Error>,
}

impl Found {
    /// # Errors
    /// A task is not there, or may not have been found.
    fn must_be_whole(&mut self) -> Result<()> {
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
    fn new(names: &'a [TaskName], panicked: impl FnOnce() -> std::result::Result<panicked::Panicked, String>) -> Self {
        let panicked = names.contains(&TaskName::Panic).then(panicked);
        let (panicked, unknown) = match panicked {
            Some(Err(cause)) => (None, Some(cause)),
            found => (found.and_then(std::result::Result::ok), None),
        };
        Self { names, panicked, unknown }
    }

    fn search(&self, tasks: &Tasks<'_>) -> Found {
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

/// Keeps the memory of one task after the other.
struct Keeper<'m, 'a> {
    memory: UserMemory<'m, 'a>,
    mappings: Mappings<'m>,
    what: TaskMemory,
    /// Whose memory was kept whole already.
    seen: HashSet<u64>,
    frames: Frames<'a>,
    warnings: Vec<String>,
}

/// As many warnings about single tasks as are worth telling.
const MOST_WARNINGS: usize = 20;

impl Keeper<'_, '_> {
    /// Marks the frames of all tasks; a line for each of the first.
    ///
    /// # Errors
    /// With `strict`, that not all could be found.
    fn keep_each(&mut self, tasks: &[Task], strict: bool) -> Result<Vec<TaskLine>> {
        let mut lines = Vec::new();
        for task in tasks {
            let line = self.keep(task);
            if lines.len() < LISTED {
                lines.extend(line);
            }
            if let Some(why) = self.ended() {
                if strict {
                    return Err(Error::input("cannot find all memory of the tasks to keep")
                        .because(why)
                        .next_step("without --strict what is found is kept"));
                }
                self.warnings.push(format!("not all memory of the tasks was found: {why}"));
                break;
            }
        }
        Ok(lines)
    }

    /// Marks the frames of a task; `None` where it has none, or another thread of the same process stands for it.
    fn keep(&mut self, task: &Task) -> Option<TaskLine> {
        self.frames.count = Count::default();
        let name = format!("{} ({})", task.pid, printable(&task.comm));
        if task.mm == 0 {
            self.warn(format!("task {name} has no user memory: it is a thread of the kernel, or it has ended"));
            return None;
        }
        match (self.memory.top_table(task.mm), self.what) {
            (Err(cause), _) => self.warn(format!("cannot keep the memory of task {name}: {cause}")),
            (Ok(_), TaskMemory::All) if !self.seen.insert(task.mm) => return None,
            (Ok(root), TaskMemory::All) => self.walk(&name, root, &(0..=u64::MAX), false),
            (Ok(root), TaskMemory::Stack) => self.stacks(&name, task, root),
        }
        let Count { pages, absent, elsewhere } = self.frames.count;
        let line = TaskLine {
            pid: task.pid,
            tgid: task.tgid,
            comm: printable(&task.comm),
            pages,
            absent_pages: absent,
            swapped_pages: elsewhere,
        };
        Some(line)
    }

    fn stacks(&mut self, name: &str, task: &Task, root: u64) {
        let stacks = self.memory.stacks(task);
        if stacks.is_empty() {
            self.warn(format!(
                "cannot tell where the stack of task {name} is; --keep-task-memory all keeps all it has"
            ));
        }
        for stack in stacks {
            let (first, last) = (stack.range.start(), stack.range.end());
            if stack.is_part {
                self.warn(format!(
                    "the stack of task {name} lies in a larger mapping: kept from {first:#x} to {last:#x}; \
                     --keep-task-memory all keeps all it has"
                ));
            }
            if stack.is_guess {
                self.warn(format!(
                    "the mapping with the stack of task {name} was not found: kept from {first:#x} on, as far as pages \
                     follow each other"
                ));
            }
            self.walk(name, root, &stack.range, stack.is_guess);
        }
    }

    fn walk(&mut self, name: &str, root: u64, range: &RangeInclusive<u64>, contiguous: bool) {
        self.frames.contiguous_from = contiguous.then_some(*range.start());
        let Walked { unreadable, broken, .. } = self.mappings.walk_process(root, range, &mut self.frames);
        if unreadable + broken > 0 {
            self.warn(format!("task {name}: {} of its page tables could not be read or followed", unreadable + broken));
        }
    }

    /// Why nothing more can be found.
    fn ended(&self) -> Option<Ended> {
        self.mappings.ended()
    }

    fn warn(&mut self, text: String) {
        if self.warnings.len() < MOST_WARNINGS {
            self.warnings.push(text);
        }
    }
}

/// Pages of one task.
#[derive(Clone, Copy, Default)]
struct Count {
    /// In the input.
    pages: u64,
    /// Of RAM, and not in the input.
    absent: u64,
    /// Not in RAM.
    elsewhere: u64,
}

/// Marks the frames that are mapped.
struct Frames<'a> {
    source: &'a Source,
    page_shift: u32,
    bitmap: PageBitmap,
    count: Count,
    /// Where the next page must be, if only those that follow each other are wanted.
    contiguous_from: Option<u64>,
}

impl Visit for Frames<'_> {
    fn wants(&self, first: u64, last: u64) -> bool {
        self.contiguous_from.is_none_or(|from| (first..=last).contains(&from))
    }

    fn visit(&mut self, leaf: Leaf) {
        let end = leaf.paddr.saturating_add(leaf.len);
        if let Some(from) = &mut self.contiguous_from {
            if leaf.vaddr != *from {
                return;
            }
            *from = leaf.vaddr.saturating_add(leaf.len);
        }
        let (first, last) = (leaf.paddr >> self.page_shift, (end.max(leaf.paddr + 1) - 1) >> self.page_shift);
        self.bitmap.fill(PfnRange::new(first, last + 1), true);
        let shift = self.page_shift;
        let within = |map: &RamMap| -> u64 {
            map.overlapping(leaf.paddr, end)
                .map(|piece| piece.end().min(end) - piece.paddr.max(leaf.paddr))
                .map(|len| len.div_ceil(1 << shift))
                .sum()
        };
        let there = within(self.source.ram());
        self.count.pages += there;
        self.count.absent += within(self.source.existing()).saturating_sub(there);
    }

    fn elsewhere(&mut self, len: u64) {
        self.count.elsewhere += len.div_ceil(1 << self.page_shift);
        if let Some(from) = &mut self.contiguous_from {
            *from = from.saturating_add(len);
        }
    }
}
