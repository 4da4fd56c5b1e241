//! What a kernel's own type information says: sizes, offsets, enumerators.
//!
//! Knows what is asked for and how answers from several units of one kernel are joined. Must not know file formats: each
//! has a reader of its own (`btf`, `dwarf`). The [`Types`] are put into words as VMCOREINFO does it, in `describe`.

mod btf;
mod describe;
mod dwarf;
mod shape;
mod vmlinux;
mod wanted;

use std::collections::{BTreeMap, BTreeSet};

pub use btf::{Btf, MAX_BTF};
pub use describe::describe;
pub use shape::{POINTER, Shape, Variable};
pub use vmlinux::{Vmlinux, read_btf};
pub use wanted::Wanted;

/// Typedefs, qualifiers and anonymous structures around a type; BPF's verifier follows as many (`MAX_RESOLVE_DEPTH`).
const MAX_DEPTH: u32 = 32;
/// Members of one structure, those of anonymous ones inside included; the kernel's `task_struct` has 300.
const MAX_MEMBERS: usize = 1 << 16;
/// Structures that followed members may lead to in one unit or blob; the rest has to be asked for by name.
const MAX_LED_TO: usize = 512;

/// One structure or union.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Structure {
    /// `sizeof`, bytes.
    pub size: u64,
    /// Members by name; those of anonymous structures and unions inside count as its own, as in C.
    pub members: BTreeMap<String, Member>,
}

/// One member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Member {
    /// Distance from the start of the outermost structure, bits.
    pub bit_offset: u64,
    /// Elements, if it is an array (of the first dimension, if there are several).
    pub elements: Option<u64>,
}

impl Member {
    /// Bytes from the start of the structure; `None` for a bit field that starts within a byte.
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        self.bit_offset.is_multiple_of(8).then_some(self.bit_offset / 8)
    }
}

/// Answers to what was asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Types {
    structures: BTreeMap<String, Structure>,
    enums: BTreeMap<String, BTreeMap<String, i64>>,
    /// Elements of variables that are arrays.
    arrays: BTreeMap<String, u64>,
    variables: BTreeMap<String, Variable>,
    /// What members are, by structure and member.
    shapes: BTreeMap<(String, String), Shape>,
    /// Names with several definitions that are not the same: none of them can be believed.
    ambiguous: BTreeSet<String>,
}

impl Types {
    /// A structure's size, bytes.
    #[must_use]
    pub fn size(&self, structure: &str) -> Option<u64> {
        self.structures.get(structure).map(|found| found.size)
    }

    /// A member.
    #[must_use]
    pub fn member(&self, structure: &str, member: &str) -> Option<Member> {
        self.structures.get(structure)?.members.get(member).copied()
    }

    /// A member's offset, bytes.
    #[must_use]
    pub fn offset(&self, structure: &str, member: &str) -> Option<u64> {
        self.member(structure, member)?.offset()
    }

    /// An enumerator's value.
    #[must_use]
    pub fn enumerator(&self, of: &str, name: &str) -> Option<i64> {
        self.enums.get(of)?.get(name).copied()
    }

    /// All enumerators of an enum, by name.
    pub fn enumerators(&self, of: &str) -> impl Iterator<Item = (&str, i64)> {
        self.enums.get(of).into_iter().flatten().map(|(name, value)| (name.as_str(), *value))
    }

    /// Elements of a variable that is an array.
    #[must_use]
    pub fn array(&self, variable: &str) -> Option<u64> {
        self.arrays.get(variable).copied()
    }

