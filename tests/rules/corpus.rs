//! All broken dumps, with the rules that each breaks.

use super::{elf, kdump, layers};

/// A dump, in one file or several.
pub struct Broken {
    pub label: String,
    /// Exactly those, sorted or not.
    pub rules: Vec<&'static str>,
    pub files: Vec<Vec<u8>>,
}

pub fn broken(label: &str, rules: &[&'static str], files: Vec<Vec<u8>>) -> Broken {
    Broken { label: label.to_owned(), rules: rules.to_vec(), files }
}

pub fn corpus() -> Vec<Broken> {
    [kdump::corpus(), kdump::sets(), elf::corpus(), layers::corpus()].into_iter().flatten().collect()
}
