//! BTF, the compact type information that kernels since 5.2 carry in themselves.
//!
//! Knows the format (Documentation/bpf/btf.rst, Linux 6.12) and nothing about kernels. Must not trust a byte of it: it may
//! come out of a crashed machine's memory. Gives the [`Types`] that were asked for.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::CStr,
};

use super::{MAX_DEPTH, MAX_LED_TO, MAX_MEMBERS, Member, Shape, Structure, Types, Variable, Wanted};

/// Why type information cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BtfError {
    /// It does not start as BTF does.
    #[error("it does not start with BTF's magic number")]
    NoBtf,
    /// A big-endian kernel's.
    #[error("it is big-endian")]
    BigEndian,
    /// Something lies outside it.
    #[error("{0} lies outside its {1} bytes")]
    Outside(&'static str, usize),
    /// A kind of type that is not known: what follows cannot be found.
    #[error("type {0} is of the unknown kind {1}")]
    UnknownKind(u32, u32),
    /// More types than any kernel has.
    #[error("it has more than {MAX_TYPES} types")]
    TooLarge,
    /// More to go through than any kernel has.
    #[error("it defines the kernel's structures over and over")]
    Endless,
}

/// Debian's 6.12 has 130 000.
const MAX_TYPES: usize = 4 << 20;
/// The largest BTF believed, bytes; Debian's 6.12 has 4.7 million.
pub const MAX_BTF: u64 = 64 << 20;
const MAGIC: u16 = 0xeb9f;
/// Members and enumerators of all that is asked for, each definition anew; Debian's 6.12 has 2000.
const MAX_STEPS: usize = 4 * MAX_MEMBERS;
/// The longest name believed, bytes: `KSYM_NAME_LEN`.
const MAX_NAME: usize = 512;
/// `struct btf_header` up to `str_len`.
const HEADER: usize = 24;
/// `struct btf_type`.
const TYPE: usize = 12;

mod kind {
    pub const INT: u32 = 1;
    pub const PTR: u32 = 2;
    pub const ARRAY: u32 = 3;
    pub const STRUCT: u32 = 4;
    pub const UNION: u32 = 5;
    pub const ENUM: u32 = 6;
    pub const FWD: u32 = 7;
    pub const TYPEDEF: u32 = 8;
    pub const VOLATILE: u32 = 9;
    pub const CONST: u32 = 10;
    pub const RESTRICT: u32 = 11;
    pub const FUNC: u32 = 12;
    pub const FUNC_PROTO: u32 = 13;
    pub const VAR: u32 = 14;
    pub const DATASEC: u32 = 15;
    pub const FLOAT: u32 = 16;
    pub const DECL_TAG: u32 = 17;
    pub const TYPE_TAG: u32 = 18;
    pub const ENUM64: u32 = 19;
}

/// Parsed type information.
#[derive(Debug)]
pub struct Btf<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Where each type starts in `types`; type numbers count from 1.
    starts: Vec<u32>,
}

/// One type's fixed part.
#[derive(Clone, Copy)]
struct Type {
    /// Where it starts.
    at: usize,
    name: u32,
    kind: u32,
    /// Members, enumerators ...
    count: usize,
    /// `kind_flag`: member offsets have a bit field's size in their top byte.
    flag: bool,
    /// `size` or `type`.
    size: u32,
}

