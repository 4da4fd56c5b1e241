//! What this machine has to give: memory and CPUs.
//!
//! Knows /proc and the cgroup files, under a given root for tests. Must not know dumps. Used by `cli` and `report`.

use std::{fs, path::Path};

use rustix::process::{Resource, getrlimit};

/// Bytes of memory that a process may still take: the least of `MemAvailable` and what its cgroups leave.
#[must_use]
pub fn available_memory(root: &Path) -> Option<u64> {
    let meminfo = fs::read_to_string(root.join("proc/meminfo")).ok();
    let available = meminfo.and_then(|text| kilobytes(&text, "MemAvailable:").or_else(|| kilobytes(&text, "MemFree:")));
    [available, cgroup_room(root)].into_iter().flatten().min()
}

/// Bytes that this process may still map under its own limits (`ulimit -v`, `ulimit -d`), less what it has mapped already;
/// `None` where there are none. Past them an allocation fails, whatever the machine has.
#[must_use]
pub fn mappable_memory() -> Option<u64> {
    [address_space(), left_of(Resource::Data, "VmData:")].into_iter().flatten().min()
}

/// The same for files too: bytes of address space that are left (`ulimit -v`).
#[must_use]
pub fn address_space() -> Option<u64> {
    left_of(Resource::As, "VmSize:")
}

fn left_of(resource: Resource, key: &str) -> Option<u64> {
    let limit = getrlimit(resource).current?;
    let status = fs::read_to_string("/proc/self/status").ok();
    Some(limit.saturating_sub(status.and_then(|text| kilobytes(&text, key)).unwrap_or(0)))
}

/// Bytes of memory that the kernel has.
#[must_use]
pub fn total_memory(root: &Path) -> Option<u64> {
    kilobytes(&fs::read_to_string(root.join("proc/meminfo")).ok()?, "MemTotal:")
}

/// Whether this is a capture kernel: it has the crashed kernel's memory as /proc/vmcore, or was told where its headers are.
/// `vmcore_init()` (fs/proc/vmcore.c) makes the file only where there are such headers; x86 and others are told by elfcorehdr=,
/// arm64 and riscv by their device tree.
#[must_use]
pub fn is_capture_kernel(root: &Path) -> bool {
    let told = |line: String| line.split_ascii_whitespace().any(|word| word.starts_with("elfcorehdr="));
    root.join("proc/vmcore").exists() || fs::read_to_string(root.join("proc/cmdline")).is_ok_and(told)
}

/// Bytes of memory that a run may use if nobody said how much, of what is available under `root`. Half of it: others need some
/// too. In a capture kernel there are no others, and a dump that is refused is lost: there an eighth is left to the kernel, for
/// page tables and what is being written, and never more than 64 MiB.
#[must_use]
pub fn usable_memory(root: &Path) -> Option<u64> {
    let shared = available_memory(root);
    let bytes = [shared, mappable_memory()].into_iter().flatten().min()?;
    Some(if is_capture_kernel(root) { bytes - (bytes / 8).min(CAPTURE_RESERVE) } else { bytes / 2 })
}

/// Assumed where the host does not say how much memory it has, bytes.
pub const UNKNOWN_MEMORY: u64 = 64 << 20;

/// What a capture kernel keeps at most, bytes: the dirty pages of an output are throttled at a fifth of what is available.
const CAPTURE_RESERVE: u64 = 64 << 20;

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

/// What the memory cgroup and its parents leave: limit minus use, the least of all levels; version 2 and version 1. Files
/// that are cached count as use there, but make way as they do in `MemAvailable`.
fn cgroup_room(root: &Path) -> Option<u64> {
    let own = fs::read_to_string(root.join("proc/self/cgroup")).ok()?;
    let rooms = own.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?.trim_start_matches('/'));
        if controllers.is_empty() {
            least_room(&root.join("sys/fs/cgroup"), path, "memory.max", "memory.current", "")
        } else if controllers.split(',').any(|name| name == "memory") {
            let base = root.join("sys/fs/cgroup/memory");
            least_room(&base, path, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_")
        } else {
            None
        }
    });
    rooms.min()
}

