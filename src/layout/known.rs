//! What is known about a kernel besides the dump's own note: its vmlinux, a layout file, BTF.
//!
//! Knows how each becomes lines of VMCOREINFO, and what proves that it belongs to the crashed kernel. Must not read the dump.
//! The lines are added to the note's.

use std::{io, path::Path};

use super::{
    VmcoreInfo, Witness,
    types::{Vmlinux, Wanted, describe, read_btf},
};
use crate::{
    arch,
    error::{Error, Kind, Result},
    sys::file,
};

/// Symbols that VMCOREINFO exports, in some kernel or other, and some more, whose addresses are those of variables or functions.
const SYMBOLS: &[&str] = &[
    "init_uts_ns",
    "node_online_map",
    "swapper_pg_dir",
    "init_top_pgt",
    "init_level4_pgt",
    "_stext",
    "vmap_area_list",
    "mem_map",
    "contig_page_data",
    "mem_section",
    "node_data",
    "log_buf",
    "log_end",
    "log_buf_len",
    "logged_chars",
    "log_first_idx",
    "clear_idx",
    "log_next_idx",
    "prb",
    "printk_rb_static",
    "clear_seq",
    "kallsyms_names",
    "kallsyms_num_syms",
    "kallsyms_token_table",
    "kallsyms_token_index",
    "kallsyms_offsets",
    "kallsyms_addresses",
    "kallsyms_relative_base",
    // Exported by no kernel.
    "init_task",
    "panic_cpu",
    "crashing_cpu",
    "__per_cpu_offset",
];
/// A layout file has some hundred lines.
const MAX_FILE: u64 = 1 << 20;
/// What the kernel calls itself, and where.
const BANNER: (&str, &str) = ("linux_banner", "Linux version ");

/// What a vmlinux or its debug file says, with link addresses. To read it may take `limit` bytes of memory.
///
/// # Errors
/// The file cannot be read, or has neither DWARF nor BTF, or memory does not do for it.
pub fn of_vmlinux(path: &Path, threads: usize, limit: u64) -> Result<VmcoreInfo> {
    let vmlinux = Vmlinux::open(path, limit)?;
    let debug = if vmlinux.has_dwarf() { None } else { vmlinux.debug_file() };
    let with_dwarf = debug.as_ref().unwrap_or(&vmlinux);
    for file in [&vmlinux, with_dwarf] {
        file.check_memory()?;
    }
    let mut info = VmcoreInfo::default();
    if let Some(id) = vmlinux.build_id() {
        let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
        info.set("BUILD-ID", hex, Witness::Symbols);
    }
    if let Some(release) = vmlinux.text(BANNER.0)?.as_deref().and_then(|text| text.strip_prefix(BANNER.1)) {
        info.set("OSRELEASE", release.split(' ').next().unwrap_or(release), Witness::Symbols);
    }
    if let Some(shift) = arch::named(vmlinux.machine()).and_then(|named| named.page_shift) {
        // The architecture has no other.
        info.set("PAGESIZE", (1u64 << shift).to_string(), Witness::Symbols);
    }
    for (name, address) in vmlinux.symbols(SYMBOLS)? {
        info.set(format!("SYMBOL({name})"), format!("{address:x}"), Witness::Symbols);
    }
    if with_dwarf.has_dwarf() {
        info.add(&describe(&with_dwarf.dwarf(&Wanted::kernel(), threads)?, Witness::Dwarf));
    }
    match vmlinux.btf()? {
        Some(btf) => {
            let types =
                super::types::Btf::parse(&btf).and_then(|btf| btf.types(&Wanted::kernel())).map_err(|error| {
                    Error::input(format!("cannot use the BTF of {}", path.display()))
                        .because(error)
                        .next_step("the file is damaged: copy or install it again")
                })?;
            info.add(&describe(&types, Witness::Btf));
        }
        None if !with_dwarf.has_dwarf() => {
            return Err(Error::input(format!("{} says nothing about the kernel's types", path.display()))
                .because("it has neither DWARF nor BTF, and no file with its debug information was found")
                .next_step("install the kernel's debug package, or give vmlinux.debug itself"));
        }
        None => {}
    }
    Ok(info)
}

/// What a layout file says: lines as VMCOREINFO's, as `vdump layout` and `makedumpfile -g` write them. A note saved at another
/// boot of the kernel is one too, without what was true of that boot only.
///
/// # Errors
/// It cannot be read, or has no such line.
pub fn of_layout_file(path: &Path) -> Result<VmcoreInfo> {
    let read = file::read(path, MAX_FILE);
    layout_in(path, &read.map_err(|error| Error::io(path, "read", &error).or_next_step("check the path"))?)
}

