//! Everything that is known about the crashed kernel: the dump's note, the files that were named, and, where something is
//! still missing, the kernel's own memory.

use std::path::Path;

use super::{asked, facts, symbols::Symbols, witnesses};
use crate::{
    error::{Error, Result},
    layout::{
        KernelLayout, VmcoreInfo, Witness, known,
        types::{Btf, Wanted, describe},
    },
    memory::VirtReader,
    source::Source,
    sys::host,
};

/// Files of the crashed kernel that the user names.
#[derive(Clone, Copy, Debug, Default)]
pub struct NamedFiles<'a> {
    /// Its vmlinux, or the file with its debug information.
    pub vmlinux: Option<&'a Path>,
    /// A layout file.
    pub layout: Option<&'a Path>,
    /// Its BTF.
    pub btf: Option<&'a Path>,
}

impl<'a> NamedFiles<'a> {
    /// All that are named.
    pub fn all(self) -> impl Iterator<Item = &'a Path> {
        [self.vmlinux, self.layout, self.btf].into_iter().flatten()
    }
}

/// The dump's note with what the named files say besides; `None` if the dump has no note. Files of which nothing shows that
/// they belong to it go to `warnings`. To read them may take `limit` bytes of memory.
pub fn read(
    source: &Source,
    files: &NamedFiles<'_>,
    limit: u64,
    warnings: &mut Vec<String>,
) -> Result<Option<VmcoreInfo>> {
    let Some(mut info) = facts::vmcoreinfo(source) else {
        if let Some(path) = files.all().next() {
            warnings.push(format!(
                "{} was not used: without VMCOREINFO nothing tells that it belongs to the crashed kernel, nor where that ran",
                path.display()
            ));
        }
        return Ok(None);
    };
    let note = info.clone();
    let mut add = |other: VmcoreInfo, path: &Path| -> Result<()> {
        let fitting = known::fit(&note, other, path)?;
        if !known::is_confirmed(&note, &fitting) {
            warnings.push(format!(
                "nothing shows that {} belongs to the crashed kernel: the dump's VMCOREINFO says nothing that it says too",
                path.display()
            ));
        }
        info.add(&fitting);
        Ok(())
    };
    if let Some(path) = files.layout {
        add(known::of_layout_file(path)?, path)?;
    }
    if let Some(path) = files.vmlinux {
        add(known::of_vmlinux(path, host::usable_cpus(), limit)?, path)?;
    }
    if let Some(path) = files.btf {
        add(known::of_btf_file(path)?, path)?;
    }
    Ok(Some(info))
}

/// Asks the crashed kernel's memory where the rest leaves something out that filtering needs, or one of the keys in `also`. What it cannot say stays open:
/// the layout then says what follows. BTF beyond half of `limit` bytes of memory is left alone: a list of its types comes to it.
///
/// Returns the symbols that were looked up on the way, for [`super::Kernel::read`].
pub fn complete(source: &Source, info: &mut VmcoreInfo, also: &[&str], limit: u64) -> Option<Symbols> {
    let complete = !lacks(source, info) && also.iter().all(|key| info.text(key).is_some());
    if complete { None } else { ask(source, info, limit) }
}

/// The same, whether filtering needs anything more or not: people want names.
pub fn ask(source: &Source, info: &mut VmcoreInfo, limit: u64) -> Option<Symbols> {
    let virt = virt(source, info)?;
    let symbols = asked::symbols(info, &virt).ok();
    let said = match &symbols {
        Some(symbols) => own_types(symbols, &virt, limit / 2),
        // What hides one name need not hide the types.
        None => witnesses::symbols_of_btf(info, &virt).ok().and_then(|symbols| own_types(&symbols, &virt, limit / 2)),
    };
    if let Some(said) = said {
        add_consistent(info, said);
    }
    if info.number(BUDDY).is_none()
        && let Some(word) = witnesses::buddy_word(info, &virt)
    {
        let mut free = VmcoreInfo::default();
        let mut set = |name: &str, word: u32| {
            free.set(format!("NUMBER({name})"), word.cast_signed().to_string(), Witness::FreePages);
        };
        set(BUDDY, word);
        // PG_offline has been next to PG_buddy ever since both are bits that are cleared, from 4.18 (6e292b9be7f4, then named
        // PG_balloon) to 6.10; later kernels name both in an enum.
        if word == !PG_BUDDY {
            set(OFFLINE, !PG_OFFLINE);
        }
        info.add(&free);
    }
    symbols
}

