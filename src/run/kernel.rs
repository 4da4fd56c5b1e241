//! The crashed kernel, as far as classifying its pages needs it.
//!
//! Knows the order: layout, page tables, memory map, what is protected. Must not know dump levels or outputs.

use crate::{
    error::{Error, Result},
    layout::{Fact, KernelLayout, VmcoreInfo},
    memory::{MemMap, Protected, VirtReader},
    source::Source,
};

/// A crashed kernel whose struct pages can be found.
pub(super) struct Kernel {
    pub(super) layout: KernelLayout,
    pub(super) map: MemMap,
    pub(super) protected: Protected,
}

impl Kernel {
    /// Reads what classifying pages needs.
    ///
    /// # Errors
    /// The layout lacks something, or the memory map cannot be read.
    pub(super) fn read(source: &Source, info: &VmcoreInfo) -> Result<Self> {
        let layout = KernelLayout::resolve(source, info)?;
        let virt = VirtReader::new(source, layout.paging)
            .ok_or_else(|| Error::input("the dump's architecture is not known"))?;
        let map = MemMap::read(&virt, &layout, source.existing())?;
        let protected = Protected::find(source, info, &layout, &virt);
        Ok(Self { layout, map, protected })
    }

    /// Every value and who said it.
    pub(super) fn facts(&self) -> impl Iterator<Item = &Fact> {
        self.layout.facts.iter().chain(self.protected.facts())
    }
}