fn least_room(base: &Path, path: &str, limit: &str, used: &str, prefix: &str) -> Option<u64> {
    let number = |file: &Path| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
    let mut least = None;
    let mut at = base.join(path);
    while at.starts_with(base) {
        // "max" does not parse: no limit at this level.
        if let (Some(limit), Some(used)) = (number(&at.join(limit)), number(&at.join(used))) {
            let room = limit.saturating_sub(used.saturating_sub(cached(&at.join("memory.stat"), prefix)));
            least = Some(least.map_or(room, |known: u64| known.min(room)));
        }
        if !at.pop() {
            break;
        }
    }
    least
}

/// Bytes of cached files in a cgroup that make way for other memory: those not used lately, and half of the others, as the
/// kernel itself estimates (`si_mem_available`).
fn cached(stat: &Path, prefix: &str) -> u64 {
    let Ok(text) = fs::read_to_string(stat) else {
        return 0;
    };
    let of = |name: &str| {
        let number = |line: &str| line.strip_prefix(prefix)?.strip_prefix(name)?.strip_prefix(' ')?.parse::<u64>().ok();
        text.lines().find_map(number).unwrap_or(0)
    };
    of("inactive_file").saturating_add(of("active_file") / 2)
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

    /// A shell in a small cgroup that has copied a file is not out of memory.
    #[test]
    fn cached_files_make_way() {
        let meminfo = ("proc/meminfo", "MemAvailable:  200000 kB\n");
        let stat = "anon 1000\ninactive_anon 7\nactive_file 20000000\ninactive_file 30000000\ntotal_inactive_file 1\n";
        let root = tree(&[
            meminfo,
            ("proc/self/cgroup", "0::/a\n"),
            ("sys/fs/cgroup/a/memory.max", "64000000\n"),
            ("sys/fs/cgroup/a/memory.current", "63000000\n"),
            ("sys/fs/cgroup/a/memory.stat", stat),
        ]);
        assert_eq!(available_memory(root.path()), Some(41_000_000));
        let stat = "cache 9\ninactive_file 1\ntotal_active_file 0\ntotal_inactive_file 90000000\n";
        let root = tree(&[
            meminfo,
            ("proc/self/cgroup", "4:memory:/a\n0::/\n"),
            ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "64000000\n"),
            ("sys/fs/cgroup/memory/a/memory.usage_in_bytes", "63000000\n"),
            ("sys/fs/cgroup/memory/a/memory.stat", stat),
        ]);
        assert_eq!(available_memory(root.path()), Some(64_000_000));
    }

    #[test]
    fn a_bare_capture_kernel_says_nothing() {
        assert_eq!(available_memory(tree(&[]).path()), None);
        assert_eq!(usable_memory(tree(&[]).path()), mappable_memory().map(|bytes| bytes / 2));
    }

    #[test]
    fn a_capture_kernel_is_known_by_its_file_or_its_command_line() {
        let told = |line| is_capture_kernel(tree(&[("proc/cmdline", line)]).path());
        assert!(told("ro elfcorehdr=0x76ff5000 irqpoll\n"));
        assert!(!told("ro crashkernel=256M not_elfcorehdr=1\n") && !told("\n"));
        assert!(is_capture_kernel(tree(&[("proc/vmcore", "")]).path()));
        assert!(!is_capture_kernel(tree(&[]).path()));
    }

    /// 13.9 MiB free and 7.5 needed: half would not do.
    #[test]
    fn a_capture_kernel_may_use_nearly_all() {
        let usable = |cmdline, kilobytes: u64| {
            let meminfo = format!("MemAvailable:  {kilobytes} kB\n");
            usable_memory(tree(&[("proc/meminfo", &meminfo), ("proc/cmdline", cmdline)]).path())
        };
        assert_eq!(usable("ro", 14_233), Some(14_233 << 9));
        assert_eq!(usable("ro elfcorehdr=1M", 14_233), Some((14_233 << 10) / 8 * 7));
        assert_eq!(usable("ro elfcorehdr=1M", 2 << 20), Some((2 << 30) - (64 << 20)));
    }
}
