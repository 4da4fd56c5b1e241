//! Memory that the kernel's own structures show to be its own, whatever the struct pages say: page tables, the memory map,
//! per-CPU areas, stacks, the log.
//!
//! Knows the ways to it, each of them bounded. Must not know classes. What is found becomes part of what is
//! [`Protected`](super::Protected).

mod log;
mod map;
mod per_cpu;
mod stacks;
mod tables;

use vdump_filters::{PfnRange, ranges::Ranges};

use super::crashed::Crashed;
use crate::memory::{Mapping, MemMap, WalkError};

/// The kernel's variables that lead there.
pub(super) const SYMBOLS: &[&str] = &[
    "__per_cpu_start",
    "__per_cpu_end",
    "__per_cpu_offset",
    "nr_cpu_ids",
    "pcpu_base_addr",
    "pcpu_unit_size",
    "pcpu_first_chunk",
    "log_buf",
    "log_buf_len",
    "init_task",
    "idle_threads",
];

/// Keys that no kernel exports and that the ways need: its own types say them.
pub const KEYS: [&str; 3] = ["OFFSET(pcpu_chunk.base_addr)", "OFFSET(pcpu_chunk.nr_pages)", "SIZE(thread_union)"];

/// A part of the kernel's memory.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Part {
    /// The kernel's image, between symbols that bound it.
    Image,
    /// VMCOREINFO and the CPUs' registers.
    Notes,
    /// The struct pages themselves.
    MemMap,
    /// Page tables of the kernel's half of the address space.
    PageTables,
    /// The CPUs' own variables.
    PerCpu,
    /// The tasks' kernel stacks.
    Stacks,
    /// The kernel's log.
    Log,
    /// The segment that maps the image, where no symbols bound it: some of it is freed after boot.
    ImageSegment,
    /// What vmalloc's area and that of modules map. It may belong to a process or a file, but it cannot be free.
    Mapped,
}

impl Part {
    /// How many there are.
    pub const COUNT: usize = 9;
    /// All, by [`Part::index`].
    pub const ALL: [Self; Self::COUNT] = [
        Self::Image,
        Self::Notes,
        Self::MemMap,
        Self::PageTables,
        Self::PerCpu,
        Self::Stacks,
        Self::Log,
        Self::ImageSegment,
        Self::Mapped,
    ];

    /// Position in [`Part::ALL`], for counters.
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }

    /// The name in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Image => "kernel image",
            Self::Notes => "notes",
            Self::MemMap => "memory map",
            Self::PageTables => "page tables",
            Self::PerCpu => "per-CPU areas",
            Self::Stacks => "task stacks",
            Self::Log => "log buffer",
            Self::ImageSegment => "image segment",
            Self::Mapped => "vmalloc and modules",
        }
    }

    /// Whether struct pages that say otherwise must be wrong.
    #[must_use]
    pub fn is_certain(self) -> bool {
        self != Self::ImageSegment
    }
}

/// Ranges kept of one part: 1 MiB of them. The part is known as far as they go.
const MAX_RANGES: usize = 64 << 10;
/// Steps through one range of virtual addresses: 4 GiB in the smallest pages, more than any range but the memory map's.
const MAX_STEPS: u64 = 1 << 20;
/// Pages of any machine are a multiple of this, bytes.
const SMALLEST_PAGE: u64 = 4096;

/// How far a walk through virtual addresses came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reach {
    /// To the end, and all of it is mapped.
    Whole,
    /// To the end, with holes.
    Holes,
    /// Not to the end: there were not enough steps, or more was found than can be held.
    Part,
}

/// Hands over what is mapped of `len` bytes at `vaddr`, until `put` has had enough. `translate` says where an address lies, or in
/// blocks of which size nothing is mapped there.
fn each_mapped(
    vaddr: u64,
    len: u64,
    steps: &mut u64,
    translate: impl Fn(u64) -> Result<Mapping, u64>,
    mut put: impl FnMut(u64, u64) -> bool,
) -> Reach {
    let (mut done, mut whole) = (0u64, true);
    while done < len {
        let Some(left) = steps.checked_sub(1) else { return Reach::Part };
        *steps = left;
        let at = vaddr.wrapping_add(done);
        match translate(at) {
            Ok(mapping) => {
                let part = mapping.len.clamp(1, len - done);
                if !put(mapping.paddr, part) {
                    return Reach::Part;
                }
                done += part;
            }
            Err(block) => {
                whole = false;
                done = done.saturating_add(block - at % block);
            }
        }
    }
    if whole { Reach::Whole } else { Reach::Holes }
}

/// Frames of one part.
#[derive(Debug, Default)]
pub(super) struct Frames {
    ranges: Vec<PfnRange>,
    full: bool,
}

