//! Notes, and the few lines of VMCOREINFO that readers cannot do without.
//!
//! Knows how notes follow one another. Must not know the kernel. Serves both formats.

use super::{Findings, facts::Facts, findings::Place, rules::Rule};
use crate::{
    format::note::{self, CORE, NT_PRSTATUS},
    source::{
        Notes, NotesReader,
        store::{Store, StoreError},
    },
};

/// Register sets that crash has room for on x86_64.
const MOST_CPUS: usize = 8192;

/// Reads and checks the notes in `len` bytes of `store` at `offset`; large ones are not read.
///
/// # Errors
/// The store ends before, or cannot be read.
pub(super) fn read(
    input: usize,
    store: &dyn Store,
    (offset, len): (u64, u64),
    findings: &mut Findings,
) -> Result<Notes, StoreError> {
    let mut reader = NotesReader::new(true);
    reader.append(store, offset, len)?;
    // The kernel pads with zeros, which are notes without a name.
    let (at, rest) = reader.rest();
    let whole = rest.iter().all(|byte| *byte == 0) && !reader.is_clipped();
    findings
        .must(Rule::NotesWhole, whole, || Place::of(input, format!("{} bytes that are no note", rest.len())).at(at));
    let (notes, _) = reader.finish();
    let cpus = note::notes(notes.held()).filter(|note| note.name == CORE && note.kind == NT_PRSTATUS).count();
    findings.must(Rule::NotesCpus, cpus <= MOST_CPUS, || Place::of(input, format!("{cpus} register sets")).at(offset));
    Ok(notes)
}

/// Checks the VMCOREINFO text, or that there is none.
pub(super) fn vmcoreinfo(input: usize, text: Option<&[u8]>, findings: &mut Findings, facts: &mut Facts) {
    let Some(text) = text else {
        findings.broken(Rule::NotesVmcoreinfo, Place::of(input, "there is none"));
        return;
    };
    findings.looked(Rule::NotesVmcoreinfo);
    let text = String::from_utf8_lossy(text);
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let release = value("OSRELEASE");
    findings.must(Rule::VmcoreinfoRelease, release.is_some_and(|text| !text.is_empty()), || {
        Place::of(input, "there is no such line")
    });
    let size = value("PAGESIZE");
    findings.must(Rule::VmcoreinfoPageSize, size.is_some(), || Place::of(input, "there is no such line"));
    if let Some(text) = size {
        let power = text.trim().parse::<u64>().is_ok_and(u64::is_power_of_two);
        findings.must(Rule::VmcoreinfoPower, power, || Place::of(input, format!("it is {text:?}")));
    }
    let root = value("SYMBOL(swapper_pg_dir)").is_some();
    findings.must(Rule::VmcoreinfoPageTable, root, || Place::of(input, "there is no such line"));
    facts.release = facts.release.take().or_else(|| release.map(str::to_owned));
}
