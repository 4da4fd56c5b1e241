//! The crashed kernel, as far as classifying its pages needs it.
//!
//! Knows the order: layout, page tables, memory map, what is protected. Must not know dump levels or outputs.

use super::{asked, counters::Counters, crashed::Crashed, pcp::FreePcp, protect::Protected, symbols::Symbols};
use crate::{
    error::Result,
    layout::{Fact, KernelLayout, VmcoreInfo},
    memory::{MemMap, VirtReader},
    source::Source,
};

/// A crashed kernel whose struct pages can be found.
pub struct Kernel {
    /// Where its structures are.
    pub layout: KernelLayout,
    /// Its struct pages.
    pub map: MemMap,
    /// What must never be dropped.
    pub protected: Protected,
    /// Free pages on its per-CPU lists, where they were looked for.
    pub free_pcp: FreePcp,
    /// What it counted itself, where it was asked.
    pub counters: Option<Counters>,
    symbols: Option<Symbols>,
}

impl Kernel {
    /// Reads what classifying pages needs. `symbols` are what [`super::known::complete`] looked up; without them they are now.
    ///
    /// # Errors
    /// The layout lacks something, or the memory map cannot be read.
    pub fn read(source: &Source, info: &VmcoreInfo, symbols: Option<Symbols>) -> Result<Self> {
        let layout = KernelLayout::resolve(source, info)?;
        let virt = VirtReader::new(source, &layout.space);
        let map = MemMap::read(&virt, &layout, source.existing())?;
        let symbols = symbols.map_or_else(|| asked::symbols(info, &virt), Ok);
        let protected = Protected::find((source, info), &layout, &virt, symbols.as_ref());
        Ok(Self { layout, map, protected, free_pcp: FreePcp::default(), counters: None, symbols: symbols.ok() })
    }

    /// Looks up what its own structures show to be its own, and what it counted, so that struct pages are not believed alone; and
    /// what is free on its per-CPU lists, for which there are `most_pcp` bytes of memory.
    ///
    /// # Errors
    /// As [`Kernel::read`], which has succeeded.
    pub fn read_own_structures(&mut self, source: &Source, info: &VmcoreInfo, most_pcp: u64) -> Result<()> {
        let virt = VirtReader::new(source, &self.layout.space);
        let symbols = self.symbols.as_ref();
        let crashed = Crashed { source, info, layout: &self.layout, virt, symbols };
        self.protected.witness(&crashed, &self.map);
        self.counters = Some(Counters::read(&crashed));
        self.free_pcp = FreePcp::find(&crashed, &self.map, most_pcp);
        Ok(())
    }

    /// Every value and who said it.
    pub fn facts(&self) -> impl Iterator<Item = &Fact> {
        self.layout.facts.iter().chain(self.protected.facts())
    }
}