impl Frames {
    /// Adds `len` bytes at a physical address.
    fn add(&mut self, paddr: u64, len: u64, crashed: &Crashed<'_>) {
        let shift = crashed.layout.page_shift;
        let Some(last) = paddr.checked_add(len.max(1) - 1).filter(|_| !self.full) else {
            return;
        };
        let range = PfnRange::new(paddr >> shift, (last >> shift) + 1);
        if let Some(before) = self.ranges.last_mut()
            && before.start <= range.start
            && range.start <= before.end
        {
            before.end = before.end.max(range.end);
            return;
        }
        self.ranges.push(range);
        if self.ranges.len() >= MAX_RANGES {
            self.ranges = Ranges::new(std::mem::take(&mut self.ranges)).into_vec();
            // Merging must have been worth it, or it would be done for each range.
            self.full = self.ranges.len() > MAX_RANGES / 2;
        }
    }

    /// Adds what is mapped of `len` bytes at a virtual address; gives whether all of it is.
    fn add_virtual(&mut self, vaddr: u64, len: u64, crashed: &Crashed<'_>) -> bool {
        self.add_mapped(vaddr, len, crashed, &mut MAX_STEPS.clone()) == Reach::Whole
    }

    /// The same in so many steps, which are counted down.
    fn add_mapped(&mut self, vaddr: u64, len: u64, crashed: &Crashed<'_>, steps: &mut u64) -> Reach {
        let space = crashed.virt.space();
        let translate = |at: u64| {
            crashed.virt.translate(at).map_err(|error| match error {
                // Nothing is mapped as far as this entry goes.
                WalkError::NotMapped(level) | WalkError::Broken(level, _) if level > 0 => 1 << space.shift(level),
                _ => SMALLEST_PAGE,
            })
        };
        each_mapped(vaddr, len, steps, translate, |paddr, len| {
            self.add(paddr, len, crashed);
            !self.full
        })
    }

    fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }
}

/// Why a part is not known, or not all of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Gap {
    /// Nothing says where it is.
    Unknown(String),
    /// Something on the way to it is damaged.
    Damaged(String),
}

type Found = Result<(), Gap>;

/// One part, as far as it was found.
#[derive(Debug)]
pub(super) struct Witnessed {
    pub(super) part: Part,
    pub(super) ranges: Vec<PfnRange>,
    pub(super) gap: Option<Gap>,
}

impl Witnessed {
    fn new(part: Part, frames: Frames, found: Found) -> Self {
        let full = || Gap::Damaged(format!("only the first {MAX_RANGES} pieces are looked at"));
        Self {
            part,
            ranges: Ranges::new(frames.ranges).into_vec(),
            gap: found.err().or_else(|| frames.full.then(full)),
        }
    }
}

/// Looks for all parts. Never fails: what cannot be found is a gap.
pub(super) fn find(crashed: &Crashed<'_>, map: &MemMap) -> Vec<Witnessed> {
    let (mut page_tables, mut mapped) = (Frames::default(), Frames::default());
    let walked = tables::find(crashed, &mut page_tables, &mut mapped);
    let mut struct_pages = Frames::default();
    let map_found = map::find(crashed, map, &mut struct_pages);
    let mut all = vec![
        Witnessed::new(Part::PageTables, page_tables, walked.clone()),
        Witnessed::new(Part::Mapped, mapped, walked),
        Witnessed::new(Part::MemMap, struct_pages, map_found),
    ];
    for (part, find) in [
        (Part::PerCpu, per_cpu::find as fn(&Crashed<'_>, &mut Frames) -> Found),
        (Part::Stacks, stacks::find),
        (Part::Log, log::find),
    ] {
        let mut frames = Frames::default();
        let found = find(crashed, &mut frames);
        all.push(Witnessed::new(part, frames, found));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every page is the smallest one, as hugetlb leaves the memory map; each second MiB is not mapped.
    fn small_pages(at: u64) -> Result<Mapping, u64> {
        if at & 1 << 20 != 0 {
            Err(1 << 20)
        } else {
            Ok(Mapping { paddr: at, len: SMALLEST_PAGE - at % SMALLEST_PAGE })
        }
    }

    #[test]
    fn a_long_range_in_small_pages_is_gone_through_to_its_end() {
        let (mut bytes, len) = (0, 9 << 30);
        let put = |_, len| {
            bytes += len;
            true
        };
        // Each mapped page is a step, and each hole.
        let mut steps = len / 2 / SMALLEST_PAGE + (len >> 21);
        assert_eq!(each_mapped(0, len, &mut steps, small_pages, put), Reach::Holes);
        assert_eq!((bytes, steps), (len / 2, 0));
        let mut steps = 256;
        assert_eq!(each_mapped(2 << 20, 1 << 20, &mut steps, small_pages, |_, _| true), Reach::Whole);
    }

    #[test]
    fn a_range_that_is_not_gone_through_says_so() {
        assert_eq!(each_mapped(0, 1 << 20, &mut 255, small_pages, |_, _| true), Reach::Part);
        assert_eq!(each_mapped(0, 1 << 20, &mut 256, small_pages, |_, _| false), Reach::Part);
        let nothing = |_| Err(1 << 39);
        assert_eq!(each_mapped(u64::MAX << 39, 1 << 39, &mut 1, nothing, |_, _| true), Reach::Holes);
    }
}
