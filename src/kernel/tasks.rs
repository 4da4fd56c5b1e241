//! The crashed kernel's tasks: processes and their threads.
//!
//! Knows the lists that link them. Must not know what is done with a task. Used where a task is looked for or looked at.

use super::kallsyms::{Kallsyms, KallsymsError};
use crate::{
    layout::VmcoreInfo,
    memory::{ReadVirt, ReadVirtError},
};

/// What [`Tasks`] must know of the kernel's types, as keys of VMCOREINFO. No kernel exports them: its BTF or its vmlinux says
/// them. Of the two ways to link threads (`Threads`) a kernel has one.
pub const KEYS: [&str; 7] = [
    "OFFSET(task_struct.tasks)",
    "OFFSET(task_struct.pid)",
    "OFFSET(task_struct.tgid)",
    "OFFSET(task_struct.comm)",
    "OFFSET(task_struct.mm)",
    "OFFSET(task_struct.stack)",
    "OFFSET(task_struct.signal)",
];

/// As many tasks as a kernel can have (`PID_MAX_LIMIT`, include/linux/threads.h).
const MAX_TASKS: u64 = 4 << 20;
/// `TASK_COMM_LEN` (include/linux/sched.h).
const COMM_LEN: usize = 16;

/// A thread, or a process with one thread.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Task {
    /// Virtual address of its `task_struct`.
    pub address: u64,
    /// Its number; 0 for a CPU's idle task.
    pub pid: i32,
    /// The number of its process, which is that of the process's first thread.
    pub tgid: i32,
    /// Its name, as the kernel has it: at most 15 bytes, not always printable.
    pub comm: String,
    /// Virtual address of its `mm_struct`; 0 for a thread of the kernel, and for a task that has ended.
    pub mm: u64,
    /// Virtual address of the lowest byte of its kernel stack.
    pub stack: u64,
}

impl Task {
    /// Whether it is the first thread of its process.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.pid == self.tgid
    }
}

/// How the threads of a process are linked.
#[derive(Clone, Copy, Debug)]
enum Threads {
    /// In `signal_struct.thread_head`, by `task_struct.thread_node` (0c740d0afc3b, 3.14).
    InSignal { head: u64, node: u64 },
    /// With the first thread, by `task_struct.thread_group` (until 8e1f385104ac, 6.7).
    InGroup { node: u64 },
}

/// The way to all tasks.
pub struct Tasks<'m> {
    mem: &'m dyn ReadVirt,
    init_task: u64,
    tasks: u64,
    pid: u64,
    tgid: u64,
    comm: u64,
    mm: u64,
    stack: u64,
    signal: u64,
    threads: Threads,
}

impl<'m> Tasks<'m> {
    /// Finds the first task, and where a task has what.
    ///
    /// # Errors
    /// What is missing, in words: a type's layout, or the symbol `init_task`.
    pub fn find(info: &VmcoreInfo, mem: &'m dyn ReadVirt) -> Result<Self, String> {
        let unknown = |name: &str| {
            format!("nothing says where a kernel structure has {name}: neither VMCOREINFO nor the kernel's own BTF")
        };
        let offset = |name: &str| info.offset(name).ok_or_else(|| unknown(name));
        let in_signal = info.offset("signal_struct.thread_head").zip(info.offset("task_struct.thread_node"));
        let threads = match in_signal {
            Some((head, node)) => Threads::InSignal { head, node },
            None => Threads::InGroup { node: offset("task_struct.thread_group")? },
        };
        let [init_task] = symbols(info, mem, ["init_task"])?;
        Ok(Self {
            mem,
            init_task: init_task.ok_or("the kernel's symbol table has no init_task")?,
            tasks: offset("task_struct.tasks")?,
            pid: offset("task_struct.pid")?,
            tgid: offset("task_struct.tgid")?,
            comm: offset("task_struct.comm")?,
            mm: offset("task_struct.mm")?,
            stack: offset("task_struct.stack")?,
            signal: offset("task_struct.signal")?,
            threads,
        })
    }

    /// The task at a virtual address.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn at(&self, address: u64) -> Result<Task, ReadVirtError> {
        let number = |offset: u64| self.mem.int(address.wrapping_add(offset));
        let word = |offset: u64| self.mem.long(address.wrapping_add(offset));
        let mut comm = [0; COMM_LEN];
        self.mem.read_virt(address.wrapping_add(self.comm), &mut comm)?;
        let comm = comm.split(|byte| *byte == 0).next().unwrap_or_default();
        Ok(Task {
            address,
            pid: number(self.pid)?,
            tgid: number(self.tgid)?,
            comm: String::from_utf8_lossy(comm).into_owned(),
            mm: word(self.mm)?,
            stack: word(self.stack)?,
        })
    }

    /// All tasks: the first CPU's idle task, then each process followed by its other threads. The idle tasks of other CPUs
    /// are in no list. Ends however the lists lead; on damaged ones a task may come twice.
    #[must_use]
    pub fn iter(&self) -> Iter<'_> {
        Iter {
            tasks: self,
            leaders: Circle::new(self.init_task.wrapping_add(self.tasks)),
            threads: None,
            first: true,
            steps: 0,
            problems: Vec::new(),
        }
    }

    /// The list of the other threads of the process whose first is at `leader`, and where a task has its link.
    fn threads_of(&self, leader: u64) -> Result<(Circle, u64), ReadVirtError> {
        match self.threads {
            Threads::InSignal { head, node } => {
                let signal = self.mem.long(leader.wrapping_add(self.signal))?;
                Ok((Circle::new(signal.wrapping_add(head)), node))
            }
            Threads::InGroup { node } => Ok((Circle::new(leader.wrapping_add(node)), node)),
        }
    }
}

