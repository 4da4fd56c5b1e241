//! Where the CPUs and the kernel itself leave notes when the machine crashes.
//!
//! Knows the files under `/sys/devices/system/cpu` and `/sys/kernel/vmcoreinfo`. Gives the notes of the core headers.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::files;

/// The size of a CPU's notes where the kernel does not say it (before 3.16).
const OLD_SIZE: u64 = 1024;
/// More CPUs than any kernel supports (NR_CPUS at most 8192); bounds a list that is not true.
const MOST_CPUS: u32 = 1 << 16;

/// Notes in physical memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct NoteArea {
    /// Physical address.
    pub address: u64,
    /// Bytes.
    pub size: u64,
}

/// The notes of every possible CPU that has some. A CPU that is possible but was never present has no folder.
#[must_use]
pub fn notes(root: &Path) -> Vec<NoteArea> {
    let cpus = root.join("sys/devices/system/cpu");
    let possible = files::text(&cpus.join("possible")).unwrap_or_default();
    let mut numbers = list(&possible);
    if numbers.is_empty() {
        numbers = files::numbered(&cpus, "cpu");
    }
    let of = |cpu: &u32| {
        let folder = cpus.join(format!("cpu{cpu}"));
        let address = files::hex(&folder.join("crash_notes"))?;
        let size = files::decimal(&folder.join("crash_notes_size")).unwrap_or(OLD_SIZE);
        Some(NoteArea { address, size })
    };
    numbers.iter().filter_map(of).collect()
}

/// Where VMCOREINFO is: `0x0000000100bf2000 1024`, both hexadecimal.
#[must_use]
pub fn vmcoreinfo(root: &Path) -> Option<NoteArea> {
    let text = files::text(&root.join("sys/kernel/vmcoreinfo"))?;
    let (address, size) = text.trim().split_once(' ')?;
    Some(NoteArea { address: files::hex_of(address)?, size: files::hex_of(size)? })
}

/// `0-3,8`.
fn list(text: &str) -> Vec<u32> {
    let mut numbers = Vec::new();
    for part in text.trim().split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>()) {
            numbers.extend(first..=last.min(MOST_CPUS));
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_cpus() {
        assert_eq!(list("0-3,8\n"), [0, 1, 2, 3, 8]);
        assert_eq!(list("0"), [0]);
        assert_eq!(list(""), [0u32; 0]);
        assert!(list("0-4294967295").len() <= 1 << 16 | 1);
    }
}
