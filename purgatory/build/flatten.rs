//! Makes bytes that run at any address out of one object file, or says why that cannot be.
//!
//! Knows ELF sections and the two relocations that are distances. Must not know what the code does. A linker would
//! accept too much: here an undefined symbol, an absolute address, writable data or a large result are errors.

use std::collections::BTreeMap;

use object::elf::{R_X86_64_PC32, R_X86_64_PLT32, SHF_ALLOC, SHF_EXECINSTR, SHF_TLS, SHF_WRITE};
use object::{
    Object, ObjectSection, ObjectSymbol, RelocationFlags, RelocationTarget, SectionFlags, SectionIndex, SectionKind,
};

/// Largest file, in bytes.
pub const LARGEST: usize = 16 << 10;

/// Code and constants as they lie in memory.
pub struct Flat {
    /// What the file holds; the section `.head` is first, `.params` last.
    pub bytes: Vec<u8>,
    /// Bytes of memory, zeros behind the file included.
    pub mem_size: u64,
    /// Offsets of the global symbols.
    pub symbols: BTreeMap<String, u64>,
}

/// A section's place.
struct Placed {
    index: SectionIndex,
    offset: u64,
}

/// Lays the sections out and resolves every relocation.
pub fn flatten(data: &[u8]) -> Result<Flat, String> {
    let object = object::File::parse(data).map_err(|error| format!("cannot read the object: {error}"))?;
    // First of all: it explains best what went wrong.
    if let Some(symbol) = object.symbols().find(|symbol| symbol.is_undefined() && symbol.name() != Ok("")) {
        let name = symbol.name().unwrap_or("?");
        return Err(format!("undefined symbol {name}: the blob has no library to take it from"));
    }
    let mut sections = Vec::new();
    for section in object.sections() {
        if let Some(rank) = rank(&section)? {
            sections.push((rank, section));
        }
    }
    sections.sort_by_key(|(rank, section)| (*rank, section.index().0));
    let (mut bytes, mut placed, mut mem_size) = (Vec::new(), Vec::new(), 0_u64);
    for (_, section) in &sections {
        let offset = mem_size.next_multiple_of(section.align().max(1));
        mem_size = offset + section.size();
        placed.push(Placed { index: section.index(), offset });
        if section.kind() != SectionKind::UninitializedData {
            bytes.resize(offset as usize, 0);
            bytes.extend(section.data().map_err(|error| format!("{}: {error}", label(section)))?);
        }
    }
    if bytes.len() > LARGEST {
        return Err(format!("the code is {} bytes, more than {LARGEST}", bytes.len()));
    }
    for ((_, section), place) in sections.iter().zip(&placed) {
        resolve(&object, section, place, &placed, &mut bytes)?;
    }
    let mut symbols = BTreeMap::new();
    for symbol in object.symbols().filter(ObjectSymbol::is_global) {
        let name = symbol.name().map_err(|error| format!("a symbol without a name: {error}"))?;
        symbols.insert(name.to_owned(), address(&object, &symbol, &placed)?);
    }
    Ok(Flat { bytes, mem_size, symbols })
}

fn label<'data>(section: &impl ObjectSection<'data>) -> String {
    String::from_utf8_lossy(section.name_bytes().unwrap_or(b"?")).into_owned()
}

/// Where a section goes: head, code, constants, parameters, zeros. `None` if it is not needed at run time.
fn rank<'data>(section: &impl ObjectSection<'data>) -> Result<Option<u8>, String> {
    let name = label(section);
    let flags = match section.flags() {
        SectionFlags::Elf { sh_flags, .. } => sh_flags.0,
        _ => 0,
    };
    let has = |flag: object::elf::SectionFlags| flags & flag.0 != 0;
    // Nobody unwinds here.
    if !has(SHF_ALLOC) || section.size() == 0 || name == ".eh_frame" {
        return Ok(None);
    }
    if has(SHF_TLS) {
        return Err(format!("section {name} is thread-local data"));
    }
    if section.kind() == SectionKind::UninitializedData {
        return if name == ".bss.stack" { Ok(Some(4)) } else { Err(format!("section {name} is writable data")) };
    }
    if has(SHF_WRITE) {
        return Err(format!("section {name} is writable data"));
    }
    Ok(Some(match name.as_str() {
        ".head" => 0,
        ".params" => 3,
        _ if has(SHF_EXECINSTR) => 1,
        _ => 2,
    }))
}

/// The offset of a symbol in the blob.
fn address<'data>(
    object: &object::File<'data>,
    symbol: &impl ObjectSymbol<'data>,
    placed: &[Placed],
) -> Result<u64, String> {
    let name = symbol.name().unwrap_or("?");
    let Some(index) = symbol.section_index() else {
        return Err(format!("symbol {name} is in no section"));
    };
    let place = placed.iter().find(|placed| placed.index == index).ok_or_else(|| {
        let section = object.section_by_index(index).map_or("?".to_owned(), |section| label(&section));
        format!("symbol {name} is in section {section}, which is left out")
    })?;
    Ok(place.offset + symbol.address())
}

/// Writes the distances into one section.
fn resolve<'data>(
    object: &object::File<'data>,
    section: &impl ObjectSection<'data>,
    place: &Placed,
    placed: &[Placed],
    bytes: &mut [u8],
) -> Result<(), String> {
    for (offset, relocation) in section.relocations() {
        let here = || format!("{}+{offset:#x}", label(section));
        let RelocationTarget::Symbol(index) = relocation.target() else {
            return Err(format!("{}: a relocation without a symbol", here()));
        };
        let symbol = object.symbol_by_index(index).map_err(|error| format!("{}: {error}", here()))?;
        let target = address(object, &symbol, placed).map_err(|why| format!("{}: {why}", here()))?;
        match relocation.flags() {
            RelocationFlags::Elf { r_type: R_X86_64_PC32 | R_X86_64_PLT32 } => {}
            other => {
                let name = symbol.name().unwrap_or("?");
                return Err(format!("{}: {other:?} to {name} is not a plain distance", here()));
            }
        }
        let from = place.offset + offset;
        let distance = (target as i64).wrapping_add(relocation.addend()).wrapping_sub(from as i64);
        let distance = i32::try_from(distance).map_err(|_| format!("{}: too far", here()))?;
        let slot = bytes.get_mut(from as usize..from as usize + 4).ok_or_else(|| format!("{}: no room", here()))?;
        slot.copy_from_slice(&distance.to_le_bytes());
    }
    Ok(())
}
