//! The notes of a kdump-compressed file, the VMCOREINFO text of files older than notes, and the list of erased data.
//!
//! Knows which version has which. Must not know what they say. The bytes go into the `Source`, as an ELF core's would.

use super::set::Part;
use crate::{
    error::Result,
    format::note::{self, VMCOREINFO},
    source::{Notes, NotesReader},
};

/// A line for each rule of makedumpfile's filter.
const MAX_ERASE_INFO: u64 = 1 << 20;
/// The kernel gives VMCOREINFO one page, hypervisors a little more.
const MAX_VMCOREINFO: u64 = 1 << 20;

/// All notes, and what is to be said about them; a VMCOREINFO that only the sub header leads to becomes one of them.
pub(super) fn read(part: &Part) -> Result<(Notes, Vec<String>)> {
    let (sub, file) = (&part.head.sub, &part.file);
    let mut reader = NotesReader::new(true);
    let (offset, size) = (sub.offset_note.get(), sub.size_note.get());
    if offset != 0 && size != 0 {
        file.must_have("the notes", offset, size)?;
        reader.append(file.store.as_ref(), offset, size).map_err(|error| file.unreadable("the notes", &error))?;
    }
    let (mut notes, remarks) = reader.finish();
    let (offset, size) = (sub.offset_vmcoreinfo.get(), sub.size_vmcoreinfo.get());
    if note::notes(notes.held()).any(|note| note.name == VMCOREINFO) || size == 0 {
        return Ok((notes, remarks));
    }
    let text = area(part, "VMCOREINFO", offset, size, MAX_VMCOREINFO)?;
    // Padding after the last note would hide the new one.
    notes.trim();
    notes.push(VMCOREINFO, 0, &text);
    Ok((notes, remarks))
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
