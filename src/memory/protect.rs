//! What must never be dropped, whatever a damaged `struct page` says: the kernel image and the notes.
//!
//! Knows which symbols and segments bound them. Must not know dump levels. Goes to `classify`.

use vdump_filters::PfnRange;

use super::{Kallsyms, KallsymsError, VirtReader};
use crate::{
    layout::{Fact, KernelLayout, Origin, VmcoreInfo},
    source::Source,
};

/// Frames that are kept in any case; sorted, disjoint.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Protected {
    ranges: Vec<PfnRange>,
    /// What each holds, before ranges that touch were joined.
    named: Vec<(PfnRange, &'static str)>,
    facts: Vec<Fact>,
    limits: Vec<String>,
}

/// Parts of the kernel image by their bounding symbols (arch/x86/kernel/vmlinux.lds.S). What lies between them is the
/// init range and the gaps around the read-only data, which the kernel frees for ordinary use.
const IMAGE_PARTS: [(&str, (&str, &str)); 4] = [
    ("kernel text", ("_text", "_etext")),
    ("kernel rodata", ("__start_rodata", "__end_rodata")),
    ("kernel data", ("_sdata", "__init_begin")),
    ("kernel bss", ("__bss_start", "__bss_stop")),
];
/// The rest of the bss's last 2 MiB, freed too unless memory is encrypted (`mem_encrypt_free_decrypted_mem`, arch/x86).
const FREED_HOLE: (&str, &str) = ("__start_bss_decrypted_unused", "__end_bss_decrypted");

/// Variables that point to the pages of the VMCOREINFO note (kernel/vmcore_info.c), two pages at most each.
const NOTE_POINTERS: [&str; 2] = ["vmcoreinfo_data", "vmcoreinfo_note"];
const NOTE_PAGES: u64 = 2;
/// The variable that points to the per-CPU notes with registers (kernel/crash_core.c), and the offsets of each CPU's area.
const CRASH_NOTES: &str = "crash_notes";
const CPU_OFFSETS: &str = "__per_cpu_offset";
/// A CPU's note with its registers is smaller than this, bytes (include/linux/crash_core.h, `CRASH_CORE_NOTE_BYTES`).
const CRASH_NOTE_BYTES: u64 = 1024;
/// More than any kernel image: a segment this large maps all of the text window and says nothing.
const MAX_IMAGE: u64 = 256 << 20;
/// As many CPUs as x86_64 can have (`NR_CPUS`).
const MAX_CPUS: usize = 8192;

impl Protected {
    /// Finds the ranges, from the crashed kernel's symbol table or else from the segment that maps its text.
    #[must_use]
    pub fn find(source: &Source, info: &VmcoreInfo, layout: &KernelLayout, virt: &VirtReader<'_>) -> Self {
        let mut found = Self::default();
        match Symbols::read(info, virt) {
            Ok(symbols) => {
                found.image_by_symbols(&symbols, layout);
                found.notes(&symbols, source, layout, virt);
            }
            Err(error) => found
                .limits
                .push(format!("the kernel image's bounds come from the dump's segments, not from symbols: {error}")),
        }
        if found.ranges.is_empty() {
            found.image_by_segment(source, layout);
        }
        found.merge();
        found
    }

    /// The protected parts of `range`.
    pub fn within(&self, range: PfnRange) -> impl Iterator<Item = PfnRange> {
        let first = self.ranges.partition_point(|kept| kept.end <= range.start);
        self.ranges[first..]
            .iter()
            .take_while(move |kept| kept.start < range.end)
            .map(move |kept| kept.intersect(range))
    }

