//! kdump-compressed files, whole or in parts.
//!
//! Knows the order of what is checked: headers, notes, bitmaps, the set, descriptors and pages. Must not stop at the first
//! fault.

mod bitmaps;
pub(in crate::check) mod head;
mod pages;
mod split;

use head::Head;

use super::{
    Check, Findings,
    facts::Facts,
    findings::Place,
    layers::{Kind, Opened},
    notes,
    rules::Rule,
};
use crate::{
    error::Result,
    format::{
        diskdump::STATUS_INCOMPLETE,
        note::{self, VMCOREINFO},
    },
    source::{Notes, store::read_all},
};

/// `status`: makedumpfile left out struct pages (`-e`).
const STATUS_EXCLUDED_VMEMMAP: u32 = 0x10;
/// The kernel gives VMCOREINFO one page, hypervisors a little more, bytes.
const MOST_VMCOREINFO: u64 = 1 << 20;

/// An input with what its headers say.
pub(crate) struct Part<'a> {
    opened: &'a Opened,
    head: Head,
    /// Where dumped page frames are; `None` where the bitmaps cannot be read.
    ranks: Option<bitmaps::Ranks>,
}

impl Part<'_> {
    fn place(&self, found: impl Into<String>) -> Place {
        Place::of(self.opened.input, found)
    }

    /// The page frames that the file has.
    fn frames(&self) -> std::ops::Range<u64> {
        if self.head.split { self.head.start..self.head.end.min(self.head.frames) } else { 0..self.head.frames }
    }
}

/// Checks the dump in `inputs`. Gives the number of pages that were decoded.
pub(super) fn check(check: &Check<'_>, inputs: &[Opened], findings: &mut Findings, facts: &mut Facts) -> Result<u64> {
    let mut parts = Vec::new();
    for opened in inputs {
        let head = match opened.kind {
            Kind::Kdump => head::parse(opened, findings)?,
            _ => None,
        };
        if let Some(head) = head {
            let mut part = Part { opened, head, ranks: None };
            part.flags(findings);
            part.notes(findings, facts);
            part.lengths(findings);
            part.ranks = bitmaps::check(check, &part, findings)?;
            parts.push(part);
        } else if inputs.len() > 1 {
            findings.broken(Rule::SplitPart, Place::of(opened.input, "it has no headers of a kdump-compressed dump"));
        }
    }
    facts.inputs = inputs.len();
    facts.head = parts.first().map(|part| part.head.clone());
    split::check(check, &parts, inputs.len(), findings)?;
    let (pages, flags) = pages::check(check, &parts, findings)?;
    facts.codecs = flags;
    Ok(pages)
}

impl Part<'_> {
    fn flags(&self, findings: &mut Findings) {
        let status = self.head.status;
        findings.must(Rule::KdumpComplete, status & STATUS_INCOMPLETE == 0, || {
            self.place(format!("the dump is marked incomplete (status {status:#x})"))
        });
        findings.must(Rule::KdumpVmemmap, status & STATUS_EXCLUDED_VMEMMAP == 0, || {
            self.place(format!("status {status:#x}"))
        });
    }

    /// What matters where the analysing machine has larger pages, which only some architectures' machines have.
    fn lengths(&self, findings: &mut Findings) {
        let wide = ["aarch64", "ppc64", "ppc64le"].contains(&self.head.machine.as_str());
        let page = if wide { 64 << 10 } else { 4096 };
        let (bitmap, size) = (self.head.bitmap1, self.opened.store.size());
        findings.must(Rule::KdumpBitmapOffset, bitmap.is_multiple_of(page), || {
            self.place("not a multiple of 64 KiB").at(bitmap)
        });
        findings.must(Rule::KdumpFileLength, size >= page, || self.place(format!("{size} bytes")));
    }

    fn notes(&self, findings: &mut Findings, facts: &mut Facts) {
        let (head, input) = (&self.head, self.opened.input);
        let mut all = Notes::default();
        if head.version >= 4 && head.notes.1 > 0 && self.is_inside("notes", head.notes, findings) {
            all = notes::read(input, self.opened.store.as_ref(), head.notes, findings).unwrap_or_default();
        }
        let text = if head.vmcoreinfo.1 > 0 { self.area("VMCOREINFO", head.vmcoreinfo, findings) } else { None };
        let in_note = note::notes(all.held()).find(|note| note.name == VMCOREINFO);
        if let Some(note) = in_note {
            let (offset, size) = head.vmcoreinfo;
            let place = head.notes.0 + all.place(note.desc_offset);
            let right = offset == place && size <= note.desc.len() as u64 && size > 0;
            findings.must(Rule::KdumpVmcoreinfo, right, || {
                let found = format!("{size} bytes at byte {offset}, and the note's {}", note.desc.len());
                self.place(found).at(place)
            });
        }
        let info = in_note.map(|note| note.desc.to_vec()).or(text.filter(|_| head.version == 3));
        notes::vmcoreinfo(input, info.as_deref(), findings, facts);
    }

    fn area(&self, what: &str, (offset, size): (u64, u64), findings: &mut Findings) -> Option<Vec<u8>> {
        let read = || read_all(self.opened.store.as_ref(), offset, size.min(MOST_VMCOREINFO)).ok();
        if self.is_inside(what, (offset, size), findings) { read() } else { None }
    }

    fn is_inside(&self, what: &str, (offset, size): (u64, u64), findings: &mut Findings) -> bool {
        let store = self.opened.store.as_ref();
        let inside = offset.checked_add(size).is_some_and(|end| end <= store.size());
        findings.must(Rule::NotesInFile, inside, || {
            self.place(format!("{what}: {size} bytes at byte {offset}, and the file has {}", store.size())).at(offset)
        })
    }
}
