//! Memory of a kernel that still runs: `/proc/kcore`, and what was copied from it.
//!
//! Knows how to tell it from a crashed kernel's, and which of its memory a dump would not have. Must not know what is in it.
//! Says so in the [`super::Source`].

use std::{fs::File, path::Path};

use super::{
    RamMap,
    raw::{Given, iomem},
};
use crate::{format::note, report::human_bytes, sys::map::is_proc_file};

/// The note about a process (`NT_PRPSINFO`, include/uapi/linux/elf.h). Of all cores of a kernel only /proc/kcore has one
/// (fs/proc/kcore.c).
const NT_PRPSINFO: u32 = 3;

/// Whether a kernel core was made while its kernel ran. VMCOREINFO tells a kernel's core from a process's; /proc/kcore has
/// it since 4.19 (23c85094fe18).
fn is_of_running_kernel(notes: &[u8]) -> bool {
    let has = |wanted: &[u8], kind: Option<u32>| {
        note::notes(notes).any(|note| note.name == wanted && kind.is_none_or(|kind| note.kind == kind))
    };
    has(note::VMCOREINFO, None) && has(note::CORE, Some(NT_PRPSINFO))
}

/// What is to be known of an ELF core with these notes if its kernel ran; also whether `file` is that very kernel's memory now. Then
/// takes out of `ram` what no capture kernel would show: /proc/kcore has it too.
pub(super) fn look(file: &File, notes: &[u8], ram: &mut RamMap) -> Option<(Given, bool)> {
    if !is_of_running_kernel(notes) {
        return None;
    }
    let live = is_proc_file(file);
    let mut given = Given { by: "the memory of a running kernel".to_owned(), remarks: Vec::new() };
    if !live {
        given.remarks.push("it was copied while its kernel ran: what changed meanwhile contradicts itself".to_owned());
        return Some((given, live));
    }
    given
        .remarks
        .push("the kernel runs: its memory changes while it is read, and a dump will differ a little".to_owned());
    given.remarks.push(match iomem::not_dumped(Path::new("/proc/iomem")) {
        Ok(ranges) => {
            let before = ram.bytes();
            ram.take_out(&ranges);
            let reserved = human_bytes(before - ram.bytes());
            format!("{reserved} that are reserved for a capture kernel are left out, as in a dump")
        }
        Err(error) => format!("what is reserved for a capture kernel counts as the kernel's own: {error}"),
    });
    Some((given, live))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notes(kinds: &[(&[u8], u32)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        kinds.iter().for_each(|(name, kind)| note::push(&mut bytes, name, *kind, b"contents"));
        bytes
    }

    #[test]
    fn a_running_kernel_is_told_from_a_crashed_one_and_from_a_process() {
        let info: (&[u8], u32) = (note::VMCOREINFO, 0);
        assert!(is_of_running_kernel(&notes(&[(note::CORE, 1), (note::CORE, NT_PRPSINFO), (note::CORE, 4), info])));
        assert!(!is_of_running_kernel(&notes(&[(note::CORE, 1), (note::CORE, 1), info])));
        assert!(!is_of_running_kernel(&notes(&[(note::CORE, 1), (note::CORE, NT_PRPSINFO)])));
        assert!(!is_of_running_kernel(&notes(&[(b"QEMU", NT_PRPSINFO), info])));
    }

    #[test]
    fn a_copy_is_said_to_be_one() {
        let mut ram = RamMap::default();
        let file = tempfile::tempfile().unwrap();
        let bytes = notes(&[(note::CORE, NT_PRPSINFO), (note::VMCOREINFO, 0)]);
        let (given, live) = look(&file, &bytes, &mut ram).unwrap();
        assert!(!live && given.remarks[0].contains("copied"), "{given:?}");
        assert_eq!(look(&file, &notes(&[(note::CORE, 1)]), &mut ram), None);
    }
}