    /// What a frame holds that must stay; nothing for most.
    pub fn names(&self, pfn: u64) -> impl Iterator<Item = &'static str> {
        self.named.iter().filter(move |(range, _)| range.contains(pfn)).map(|(_, name)| *name)
    }

    /// Where the bounds came from.
    #[must_use]
    pub fn facts(&self) -> &[Fact] {
        &self.facts
    }

    /// What could not be found out.
    #[must_use]
    pub fn limits(&self) -> &[String] {
        &self.limits
    }

    fn add(&mut self, name: &'static str, paddr: u64, len: u64, layout: &KernelLayout, origin: Origin) {
        let Some(last) = paddr.checked_add(len.max(1) - 1) else {
            return;
        };
        let range = PfnRange::new(paddr >> layout.page_shift, (last >> layout.page_shift) + 1);
        self.ranges.push(range);
        self.named.push((range, name));
        self.facts.push(Fact { name, value: format!("{paddr:#x}..{:#x}", last.saturating_add(1)), origin });
    }

    fn image_by_symbols(&mut self, symbols: &Symbols, layout: &KernelLayout) {
        let hole = symbols.pair(FREED_HOLE);
        for (name, bounds) in IMAGE_PARTS {
            let Some((start, end)) = symbols.pair(bounds).filter(|(start, end)| end - start <= MAX_IMAGE) else {
                self.limits.push(format!("kallsyms does not bound the {name} ({} to {})", bounds.0, bounds.1));
                continue;
            };
            let (before, after) = hole.filter(|(from, to)| start <= *from && *to <= end).unwrap_or((end, end));
            for (from, to) in [(start, before), (after, end)] {
                if from < to {
                    self.add(name, layout.paging.image_paddr(from), to - from, layout, Origin::Kallsyms);
                }
            }
        }
    }

    fn notes(&mut self, symbols: &Symbols, source: &Source, layout: &KernelLayout, virt: &VirtReader<'_>) {
        let read = |at: u64| virt.read_u64(at).ok().filter(|value| *value != 0);
        let pointer = |name: &str| symbols.get(name).and_then(read);
        for name in NOTE_POINTERS {
            if let Some(at) = pointer(name) {
                self.add_virtual("vmcoreinfo", at, NOTE_PAGES << layout.page_shift, layout, virt);
            }
        }
        if let (Some(notes), Some(offsets)) = (pointer(CRASH_NOTES), symbols.get(CPU_OFFSETS)) {
            for cpu in 0..source.saved_cpus().min(MAX_CPUS) as u64 {
                if let Some(offset) = read(offsets.wrapping_add(cpu * 8)) {
                    self.add_virtual("crash notes", notes.wrapping_add(offset), CRASH_NOTE_BYTES, layout, virt);
                }
            }
        }
    }

    fn add_virtual(&mut self, name: &'static str, at: u64, len: u64, layout: &KernelLayout, virt: &VirtReader<'_>) {
        let mut done = 0;
        while done < len {
            let Ok(mapping) = virt.translate(at.wrapping_add(done)) else {
                return;
            };
            let part = mapping.len.min(len - done);
            self.add(name, mapping.paddr, part, layout, Origin::Kallsyms);
            done += part;
        }
    }

    fn image_by_segment(&mut self, source: &Source, layout: &KernelLayout) {
        let text = source.loads().iter().find(|load| layout.paging.is_image(load.vaddr) && load.memsz <= MAX_IMAGE);
        match text {
            Some(load) => self.add("kernel image", load.paddr, load.memsz, layout, Origin::Segment),
            None => self.limits.push(
                "nothing bounds the kernel image: its pages are kept only because their struct pages say so".to_owned(),
            ),
        }
    }

    fn merge(&mut self) {
        self.ranges.sort_unstable();
        let mut merged: Vec<PfnRange> = Vec::with_capacity(self.ranges.len());
        for range in self.ranges.drain(..) {
            match merged.last_mut() {
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                _ => merged.push(range),
            }
        }
        self.ranges = merged;
    }
}

/// The symbols that bound something, looked up in one pass.
struct Symbols(Vec<(&'static str, Option<u64>)>);

impl Symbols {
    fn read(info: &VmcoreInfo, virt: &VirtReader<'_>) -> Result<Self, KallsymsError> {
        let bounds = IMAGE_PARTS.iter().map(|(_, bounds)| *bounds).chain([FREED_HOLE]);
        let mut names: Vec<&str> = bounds.flat_map(|(start, end)| [start, end]).collect();
        names.extend(NOTE_POINTERS);
        names.extend([CRASH_NOTES, CPU_OFFSETS]);
        let found = Kallsyms::load(info, virt)?.lookup(&names)?;
        Ok(Self(names.into_iter().zip(found).collect()))
    }

    fn get(&self, name: &str) -> Option<u64> {
        self.0.iter().find(|(known, _)| *known == name)?.1
    }

    fn pair(&self, (start, end): (&str, &str)) -> Option<(u64, u64)> {
        self.get(start).zip(self.get(end)).filter(|(start, end)| start < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_merged_and_cut() {
        let ranges = [(10, 20), (0, 5), (15, 30), (40, 50)].map(|(start, end)| PfnRange::new(start, end)).into();
        let mut protected = Protected { ranges, ..Protected::default() };
        protected.merge();
        let within: Vec<_> = protected.within(PfnRange::new(3, 45)).collect();
        assert_eq!(within, [PfnRange::new(3, 5), PfnRange::new(10, 30), PfnRange::new(40, 45)]);
        assert_eq!(protected.within(PfnRange::new(30, 40)).count(), 0);
    }
}