fn own_types(symbols: &Symbols, virt: &VirtReader<'_>, most: u64) -> Option<VmcoreInfo> {
    let bytes = witnesses::own_btf(symbols, virt, most).ok()?;
    let types = Btf::parse(&bytes).and_then(|btf| btf.types(&Wanted::kernel())).ok()?;
    Some(describe(&types, Witness::KernelBtf))
}

/// Adds what the kernel's memory says. The crash may have damaged it: what is wrong in one thing is believed in none, and the
/// contradiction is all that is left of it.
fn add_consistent(info: &mut VmcoreInfo, mut said: VmcoreInfo) {
    let mut both = info.clone();
    both.add(&said);
    if both.disagreements().len() > info.disagreements().len() {
        said.retain(|key| info.text(key).is_some());
    }
    info.add(&said);
}

const BUDDY: &str = "PAGE_BUDDY_MAPCOUNT_VALUE";
const OFFLINE: &str = "PAGE_OFFLINE_MAPCOUNT_VALUE";
/// include/linux/page-flags.h, 4.18 to 6.10.
const PG_BUDDY: u32 = 0x80;
const PG_OFFLINE: u32 = 0x100;

/// Whether something is missing without which pages that could be dropped would be kept.
fn lacks(source: &Source, info: &VmcoreInfo) -> bool {
    KernelLayout::resolve(source, info).map_or(true, |layout| !layout.limits.is_empty())
}

fn virt<'a>(source: &'a Source, info: &VmcoreInfo) -> Option<VirtReader<'a>> {
    Some(VirtReader::new(source, &KernelLayout::address_space(source, info).ok()?))
}

/// Who contradicted whom, as warnings.
///
/// # Errors
/// With `strict`, the first contradiction.
pub fn contradictions(info: &VmcoreInfo, strict: bool) -> Result<Vec<String>> {
    match info.disagreements().first() {
        Some(first) if strict => Err(Error::input("cannot be sure of the kernel's layout")
            .because(first)
            .next_step("without --strict the first of the two is believed")),
        _ => Ok(info.disagreements().iter().map(ToString::to_string).collect()),
    }
}

/// All that a dump says about its kernel, to be used at another boot of it.
pub fn of_dump(source: &Source) -> Result<VmcoreInfo> {
    let mut info = facts::vmcoreinfo(source).ok_or_else(|| {
        facts::no_vmcoreinfo(source, "so it says nothing about its kernel", "give the kernel's vmlinux with --vmlinux")
    })?;
    ask(source, &mut info, u64::MAX);
    Ok(known::at_link_time(&info))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damaged_memory_is_heard_and_not_believed() {
        let note = || VmcoreInfo::parse(b"SIZE(page)=64\nOFFSET(page.lru)=8\n");
        let said = |text: &str| VmcoreInfo::parse_of(text.as_bytes(), Witness::KernelBtf);
        let mut info = note();
        add_consistent(&mut info, said("SIZE(page)=64\nNUMBER(PG_lru)=5\n"));
        assert_eq!((info.number("PG_lru"), info.disagreements().len()), (Some(5), 0));
        let mut info = note();
        add_consistent(&mut info, said("SIZE(page)=64\nOFFSET(page.lru)=12\nNUMBER(PG_lru)=5\n"));
        assert_eq!((info.number("PG_lru"), info.disagreements().len()), (None, 1));
    }
}