impl<'a> Btf<'a> {
    /// Finds where each type starts.
    ///
    /// # Errors
    /// `BtfError`
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        match bytes.get(..2) {
            Some(magic) if magic == MAGIC.to_le_bytes() => {}
            Some(magic) if magic == MAGIC.to_be_bytes() => return Err(BtfError::BigEndian),
            _ => return Err(BtfError::NoBtf),
        }
        let outside = |what| BtfError::Outside(what, bytes.len());
        let word = |index: usize| u32_at(bytes, index).map(|word| word as usize).ok_or_else(|| outside("its header"));
        let _ = word(HEADER - 4)?;
        let part = |what, offset: usize, len: usize| {
            let start = word(4)?.checked_add(offset).ok_or_else(|| outside(what))?;
            let end = start.checked_add(len).ok_or_else(|| outside(what))?;
            bytes.get(start..end).ok_or_else(|| outside(what))
        };
        let types = part("its type section", word(8)?, word(12)?)?;
        let strings = part("its string section", word(16)?, word(20)?)?;
        let mut btf = Self { types, strings, starts: Vec::new() };
        let mut at = 0;
        while at < types.len() {
            let next = btf.next(at).ok_or_else(|| outside("a type"))?;
            let id = btf.starts.len() as u32 + 1;
            let Some(extra) = next.extra() else {
                return Err(BtfError::UnknownKind(id, next.kind));
            };
            if btf.starts.len() >= MAX_TYPES {
                return Err(BtfError::TooLarge);
            }
            btf.starts.push(at as u32);
            at = at.checked_add(TYPE + extra).filter(|end| *end <= types.len()).ok_or_else(|| outside("a type"))?;
        }
        Ok(btf)
    }

    /// What there is of `wanted`.
    ///
    /// # Errors
    /// `BtfError::Endless`
    pub fn types(&self, wanted: &Wanted<'_>) -> Result<Types, BtfError> {
        let mut types = Types::default();
        let mut steps = MAX_STEPS;
        let mut seen = BTreeSet::new();
        for at in &self.starts {
            let Some(found) = self.next(*at as usize).filter(|found| found.has_wanted_kind()) else { continue };
            let Some(name) = self.name(found.name).filter(|name| !name.is_empty()) else { continue };
            match found.kind {
                kind::STRUCT | kind::UNION if wanted.structures.contains(&name) => {
                    self.add_structures(vec![(name.to_owned(), found)], wanted, (&mut steps, &mut seen), &mut types)?;
                }
                // Some are known by a typedef only: atomic_long_t, nodemask_t.
                kind::TYPEDEF if wanted.structures.contains(&name) => {
                    if let Some(inner) = self.composite(found.size).filter(|inner| self.is_anonymous(*inner)) {
                        self.add_structures(
                            vec![(name.to_owned(), inner)],
                            wanted,
                            (&mut steps, &mut seen),
                            &mut types,
                        )?;
                    }
                }
                kind::ENUM | kind::ENUM64 if wanted.enums.contains(&name) => {
                    take(&mut steps, found.count)?;
                    types.add_enum(name, self.enumerators(found));
                }
                kind::VAR if wanted.arrays.contains(&name) || wanted.variables.contains(&name) => {
                    if let Some(elements) = self.elements(found.size).filter(|_| wanted.arrays.contains(&name)) {
                        types.add_array(name, elements);
                    }
                    if wanted.variables.contains(&name) {
                        let mut leads_to = Vec::new();
                        let shape = self.shape(found.size, name, MAX_DEPTH, &mut leads_to);
                        types.add_variable(name, Variable { shape, defined: true });
                        self.add_structures(leads_to, wanted, (&mut steps, &mut seen), &mut types)?;
                    }
                }
                _ => {}
            }
        }
        Ok(types.settled())
    }

    fn next(&self, at: usize) -> Option<Type> {
        let word = |index: usize| u32_at(self.types, at + index * 4);
        let info = word(1)?;
        Some(Type {
            at,
            name: word(0)?,
            kind: info >> 24 & 0x1f,
            count: (info & 0xffff) as usize,
            flag: info >> 31 == 1,
            size: word(2)?,
        })
    }

    fn by_id(&self, id: u32) -> Option<Type> {
        self.next(*self.starts.get((id as usize).checked_sub(1)?)? as usize)
    }

    fn name(&self, offset: u32) -> Option<&'a str> {
        let rest = self.strings.get(offset as usize..)?;
        let rest = rest.get(..MAX_NAME).unwrap_or(rest);
        CStr::from_bytes_until_nul(rest).ok()?.to_str().ok()
    }

    fn is_anonymous(&self, found: Type) -> bool {
        self.name(found.name).is_some_and(str::is_empty)
    }

    /// The type behind typedefs and qualifiers.
    fn plain(&self, mut id: u32) -> Option<Type> {
        for _ in 0..MAX_DEPTH {
            let found = self.by_id(id)?;
            match found.kind {
                kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => id = found.size,
                _ => return Some(found),
            }
        }
        None
    }

    fn composite(&self, id: u32) -> Option<Type> {
        self.plain(id).filter(|found| matches!(found.kind, kind::STRUCT | kind::UNION))
    }

    /// How many elements an array type has.
    fn elements(&self, id: u32) -> Option<u64> {
        let found = self.plain(id).filter(|found| found.kind == kind::ARRAY)?;
        u32_at(self.types, found.at + TYPE + 8).map(u64::from)
    }

    /// Adds structures and all that `wanted` follows from there, each once; two that are called the same and are not the same
    /// are found to differ.
    fn add_structures(
        &self,
        mut left: Vec<(String, Type)>,
        wanted: &Wanted<'_>,
        (steps, seen): (&mut usize, &mut BTreeSet<(usize, String)>),
        types: &mut Types,
    ) -> Result<(), BtfError> {
        let first = seen.len();
        while let Some((name, of)) = left.pop() {
            // One more, so that empty ones end too.
            take(steps, 1)?;
            if !seen.insert((of.at, name.clone())) {
                continue;
            }
            let mut found = Members { of: &name, follow: &wanted.follow, ..Members::default() };
            self.add_members(of, (0, MAX_DEPTH), steps, &mut found)?;
            let Members { members, shapes, leads_to, .. } = found;
            types.add_structure(&name, Structure { size: of.size.into(), members });
            for (member, shape) in shapes {
                types.add_shape(&name, &member, shape);
            }
            if seen.len() - first < MAX_LED_TO {
                left.extend(leads_to);
            }
        }
        Ok(())
    }

    /// What the type `id` of something called `owner` is; the structures that it is made of or leads to go to `leads_to`.
    fn shape(&self, id: u32, owner: &str, depth: u32, leads_to: &mut Vec<(String, Type)>) -> Shape {
        // Type 0 is void.
        if id == 0 {
            return Shape::Void;
        }
        let (Some(found), Some(depth)) = (self.by_id(id), depth.checked_sub(1)) else { return Shape::Unknown };
        let name = self.name(found.name).filter(|name| !name.is_empty());
        match found.kind {
            kind::TYPEDEF => self.shape(found.size, name.unwrap_or(owner), depth, leads_to),
            kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                self.shape(found.size, owner, depth, leads_to)
            }
            kind::INT | kind::FLOAT | kind::ENUM | kind::ENUM64 => {
                Shape::Scalar { size: found.size.into(), is_char: found.kind == kind::INT && name == Some("char") }
            }
            kind::STRUCT | kind::UNION => {
                let name = name.unwrap_or(owner).to_owned();
                leads_to.push((name.clone(), found));
                Shape::Structure(name)
            }
            kind::FWD => Shape::Structure(name.unwrap_or(owner).to_owned()),
            kind::PTR => self.shape(found.size, owner, depth, leads_to).pointed_to(),
            kind::ARRAY => {
                let word = |index: usize| u32_at(self.types, found.at + TYPE + index * 4);
                let of = word(0).map_or(Shape::Unknown, |of| self.shape(of, owner, depth, leads_to));
                // A flexible array's length is 0 here.
                of.repeated(word(2).map(u64::from).filter(|elements| *elements > 0))
            }
            kind::FUNC | kind::FUNC_PROTO => Shape::Void,
            _ => Shape::Unknown,
        }
    }

    fn add_members(
        &self,
        of: Type,
        (base, depth): (u64, u32),
        steps: &mut usize,
        found: &mut Members<'_>,
    ) -> Result<(), BtfError> {
        for index in 0..of.count {
            take(steps, 1)?;
            let at = of.at + TYPE + index * 12;
            let word = |index: usize| u32_at(self.types, at + index * 4);
            let (Some(name), Some(id), Some(offset)) = (word(0), word(1), word(2)) else { break };
            let bit_offset = base + u64::from(if of.flag { offset & 0x00ff_ffff } else { offset });
            match self.name(name) {
                Some("") => {
                    if let Some(inner) = self.composite(id).filter(|_| depth > 0) {
                        self.add_members(inner, (bit_offset, depth - 1), steps, found)?;
                    }
                }
                Some(name) => {
                    if found.follow.contains(&name) && !found.shapes.contains_key(name) {
                        let shape = match of.flag && offset >> 24 != 0 {
                            true => Shape::Bits,
                            false => self.shape(id, &format!("{}.{name}", found.of), MAX_DEPTH, &mut found.leads_to),
                        };
                        found.shapes.insert(name.to_owned(), shape);
                    }
                    found
                        .members
                        .entry(name.to_owned())
                        .or_insert_with(|| Member { bit_offset, elements: self.elements(id) });
                }
                None => {}
            }
        }
        Ok(())
    }

    fn enumerators(&self, of: Type) -> BTreeMap<String, i64> {
        let (step, wide) = if of.kind == kind::ENUM64 { (12, true) } else { (8, false) };
        let one = |index: usize| {
            let at = of.at + TYPE + index * step;
            let name = self.name(u32_at(self.types, at)?)?;
            let low = u32_at(self.types, at + 4)?;
            let value = match wide {
                true => (u64::from(u32_at(self.types, at + 8)?) << 32 | u64::from(low)).cast_signed(),
                // The flag says that the enum is signed; the values are then sign-extended.
                false if of.flag => low.cast_signed().into(),
                false => low.into(),
            };
            Some((name.to_owned(), value))
        };
        (0..of.count).filter_map(one).collect()
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
    leads_to: Vec<(String, Type)>,
}

