//! What the kernel's log says of its end: why it stopped, in which task, and how long it had run.

use serde::Serialize;

use crate::{
    error::printable,
    klog::{self, KernelLog},
    layout::{KernelLayout, VmcoreInfo},
    memory::VirtReader,
    source::Source,
};

/// The task that a CPU ran when the kernel complained.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct TaskSaid {
    /// The CPU.
    pub cpu: u32,
    /// Its number.
    pub pid: i32,
    /// Its name.
    pub comm: String,
}

/// What could be told; nothing where the log cannot be read.
#[derive(Clone, PartialEq, Debug, Default, Serialize)]
pub struct LastWords {
    /// When the last line was logged, seconds since boot: the kernel ran at least so long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uptime_seconds: Option<f64>,
    /// The line that says why the kernel stopped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub panic_message: Option<String>,
    /// The task in which that happened, as the log has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub panic_task: Option<TaskSaid>,
}

/// The surest sign of an end first: what follows it tells less of the cause. kernel/panic.c, arch/*/mm/fault.c,
/// arch/x86/kernel/traps.c, drivers/tty/sysrq.c.
const SIGNS: [&[&str]; 4] = [
    &["Kernel panic - not syncing"],
    &["BUG: ", "Unable to handle kernel", "general protection fault", "kernel BUG at"],
    &["Oops"],
    &["sysrq: Trigger a crash", "SysRq : Trigger a crash"],
];

/// The longest message that is shown, characters.
const MOST: usize = 200;

impl LastWords {
    /// Reads the log, which takes 64 MiB at most.
    pub fn of(source: &Source, info: Option<&VmcoreInfo>) -> Self {
        let log = info.and_then(|info| {
            let virt = VirtReader::new(source, &KernelLayout::address_space(source, info).ok()?);
            klog::read_log(info, &virt).ok()
        });
        log.map_or_else(Self::default, |log| Self::in_log(&log))
    }

    fn in_log(log: &KernelLog) -> Self {
        let lines: Vec<String> =
            log.records.iter().map(|record| String::from_utf8_lossy(&record.text).into_owned()).collect();
        let last = |signs: &&[&str]| lines.iter().rposition(|line| signs.iter().any(|sign| line.contains(sign)));
        let at = SIGNS.iter().find_map(last);
        // The task is named once for each complaint: before the panic that an oops leads to, after one that comes alone.
        let first = SIGNS.iter().filter_map(last).min();
        let time = log.records.last().and_then(|record| record.ts_nsec);
        Self {
            uptime_seconds: time.map(|nanoseconds| nanoseconds as f64 / 1e9),
            panic_message: at.and_then(|at| lines.get(at)).map(|line| shown(line)),
            panic_task: first.and_then(|first| lines.iter().skip(first).find_map(|line| task(line))),
        }
    }
}

fn shown(line: &str) -> String {
    printable(line.lines().next().unwrap_or_default().trim()).chars().take(MOST).collect()
}

/// Of `CPU: 0 UID: 0 PID: 231 Comm: sh Not tainted 6.12.1 #1` (lib/dump_stack.c; UID since 6.12). A name may have spaces.
fn task(line: &str) -> Option<TaskSaid> {
    let number = |key: &str| line.split_once(key)?.1.split(' ').next();
    let rest = line.split_once(" Comm: ")?.1;
    let end = [" Kdump: loaded ", " Not tainted", " Tainted: "].iter().filter_map(|next| rest.find(next)).min()?;
    Some(TaskSaid {
        cpu: number("CPU: ")?.parse().ok()?,
        pid: number(" PID: ")?.parse().ok()?,
        comm: printable(&rest[..end]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::klog::Record;

    fn said(lines: &[&str]) -> LastWords {
        let record = |(seq, line): (u64, &&str)| Record {
            seq,
            ts_nsec: Some(seq * 1_500_000_000),
            caller_id: None,
            level: None,
            facility: None,
            text: line.as_bytes().to_vec(),
        };
        let records = (1..).zip(lines).map(record).collect();
        let losses = std::collections::BTreeMap::new();
        LastWords::in_log(&KernelLog { records, losses, caller_configured: None })
    }

    #[test]
    fn a_panic_tells_more_than_the_oops_before_it() {
        let words = said(&[
            "Linux version 6.12",
            "BUG: kernel NULL pointer dereference, address: 0000000000000000",
            "Oops: 0002 [#1] PREEMPT SMP NOPTI",
            "CPU: 1 UID: 0 PID: 231 Comm: my task Kdump: loaded Not tainted 6.12.1 #1",
            "Kernel panic - not syncing: Fatal exception",
        ]);
        assert_eq!(words.panic_message.as_deref(), Some("Kernel panic - not syncing: Fatal exception"));
        assert_eq!(words.panic_task, Some(TaskSaid { cpu: 1, pid: 231, comm: "my task".into() }));
        assert_eq!(words.uptime_seconds, Some(7.5));
    }

    #[test]
    fn an_oops_and_a_wish_are_ends_too() {
        let words = said(&["sysrq: Trigger a crash", "BUG: unable", "CPU: 3 PID: 0 Comm: swapper/3 Tainted: G"]);
        assert_eq!(words.panic_message.as_deref(), Some("BUG: unable"));
        assert_eq!(words.panic_task.map(|task| task.pid), Some(0));
        assert_eq!(said(&["SysRq : Trigger a crash"]).panic_message.as_deref(), Some("SysRq : Trigger a crash"));
    }

    #[test]
    fn a_log_of_a_running_kernel_has_no_last_words() {
        let words = said(&["Linux version 6.12", "random: crng init done"]);
        assert_eq!((words.panic_message, words.panic_task), (None, None));
        assert_eq!(said(&[]), LastWords::default());
    }
}
