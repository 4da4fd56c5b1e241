//! Facts about the crashed machine that several commands need.

use std::io::{self, BufWriter, Write as _};

use object::elf::{EM_386, EM_AARCH64, EM_ARM, EM_PPC64, EM_RISCV, EM_S390, EM_X86_64, Machine};

use crate::{
    cli::Format,
    error::{Error, Kind, Result},
    format::diskdump::UTS_LEN,
    layout::{self, KernelLayout, VmcoreInfo},
    memory::{ReadVirt as _, VirtReader},
    source::{CutShort, Mask, Recorded, Source},
};

/// What to do where VMCOREINFO is in no note and was not found.
pub(super) const NAME_VMCOREINFO: &str = "--vmcoreinfo ADDR tells where it is (/sys/kernel/vmcoreinfo)";

pub(super) fn vmcoreinfo(source: &Source) -> Option<VmcoreInfo> {
    source.vmcoreinfo().map(|(_, text)| VmcoreInfo::parse(text))
}

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

/// Nobody knows the kernel: no note has VMCOREINFO, and no memory, or more than one place has it. `cause` says what follows,
/// and `next` what to do.
pub(super) fn no_vmcoreinfo(source: &Source, cause: &str, next: &str) -> Error {
    let path = source.path().display();
    match source.undecided_vmcoreinfo() {
        [] => Error::input(format!("{path} has no VMCOREINFO, in its notes or in the memory that it has"))
            .because(cause)
            .next_step(next),
        found => Error::input(format!("cannot tell which VMCOREINFO note in {path} is the kernel's"))
            .because(format!("there are different ones at {}", found.join(", ")))
            .next_step("name one with --vmcoreinfo ADDR"),
    }
}

/// What those that need not know much of the kernel can do all the same.
pub(super) const LOW_LEVELS: &str = "dump with -d 0 or -d 1, which need no knowledge of the kernel";

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

/// The kernel's name for an ELF machine, as in `uname -m`.
pub(super) fn machine_name(machine: Machine) -> &'static str {
    match machine {
        EM_X86_64 => "x86_64",
        EM_386 => "i686",
        EM_ARM => "armv7l",
        EM_AARCH64 => "aarch64",
        EM_PPC64 => "ppc64le",
        EM_RISCV => "riscv64",
        EM_S390 => "s390x",
        _ => "unknown",
    }
}

/// Log2 of the page size: from VMCOREINFO, else what the architecture always has.
pub(super) fn page_shift(source: &Source, info: Option<&VmcoreInfo>) -> Result<u32> {
    let recorded = source.recorded().map(|recorded| recorded.page_shift);
    match (info, recorded) {
        (Some(info), None) => layout::page_shift(info),
        (Some(info), Some(shift)) if layout::page_shift(info)? == shift => Ok(shift),
        (Some(_), Some(shift)) => Err(Error::input(format!("cannot use {}", source.path().display()))
            .because(format!("its header says pages of {} bytes, and its VMCOREINFO another size", 1u64 << shift))
            .next_step("the file is damaged: copy the dump again")),
        (None, Some(shift)) => Ok(shift),
        (None, None) if [EM_X86_64, EM_386].contains(&source.machine()) => Ok(12),
        (None, None) => Err(no_vmcoreinfo(
            source,
            "so the page size cannot be known, of which this architecture has several",
            NAME_VMCOREINFO,
        )),
    }
}

/// The kernel's `utsname` as `mask` lets it be seen, from its memory where it can be read, else from the dump's header, else
/// from VMCOREINFO.
pub(super) fn utsname(source: &Source, info: Option<&VmcoreInfo>, mask: Option<&Mask>) -> [[u8; UTS_LEN]; 6] {
    let release = info.and_then(|info| info.text("OSRELEASE")).unwrap_or("unknown");
    let unknown = ["Linux", "(none)", release, "unknown", machine_name(source.machine()), "(none)"].map(|text| {
        let mut field = [0; UTS_LEN];
        let len = text.len().min(UTS_LEN - 1);
        field[..len].copy_from_slice(&text.as_bytes()[..len]);
        field
    });
    let in_memory = || {
        let info = info?;
        let virt = VirtReader::new(source, KernelLayout::paging(source, info).ok()?)?;
        let symbol = info.symbol("init_uts_ns")?.checked_add(info.offset("uts_namespace.name")?)?;
        let mut bytes = [0u8; UTS_LEN * 6];
        virt.read_virt(symbol, &mut bytes).ok()?;
        let mut shown = bytes;
        if let Some(mask) = mask {
            virt.conceal(symbol, &mut shown, mask).ok()?;
        }
        let (fields, _) = bytes.as_chunks::<UTS_LEN>();
        let mut fields = <[[u8; UTS_LEN]; 6]>::try_from(fields).ok().filter(|_| bytes.starts_with(b"Linux\0"))?;
        // A field without its NUL, or a machine called XXX, and libkdumpfile does not know the architecture.
        for ((field, shown), unknown) in fields.iter_mut().zip(shown.as_chunks::<UTS_LEN>().0).zip(unknown) {
            if field != shown {
                *field = unknown;
            }
        }
        Some(fields)
    };
    // The input's header may have what a rule was to overwrite and did not find.
    let recorded = || {
        source.recorded().filter(|_| mask.is_none()).map(|recorded| recorded.utsname).filter(|fields| fields[0][0] != 0)
    };
    in_memory().or_else(recorded).unwrap_or(unknown)
}

/// Seconds since 1970; `None` where the kernel did not get to note it.
pub(super) fn crash_time(source: &Source, info: Option<&VmcoreInfo>) -> Option<u64> {
    let noted = info.and_then(|info| info.text("CRASHTIME")).and_then(|text| text.parse().ok());
    noted.or_else(|| source.recorded().map(|recorded| recorded.crash_time).filter(|time| *time != 0))
}

/// What a dump lacks that was cut short, or a split set without one of its parts.
pub(super) fn cut_short(source: &Source, page_shift: u32) -> Option<String> {
    if let Some(missing) = source.missing_parts() {
        return Some(missing.to_string());
    }
    let CutShort { size, wanted } = source.cut_short()?;
    let pages = source.absent(page_shift);
    Some(format!("it ends at byte {size}, but its segments reach to byte {wanted}: {pages} pages are lost"))
}

/// What is missing in the input, and the output cannot say.
pub(super) fn said_before(source: &Source, format: Format) -> Vec<String> {
    let mut said = Vec::new();
    // What a cut file lacks is said with the losses.
    if source.is_incomplete() && source.cut_short().is_none() && source.missing_parts().is_none() {
        said.push(
            "the input is incomplete: pages that it lost are missing in the output too, which says so".to_owned(),
        );
    }
    let carried = |recorded: &Recorded| format == Format::Kdump && !recorded.erase_info.is_empty();
    if source.recorded().is_some_and(|recorded| recorded.erased && !carried(recorded)) {
        let erased = "the input lists data that was erased on purpose; the output has the same gaps without the list";
        said.push(erased.to_owned());
    }
    said
}