impl<'t> IntoIterator for &'t Tasks<'_> {
    type Item = Task;
    type IntoIter = Iter<'t>;

    fn into_iter(self) -> Iter<'t> {
        self.iter()
    }
}

/// Goes through all tasks.
pub struct Iter<'t> {
    tasks: &'t Tasks<'t>,
    leaders: Circle,
    /// The process whose threads come next: its first thread, their list, and where a task has its link.
    threads: Option<(u64, Circle, u64)>,
    first: bool,
    steps: u64,
    problems: Vec<String>,
}

/// As many problems as are worth telling.
const MAX_PROBLEMS: usize = 10;

impl Iter<'_> {
    /// What was wrong on the way, so that tasks may be missing; complete only at the end.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// The address of the next task.
    fn advance(&mut self) -> Option<u64> {
        if std::mem::take(&mut self.first) {
            return Some(self.tasks.init_task);
        }
        loop {
            self.steps += 1;
            if self.steps > 2 * MAX_TASKS {
                self.problem(format!("the list has more than {MAX_TASKS} tasks"));
                return None;
            }
            if let Some((leader, circle, node)) = &mut self.threads {
                match circle.step(self.tasks.mem) {
                    Ok(Some(link)) => match link.wrapping_sub(*node) {
                        thread if thread == *leader => {}
                        thread => return Some(thread),
                    },
                    Ok(None) => self.threads = None,
                    Err(cause) => {
                        let leader = *leader;
                        self.threads = None;
                        self.problem(format!("the threads of the process at {leader:#x}: {cause}"));
                    }
                }
                continue;
            }
            let leader = match self.leaders.step(self.tasks.mem) {
                Ok(link) => link?.wrapping_sub(self.tasks.tasks),
                Err(cause) => {
                    self.leaders.end();
                    self.problem(format!("the list of processes: {cause}"));
                    return None;
                }
            };
            match self.tasks.threads_of(leader) {
                Ok((circle, node)) => self.threads = Some((leader, circle, node)),
                Err(error) => self.problem(format!("the threads of the process at {leader:#x}: {error}")),
            }
            return Some(leader);
        }
    }

    fn problem(&mut self, what: String) {
        if self.problems.len() < MAX_PROBLEMS {
            self.problems.push(what);
        }
    }
}

impl Iterator for Iter<'_> {
    type Item = Task;

    fn next(&mut self) -> Option<Task> {
        loop {
            let address = self.advance()?;
            match self.tasks.at(address) {
                Ok(task) => return Some(task),
                Err(error) => self.problem(format!("the task at {address:#x}: {error}")),
            }
        }
    }
}

/// A circular list of `list_head`s, gone through once. A list that does not lead back to its head, but into itself, ends too
/// (Brent's algorithm): some of it then comes more than once.
#[derive(Debug)]
struct Circle {
    head: u64,
    at: u64,
    ended: bool,
    mark: u64,
    steps: u64,
    until_mark: u64,
}

impl Circle {
    fn new(head: u64) -> Self {
        Self { head, at: head, ended: false, mark: head, steps: 0, until_mark: 1 }
    }

    /// The address of the next link; `None` after the last.
    fn step(&mut self, mem: &dyn ReadVirt) -> Result<Option<u64>, String> {
        if self.ended {
            return Ok(None);
        }
        // `list_head.next` comes first.
        let next = mem.long(self.at).map_err(|error| error.to_string())?;
        if next == self.head {
            self.ended = true;
            return Ok(None);
        }
        if next == self.mark || next == self.at {
            return Err(format!("it leads back to {next:#x} instead of to its head"));
        }
        self.at = next;
        self.steps += 1;
        if self.steps == self.until_mark {
            (self.mark, self.steps, self.until_mark) = (next, 0, self.until_mark.saturating_mul(2));
        }
        Ok(Some(next))
    }

    fn end(&mut self) {
        self.ended = true;
    }
}

