//! What must never be dropped, whatever a damaged `struct page` says: the kernel image, the notes, and what else is
//! `witnessed`.
//!
//! Knows which symbols and segments bound image and notes. Must not know dump levels. Goes to `classify`.

use vdump_filters::{
    PfnRange,
    ranges::{Ranges, Stretch},
};

use super::{
    crashed::Crashed,
    kallsyms::KallsymsError,
    symbols::Symbols,
    witnessed::{self, Gap, Part, Witnessed},
};
use crate::{
    arch,
    layout::{Fact, KernelLayout, Origin, VmcoreInfo},
    memory::{MemMap, ReadVirt as _, VirtReader},
    source::{Load, Source},
};

/// Frames that are kept in any case.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Protected {
    /// Sorted and disjoint, each with why it is kept.
    ranges: Vec<Kept>,
    /// Kept only if they look free, sorted and disjoint; some of them are in `ranges` too.
    mapped: Vec<PfnRange>,
    /// Parts that are not known, or not all of them.
    gaps: Vec<(Part, Gap)>,
    /// What image and notes hold, by name.
    named: Vec<(PfnRange, &'static str)>,
    facts: Vec<Fact>,
    limits: Vec<String>,
}

/// Variables that point to the pages of the VMCOREINFO note (kernel/vmcore_info.c), and how many they are at most.
const NOTE_POINTERS: [(&str, u64); 2] = [("vmcoreinfo_data", 1), ("vmcoreinfo_note", 2)];
/// The variable that points to the per-CPU notes with registers (kernel/crash_core.c), and the offsets of each CPU's area.
const CRASH_NOTES: &str = "crash_notes";
const CPU_OFFSETS: &str = "__per_cpu_offset";
/// A CPU's note with its registers is smaller than this, bytes (include/linux/crash_core.h, `CRASH_CORE_NOTE_BYTES`).
const CRASH_NOTE_BYTES: u64 = 1024;
/// More than any kernel image: a segment this large maps all of the text window and says nothing.
const MAX_IMAGE: u64 = 256 << 20;
/// What the kernel's image is aligned to, bytes (`CONFIG_PHYSICAL_ALIGN` is no less).
const IMAGE_ALIGN: u64 = 2 << 20;
/// The kernel's variables that are looked up here, beside the bounds of its image.
pub(super) const SYMBOLS: &[&str] = &["vmcoreinfo_data", "vmcoreinfo_note", CRASH_NOTES, CPU_OFFSETS];

impl Protected {
    /// Finds the ranges, from the crashed kernel's symbol table or else from the segment that maps its text.
    #[must_use]
    pub fn find(
        (source, info): (&Source, &VmcoreInfo),
        layout: &KernelLayout,
        virt: &VirtReader<'_>,
        symbols: Result<&Symbols, &KallsymsError>,
    ) -> Self {
        let mut found = Self::default();
        match symbols {
            Ok(symbols) => {
                found.image_by_symbols(symbols, layout);
                found.notes(symbols, source, layout, virt);
            }
            Err(error) => found.limits.push(format!(
                "the kernel image's bounds come from its segment or its page tables, not from symbols: {error}"
            )),
        }
        if !found.has(Part::Image) {
            found.image_by_segment(source, layout);
            if !found.has(Part::ImageSegment) {
                found.image_by_tables(info, layout, virt);
            }
        }
        found.unknown();
        found.settle();
        found
    }

    /// What the segments alone say, where nothing is known of the kernel: one that lies where the machine's kernels have their text.
    #[must_use]
    pub fn by_segments(source: &Source, page_shift: u32) -> Self {
        let mut found = Self::default();
        let arch = arch::of(source.machine());
        match source.loads().iter().find(|load| arch.is_some_and(|arch| arch.is_image(load.vaddr)) && is_image(load)) {
            Some(load) => found.add(Part::ImageSegment, "kernel image", load.paddr, load.memsz, page_shift),
            None => found.limits.push("nothing tells where the kernel image lies".to_owned()),
        }
        found.settle();
        found
    }

    fn has(&self, part: Part) -> bool {
        self.ranges.iter().any(|kept| kept.part == part)
    }

    /// Says of image and notes that they are not known, where nothing told.
    fn unknown(&mut self) {
        let image = match self.has(Part::ImageSegment) {
            true => "no symbols bound it; all that is mapped where it lies is kept",
            false => "nothing bounds it",
        };
        let notes = "no symbols lead to them; the dump has its own copy";
        for (part, why) in [(Part::Image, image), (Part::Notes, notes)] {
            if !self.has(part) {
                self.gaps.push((part, Gap::Unknown(why.to_owned())));
            }
        }
    }

