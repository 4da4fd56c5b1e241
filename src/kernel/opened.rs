//! Opens a dump for a command, and finds the kernel's VMCOREINFO where no note of the dump has it: hypervisors' dumps come
//! without, but the kernel keeps the note's text in its memory.

use std::{io::Write as _, sync::Arc};

use super::facts;
use crate::{
    arch::{self, AddressSpace},
    error::{Error, Result},
    layout::{KernelLayout, VmcoreInfo},
    memory::VirtReader,
    source::{FoundNote, InputFormat, Opening, Source},
};

/// More memory than is searched without a word, bytes.
const SILENT: u64 = 4 << 30;

/// Opens what `opening` names for a command that asks something of the kernel.
///
/// # Errors
/// As [`Source::open_all`]; no note is where the user says.
pub fn open(opening: &Opening) -> Result<Source> {
    let source = Source::open_all(opening)?;
    if opening.vmcoreinfo.is_none() && !source.has_whole_vmcoreinfo() {
        announce_search(&source);
    }
    know_kernel(source, opening.vmcoreinfo)
}

/// The same without a word on standard error, for the library.
///
/// # Errors
/// As [`open`].
pub fn open_quietly(opening: &Opening) -> Result<Source> {
    know_kernel(Source::open_all(opening)?, opening.vmcoreinfo)
}

fn know_kernel(mut source: Source, vmcoreinfo: Option<u64>) -> Result<Source> {
    match vmcoreinfo {
        Some(address) => adopt_at(&mut source, address)?,
        None if source.has_whole_vmcoreinfo() => {}
        None => search(&mut source),
    }
    Ok(source)
}

/// The same for one that does not, where even the page size is known without VMCOREINFO.
///
/// # Errors
/// As [`open`].
pub fn open_unasked(opening: &Opening) -> Result<Source> {
    let mut source = Source::open_all(opening)?;
    match opening.vmcoreinfo {
        Some(address) => adopt_at(&mut source, address)?,
        None if source.vmcoreinfo().is_some() => {}
        None if source.format() == InputFormat::Raw || facts::page_shift(&source, None).is_err() => {
            announce_search(&source);
            search(&mut source);
        }
        None => {}
    }
    Ok(source)
}

fn adopt_at(source: &mut Source, address: u64) -> Result<()> {
    let found = source.vmcoreinfo_at(address).ok_or_else(|| {
        Error::input(format!("cannot use {}", source.path().display()))
            .because(format!("there is no VMCOREINFO note at {address:#x}"))
            .next_step("the kernel's own /sys/kernel/vmcoreinfo has the right address, as its first number")
    })?;
    source.adopt(&found);
    Ok(())
}

/// Says what takes the time.
fn announce_search(source: &Source) {
    let stored = source.ram().pieces().filter(|piece| piece.offset.is_some());
    if stored.map(|piece| piece.len).sum::<u64>() > SILENT {
        let path = source.path().display();
        let _ =
            writeln!(std::io::stderr(), "vdump: note: no note of {path} has VMCOREINFO: its memory is searched for it");
    }
}

fn search(source: &mut Source) {
    let damaged = source.vmcoreinfo().is_some();
    let found = source.search_vmcoreinfo();
    match choose(source, &found) {
        Some((chosen, others)) => {
            let others = match others {
                0 => String::new(),
                count => format!("; {count} other notes were passed over"),
            };
            let instead = if damaged { ", instead of a note that is damaged" } else { "" };
            source.adopt(chosen);
            source.remark(format!(
                "VMCOREINFO was found by its content at {:#x}{instead}, and what is written has it as a note{others}",
                chosen.paddr
            ));
        }
        None => source.undecided(&found),
    }
    if source.format() == InputFormat::Raw && source.vmcoreinfo().is_none() {
        let machine = arch::host();
        source.assume_machine(machine);
        source.remark(format!(
            "no VMCOREINFO note was found in memory, and an {} machine is assumed; --vmcoreinfo ADDR tells where the note \
             is (/sys/kernel/vmcoreinfo)",
            arch::uname(machine)
        ));
    }
}

/// The kernel's own note, and how many others there are: the only one that its kernel's page tables bear out, else the only
/// one that begins a page, else the only one. Guests and kernels of earlier boots leave theirs in memory too.
fn choose<'a>(source: &mut Source, found: &'a [FoundNote]) -> Option<(&'a FoundNote, usize)> {
    let borne_out: Vec<_> = found.iter().filter(|note| is_borne_out(source, note)).collect();
    let at_pages: Vec<_> = found.iter().filter(|note| note.begins_page()).collect();
    let all: Vec<_> = found.iter().collect();
    let first = [borne_out, at_pages, all].into_iter().find(|notes| !notes.is_empty())?;
    match first.as_slice() {
        [only] => Some((*only, found.len() - 1)),
        _ => None,
    }
}

fn is_borne_out(source: &mut Source, note: &FoundNote) -> bool {
    source.take_machine_of(note);
    let space = KernelLayout::address_space(source, &VmcoreInfo::parse(note.text()));
    space.is_ok_and(|space| maps_itself(source, &space))
}

/// Whether the top page table maps its own address to where it is.
pub fn maps_itself(source: &Source, space: &Arc<dyn AddressSpace>) -> bool {
    let (root, _) = space.top();
    let translated = VirtReader::new(source, space).translate(space.image_vaddr(root));
    translated.is_ok_and(|mapping| mapping.paddr == root)
}