/// The addresses of variables of the kernel: from VMCOREINFO or a vmlinux, else from the kernel's own symbol table.
///
/// # Errors
/// The symbol table would be needed and cannot be used: why, in words.
pub fn symbols<const N: usize>(
    info: &VmcoreInfo,
    mem: &dyn ReadVirt,
    names: [&str; N],
) -> Result<[Option<u64>; N], String> {
    let known = names.map(|name| info.symbol(name));
    if known.iter().all(Option::is_some) {
        return Ok(known);
    }
    let cannot = |error: KallsymsError| format!("nothing says where {} lies: {error}", names.join(" or "));
    let found = Kallsyms::find(info, mem, &names).map_err(cannot)?;
    let mut own = found.into_iter();
    Ok(known.map(|known| known.or(own.next().flatten())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::few_words::FewWords;

    const TASK: u64 = 0xffff_8880_0100_0000;
    const TASKS: u64 = 8;
    const SIGNAL: u64 = 0x200;
    const NODE: u64 = 0x100;

    fn info(old: bool) -> VmcoreInfo {
        let threads = if old {
            "OFFSET(task_struct.thread_group)=256"
        } else {
            "OFFSET(task_struct.thread_node)=256\nOFFSET(signal_struct.thread_head)=16"
        };
        let text = format!(
            "SYMBOL(init_task)={TASK:x}\nOFFSET(task_struct.tasks)={TASKS}\nOFFSET(task_struct.pid)=32\n\
             OFFSET(task_struct.tgid)=36\nOFFSET(task_struct.comm)=40\nOFFSET(task_struct.mm)=56\n\
             OFFSET(task_struct.stack)=64\nOFFSET(task_struct.signal)={SIGNAL}\n{threads}\n"
        );
        VmcoreInfo::parse(text.as_bytes())
    }

    fn place(number: u64) -> u64 {
        TASK + number * 0x1000
    }

    /// Processes by the numbers of their threads.
    fn machine(processes: &[&[u64]], old: bool) -> FewWords {
        let mut memory = FewWords::default();
        let leaders: Vec<u64> = processes.iter().map(|threads| place(threads[0])).collect();
        for (index, threads) in processes.iter().enumerate() {
            let leader = leaders[index];
            memory.put(leader + TASKS, leaders[(index + 1) % leaders.len()] + TASKS);
            let head = leader + 0x300;
            let mut links: Vec<u64> = threads.iter().map(|thread| place(*thread) + NODE).collect();
            if !old {
                links.insert(0, head + 16);
            }
            for (from, to) in links.iter().zip(links.iter().cycle().skip(1)) {
                memory.put(*from, *to);
            }
            for thread in *threads {
                let at = place(*thread);
                memory.put(at + 32, thread | threads[0] << 32);
                memory.put(at + 40, u64::from_le_bytes(*b"task\0xyz"));
                memory.put(at + 48, 0);
                memory.put(at + 56, thread * 16);
                memory.put(at + 64, at + 0x800);
                memory.put(at + SIGNAL, head);
            }
        }
        memory
    }

    fn pids(memory: &FewWords, old: bool) -> (Vec<i32>, Vec<String>) {
        let info = info(old);
        let tasks = Tasks::find(&info, memory).unwrap();
        let mut all = tasks.iter();
        let pids = all.by_ref().map(|task| task.pid).collect();
        (pids, all.problems().to_vec())
    }

    #[test]
    fn every_thread_is_found_in_both_eras() {
        for old in [false, true] {
            let memory = machine(&[&[0], &[1], &[7, 8, 9], &[3]], old);
            assert_eq!(pids(&memory, old), (vec![0, 1, 7, 8, 9, 3], vec![]));
            let info = info(old);
            let task = Tasks::find(&info, &memory).unwrap().at(place(8)).unwrap();
            assert_eq!((task.tgid, task.comm.as_str(), task.mm, task.is_leader()), (7, "task", 128, false));
        }
    }

    #[test]
    fn a_broken_list_of_threads_costs_its_process_alone() {
        let mut memory = machine(&[&[0], &[7, 8, 9], &[3]], false);
        memory.put(place(8) + NODE, 0);
        let (found, problems) = pids(&memory, false);
        assert!(found.starts_with(&[0, 7, 8]) && found.ends_with(&[3]), "{found:?}");
        assert!(problems.iter().any(|problem| problem.contains("threads")), "{problems:?}");
    }

    #[test]
    fn lists_that_never_end_do() {
        let numbers: Vec<[u64; 1]> = (0..50).map(|number| [number]).collect();
        let processes: Vec<&[u64]> = numbers.iter().map(|number| &number[..]).collect();
        for back_to in [49, 48, 30, 1] {
            let mut memory = machine(&processes, false);
            memory.put(place(49) + TASKS, place(back_to) + TASKS);
            let (found, problems) = pids(&memory, false);
            assert!((0..50).all(|pid| found.contains(&pid)) && found.len() < 250, "{back_to}: {}", found.len());
            assert_eq!(problems.len(), 1, "{problems:?}");
        }
        let mut memory = machine(&processes, false);
        memory.put(place(0) + TASKS, u64::MAX - 3);
        assert_eq!(pids(&memory, false).0, [0]);
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut info = info(false);
        info.retain(|key| key != "OFFSET(task_struct.mm)");
        let memory = FewWords::default();
        assert!(Tasks::find(&info, &memory).err().is_some_and(|cause| cause.contains("task_struct.mm")));
        info.retain(|key| key != "SYMBOL(init_task)");
        assert!(Tasks::find(&VmcoreInfo::default(), &memory).is_err());
    }
}
