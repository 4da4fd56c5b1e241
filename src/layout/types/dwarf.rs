//! DWARF, one unit at a time.
//!
//! Knows how units describe types (DWARF 4 and 5). Must not know where the bytes lie (`vmlinux`) nor what a type is good
//! for. Gives the [`Types`] of the unit that were asked for.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
};

use gimli::{
    Abbreviations, AttributeValue, DebugAbbrev, DebugInfo, DebugStrOffsetsBase, DebuggingInformationEntry, DwAt,
    EndianSlice, EntriesRaw, Format, LittleEndian, UnitHeader, UnitOffset, constants as dw,
};

use super::{MAX_DEPTH, MAX_LED_TO, MAX_MEMBERS, Member, Shape, Structure, Types, Variable, Wanted, is_string};

type Slice<'a> = EndianSlice<'a, LittleEndian>;
type Entry<'a> = DebuggingInformationEntry<Slice<'a>>;

/// Why a unit cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum DwarfError {
    /// It is damaged.
    #[error(transparent)]
    Damaged(#[from] gimli::Error),
    /// More to go through than any unit has.
    #[error("a unit defines the kernel's structures over and over")]
    Endless,
}

/// Entries that are looked at in one unit to describe what is asked for, each definition anew; no unit of
/// Debian's 6.12 needs more than 3400.
const MAX_STEPS: usize = 4 * MAX_MEMBERS;

/// Bytes of a unit's abbreviations that are believed. Parsed they take thirty times as many, for each thread.
const MAX_ABBREVIATIONS: usize = 1 << 20;
/// The longest name of a member that is believed, bytes; BTF's longest too.
const MAX_NAME: usize = 512;

/// The sections that all units share.
#[derive(Debug, Default)]
pub struct Sections {
    /// `.debug_abbrev`
    pub abbrev: Vec<u8>,
    /// `.debug_str`
    pub strings: Vec<u8>,
    /// `.debug_line_str`
    pub line_strings: Vec<u8>,
    /// `.debug_str_offsets`
    pub string_offsets: Vec<u8>,
}

/// What the unit in `bytes` (its header included) says of `wanted`.
///
/// # Errors
/// The unit is damaged.
pub fn unit_types(bytes: &[u8], sections: &Sections, wanted: &Wanted<'_>) -> Result<Types, DwarfError> {
    let mut types = Types::default();
    let Some(header) = DebugInfo::new(bytes, LittleEndian).units().next()? else {
        return Ok(types);
    };
    let abbreviations = header.debug_abbrev_offset().0.saturating_add(MAX_ABBREVIATIONS).min(sections.abbrev.len());
    let abbreviations = DebugAbbrev::new(&sections.abbrev[..abbreviations], LittleEndian);
    let abbreviations = header.abbreviations(&abbreviations)?;
    let (strings_at, steps) = (DebugStrOffsetsBase(0), Cell::new(MAX_STEPS));
    let seen = RefCell::default();
    let mut unit = Unit { header, abbreviations: &abbreviations, sections, strings_at, steps, seen };
    let mut entries = unit.entries(None)?;
    let mut entry = Entry::null();
    entries.read_entry(&mut entry)?;
    if let Some(AttributeValue::DebugStrOffsetsBase(base)) = entry.attr_value(dw::DW_AT_str_offsets_base) {
        unit.strings_at = base;
    }
    // The unit's own entry is read; its children follow, and theirs where no sibling is named.
    let mut level = entries.next_depth();
    while !entries.is_empty() {
        let depth = entries.next_depth();
        if !entries.read_entry(&mut entry)? {
            if entries.next_depth() < level {
                break;
            }
            continue;
        }
        if depth != level {
            continue;
        }
        unit.consider(&entry, wanted, &mut types)?;
        if entry.has_children()
            && let Some(AttributeValue::UnitRef(sibling)) = entry.attr_value(dw::DW_AT_sibling)
            && sibling.0 > entry.offset().0
        {
            entries = unit.entries(Some(sibling))?;
            level = 0;
        }
    }
    Ok(types)
}

struct Unit<'a> {
    header: UnitHeader<Slice<'a>>,
    abbreviations: &'a Abbreviations,
    sections: &'a Sections,
    strings_at: DebugStrOffsetsBase<usize>,
    /// How many entries may still be looked at.
    steps: Cell<usize>,
    /// Structures that were led to and have been added: where they are, and under which name.
    seen: RefCell<BTreeSet<(usize, String)>>,
}