    /// What a variable is.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&Shape> {
        self.variables.get(name).map(|variable| &variable.shape)
    }

    /// What a member is, if that was asked for.
    #[must_use]
    pub fn shape(&self, structure: &str, member: &str) -> Option<&Shape> {
        self.shapes.get(&(structure.to_owned(), member.to_owned()))
    }

    /// Whether a structure has several definitions which differ.
    #[must_use]
    pub fn is_ambiguous(&self, structure: &str) -> bool {
        self.ambiguous.contains(&format!("struct {structure}"))
    }

    /// Whether a variable is of several types.
    #[must_use]
    pub fn is_ambiguous_variable(&self, name: &str) -> bool {
        self.ambiguous.contains(&format!("variable {name}"))
    }

    /// Adds a definition of a structure.
    pub fn add_structure(&mut self, name: &str, found: Structure) {
        if add(&mut self.structures, name, found) {
            self.ambiguous.insert(format!("struct {name}"));
        }
    }

    /// Adds a definition of an enum.
    pub fn add_enum(&mut self, name: &str, found: BTreeMap<String, i64>) {
        if add(&mut self.enums, name, found) {
            self.ambiguous.insert(format!("enum {name}"));
        }
    }

    /// Adds a variable that is an array.
    pub fn add_array(&mut self, name: &str, elements: u64) {
        if add(&mut self.arrays, name, elements) {
            self.ambiguous.insert(name.to_owned());
        }
    }

    /// Adds a variable. Definitions have the last word: a declaration may leave the length of an array open.
    pub fn add_variable(&mut self, name: &str, found: Variable) {
        match self.variables.get_mut(name) {
            None => _ = self.variables.insert(name.to_owned(), found),
            Some(known) if known.defined && !found.defined => {}
            Some(known) if found.defined && !known.defined => *known = found,
            Some(known) if known.shape == found.shape => {}
            // Two declarations: one may know the length.
            Some(known) => match (&mut known.shape, found.shape) {
                (Shape::Array { of, elements: elements @ None }, Shape::Array { of: other, elements: more })
                    if !known.defined && *of == other =>
                {
                    *elements = more;
                }
                (Shape::Array { of, .. }, Shape::Array { of: other, elements: None })
                    if !known.defined && *of == other => {}
                _ => _ = self.ambiguous.insert(format!("variable {name}")),
            },
        }
    }

    /// Adds what a structure's member is.
    pub fn add_shape(&mut self, structure: &str, member: &str, found: Shape) {
        let key = (structure.to_owned(), member.to_owned());
        match self.shapes.get(&key) {
            None => _ = self.shapes.insert(key, found),
            Some(known) if *known == found => {}
            Some(_) => _ = self.ambiguous.insert(format!("struct {structure}")),
        }
    }

    /// Joins what another unit of the same kernel says.
    pub fn join(&mut self, other: Self) {
        self.ambiguous.extend(other.ambiguous);
        for (name, found) in other.structures {
            self.add_structure(&name, found);
        }
        for (name, found) in other.enums {
            self.add_enum(&name, found);
        }
        for (name, elements) in other.arrays {
            self.add_array(&name, elements);
        }
        for (name, found) in other.variables {
            self.add_variable(&name, found);
        }
        for ((structure, member), found) in other.shapes {
            self.add_shape(&structure, &member, found);
        }
    }

    /// Takes out what cannot be believed, once all has been added.
    #[must_use]
    pub fn settled(mut self) -> Self {
        for name in &self.ambiguous {
            match name.split_once(' ') {
                Some(("struct", name)) => _ = self.structures.remove(name),
                Some(("variable", name)) => _ = self.variables.remove(name),
                Some(("enum", name)) => _ = self.enums.remove(name),
                _ => _ = self.arrays.remove(name),
            }
        }
        self
    }
}

/// Whether another definition was there already, and a different one.
fn add<T: PartialEq>(all: &mut BTreeMap<String, T>, name: &str, found: T) -> bool {
    match all.get(name) {
        Some(known) => *known != found,
        None => {
            all.insert(name.to_owned(), found);
            false
        }
    }
}

/// Whether a string table has `text` at the start of `bytes`; strings there end with a NUL.
fn is_string(bytes: &[u8], text: &str) -> bool {
    bytes.strip_prefix(text.as_bytes()).is_some_and(|rest| matches!(rest.first(), None | Some(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn structure(size: u64) -> Structure {
        Structure { size, members: BTreeMap::from([("flags".to_owned(), Member { bit_offset: 0, elements: None })]) }
    }

    #[test]
    fn definitions_that_differ_are_not_believed() {
        let mut types = Types::default();
        types.add_structure("page", structure(64));
        types.add_structure("page", structure(64));
        types.add_structure("zone", structure(1));
        types.add_structure("zone", structure(2));
        let types = types.settled();
        assert_eq!((types.size("page"), types.size("zone")), (Some(64), None));
        assert!(types.ambiguous.iter().eq(["struct zone"]));
    }
}
