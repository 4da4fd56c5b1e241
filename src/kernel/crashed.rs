//! What whoever looks through the crashed kernel's structures needs.

use crate::{
    layout::{KernelLayout, VmcoreInfo},
    memory::{ReadVirt as _, VirtReader},
    source::Source,
};

use super::symbols::Symbols;

/// The crashed kernel, as far as looking for its memory needs it.
#[derive(Debug)]
pub struct Crashed<'a> {
    /// The dump.
    pub source: &'a Source,
    /// What is known about its kernel.
    pub info: &'a VmcoreInfo,
    /// The same, resolved.
    pub layout: &'a KernelLayout,
    /// Its memory.
    pub virt: VirtReader<'a>,
    /// Its variables, where its symbol table can be used.
    pub symbols: Option<&'a Symbols>,
}

impl Crashed<'_> {
    pub(super) fn symbol(&self, name: &str) -> Option<u64> {
        self.symbols.and_then(|symbols| symbols.get(name)).or_else(|| self.info.symbol(name))
    }

    pub(super) fn word(&self, vaddr: u64) -> Option<u64> {
        self.virt.long(vaddr).ok()
    }

    pub(super) fn half(&self, vaddr: u64) -> Option<u32> {
        self.virt.u32(vaddr).ok()
    }

    pub(super) fn byte(&self, vaddr: u64) -> Option<u8> {
        let mut byte = [0];
        self.virt.read_virt(vaddr, &mut byte).ok()?;
        Some(byte[0])
    }

    /// The value of a variable that is a word.
    pub(super) fn variable(&self, name: &str) -> Option<u64> {
        self.word(self.symbol(name)?)
    }

    /// CPUs that the kernel knows by number.
    pub(super) fn cpus(&self) -> u64 {
        let most = self.layout.space.arch().most_cpus();
        let known = self.symbol("nr_cpu_ids").and_then(|at| self.half(at)).map(u64::from);
        known.filter(|cpus| (1..=most).contains(cpus)).unwrap_or(self.source.saved_cpus() as u64).min(most)
    }

    /// The CPUs' offsets of their own variables; none for a number that is no CPU.
    pub(super) fn cpu_offsets(&self) -> impl Iterator<Item = u64> {
        self.cpu_areas().map(|(_, offset)| offset)
    }

    /// The same, each with the CPU's number.
    pub(super) fn cpu_areas(&self) -> impl Iterator<Item = (u64, u64)> {
        let table = self.symbol("__per_cpu_offset");
        let start = self.symbol("__per_cpu_start").unwrap_or(0);
        let (arch, width) = (self.layout.space.arch(), self.virt.words().long_size() as u64);
        // The table begins as the image's own copy, for all (arch/x86/kernel/setup_percpu.c, `BOOT_PERCPU_OFFSET`); it is freed
        // when the CPUs that exist have theirs.
        let is_real = move |(_, offset): &(u64, u64)| *offset != 0 && !arch.is_image(start.wrapping_add(*offset));
        let read = move |cpu| Some((cpu, self.word(table?.wrapping_add(cpu * width))?));
        (0..self.cpus()).filter_map(read).filter(is_real)
    }
}