fn layout_in(path: &Path, text: &[u8]) -> Result<VmcoreInfo> {
    let info = VmcoreInfo::parse_of(text, Witness::File);
    let is_known =
        |key: &str| ["SIZE(", "OFFSET(", "LENGTH(", "NUMBER(", "SYMBOL("].iter().any(|kind| key.starts_with(kind));
    if text.contains(&0) || !info.lines().any(|(key, ..)| is_known(key)) {
        return Err(Error::input(format!("cannot use {} as a layout file", path.display()))
            .because("it has no line like SIZE(page)=64")
            .next_step("make one with 'vdump layout --vmlinux VMLINUX -o FILE'"));
    }
    Ok(at_link_time(&info))
}

/// What a file of BTF says.
///
/// # Errors
/// It cannot be read or is not BTF.
pub fn of_btf_file(path: &Path) -> Result<VmcoreInfo> {
    read_btf(path, &Wanted::kernel()).map(|types| describe(&types, Witness::Btf))
}

/// Makes sure that `other`, which came from `path`, describes the kernel of the dump that `note` is from, and moves its
/// addresses to where that kernel ran.
///
/// # Errors
/// It describes another kernel: both build IDs are shown, or, where there are none, what they say differently.
pub fn fit(note: &VmcoreInfo, mut other: VmcoreInfo, path: &Path) -> Result<VmcoreInfo> {
    let refused = |cause: String| {
        Error::new(Kind::Input, format!("{} does not belong to the crashed kernel", path.display()))
            .because(cause)
            .next_step("give the file of the very kernel that crashed ('vdump info' shows its release and build ID)")
    };
    let mut proven = false;
    for key in ["BUILD-ID", "OSRELEASE"] {
        match (note.text(key), other.text(key)) {
            (Some(ours), Some(theirs)) if ours != theirs => {
                return Err(refused(format!("its {key} is {theirs}, and the dump's is {ours}")));
            }
            (Some(_), Some(_)) => proven |= key == "BUILD-ID",
            _ => {}
        }
    }
    relocate(note, &mut other);
    // The pointer's value, not its address, is in the notes of most kernels.
    other.retain(|key| key != "SYMBOL(mem_section)" || note.text(key).is_none());
    if !proven {
        let mut both = note.clone();
        both.add(&other);
        if let Some(first) = both.disagreements().first() {
            return Err(refused(first.to_string()));
        }
    }
    Ok(other)
}

/// Whether the note confirms anything that `fitting` says. What is the same in every kernel confirms nothing: the page size,
/// and where the kernel's text begins once it was moved there.
#[must_use]
pub fn is_confirmed(note: &VmcoreInfo, fitting: &VmcoreInfo) -> bool {
    fitting.lines().any(|(key, ..)| !["PAGESIZE", "SYMBOL(_stext)"].contains(&key) && note.text(key).is_some())
}

/// Moves link addresses to where the kernel ran (KASLR). Without a way to tell how far, they are left out.
fn relocate(note: &VmcoreInfo, other: &mut VmcoreInfo) {
    let stext = || Some(note.symbol("_stext")?.wrapping_sub(other.symbol("_stext")?).cast_signed());
    let shift = note.value("KERNELOFFSET").or_else(stext).map(i64::cast_unsigned);
    let symbols: Vec<_> = other
        .lines()
        .filter(|(key, ..)| key.starts_with("SYMBOL("))
        .filter_map(|(key, _, witness)| Some((key.to_owned(), other.value(key)?.cast_unsigned(), witness)))
        .collect();
    match shift {
        Some(shift) => {
            for (key, address, witness) in symbols {
                other.set(key, format!("{:x}", address.wrapping_add(shift)), witness);
            }
        }
        None => other.retain(|key| !key.starts_with("SYMBOL(")),
    }
}

/// The other way: what can be said of the kernel whenever it runs, from what its crash's note says.
#[must_use]
pub fn at_link_time(note: &VmcoreInfo) -> VmcoreInfo {
    /// These differ from boot to boot, or from machine to machine.
    const OF_ONE_BOOT: [&str; 6] = [
        "KERNELOFFSET",
        "CRASHTIME",
        "NUMBER(phys_base)",
        "NUMBER(sme_mask)",
        "NUMBER(pgtable_l5_enabled)",
        "NUMBER(VMALLOC_START)",
    ];
    let shift = note.value("KERNELOFFSET").unwrap_or(0).cast_unsigned();
    let mut info = note.clone();
    // Other addresses lie in memory that is placed anew at each boot. A layout file need not say which machine it is of.
    let is_image = |address| match arch::of(arch::by_keys(|key| note.text(key).is_some())) {
        Some(arch) => arch.is_image(address),
        None => arch::ALL.iter().any(|arch| arch.is_image(address)),
    };
    let is_fixed = |key: &str| {
        let in_image = || note.value(key).is_some_and(|address| is_image(address.cast_unsigned()));
        !OF_ONE_BOOT.contains(&key) && key != "SYMBOL(vmemmap)" && (!key.starts_with("SYMBOL(") || in_image())
    };
    info.retain(is_fixed);
    let symbols: Vec<_> = info.lines().filter(|(key, ..)| key.starts_with("SYMBOL(")).collect();
    let moved: Vec<_> = symbols
        .into_iter()
        .filter_map(|(key, _, witness)| {
            let address = note.value(key)?.cast_unsigned().wrapping_sub(shift);
            Some((key.to_owned(), format!("{address:x}"), witness))
        })
        .collect();
    for (key, text, witness) in moved {
        info.set(key, text, witness);
    }
    info
}