impl Type {
    /// Whether it can be what is [`Wanted`]; most types are pointers and functions.
    fn has_wanted_kind(self) -> bool {
        matches!(self.kind, kind::STRUCT | kind::UNION | kind::TYPEDEF | kind::ENUM | kind::ENUM64 | kind::VAR)
    }

    /// Bytes after the fixed part; `None` for a kind that is not known.
    fn extra(self) -> Option<usize> {
        Some(match self.kind {
            kind::PTR
            | kind::FWD
            | kind::TYPEDEF
            | kind::VOLATILE
            | kind::CONST
            | kind::RESTRICT
            | kind::FUNC
            | kind::FLOAT
            | kind::TYPE_TAG => 0,
            kind::INT | kind::VAR | kind::DECL_TAG => 4,
            kind::ARRAY => 12,
            kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => self.count * 12,
            kind::ENUM | kind::FUNC_PROTO => self.count * 8,
            _ => return None,
        })
    }
}

/// Counts what is gone through: hostile types may lead to the same members from everywhere.
fn take(steps: &mut usize, count: usize) -> Result<(), BtfError> {
    *steps = steps.checked_sub(count).ok_or(BtfError::Endless)?;
    Ok(())
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..at.checked_add(4)?)?.try_into().ok().map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests;
