//! What all of this room asks the crashed kernel for: variables by name, and what its own types say.

use super::{counters, kallsyms::KallsymsError, pcp, protect, symbols::Symbols, tasks, witnessed, witnesses};
use crate::{arch, layout::VmcoreInfo, memory::ReadVirt};

/// Keys that [`super::Kernel::read_own_structures`] can use and that no kernel exports: its own types say them.
pub fn keys_of_own_structures() -> Vec<&'static str> {
    tasks::KEYS.into_iter().chain(witnessed::KEYS).chain(counters::KEYS).chain(pcp::KEYS).collect()
}

/// Looks up all variables that anything in this room needs, in one pass.
///
/// # Errors
/// The symbol table cannot be used.
pub fn symbols(info: &VmcoreInfo, mem: &dyn ReadVirt) -> Result<Symbols, KallsymsError> {
    let lists = [protect::SYMBOLS, witnessed::SYMBOLS, counters::SYMBOLS, witnesses::SYMBOLS];
    let mut names = lists.concat();
    for arch in arch::ALL {
        let bounds = arch.image_parts().iter().map(|(_, bounds)| *bounds).chain(arch.freed_in_image());
        names.extend(bounds.flat_map(|(start, end)| [start, end]).chain(arch.variables().iter().copied()));
    }
    names.sort_unstable();
    names.dedup();
    Symbols::find(info, mem, &names)
}
