//! Where the `struct page` of a frame lies.
//!
//! Knows SPARSEMEM and FLATMEM. Must not know what a `struct page` holds. Goes to the reader of struct pages.

use std::borrow::Cow;

use vdump_filters::PfnRange;

use super::{ReadVirt as _, VirtReader};
use crate::{
    error::{Error, Result},
    layout::{KernelLayout, MemMapLayout, SparseLayout},
    source::RamMap,
};

/// A range of frames without readable struct pages; they are kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The frames.
    pub range: PfnRange,
    /// Why.
    pub cause: String,
}

/// The map from frames to the virtual addresses of their struct pages.
#[derive(Debug)]
pub struct MemMap {
    page_size: u64,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Flat {
        base: u64,
    },
    Sparse {
        layout: SparseLayout,
        sections: Vec<Sections>,
        /// Those with struct pages, by where these lie: address and position in `sections`.
        by_address: Vec<(u64, usize)>,
    },
}

/// Neighbouring sections whose struct pages follow one another, as all do in a virtual memory map; or that lack them for the
/// same reason.
#[derive(Debug)]
struct Sections {
    first: u64,
    /// One past the last.
    end: u64,
    /// Of the first one.
    place: Section,
}

/// What the kernel's section table says about one section.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SectionFacts {
    /// Its number.
    pub number: u64,
    /// Its frames.
    pub range: PfnRange,
    /// Virtual address of its `mem_section`, or why there is none.
    pub entry: std::result::Result<u64, String>,
    /// `section_mem_map`, if it could be read.
    pub word: Option<u64>,
    /// The low bits of that, which are flags.
    pub flags: u64,
    /// Virtual address of the `struct page` of the section's first frame, or why there is none.
    pub map: std::result::Result<u64, String>,
}

/// One section: the virtual address of its first struct page, or why it has none.
type Section = std::result::Result<u64, Cow<'static, str>>;

/// `SECTION_MARKED_PRESENT | SECTION_HAS_MEM_MAP` (include/linux/mmzone.h).
const HAS_MEM_MAP: u64 = 3;

impl MemMap {
    /// More pieces than any kernel's map has: 8 TiB in sections of 128 MiB, each with a map of its own. Bounds what a table
    /// that is not true makes us hold.
    pub const MOST_PIECES: usize = 1 << 16;

    /// Reads the section table for all memory in `ram`. A bad section loses only its own frames.
    ///
    /// # Errors
    /// The table itself cannot be read: then nothing could be classified.
    pub fn read(virt: &VirtReader<'_>, layout: &KernelLayout, ram: &RamMap) -> Result<Self> {
        let page_size = layout.page.size as u64;
        let kind = match layout.mem_map {
            MemMapLayout::Flat { mem_map } => {
                let base = virt.long(mem_map).map_err(|error| unreadable("mem_map", error))?;
                if !virt.space().is_kernel(base) {
                    return Err(unreadable("mem_map", format!("it holds {base:#x}, which is not a kernel address")));
                }
                Kind::Flat { base }
            }
            MemMapLayout::Sparse(sparse) => {
                let read = |sparse| {
                    SectionTable { virt, sparse, page_size, last_root: None }.sections_of(ram, layout.page_shift)
                };
                let none_is_good = |sections: &[Sections]| sections.iter().all(|sections| sections.place.is_err());
                let mut sections = read(sparse);
                let mut layout = sparse;
                if none_is_good(&sections)
                    && sparse.extreme
                    && let Ok(table) = virt.long(sparse.table)
                {
                    // Kernels between 83e3c48729d9 (4.15) and a0b1280368d1 (4.15) and their stable backports export the
                    // address of the pointer to the table.
                    layout.table = table;
                    sections = read(layout);
                }
                if none_is_good(&sections)
                    && let Some(Sections { place: Err(cause), .. }) = sections.first()
                {
                    return Err(unreadable("mem_section", cause));
                }
                let base = |(position, sections): (usize, &Sections)| Some((*sections.place.as_ref().ok()?, position));
                let mut by_address: Vec<_> = sections.iter().enumerate().filter_map(base).collect();
                by_address.sort_unstable();
                Kind::Sparse { layout, sections, by_address }
            }
        };
        Ok(Self { page_size, kind })
    }

