//! Addresses of the crashed kernel's variables, all looked up in one pass over its symbol table.

use std::collections::BTreeMap;

use super::kallsyms::{Kallsyms, KallsymsError};
use crate::{layout::VmcoreInfo, memory::ReadVirt};

/// The names, and where each lies.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Symbols(BTreeMap<&'static str, u64>);

impl Symbols {
    /// Looks up `names`; one that the kernel does not have is left out.
    ///
    /// # Errors
    /// The symbol table cannot be used.
    pub fn find(info: &VmcoreInfo, mem: &dyn ReadVirt, names: &[&'static str]) -> Result<Self, KallsymsError> {
        let found = Kallsyms::find(info, mem, names)?;
        Ok(Self(names.iter().zip(found).filter_map(|(name, address)| Some((*name, address?))).collect()))
    }

    /// Where `name` lies.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<u64> {
        self.0.get(name).copied()
    }

    /// Where two names lie, if the first is below the second.
    #[must_use]
    pub fn pair(&self, (start, end): (&str, &str)) -> Option<(u64, u64)> {
        self.get(start).zip(self.get(end)).filter(|(start, end)| start < end)
    }
}
