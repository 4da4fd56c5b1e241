//! Which task panicked.
//!
//! Knows three witnesses: the CPU that the kernel noted, the task that ran there, and the log. Must not know what is done
//! with the task.

use super::tasks::{self, Tasks};
use crate::{
    klog,
    layout::VmcoreInfo,
    memory::{ReadVirt as _, VirtReader},
};

/// The task, as it could be told.
pub enum Panicked {
    /// By the address of its `task_struct`.
    At(u64),
    /// By its number.
    Pid(i32),
}

/// Finds the task that panicked.
///
/// # Errors
/// Why it cannot be told, in words.
pub fn find(info: &VmcoreInfo, virt: &VirtReader<'_>, tasks: &Tasks<'_>) -> Result<Panicked, String> {
    by_cpu(info, virt, tasks).map(Panicked::At).or_else(|by_cpu| match by_log(info, virt) {
        Some(pid) => Ok(Panicked::Pid(pid)),
        None => Err(format!("{by_cpu}, and the log names none")),
    })
}

/// The task that ran on the CPU that panicked: `panic_cpu` (1717f2096b54, 4.5), or `crashing_cpu` on which the capture kernel
/// was started.
fn by_cpu(info: &VmcoreInfo, virt: &VirtReader<'_>, tasks: &Tasks<'_>) -> Result<u64, String> {
    let names = ["panic_cpu", "crashing_cpu", "runqueues", "__per_cpu_offset"];
    let [panic_cpu, crashing_cpu, runqueues, offsets] = tasks::symbols(info, virt, names)?;
    let most = virt.space().arch().most_cpus();
    let number = |at: u64| virt.int(at).ok().and_then(|cpu| u64::try_from(cpu).ok()).filter(|cpu| *cpu < most);
    let cpu = [panic_cpu, crashing_cpu].into_iter().flatten().find_map(number);
    let cpu = cpu.ok_or("the kernel noted no CPU that panicked")?;
    let current = info.offset("rq.curr").zip(runqueues).ok_or("nothing says which task a CPU runs")?;
    let read = |at: u64| virt.long(at).map_err(|error| error.to_string());
    // A kernel for one CPU has no such table.
    let area = offsets.map_or(Ok(0), |table| read(table.wrapping_add(cpu * virt.words().long_size() as u64)))?;
    let task = read(current.1.wrapping_add(area).wrapping_add(current.0))?;
    match tasks.at(task) {
        Ok(found) if found.pid >= 0 => Ok(task),
        Ok(_) => Err(format!("what CPU {cpu} ran, at {task:#x}, is no task")),
        Err(error) => Err(format!("the task that CPU {cpu} ran: {error}")),
    }
}

/// The number in the first line `CPU: ... PID: ...` that follows the last sign of an end.
fn by_log(info: &VmcoreInfo, virt: &VirtReader<'_>) -> Option<i32> {
    let log = klog::read_log(info, virt).ok()?;
    let lines = || log.records.iter().map(|record| String::from_utf8_lossy(&record.text));
    let signs = ["Kernel panic", "Oops", "BUG:", "sysrq: Trigger a crash"];
    let end = lines().collect::<Vec<_>>().iter().rposition(|line| signs.iter().any(|sign| line.contains(sign)))?;
    lines().skip(end).find_map(|line| pid_in(&line))
}

fn pid_in(line: &str) -> Option<i32> {
    let rest = line.split_once("CPU: ")?.1.split_once("PID: ")?.1;
    rest.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_names_the_task() {
        let line = "CPU: 0 UID: 0 PID: 231 Comm: sh Not tainted 6.12.1 #1";
        assert_eq!(pid_in(line), Some(231));
        assert_eq!(pid_in("CPU: 3 PID: 0 Comm: swapper/3 Tainted: G"), Some(0));
        assert_eq!(pid_in("PID: 5 CPU: 1"), None);
    }
}
