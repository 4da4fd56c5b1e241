//! What a variable or a member is: enough to follow it through pointers, and to know where it ends.
//!
//! Knows no file format. Must not know what is done with it. The readers (`btf`, `dwarf`) make shapes of what is asked for
//! with [`super::Wanted::follow`].

/// What a variable, a member or what a pointer points to is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Shape {
    /// A number, an enumerator, a truth value.
    Scalar {
        /// `sizeof`, bytes.
        size: u64,
        /// It is C's `char`, of which strings are made; not `unsigned char`, of which keys are.
        is_char: bool,
    },
    /// Some bits of a number.
    Bits,
    /// A structure or union by tag, or by typedef if it has none; one without any name goes by where it is.
    Structure(String),
    /// A pointer.
    Pointer(Box<Shape>),
    /// An array.
    Array {
        /// What its elements are.
        of: Box<Shape>,
        /// How many; `None` if that is left open.
        elements: Option<u64>,
    },
    /// What cannot be looked at: `void`, a function.
    Void,
    /// Not told, or in a way that is not understood.
    Unknown,
}

/// A pointer's size, bytes: the kernels whose types are read are 64-bit ones.
pub const POINTER: u64 = 8;

impl Shape {
    /// A pointer to `self`.
    #[must_use]
    pub fn pointed_to(self) -> Self {
        Self::Pointer(Box::new(self))
    }

    /// An array of `self`.
    #[must_use]
    pub fn repeated(self, elements: Option<u64>) -> Self {
        Self::Array { of: Box::new(self), elements }
    }

    /// `sizeof`, bytes; `structure` gives that of structures.
    pub fn size(&self, structure: &dyn Fn(&str) -> Option<u64>) -> Option<u64> {
        match self {
            Self::Scalar { size, .. } => Some(*size),
            Self::Structure(name) => structure(name),
            Self::Pointer(_) => Some(POINTER),
            Self::Array { of, elements } => of.size(structure)?.checked_mul((*elements)?),
            Self::Bits | Self::Void | Self::Unknown => None,
        }
    }

    /// The structure that it is, points to, or has as elements.
    #[must_use]
    pub fn structure(&self) -> Option<&str> {
        match self {
            Self::Structure(name) => Some(name),
            Self::Pointer(of) | Self::Array { of, .. } => of.structure(),
            _ => None,
        }
    }
}

/// What is known of a variable.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Variable {
    /// What it is.
    pub shape: Shape,
    /// From its definition; declarations elsewhere may leave things open.
    pub defined: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_multiply() {
        let int = Shape::Scalar { size: 4, is_char: false };
        let page = |name: &str| (name == "page").then_some(64);
        let two = |shape: Shape| shape.repeated(Some(3)).repeated(Some(5));
        assert_eq!(two(int.clone()).size(&page), Some(60));
        assert_eq!(two(Shape::Structure("page".to_owned())).size(&page), Some(960));
        assert_eq!(Shape::Structure("other".to_owned()).size(&page), None);
        assert_eq!(int.clone().repeated(None).size(&page), None);
        assert_eq!(int.clone().repeated(Some(u64::MAX)).size(&page), None);
        assert_eq!(int.pointed_to().repeated(Some(2)).size(&page), Some(16));
        assert_eq!(two(Shape::Structure("page".to_owned()).pointed_to()).structure(), Some("page"));
    }
}