impl<'a> Unit<'a> {
    fn entries(&self, at: Option<UnitOffset>) -> Result<EntriesRaw<'a, Slice<'a>>, DwarfError> {
        Ok(self.header.entries_raw(self.abbreviations, at)?)
    }

    /// Counts an entry: hostile types may lead to the same ones from everywhere.
    fn step(&self) -> Result<(), DwarfError> {
        self.steps.set(self.steps.get().checked_sub(1).ok_or(DwarfError::Endless)?);
        Ok(())
    }

    fn entry(&self, at: UnitOffset) -> Result<Entry<'a>, DwarfError> {
        self.step()?;
        let mut entry = Entry::null();
        self.entries(Some(at))?.read_entry(&mut entry)?;
        Ok(entry)
    }

    fn consider(&self, entry: &Entry<'a>, wanted: &Wanted<'_>, types: &mut Types) -> Result<(), DwarfError> {
        match entry.tag() {
            dw::DW_TAG_structure_type | dw::DW_TAG_union_type => {
                if let Some(name) = self.wanted_name(entry, &wanted.structures)
                    && !entry.has_attr(dw::DW_AT_declaration)
                {
                    self.add_structure(name, entry, wanted, types)?;
                }
            }
            // Some are known by a typedef only: atomic_long_t, nodemask_t.
            dw::DW_TAG_typedef => {
                if let Some(name) = self.wanted_name(entry, &wanted.structures)
                    && let Some(inner) = self.composite(entry)?
                    && !inner.has_attr(dw::DW_AT_name)
                {
                    self.add_structure(name, &inner, wanted, types)?;
                }
            }
            dw::DW_TAG_enumeration_type => {
                if let Some(name) = self.wanted_name(entry, &wanted.enums)
                    && !entry.has_attr(dw::DW_AT_declaration)
                {
                    types.add_enum(name, self.enumerators(entry)?);
                }
            }
            dw::DW_TAG_variable => {
                // A definition may leave its name to an earlier declaration.
                let declared = reference(entry, dw::DW_AT_specification).map(|at| self.entry(at)).transpose()?;
                let named = declared.as_ref().unwrap_or(entry);
                if let Some(name) = self.wanted_name(named, &wanted.arrays)
                    && let Some(elements) = self.elements(entry)?
                {
                    types.add_array(name, elements);
                }
                if let Some(name) = self.wanted_name(named, &wanted.variables) {
                    let defined = !entry.has_attr(dw::DW_AT_declaration);
                    // Its type may be with the declaration.
                    let typed = if entry.has_attr(dw::DW_AT_type) { entry } else { named };
                    let mut leads_to = Vec::new();
                    let shape = self.shape(typed, name, MAX_DEPTH, &mut leads_to)?;
                    types.add_variable(name, Variable { shape, defined });
                    self.add_structures(leads_to, wanted, types)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The entry's name, if it is one of `names`.
    fn wanted_name<'n>(&self, entry: &Entry<'a>, names: &[&'n str]) -> Option<&'n str> {
        let name = self.string(&entry.attr_value(dw::DW_AT_name)?)?;
        names.iter().copied().find(|wanted| is_string(name, wanted))
    }

    /// The bytes from the start of a string on; it ends at the first NUL.
    fn string(&self, value: &AttributeValue<Slice<'a>>) -> Option<&'a [u8]> {
        match value {
            AttributeValue::String(text) => Some(text.slice()),
            AttributeValue::DebugStrRef(at) => self.sections.strings.get(at.0..),
            AttributeValue::DebugLineStrRef(at) => self.sections.line_strings.get(at.0..),
            AttributeValue::DebugStrOffsetsIndex(index) => {
                let width = if self.header.format() == Format::Dwarf64 { 8 } else { 4 };
                let at = self.strings_at.0.checked_add(index.0.checked_mul(width)?)?;
                let bytes = self.sections.string_offsets.get(at..at.checked_add(width)?)?;
                let offset = bytes.iter().rev().fold(0, |offset: u64, byte| offset << 8 | u64::from(*byte));
                self.sections.strings.get(usize::try_from(offset).ok()?..)
            }
            _ => None,
        }
    }

    fn text(&self, entry: &Entry<'a>) -> Option<String> {
        let bytes = self.string(&entry.attr_value(dw::DW_AT_name)?)?;
        // Where the entry itself has the name, its NUL is taken off.
        let end = bytes
            .iter()
            .take(MAX_NAME)
            .position(|byte| *byte == 0)
            .or((bytes.len() < MAX_NAME).then_some(bytes.len()))?;
        Some(String::from_utf8_lossy(&bytes[..end]).into_owned())
    }

    /// The type of `entry` behind typedefs and qualifiers; `None` where it lies in another unit.
    fn plain_type(&self, entry: &Entry<'a>) -> Result<Option<Entry<'a>>, DwarfError> {
        let mut at = reference(entry, dw::DW_AT_type);
        for _ in 0..MAX_DEPTH {
            let Some(here) = at else { return Ok(None) };
            let found = self.entry(here)?;
            match found.tag() {
                dw::DW_TAG_typedef
                | dw::DW_TAG_const_type
                | dw::DW_TAG_volatile_type
                | dw::DW_TAG_restrict_type
                | dw::DW_TAG_atomic_type => at = reference(&found, dw::DW_AT_type),
                _ => return Ok(Some(found)),
            }
        }
        Ok(None)
    }

    fn composite(&self, entry: &Entry<'a>) -> Result<Option<Entry<'a>>, DwarfError> {
        let is_one = |found: &Entry<'a>| matches!(found.tag(), dw::DW_TAG_structure_type | dw::DW_TAG_union_type);
        Ok(self.plain_type(entry)?.filter(is_one))
    }

    /// The children of `entry`.
    fn children(
        &self,
        entry: &Entry<'a>,
        mut each: impl FnMut(&Entry<'a>) -> Result<(), DwarfError>,
    ) -> Result<(), DwarfError> {
        if !entry.has_children() {
            return Ok(());
        }
        let mut entries = self.entries(Some(entry.offset()))?;
        let mut child = Entry::null();
        entries.read_entry(&mut child)?;
        while entries.next_depth() > 0 && !entries.is_empty() {
            let depth = entries.next_depth();
            self.step()?;
            if entries.read_entry(&mut child)? && depth == 1 {
                each(&child)?;
            }
        }
        Ok(())
    }

    /// Adds a structure and all that `wanted` follows from there.
    fn add_structure(
        &self,
        name: &str,
        entry: &Entry<'a>,
        wanted: &Wanted<'_>,
        types: &mut Types,
    ) -> Result<(), DwarfError> {
        let leads_to = self.add_one(name, entry, wanted, types)?;
        self.add_structures(leads_to, wanted, types)
    }

    /// The same for several, each once.
    fn add_structures(
        &self,
        mut left: Vec<(String, UnitOffset)>,
        wanted: &Wanted<'_>,
        types: &mut Types,
    ) -> Result<(), DwarfError> {
        while let Some((name, at)) = left.pop() {
            if self.seen.borrow().len() < MAX_LED_TO && self.seen.borrow_mut().insert((at.0, name.clone())) {
                let entry = self.entry(at)?;
                left.extend(self.add_one(&name, &entry, wanted, types)?);
            }
        }
        Ok(())
    }

    /// Adds one structure; gives those that its followed members lead to.
    fn add_one(
        &self,
        name: &str,
        entry: &Entry<'a>,
        wanted: &Wanted<'_>,
        types: &mut Types,
    ) -> Result<Vec<(String, UnitOffset)>, DwarfError> {
        let size = number(entry, dw::DW_AT_byte_size).unwrap_or(0);
        let mut found = Members { of: name, follow: &wanted.follow, ..Members::default() };
        self.add_members(entry, (0, MAX_DEPTH), &mut found)?;
        let Members { members, shapes, leads_to, .. } = found;
        types.add_structure(name, Structure { size, members });
        for (member, shape) in shapes {
            types.add_shape(name, &member, shape);
        }
        Ok(leads_to)
    }

    /// What `entry`, called `owner`, is; the structures that it is made of or leads to and that this unit defines go to
    /// `leads_to`.
    fn shape(
        &self,
        entry: &Entry<'a>,
        owner: &str,
        depth: u32,
        leads_to: &mut Vec<(String, UnitOffset)>,
    ) -> Result<Shape, DwarfError> {
        let Some(value) = entry.attr_value(dw::DW_AT_type) else { return Ok(Shape::Void) };
        let (AttributeValue::UnitRef(at), Some(depth)) = (value, depth.checked_sub(1)) else {
            return Ok(Shape::Unknown);
        };
        let found = self.entry(at)?;
        Ok(match found.tag() {
            dw::DW_TAG_typedef => {
                let name = self.text(&found).unwrap_or_default();
                self.shape(&found, if name.is_empty() { owner } else { &name }, depth, leads_to)?
            }
            dw::DW_TAG_const_type | dw::DW_TAG_volatile_type | dw::DW_TAG_restrict_type | dw::DW_TAG_atomic_type => {
                self.shape(&found, owner, depth, leads_to)?
            }
            dw::DW_TAG_base_type | dw::DW_TAG_enumeration_type => match number(&found, dw::DW_AT_byte_size) {
                Some(size) => Shape::Scalar { size, is_char: self.text(&found).as_deref() == Some("char") },
                None => Shape::Unknown,
            },
            dw::DW_TAG_structure_type | dw::DW_TAG_union_type => {
                let name = self.text(&found).unwrap_or_else(|| owner.to_owned());
                if !found.has_attr(dw::DW_AT_declaration) {
                    leads_to.push((name.clone(), at));
                }
                Shape::Structure(name)
            }
            dw::DW_TAG_pointer_type => self.shape(&found, owner, depth, leads_to)?.pointed_to(),
            dw::DW_TAG_array_type => {
                let mut lengths = Vec::new();
                self.children(&found, |child| {
                    if child.tag() == dw::DW_TAG_subrange_type {
                        lengths.push(length(child));
                    }
                    Ok(())
                })?;
                let of = self.shape(&found, owner, depth, leads_to)?;
                lengths.into_iter().rev().take(MAX_DEPTH as usize).fold(of, Shape::repeated)
            }
            dw::DW_TAG_subroutine_type => Shape::Void,
            _ => Shape::Unknown,
        })
    }

    fn add_members(
        &self,
        of: &Entry<'a>,
        (base, depth): (u64, u32),
        found: &mut Members<'_>,
    ) -> Result<(), DwarfError> {
        self.children(of, |child| {
            if child.tag() != dw::DW_TAG_member {
                return Ok(());
            }
            let Some(bit_offset) = bit_offset(child).and_then(|bits| base.checked_add(bits)) else {
                return Ok(());
            };
            match self.text(child) {
                Some(name) => {
                    let elements = self.elements(child)?;
                    if found.follow.contains(&name.as_str()) {
                        let is_bits = child.has_attr(dw::DW_AT_bit_size);
                        let owner = format!("{}.{name}", found.of);
                        let shape = match is_bits {
                            true => Shape::Bits,
                            false => self.shape(child, &owner, MAX_DEPTH, &mut found.leads_to)?,
                        };
                        found.shapes.entry(name.clone()).or_insert(shape);
                    }
                    found.members.entry(name).or_insert(Member { bit_offset, elements });
                }
                None => {
                    if let Some(inner) = self.composite(child)?.filter(|_| depth > 0) {
                        self.add_members(&inner, (bit_offset, depth - 1), found)?;
                    }
                }
            }
            Ok(())
        })
    }

    /// How many elements the array has that is the type of `entry`.
    fn elements(&self, entry: &Entry<'a>) -> Result<Option<u64>, DwarfError> {
        let Some(array) = self.plain_type(entry)?.filter(|found| found.tag() == dw::DW_TAG_array_type) else {
            return Ok(None);
        };
        let mut elements = None;
        let mut first = true;
        self.children(&array, |child| {
            if child.tag() == dw::DW_TAG_subrange_type && std::mem::take(&mut first) {
                elements = length(child);
            }
            Ok(())
        })?;
        Ok(elements)
    }

    fn enumerators(&self, entry: &Entry<'a>) -> Result<BTreeMap<String, i64>, DwarfError> {
        let mut all = BTreeMap::new();
        self.children(entry, |child| {
            if child.tag() == dw::DW_TAG_enumerator
                && let Some(name) = self.text(child)
                && let Some(value) = child.attr_value(dw::DW_AT_const_value).as_ref().and_then(enumerator_value)
            {
                all.insert(name, value);
            }
            Ok(())
        })?;
        Ok(all)
    }
}

/// The members of one structure.
#[derive(Default)]
struct Members<'a> {
    of: &'a str,
    follow: &'a [&'a str],
    members: BTreeMap<String, Member>,
    /// What those are that are followed.
    shapes: BTreeMap<String, Shape>,
    leads_to: Vec<(String, UnitOffset)>,
}

/// How many elements one dimension of an array has.
fn length(subrange: &Entry<'_>) -> Option<u64> {
    let counted = || number(subrange, dw::DW_AT_upper_bound)?.checked_add(1);
    number(subrange, dw::DW_AT_count).or_else(counted)
}

fn reference(entry: &Entry<'_>, name: DwAt) -> Option<UnitOffset> {
    match entry.attr_value(name)? {
        AttributeValue::UnitRef(at) => Some(at),
        _ => None,
    }
}

fn number(entry: &Entry<'_>, name: DwAt) -> Option<u64> {
    entry.attr_value(name)?.udata_value()
}

/// Producers use fixed forms for what is not negative, so their bytes are not to be sign-extended.
fn enumerator_value(value: &AttributeValue<Slice<'_>>) -> Option<i64> {
    match value {
        AttributeValue::Sdata(value) => Some(*value),
        other => other.udata_value().map(u64::cast_signed),
    }
}

/// Bits from the start of the structure that has the member.
fn bit_offset(member: &Entry<'_>) -> Option<u64> {
    let bytes = match member.attr_value(dw::DW_AT_data_member_location) {
        Some(value) => value.udata_value()?,
        None => 0,
    };
    let bits = bytes.checked_mul(8)?;
    if let Some(offset) = number(member, dw::DW_AT_data_bit_offset) {
        return bits.checked_add(offset);
    }
    // DWARF 3's way to say it, which GCC still uses in DWARF 4: counted from the most significant bit of the storage unit.
    match (number(member, dw::DW_AT_bit_offset), number(member, dw::DW_AT_bit_size)) {
        (Some(from_top), Some(size)) => {
            let storage = number(member, dw::DW_AT_byte_size)?.checked_mul(8)?;
            bits.checked_add(storage.checked_sub(from_top.checked_add(size)?)?)
        }
        _ => Some(bits),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A unit of DWARF 4 and its abbreviations: a unit, a structure, and a member without a name of a type by reference.
    fn sections() -> Sections {
        let abbrev = [
            &[1, 0x11, 1, 0, 0][..],
            // DW_TAG_structure_type: DW_AT_name (string), DW_AT_byte_size (data1)
            &[2, 0x13, 1, 0x03, 0x08, 0x0b, 0x0b, 0, 0],
            // DW_TAG_member: DW_AT_type (ref4), DW_AT_data_member_location (data1)
            &[3, 0x0d, 0, 0x49, 0x13, 0x38, 0x0b, 0, 0],
            // The same with a name.
            &[4, 0x0d, 0, 0x03, 0x08, 0x49, 0x13, 0x38, 0x0b, 0, 0],
            &[0],
        ];
        Sections { abbrev: abbrev.concat(), ..Sections::default() }
    }

    fn unit(entries: &[u8]) -> Vec<u8> {
        let body = [&[4, 0, 0, 0, 0, 0, 8, 1][..], entries, &[0]].concat();
        [&(body.len() as u32).to_le_bytes()[..], &body].concat()
    }

    fn types(unit: &[u8]) -> Result<Types, DwarfError> {
        unit_types(unit, &sections(), &Wanted::kernel()).map(Types::settled)
    }

    /// Where the first entry of a unit lies that is not the unit's own.
    const FIRST: u8 = 12;

    #[test]
    fn names_in_entries_and_in_tables_are_read() {
        let entries = [&[2][..], b"page\0", &[64, 4], b"lru\0", &[FIRST, 0, 0, 0, 8, 0]].concat();
        let types = types(&unit(&entries)).unwrap();
        assert_eq!((types.size("page"), types.offset("page", "lru")), (Some(64), Some(8)));
    }

    #[test]
    fn structures_inside_themselves_end() {
        let member = [3, FIRST, 0, 0, 0, 8];
        let entries = [&[2][..], b"page\0", &[64], &member, &member, &member, &[0]].concat();
        assert_eq!(types(&unit(&entries)).unwrap_err(), DwarfError::Endless);
    }

    #[test]
    fn every_unit_that_is_truncated_is_refused_or_says_less() {
        let entries = [&[2][..], b"page\0", &[64, 4], b"lru\0", &[FIRST, 0, 0, 0, 8, 0]].concat();
        let whole = unit(&entries);
        for len in 0..whole.len() {
            let _ = types(&whole[..len]);
            let mut bytes = whole.clone();
            for value in [0, 0x7f, 0x80, 0xff] {
                bytes[len] = value;
                let _ = types(&bytes);
            }
        }
    }
}