    /// Adds what the kernel's own structures show to be its own.
    pub fn witness(&mut self, crashed: &Crashed<'_>, map: &MemMap) {
        for Witnessed { part, ranges, gap } in witnessed::find(crashed, map) {
            // Of nothing it can be said that it is sound.
            let none = || Gap::Unknown("none of it was found".to_owned());
            let gap = gap.or_else(|| ranges.is_empty().then(none));
            self.gaps.extend(gap.map(|gap| (part, gap)));
            if part == Part::Mapped {
                self.mapped = ranges;
            } else {
                self.ranges.extend(ranges.into_iter().map(|range| Kept { range, part }));
            }
        }
        self.settle();
    }

    /// The protected parts of `range`, those that are kept only if they look free last.
    pub fn within(&self, range: PfnRange) -> impl Iterator<Item = (PfnRange, Part)> {
        let first = self.ranges.partition_point(|kept| kept.range.end <= range.start);
        let certain = self.ranges[first..].iter().take_while(move |kept| kept.range.start < range.end);
        let certain = certain.map(|kept| (kept.range, kept.part));
        let first = self.mapped.partition_point(|kept| kept.end <= range.start);
        let mapped = self.mapped[first..].iter().take_while(move |kept| kept.start < range.end);
        let mapped = mapped.map(|kept| (*kept, Part::Mapped));
        certain.chain(mapped).map(move |(kept, part)| (kept.intersect(range), part))
    }

    /// The parts of `range` that are kept whatever they look like.
    pub fn certain(&self, range: PfnRange) -> impl Iterator<Item = PfnRange> {
        self.within(range).filter(|(_, part)| *part != Part::Mapped).map(|(kept, _)| kept)
    }

    /// Parts that are not known, or not all of them.
    #[must_use]
    pub fn gaps(&self) -> &[(Part, Gap)] {
        &self.gaps
    }

    /// What a frame holds that must stay; nothing for most.
    pub fn names(&self, pfn: u64) -> impl Iterator<Item = &'static str> {
        let named = self.named.iter().filter(move |(range, _)| range.contains(pfn)).map(|(_, name)| *name);
        let in_parts = self.within(PfnRange::new(pfn, pfn + 1)).map(|(_, part)| part);
        let is_named = |part: &Part| matches!(part, Part::Image | Part::ImageSegment | Part::Notes);
        named.chain(in_parts.filter(move |part| !is_named(part)).map(Part::name))
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

    fn add(&mut self, part: Part, name: &'static str, paddr: u64, len: u64, page_shift: u32) {
        let origin = if part == Part::ImageSegment { Origin::Segment } else { Origin::Kallsyms };
        self.add_as(origin, part, name, (paddr, len), page_shift);
    }

    fn add_as(&mut self, origin: Origin, part: Part, name: &'static str, (paddr, len): (u64, u64), page_shift: u32) {
        let Some(last) = paddr.checked_add(len.max(1) - 1) else {
            return;
        };
        let range = PfnRange::new(paddr >> page_shift, (last >> page_shift) + 1);
        self.ranges.push(Kept { range, part });
        self.named.push((range, name));
        self.facts.push(Fact { name, value: format!("{paddr:#x}..{:#x}", last.saturating_add(1)), origin });
    }

    fn image_by_symbols(&mut self, symbols: &Symbols, layout: &KernelLayout) {
        let arch = layout.space.arch();
        let hole = arch.freed_in_image().and_then(|bounds| symbols.pair(bounds));
        for (name, bounds) in arch.image_parts().iter().copied() {
            let Some((start, end)) = symbols.pair(bounds).filter(|(start, end)| end - start <= MAX_IMAGE) else {
                self.limits.push(format!("kallsyms does not bound the {name} ({} to {})", bounds.0, bounds.1));
                continue;
            };
            let (before, after) = hole.filter(|(from, to)| start <= *from && *to <= end).unwrap_or((end, end));
            for (from, to) in [(start, before), (after, end)] {
                if from < to {
                    self.add(Part::Image, name, layout.space.image_paddr(from), to - from, layout.page_shift);
                }
            }
        }
    }

