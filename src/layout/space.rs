//! Where the crashed kernel's memory lies: its machine is asked, which asks VMCOREINFO and the dump in turn.
//!
//! Must not read memory. The address space goes to `memory`.

use std::sync::Arc;

use super::{Origin, Resolver, missing};
use crate::{
    arch::{self, AddressSpace, Told, Usual},
    error::{Error, Result},
    source::Source,
};

/// Finds the kernel's address space.
pub(super) fn resolve(resolver: &mut Resolver<'_>, source: &Source) -> Result<Arc<dyn AddressSpace>> {
    let machine = source.machine();
    let Some(arch) = arch::of(machine) else {
        let known: Vec<_> = arch::ALL.iter().map(|arch| arch::uname(arch.machine())).collect();
        return Err(Error::input(format!("cannot walk the page tables of {}", arch::family(machine)))
            .because(format!("only {} kernels are known", known.join(" and "))));
    };
    if source.is_of_xen() {
        return Err(Error::input("cannot tell what the pages of this dump were used for")
            .because("it is of a machine under Xen: dom0's kernel numbers its page frames in its own way"));
    }
    arch.address_space(&mut Both { resolver, source })
}

/// VMCOREINFO, and what the dump says besides.
struct Both<'a, 'b> {
    resolver: &'a mut Resolver<'b>,
    source: &'a Source,
}

impl Told for Both<'_, '_> {
    fn first(&mut self, name: &'static str, keys: &[&str]) -> Option<i64> {
        self.resolver.first(name, keys)
    }

    fn missing(&self, keys: &[&str]) -> Error {
        missing(keys)
    }

    fn assume(&mut self, name: &'static str, usual: Usual) {
        self.resolver.note(name, usual.value, Origin::Default(usual.why));
    }

    fn recorded_phys_base(&mut self) -> Option<u64> {
        let base = self.source.recorded()?.phys_base?;
        self.resolver.note_address("phys_base", base, Origin::KdumpHeader);
        Some(base)
    }

    fn by_segment(&mut self, name: &'static str, place: &dyn Fn(u64, u64) -> Option<u64>) -> Option<u64> {
        let found = self.source.loads().iter().find_map(|load| place(load.vaddr, load.paddr))?;
        self.resolver.note_address(name, found, Origin::Segment);
        Some(found)
    }
}
