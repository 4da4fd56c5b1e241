//! The types that are looked for.
//!
//! Knows names only. Must not know how they are found. Every reader of type information takes a [`Wanted`], so that it
//! parses nothing else.

/// Names to look for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Wanted<'a> {
    /// Structures and unions, by tag or typedef.
    pub structures: Vec<&'a str>,
    /// Enums by tag.
    pub enums: Vec<&'a str>,
    /// Variables that are arrays.
    pub arrays: Vec<&'a str>,
    /// Variables, for what they are.
    pub variables: Vec<&'a str>,
    /// Members, of whatever structure, for what they are. The structures that such a member or variable is made of or leads
    /// to are wanted too.
    pub follow: Vec<&'a str>,
}
