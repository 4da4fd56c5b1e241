//! The notes of a kdump-compressed file, the VMCOREINFO text of files older than notes, and the list of erased data.
//!
//! Knows which version has which. Must not know what they say. The bytes go into the `Source`, as an ELF core's would.

use super::set::Part;
use crate::{
    error::Result,
    format::note::{self, VMCOREINFO},
};

/// 8192 CPUs need 3 MiB of notes; drivers' device dumps need more.
const MAX_NOTES: u64 = 64 << 20;
/// A line for each rule of makedumpfile's filter.
const MAX_ERASE_INFO: u64 = 1 << 20;
/// The kernel gives VMCOREINFO one page, hypervisors a little more.
const MAX_VMCOREINFO: u64 = 1 << 20;

/// All notes; a VMCOREINFO that only the sub header leads to becomes one of them.
pub(super) fn read(part: &Part) -> Result<Vec<u8>> {
    let sub = &part.head.sub;
    let mut notes = area(part, "the notes", sub.offset_note.get(), sub.size_note.get(), MAX_NOTES)?;
    let (offset, size) = (sub.offset_vmcoreinfo.get(), sub.size_vmcoreinfo.get());
    if note::notes(&notes).any(|note| note.name == VMCOREINFO) || size == 0 {
        return Ok(notes);
    }
    let text = area(part, "VMCOREINFO", offset, size, MAX_VMCOREINFO)?;
    // Padding after the last note would hide the new one.
    notes.truncate(note::notes(&notes).last().map_or(0, |last| last.end));
    notes.resize(notes.len().next_multiple_of(4), 0);
    note::push(&mut notes, VMCOREINFO, 0, &text);
    Ok(notes)
}

/// What was erased on purpose, from the lists of all parts: makedumpfile gives each part its own. A list that cannot be read
/// is no reason to refuse the dump.
pub(super) fn erase_info(parts: &[Part]) -> Vec<u8> {
    let mut lists: Vec<Vec<u8>> = Vec::new();
    for part in parts {
        let (offset, size) = (part.head.sub.offset_eraseinfo.get(), part.head.sub.size_eraseinfo.get());
        match area(part, "the list of erased data", offset, size, MAX_ERASE_INFO) {
            Ok(list) if !list.is_empty() && !lists.contains(&list) => lists.push(list),
            _ => {}
        }
    }
    lists.concat()
}

fn area(part: &Part, what: &str, offset: u64, size: u64, most: u64) -> Result<Vec<u8>> {
    if offset == 0 || size == 0 {
        return Ok(Vec::new());
    }
    if size > most {
        return Err(part
            .file
            .damaged(format!("{what} would have {size} bytes, more than the {most} that any dump has")));
    }
    part.file.bytes(what, offset, size)
}
