//! What this machine has to give: memory and CPUs.
//!
//! Knows /proc and the cgroup files, under a given root for tests. Must not know dumps. Used by `cli` and `report`.

use std::{fs, path::Path};

/// Bytes of memory that a process may still take: the least of `MemAvailable` and what its cgroups leave.
#[must_use]
pub fn available_memory(root: &Path) -> Option<u64> {
    let meminfo = fs::read_to_string(root.join("proc/meminfo")).ok();
    let available = meminfo.and_then(|text| kilobytes(&text, "MemAvailable:").or_else(|| kilobytes(&text, "MemFree:")));
    [available, cgroup_room(root)].into_iter().flatten().min()
}

/// Bytes of memory that the kernel has.
#[must_use]
pub fn total_memory(root: &Path) -> Option<u64> {
    kilobytes(&fs::read_to_string(root.join("proc/meminfo")).ok()?, "MemTotal:")
}

/// The most memory this process ever had resident, bytes (`VmHWM`).
#[must_use]
pub fn peak_resident() -> Option<u64> {
    kilobytes(&fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// CPU time of all threads of this process so far, seconds. Unlike the wall clock it does not count what others do.
#[must_use]
pub fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// Bytes of memory of its own that this process has now (`RssAnon`).
#[must_use]
pub fn own_memory() -> Option<u64> {
    kilobytes(&fs::read_to_string("/proc/self/status").ok()?, "RssAnon:")
}

/// CPUs this process may use: affinity and cgroup quota counted.
#[must_use]
pub fn usable_cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// What the memory cgroup and its parents leave: limit minus use, the least of all levels; version 2 and version 1.
fn cgroup_room(root: &Path) -> Option<u64> {
    let own = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let rooms = own.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?.trim_start_matches('/'));
        if controllers.is_empty() {
            least_room(&root.join("sys/fs/cgroup"), path, "memory.max", "memory.current")
        } else if controllers.split(',').any(|name| name == "memory") {
            let base = root.join("sys/fs/cgroup/memory");
            least_room(&base, path, "memory.limit_in_bytes", "memory.usage_in_bytes")
        } else {
            None
        }
    });
    rooms.min()
}

fn least_room(base: &Path, path: &str, limit: &str, used: &str) -> Option<u64> {
    let number = |file: &Path| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
    let mut least = None;
    let mut at = base.join(path);
    while at.starts_with(base) {
        // "max" does not parse: no limit at this level.
        if let (Some(limit), Some(used)) = (number(&at.join(limit)), number(&at.join(used))) {
            let room = limit.saturating_sub(used);
            least = Some(least.map_or(room, |known: u64| known.min(room)));
        }
        if !at.pop() {
            break;
        }
    }
    least
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let file = root.path().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        }
        root
    }

    #[test]
    fn the_tightest_limit_wins() {
        let meminfo = ("proc/meminfo", "MemTotal: 999 kB\nMemAvailable:  200000 kB\n");
        let root = tree(&[meminfo]);
        assert_eq!(available_memory(root.path()), Some(200_000 << 10));
        let root = tree(&[
            meminfo,
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/memory.max", "50000000\n"),
            ("sys/fs/cgroup/a/memory.current", "10000000\n"),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
            ("sys/fs/cgroup/a/b/memory.current", "5\n"),
        ]);
        assert_eq!(available_memory(root.path()), Some(40_000_000));
    }

    #[test]
    fn a_bare_capture_kernel_says_nothing() {
        assert_eq!(available_memory(tree(&[]).path()), None);
    }
}
