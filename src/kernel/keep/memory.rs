//! The memory of tasks that are kept: each one's page tables are walked, and the frames that they map are handed over.

use std::{collections::HashSet, ops::RangeInclusive};

use vdump_filters::PfnRange;

use super::{LISTED, TaskMemory};
use crate::{
    error::{Error, Result, printable},
    kernel::{Task, user::UserMemory},
    memory::{Ended, Leaf, Mappings, Visit, Walked},
    report::TaskLine,
    source::{RamMap, Source},
};

/// Keeps the memory of one task after the other.
pub(super) struct Keeper<'m, 'a> {
    pub(super) memory: UserMemory<'m, 'a>,
    pub(super) mappings: Mappings<'m>,
    pub(super) what: TaskMemory,
    /// Whose memory was kept whole already.
    pub(super) seen: HashSet<u64>,
    pub(super) frames: Frames<'m>,
    pub(super) warnings: Vec<String>,
}

/// As many warnings about single tasks as are worth telling.
const MOST_WARNINGS: usize = 20;

impl Keeper<'_, '_> {
    /// Hands over the frames of all tasks; a line for each of the first.
    ///
    /// # Errors
    /// With `strict`, that not all could be found.
    pub(super) fn keep_each(&mut self, tasks: &[Task], strict: bool) -> Result<Vec<TaskLine>> {
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

    /// Hands over the frames of a task; `None` where it has none, or another thread of the same process stands for it.
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

/// Hands over the frames that are mapped.
pub(super) struct Frames<'a> {
    source: &'a Source,
    page_shift: u32,
    put: &'a mut dyn FnMut(PfnRange),
    count: Count,
    /// Where the next page must be, if only those that follow each other are wanted.
    contiguous_from: Option<u64>,
}

impl<'a> Frames<'a> {
    pub(super) fn new(source: &'a Source, page_shift: u32, put: &'a mut dyn FnMut(PfnRange)) -> Self {
        Self { source, page_shift, put, count: Count::default(), contiguous_from: None }
    }
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
        (self.put)(PfnRange::new(first, last + 1));
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