    fn notes(&mut self, symbols: &Symbols, source: &Source, layout: &KernelLayout, virt: &VirtReader<'_>) {
        let read = |at: u64| virt.long(at).ok().filter(|value| *value != 0);
        let pointer = |name: &str| symbols.get(name).and_then(read);
        for (name, pages) in NOTE_POINTERS {
            if let Some(at) = pointer(name) {
                self.add_virtual("vmcoreinfo", at, pages << layout.page_shift, layout, virt);
            }
        }
        if let (Some(notes), Some(offsets)) = (pointer(CRASH_NOTES), symbols.get(CPU_OFFSETS)) {
            for cpu in 0..(source.saved_cpus() as u64).min(layout.space.arch().most_cpus()) {
                if let Some(offset) = read(offsets.wrapping_add(cpu * virt.words().long_size() as u64)) {
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
            self.add(Part::Notes, name, mapping.paddr, part, layout.page_shift);
            done += part;
        }
    }

    fn image_by_segment(&mut self, source: &Source, layout: &KernelLayout) {
        let text = source.loads().iter().find(|load| layout.space.arch().is_image(load.vaddr) && is_image(load));
        if let Some(load) = text {
            self.add(Part::ImageSegment, "kernel image", load.paddr, load.memsz, layout.page_shift);
        }
    }

    /// What the kernel's page tables map from its text on: nothing but the image lies there, as `cleanup_highmap`
    /// (arch/x86/mm/init_64.c) leaves no more of it mapped; the memory that was freed after boot may still be.
    fn image_by_tables(&mut self, info: &VmcoreInfo, layout: &KernelLayout, virt: &VirtReader<'_>) {
        const SMALLEST: u64 = 4096;
        let text = info.symbol("_stext").filter(|text| layout.space.arch().is_image(*text));
        let mut mapped: Option<(u64, u64)> = None;
        let mut done = 0;
        while let Some(at) =
            text.filter(|_| done < MAX_IMAGE).map(|text| (text & !(IMAGE_ALIGN - 1)).wrapping_add(done))
        {
            if !layout.space.arch().is_image(at) {
                break;
            }
            let part = virt.translate(at).ok().map(|mapping| (mapping.paddr, mapping.len.clamp(1, MAX_IMAGE - done)));
            done += part.map_or(SMALLEST, |(_, len)| len);
            mapped = match (mapped, part) {
                (Some((start, len)), Some((paddr, more))) if start.wrapping_add(len) == paddr => {
                    Some((start, len + more))
                }
                (before, part) => {
                    self.add_mapped(before, layout);
                    part
                }
            };
        }
        self.add_mapped(mapped, layout);
        if !self.has(Part::ImageSegment) {
            self.limits.push(
                "nothing bounds the kernel image: its pages are kept only because their struct pages say so".to_owned(),
            );
        }
    }

    fn add_mapped(&mut self, mapped: Option<(u64, u64)>, layout: &KernelLayout) {
        if let Some(mapped) = mapped {
            self.add_as(Origin::PageTables, Part::ImageSegment, "kernel image", mapped, layout.page_shift);
        }
    }

    /// Sorts the ranges and makes them disjoint: what two parts claim goes to the one that starts first.
    fn settle(&mut self) {
        self.ranges.sort_unstable();
        self.ranges = Ranges::new(std::mem::take(&mut self.ranges)).into_vec();
    }
}

/// Frames that are kept, and for which part.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Kept {
    range: PfnRange,
    part: Part,
}

impl Stretch for Kept {
    fn start(&self) -> u64 {
        self.range.start
    }

    fn end(&self) -> u64 {
        self.range.end
    }

    fn part(&self, start: u64, end: u64) -> Self {
        Self { range: PfnRange::new(start, end), ..*self }
    }

    fn is_continued_by(&self, next: &Self) -> bool {
        self.part == next.part
    }
}

/// Whether a segment in the text window is as large as an image may be.
fn is_image(load: &Load) -> bool {
    load.memsz <= MAX_IMAGE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_merged_and_cut() {
        let range = |start, end| PfnRange::new(start, end);
        let mut protected = Protected {
            ranges: vec![
                Kept { range: range(10, 20), part: Part::Image },
                Kept { range: range(0, 5), part: Part::Image },
                Kept { range: range(15, 30), part: Part::Image },
                Kept { range: range(40, 50), part: Part::Log },
                Kept { range: range(44, 46), part: Part::Stacks },
                Kept { range: range(48, 52), part: Part::PerCpu },
            ],
            mapped: vec![range(4, 6), range(60, 70)],
            ..Protected::default()
        };
        protected.settle();
        let within: Vec<_> = protected.within(range(3, 51)).collect();
        let expected = [
            (range(3, 5), Part::Image),
            (range(10, 30), Part::Image),
            (range(40, 50), Part::Log),
            (range(50, 51), Part::PerCpu),
            (range(4, 6), Part::Mapped),
        ];
        assert_eq!(within, expected);
        assert_eq!(protected.within(range(30, 40)).count(), 0);
    }
}