    /// Splits `range` at section borders: for each part the virtual address of its first struct page, or why not.
    pub fn parts(&self, range: PfnRange) -> impl Iterator<Item = (PfnRange, std::result::Result<u64, &str>)> {
        let mut at = range.start;
        std::iter::from_fn(move || {
            if at >= range.end {
                return None;
            }
            let (end, place) = match &self.kind {
                Kind::Flat { base } => (range.end, Ok(base.wrapping_add(at.wrapping_mul(self.page_size)))),
                Kind::Sparse { layout: SparseLayout { pfn_shift, .. }, sections, .. } => {
                    let number = at >> pfn_shift;
                    let after = sections.partition_point(|sections| sections.end <= number);
                    match sections.get(after).filter(|sections| sections.first <= number) {
                        Some(Sections { first, end, place }) => {
                            let within = at - (first << pfn_shift);
                            let address = |base: &u64| base.wrapping_add(within.wrapping_mul(self.page_size));
                            let place = place.as_ref().map(address).map_err(|cause| &**cause);
                            (range.end.min(end << pfn_shift), place)
                        }
                        None => {
                            let end = range.end.min((number + 1) << pfn_shift);
                            (end, Err("the dump has no memory in this section"))
                        }
                    }
                }
            };
            let part = PfnRange::new(at, end);
            at = end;
            Some((part, place))
        })
    }

    /// Where a frame's `struct page` lies.
    #[must_use]
    pub fn address(&self, pfn: u64) -> Option<u64> {
        self.parts(PfnRange::new(pfn, pfn + 1)).next()?.1.ok()
    }

    /// Where the map of `ram` lies: virtual addresses and bytes. Sections have maps as a whole, holes included.
    pub fn extents(&self, ram: &RamMap, page_shift: u32) -> Vec<(u64, u64)> {
        match &self.kind {
            Kind::Flat { base } => {
                let of_range = |range: PfnRange| {
                    (
                        base.wrapping_add(range.start.wrapping_mul(self.page_size)),
                        range.len().saturating_mul(self.page_size),
                    )
                };
                ram.pfn_ranges(page_shift).map(of_range).collect()
            }
            Kind::Sparse { layout: SparseLayout { pfn_shift, .. }, sections, .. } => {
                let bytes =
                    |sections: &Sections| ((sections.end - sections.first) << pfn_shift).saturating_mul(self.page_size);
                let sound = |sections: &Sections| Some((*sections.place.as_ref().ok()?, bytes(sections)));
                sections.iter().filter_map(sound).collect()
            }
        }
    }

    /// What the section table says about a frame's section, whether the dump has memory there or not; `None` without
    /// sections.
    #[must_use]
    pub fn section(&self, virt: &VirtReader<'_>, pfn: u64) -> Option<SectionFacts> {
        let Kind::Sparse { layout: sparse, .. } = &self.kind else { return None };
        let mut table = SectionTable { virt, sparse: *sparse, page_size: self.page_size, last_root: None };
        let number = pfn >> sparse.pfn_shift;
        let entry = table.entry_address(number);
        let read = |entry: &u64| virt.long(entry.wrapping_add(sparse.map_offset)).ok();
        let word = entry.as_ref().ok().and_then(read);
        Some(SectionFacts {
            number,
            range: PfnRange::new(number << sparse.pfn_shift, (number + 1) << sparse.pfn_shift),
            entry: entry.map_err(Cow::into_owned),
            word,
            flags: word.unwrap_or(0) & (table.alignment() - 1),
            map: table.section(number).0.map_err(Cow::into_owned),
        })
    }

    /// The frame whose `struct page` lies at `vaddr`, among the memory that the dump tells of.
    #[must_use]
    pub fn pfn_of(&self, vaddr: u64) -> Option<u64> {
        let within = |base: u64| Some(vaddr.checked_sub(base)? / self.page_size);
        match &self.kind {
            Kind::Flat { base } => within(*base),
            Kind::Sparse { layout: SparseLayout { pfn_shift, .. }, sections, by_address } => {
                let after = by_address.partition_point(|(base, _)| *base <= vaddr);
                let (base, position) = *by_address.get(after.checked_sub(1)?)?;
                let Sections { first, end, .. } = sections.get(position)?;
                let index = within(base).filter(|index| *index < (end - first) << pfn_shift)?;
                Some((first << pfn_shift) + index)
            }
        }
    }

    /// Sections whose struct pages cannot be found.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        match &self.kind {
            Kind::Flat { .. } => Vec::new(),
            Kind::Sparse { layout: SparseLayout { pfn_shift, .. }, sections, .. } => {
                let mut problems: Vec<Problem> = Vec::new();
                for Sections { first, end, place } in sections {
                    let Err(cause) = place else { continue };
                    let range = PfnRange::new(first << pfn_shift, end << pfn_shift);
                    match problems.last_mut() {
                        Some(last) if last.range.end == range.start && last.cause == *cause => {
                            last.range.end = range.end;
                        }
                        _ => problems.push(Problem { range, cause: cause.to_string() }),
                    }
                }
                problems
            }
        }
    }
}