/// Reads as much of a layout as `path` holds, whatever kind of file it is: a vmlinux, BTF or a layout file. To read it may
/// take `limit` bytes of memory.
///
/// # Errors
/// It is none of them, or cannot be read, or memory does not do for it.
pub fn of_any_file(path: &Path, threads: usize, limit: u64) -> Result<VmcoreInfo> {
    let cannot = |error: &io::Error| Error::io(path, "read", error);
    let opened = file::open(path).map_err(|error| cannot(&error))?;
    if !opened.metadata().is_ok_and(|meta| meta.is_file()) {
        // Its start could not be read twice.
        return layout_in(path, &file::read_from(&opened, MAX_FILE).map_err(|error| cannot(&error))?);
    }
    match file::read_from(&opened, 4).map_err(|error| cannot(&error))?.as_slice() {
        b"\x7fELF" => of_vmlinux(path, threads, limit),
        [0x9f, 0xeb, ..] => of_btf_file(path),
        _ => of_layout_file(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(text: &str) -> VmcoreInfo {
        VmcoreInfo::parse_of(text.as_bytes(), Witness::File)
    }

    const NOTE: &str = "BUILD-ID=aa\nKERNELOFFSET=1000000\nSYMBOL(_stext)=ffffffff82000000\nSIZE(page)=64\n";

    #[test]
    fn addresses_move_with_the_kernel_and_back() {
        let other = info("BUILD-ID=aa\nSYMBOL(_stext)=ffffffff81000000\nSYMBOL(prb)=ffffffff81234000\n");
        let moved = fit(&info(NOTE), other, Path::new("f")).unwrap();
        assert_eq!(moved.symbol("prb"), Some(0xffff_ffff_8223_4000));
        assert_eq!(at_link_time(&info(NOTE)).symbol("_stext"), Some(0xffff_ffff_8100_0000));
        assert_eq!(at_link_time(&info(NOTE)).text("KERNELOFFSET"), None);
    }

    #[test]
    fn another_kernels_file_is_refused_with_both_ids() {
        let error = fit(&info(NOTE), info("BUILD-ID=bb\nSIZE(page)=64\n"), Path::new("f")).unwrap_err().to_string();
        assert!(error.contains("aa") && error.contains("bb"), "{error}");
        let error = fit(&info(NOTE), info("SIZE(page)=56\n"), Path::new("f")).unwrap_err().to_string();
        assert!(error.contains("SIZE(page)"), "{error}");
        assert!(fit(&info(NOTE), info("SIZE(page)=64\nSIZE(zone)=9\n"), Path::new("f")).is_ok());
        // Without a word in common nothing speaks against it, and nothing for it.
        assert!(is_confirmed(&info(NOTE), &info("SIZE(page)=64\n")));
        assert!(!is_confirmed(&info(NOTE), &info("PAGESIZE=4096\nSYMBOL(_stext)=ffffffff82000000\nSIZE(zone)=9\n")));
        // With the build ID proven, a contradiction is reported and not fatal.
        assert!(fit(&info(NOTE), info("BUILD-ID=aa\nSIZE(page)=56\n"), Path::new("f")).is_ok());
    }
    #[test]
    fn a_note_of_another_boot_is_moved_to_this_one() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let other = "KERNELOFFSET=5000000\nCRASHTIME=7\nNUMBER(phys_base)=1\nSYMBOL(_stext)=ffffffff86000000\n\
                     SYMBOL(prb)=ffffffff86234000\nSYMBOL(mem_section)=ffff88813fff0000\nSIZE(page)=64\n";
        std::fs::write(file.path(), other).unwrap();
        let note = "KERNELOFFSET=1000000\nCRASHTIME=9\nSYMBOL(_stext)=ffffffff82000000\nSIZE(page)=64\n";
        let fitted = fit(&info(note), of_layout_file(file.path()).unwrap(), file.path()).unwrap();
        assert_eq!(fitted.symbol("prb"), Some(0xffff_ffff_8223_4000));
        assert_eq!((fitted.number("phys_base"), fitted.symbol("mem_section")), (None, None));
    }
}
