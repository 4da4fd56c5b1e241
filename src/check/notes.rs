//! Notes, and the few lines of VMCOREINFO that readers cannot do without.
//!
//! Knows how notes follow one another. Must not know the kernel. Serves both formats.

use super::{Findings, readers::Facts, rule::Place, rules::Rule};
use crate::format::note::{self, CORE, NT_PRSTATUS};

/// Register sets that crash has room for on x86_64.
const MOST_CPUS: usize = 8192;

/// Checks the notes in `bytes`, which lie at `base` of an input.
pub(super) fn walk(input: usize, bytes: &[u8], base: u64, findings: &mut Findings) {
    let (mut end, mut cpus) = (0, 0);
    for note in note::notes(bytes) {
        end = note.end;
        cpus += usize::from(note.name == CORE && note.kind == NT_PRSTATUS);
    }
    // The kernel pads with zeros, which are notes without a name.
    let rest = bytes.get(end..).unwrap_or_default();
    findings.must(Rule::NotesWhole, rest.iter().all(|byte| *byte == 0), || {
        Place::of(input, format!("{} bytes that are no note", rest.len())).at(base.saturating_add(end as u64))
    });
    findings.must(Rule::NotesCpus, cpus <= MOST_CPUS, || Place::of(input, format!("{cpus} register sets")).at(base));
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