struct SectionTable<'a, 'b> {
    virt: &'a VirtReader<'b>,
    sparse: SparseLayout,
    page_size: u64,
    last_root: Option<(u64, Section)>,
}

impl SectionTable<'_, '_> {
    fn sections_of(&mut self, ram: &RamMap, page_shift: u32) -> Vec<Sections> {
        let shift = self.sparse.pfn_shift;
        let mut all: Vec<Sections> = Vec::new();
        for range in ram.pfn_ranges(page_shift) {
            let seen = all.last().map_or(0, |last| last.end);
            let (mut number, end) = ((range.start >> shift).max(seen), ((range.end - 1) >> shift) + 1);
            while number < end {
                let (place, next) = match all.len() {
                    MemMap::MOST_PIECES.. => (Err("the memory map is in more pieces than any kernel's".into()), end),
                    _ => self.section(number),
                };
                let next = next.min(end);
                match all.last_mut().filter(|last| last.end == number && self.follows(last, &place)) {
                    Some(last) => last.end = next,
                    None => all.push(Sections { first: number, end: next, place }),
                }
                number = next;
            }
        }
        all
    }

    /// Whether a section with its struct pages at `place` continues those before it.
    fn follows(&self, before: &Sections, place: &Section) -> bool {
        match (&before.place, place) {
            (Ok(base), Ok(next)) => {
                let pages = (before.end - before.first) << self.sparse.pfn_shift;
                base.wrapping_add(pages.wrapping_mul(self.page_size)) == *next
            }
            (Err(before), Err(cause)) => before == cause,
            _ => false,
        }
    }

    /// A section, and the first one after it of which something else may be known: a segment can claim any amount of memory, and
    /// where the table ends, or has no part, all sections are alike.
    fn section(&mut self, number: u64) -> (Section, u64) {
        let SparseLayout { table_len, sections_per_root, .. } = self.sparse;
        match self.entry_address(number) {
            Ok(entry) => (self.place(number, entry), number + 1),
            Err(cause) if number / sections_per_root >= table_len => (Err(cause), u64::MAX),
            Err(cause) => (Err(cause), (number / sections_per_root + 1) * sections_per_root),
        }
    }

    fn place(&self, number: u64, entry: u64) -> Section {
        let word = self
            .virt
            .long(entry.wrapping_add(self.sparse.map_offset))
            .map_err(|error| format!("its mem_section cannot be read: {error}"))?;
        if word & HAS_MEM_MAP != HAS_MEM_MAP {
            return Err("the kernel has no memory map for it".into());
        }
        let encoded = word & !(self.alignment() - 1);
        let first_pfn = number << self.sparse.pfn_shift;
        let base = encoded.wrapping_add(first_pfn.wrapping_mul(self.page_size));
        if !self.virt.space().is_kernel(base) {
            return Err(format!("its section_mem_map {word:#x} is not a kernel address").into());
        }
        self.virt.translate(base).map_err(|error| format!("its struct pages at {base:#x} are {error}"))?;
        Ok(base)
    }

    /// What the pointer's alignment guarantees: the map of a section starts on a page, and what is subtracted from it is
    /// a multiple of the map's size. The low bits belong to the kernel, and each release used more of them (bit 3 in
    /// 5.3, bit 4 in 5.12, bit 5 in 6.15), so counting them would be wrong with the next one.
    fn alignment(&self) -> u64 {
        let map_size = self.page_size << self.sparse.pfn_shift;
        4096.min(1 << map_size.trailing_zeros())
    }

    fn entry_address(&mut self, number: u64) -> Section {
        let SparseLayout { table, extreme, table_len, sections_per_root, section_size, .. } = self.sparse;
        let root = number / sections_per_root;
        if root >= table_len {
            return Err("it lies beyond the kernel's section table".into());
        }
        if !extreme {
            return Ok(table.wrapping_add(number * section_size));
        }
        let part = match &self.last_root {
            Some((last, part)) if *last == root => part.clone(),
            _ => {
                let part = match self.virt.long(table.wrapping_add(root * self.virt.words().long_size() as u64)) {
                    Ok(0) => Err("the kernel has no section there".into()),
                    Ok(part) => Ok(part),
                    Err(error) => Err(format!("the section table cannot be read: {error}").into()),
                };
                self.last_root = Some((root, part.clone()));
                part
            }
        }?;
        Ok(part.wrapping_add(number % sections_per_root * section_size))
    }
}

fn unreadable(what: &str, cause: impl std::fmt::Display) -> Error {
    Error::input(format!("cannot find the crashed kernel's struct pages through {what}")).because(cause)
}
