//! Facts about the crashed machine that several commands need.

use std::io::{self, BufWriter, Write as _};

use crate::{
    cli::resolve::Container,
    error::{Error, Kind},
    source::{Recorded, Source, Truncated},
};

/// Shows the note on standard error as makedumpfile does: openSUSE's kdump-save has OSRELEASE and CRASHTIME from there, each on a
/// line of its own behind blanks.
pub(super) fn show_vmcoreinfo(source: &Source) {
    let Some((_, text)) = source.vmcoreinfo() else { return };
    let mut out = BufWriter::new(io::stderr().lock());
    let _ = writeln!(out, "VMCOREINFO   :");
    for line in String::from_utf8_lossy(text).lines().filter(|line| !line.is_empty()) {
        let _ = writeln!(out, "  {}", crate::error::printable(line));
    }
    let _ = writeln!(out);
}

/// What those that need not know much of the kernel can do all the same.
const LOW_LEVELS: &str = "dump with -d 0 or -d 1, which need no knowledge of the kernel";

/// The next step of a command that knows the kernel as far as the dump and -x, --btf and -i say it, and may do without as
/// `otherwise` says.
pub(super) fn advised(error: Error, otherwise: Option<&str>) -> Error {
    const FILES: &str = "give the kernel's vmlinux (-x), its BTF (--btf) or a layout file of it (-i)";
    match (error.kind(), otherwise) {
        (Kind::Unsaid, Some(otherwise)) => error.or_next_step(format!("{FILES}; or {otherwise}")),
        (Kind::Unsaid, None) => error.or_next_step(FILES),
        (_, Some(otherwise)) => error.or_next_step(otherwise),
        (_, None) => error,
    }
}

/// What a dump lacks that was truncated, or a split set without one of its parts.
pub(super) fn truncation(source: &Source, page_shift: u32) -> Option<String> {
    if let Some(missing) = source.missing_parts() {
        return Some(missing.to_string());
    }
    let Truncated { size, wanted } = source.truncated()?;
    let pages = source.absent(page_shift);
    Some(format!("it ends at byte {size}, but its segments reach to byte {wanted}: {pages} pages are lost"))
}

/// What is to be done where a dump's kernel cannot be understood: first of all with a dump that is not all there.
pub(super) fn without_kernel(source: &Source) -> String {
    let whole = match source.truncated() {
        _ if source.missing_parts().is_some() => "name all parts of the split dump; or ".to_owned(),
        Some(Truncated { size, wanted }) => {
            format!("the dump is truncated, at byte {size} of {wanted}: copy it again; or ")
        }
        None => String::new(),
    };
    whole + LOW_LEVELS
}

/// What questions are answered without, where a dump is not all there.
pub(super) fn incomplete(source: &Source, page_shift: u32) -> Option<String> {
    let advice = if source.missing_parts().is_some() { "; name all parts" } else { "" };
    truncation(source, page_shift).map(|cause| format!("the dump is incomplete: {cause}{advice}"))
}

/// What is missing in the input, and the output cannot say.
pub(super) fn input_remarks(source: &Source, container: Container) -> Vec<String> {
    let mut said = Vec::new();
    // What a cut file lacks is said with the losses.
    if source.is_incomplete() && source.truncated().is_none() && source.missing_parts().is_none() {
        said.push(
            "the input is incomplete: pages that it lost are missing in the output too, which says so".to_owned(),
        );
    }
    let carried = |recorded: &Recorded| container == Container::Kdump && !recorded.erase_info.is_empty();
    if source.recorded().is_some_and(|recorded| recorded.erased && !carried(recorded)) {
        let erased = "the input lists data that was erased on purpose; the output has the same gaps without the list";
        said.push(erased.to_owned());
    }
    said
}
