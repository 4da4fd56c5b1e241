//! Facts about the crashed machine that the dump tells in more than one place.

use crate::{
    arch,
    error::{Error, Result},
    format::diskdump::UTS_LEN,
    layout::{self, KernelLayout, VmcoreInfo},
    memory::{ReadVirt as _, VirtReader},
    source::{Mask, Source},
};

/// What to do where VMCOREINFO is in no note and was not found.
pub const NAME_VMCOREINFO: &str = "--vmcoreinfo ADDR tells where it is (/sys/kernel/vmcoreinfo)";

/// The text of the note that counts.
#[must_use]
pub fn vmcoreinfo(source: &Source) -> Option<VmcoreInfo> {
    source.vmcoreinfo().map(|(_, text)| VmcoreInfo::parse(text))
}

/// Nobody knows the kernel: no note has VMCOREINFO, and no memory, or more than one place has it. `cause` says what follows,
/// and `next` what to do.
pub fn no_vmcoreinfo(source: &Source, cause: &str, next: &str) -> Error {
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

/// Log2 of the page size: from VMCOREINFO, else what the architecture always has.
pub fn page_shift(source: &Source, info: Option<&VmcoreInfo>) -> Result<u32> {
    let recorded = source.recorded().map(|recorded| recorded.page_shift);
    match (info, recorded) {
        (Some(info), None) => layout::page_shift(info),
        (Some(info), Some(shift)) if layout::page_shift(info)? == shift => Ok(shift),
        (Some(_), Some(shift)) => Err(Error::input(format!("cannot use {}", source.path().display()))
            .because(format!("its header says pages of {} bytes, and its VMCOREINFO another size", 1u64 << shift))
            .next_step("the file is damaged: copy the dump again")),
        (None, Some(shift)) => Ok(shift),
        (None, None) => arch::named(source.machine()).and_then(|named| named.page_shift).ok_or_else(|| {
            no_vmcoreinfo(
                source,
                "so the page size cannot be known, of which this architecture has several",
                NAME_VMCOREINFO,
            )
        }),
    }
}

/// The kernel's `utsname` as `mask` lets it be seen, from its memory where it can be read, else from the dump's header, else
/// from VMCOREINFO.
pub fn utsname(source: &Source, info: Option<&VmcoreInfo>, mask: Option<&Mask>) -> [[u8; UTS_LEN]; 6] {
    let release = info.and_then(|info| info.text("OSRELEASE")).unwrap_or("unknown");
    let unknown = ["Linux", "(none)", release, "unknown", arch::uname(source.machine()), "(none)"].map(|text| {
        let mut field = [0; UTS_LEN];
        let len = text.len().min(UTS_LEN - 1);
        field[..len].copy_from_slice(&text.as_bytes()[..len]);
        field
    });
    let in_memory = || {
        let info = info?;
        let virt = VirtReader::new(source, &KernelLayout::address_space(source, info).ok()?);
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
pub fn crash_time(source: &Source, info: Option<&VmcoreInfo>) -> Option<u64> {
    let noted = info.and_then(|info| info.text("CRASHTIME")).and_then(|text| text.parse().ok());
    noted.or_else(|| source.recorded().map(|recorded| recorded.crash_time).filter(|time| *time != 0))
}
