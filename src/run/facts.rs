//! Facts about the crashed machine that several commands need.

use object::elf::{EM_386, EM_AARCH64, EM_PPC64, EM_RISCV, EM_S390, EM_X86_64, Machine};

use crate::{
    error::{Error, Result},
    format::diskdump::UTS_LEN,
    layout::{self, KernelLayout, VmcoreInfo},
    memory::{ReadVirt as _, VirtReader},
    source::Source,
};

pub(super) fn vmcoreinfo(source: &Source) -> Option<VmcoreInfo> {
    source.vmcoreinfo().map(|(_, text)| VmcoreInfo::parse(text))
}

pub(super) fn no_vmcoreinfo(source: &Source) -> Error {
    Error::input(format!("{} has no VMCOREINFO note", source.path().display()))
}

/// The kernel's name for an ELF machine, as in `uname -m`.
pub(super) fn machine_name(machine: Machine) -> &'static str {
    match machine {
        EM_X86_64 => "x86_64",
        EM_386 => "i686",
        EM_AARCH64 => "aarch64",
        EM_PPC64 => "ppc64le",
        EM_RISCV => "riscv64",
        EM_S390 => "s390x",
        _ => "unknown",
    }
}

/// Log2 of the page size: from VMCOREINFO, else what the architecture always has.
pub(super) fn page_shift(source: &Source, info: Option<&VmcoreInfo>) -> Result<u32> {
    match info {
        Some(info) => layout::page_shift(info),
        None if source.machine() == EM_X86_64 => Ok(12),
        None => Err(no_vmcoreinfo(source)
            .because("the page size of this architecture cannot be known without it")
            .next_step("give a dump that has the note")),
    }
}

/// The kernel's `utsname`, from its memory where it can be read, else from VMCOREINFO and the ELF header.
pub(super) fn utsname(source: &Source, info: Option<&VmcoreInfo>) -> [[u8; UTS_LEN]; 6] {
    let in_memory = || {
        let info = info?;
        let virt = VirtReader::new(source, KernelLayout::paging(source, info).ok()?)?;
        let symbol = info.symbol("init_uts_ns")?.checked_add(info.offset("uts_namespace.name")?)?;
        let mut bytes = [0u8; UTS_LEN * 6];
        virt.read_virt(symbol, &mut bytes).ok()?;
        let (fields, _) = bytes.as_chunks::<UTS_LEN>();
        <[[u8; UTS_LEN]; 6]>::try_from(fields).ok().filter(|fields| fields[0].starts_with(b"Linux\0"))
    };
    in_memory().unwrap_or_else(|| {
        let release = info.and_then(|info| info.text("OSRELEASE")).unwrap_or("");
        ["Linux", "", release, "", machine_name(source.machine()), ""].map(|text| {
            let mut field = [0; UTS_LEN];
            let len = text.len().min(UTS_LEN - 1);
            field[..len].copy_from_slice(&text.as_bytes()[..len]);
            field
        })
    })
}

/// Seconds since 1970; `None` where the kernel did not get to note it.
pub(super) fn crash_time(info: Option<&VmcoreInfo>) -> Option<u64> {
    info?.text("CRASHTIME")?.parse().ok()
}
