//! The segments of a compact ELF core.
//!
//! Knows which frames share a segment and where each lies in the file. Must not read or write. Goes to the ELF sink.
//!
//! Readers look segments up one by one, so there must be few; but a segment that runs over a dropped page says that the
//! page is there. Two kept runs therefore share a segment only across a small gap, which becomes a hole in the file: it
//! holds none of the dropped bytes, and readers see zeros there, as they do in any ELF dump that says less than it could.

use std::collections::BTreeMap;

use vdump_filters::{
    PfnRange,
    ranges::{Ranges, Stretch},
};

use crate::{
    bitmap::PageBitmap,
    error::{Error, Kind, Result},
    format::{
        align_up,
        elf::{Class, Load, headers_len},
    },
    memory::Walked,
    source,
};

/// Frames that lie together in memory and in the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Extent {
    /// The frames.
    pub range: PfnRange,
    /// Of them, the first so many are in the file; the rest are zero.
    pub stored: u64,
    /// File offset of the first one.
    pub offset: u64,
}

/// What mapped memory came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Mapped {
    /// Segments.
    pub segments: u64,
    /// Pages in them.
    pub pages: u64,
    /// Mapped pages of the machine's memory that the dump does not have.
    pub absent: u64,
    /// Pages that the dump has, and that are in no segment because there would be too many.
    pub left_out: u64,
    /// How the walk through the page tables went.
    pub walked: Walked,
}

/// Where everything goes in a compact ELF core.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ElfPlan {
    /// Width of the file's addresses and offsets.
    pub class: Class,
    /// Program headers, in file order.
    pub loads: Vec<Load>,
    /// The same by frames, sorted.
    pub extents: Vec<Extent>,
    /// File offset of the notes.
    pub notes: u64,
    /// Size of the file, bytes.
    pub size: u64,
    /// Dropped frames that lie in gaps inside a segment and read as zeros.
    pub gap_pages: u64,
    /// The segments of virtual memory among `loads`, if any were asked for.
    pub mapped: Option<Mapped>,
}

/// As many segments as crash and libkdumpfile search through without the user noticing.
const MANY_LOADS: u64 = 4096;
/// More segments than a sound input can lead to; bounds the table that a hostile one makes us build.
const MAX_LOADS: usize = 4 << 20;
/// The longest gap that two runs may share a segment across, frames.
const MAX_GAP: usize = 64;
/// At least this many zero frames in a row end a segment, more where that would make too many; fewer become a hole in the
/// file.
const LONG_ZERO_RUN: u64 = 16;
/// Data starts at a multiple of this, for mapping and reflinks.
const DATA_ALIGNMENT: u64 = 4096;

impl ElfPlan {
    /// Places the frames of `kept`, of which those in `zero` are known to be all zeros. A file of `class` that cannot hold
    /// them becomes one of 64 bits.
    ///
    /// # Errors
    /// The file would be larger than 2^63 bytes.
    pub fn make(
        kept: &PageBitmap,
        zero: &PageBitmap,
        recorded: &[source::Load],
        notes_len: u64,
        page_shift: u32,
        class: Class,
    ) -> Result<Self> {
        let gap = best_gap(kept);
        let (joined, gap_pages) = join(kept, gap);
        let extents = extents(&joined, zero);
        let shown = shown(&extents, &views(recorded, page_shift), page_shift)?;
        let plan = Self::place(class, extents, &shown, notes_len, page_shift)?;
        let plan = if class.holds(&plan.loads, plan.size) {
            plan
        } else {
            Self::place(Class::Elf64, plan.extents, &shown, notes_len, page_shift)?
        };
        Ok(Self { gap_pages, ..plan })
    }

    /// Gives everything its place in the file. The offset of each of `shown` is relative to its extent.
    fn place(
        class: Class,
        mut extents: Vec<Extent>,
        shown: &[(usize, Load)],
        notes_len: u64,
        page_shift: u32,
    ) -> Result<Self> {
        let notes = headers_len(class, shown.len());
        let mut at = data_start(notes, notes_len)?;
        for extent in &mut extents {
            extent.offset = at;
            at = at.checked_add(extent.stored << page_shift).filter(|at| *at < 1 << 63).ok_or_else(too_large)?;
        }
        let placed = |(index, load): &(usize, Load)| Load { offset: extents[*index].offset + load.offset, ..*load };
        let loads = shown.iter().map(placed).collect();
        Ok(Self { class, loads, extents, notes, size: at, gap_pages: 0, mapped: None })
    }

    /// Adds segments of virtual memory behind the others: crash takes the first that it finds. Their offsets are those of
    /// this plan; all data moves to make room for the headers.
    ///
    /// # Errors
    /// The file would be larger than 2^63 bytes.
    pub fn add_mapped(&mut self, mapped: Vec<Load>, notes_len: u64) -> Result<()> {
        let before = data_start(self.notes, notes_len)?;
        self.loads.reserve_exact(mapped.len());
        self.loads.extend(mapped);
        self.notes = headers_len(self.class, self.loads.len());
        let further = data_start(self.notes, notes_len)? - before;
        self.size = self.size.checked_add(further).filter(|size| *size < 1 << 63).ok_or_else(too_large)?;
        self.extents.iter_mut().for_each(|extent| extent.offset += further);
        self.loads.iter_mut().for_each(|load| load.offset += further);
        Ok(())
    }

    /// The file offset up to which there is only data of frames below `pfn`.
    #[must_use]
    pub fn end_below(&self, pfn: u64, page_shift: u32) -> u64 {
        let index = self.extents.partition_point(|extent| extent.range.end <= pfn);
        self.extents.get(index).map_or(self.size, |extent| {
            extent.offset + (pfn.saturating_sub(extent.range.start).min(extent.stored) << page_shift)
        })
    }

    /// The extent that has a frame.
    #[must_use]
    pub fn extent_of(&self, pfn: u64) -> Option<&Extent> {
        let index = self.extents.partition_point(|extent| extent.range.end <= pfn);
        self.extents.get(index).filter(|extent| extent.range.start <= pfn)
    }

    /// The file offset of a stored frame.
    #[must_use]
    pub fn offset_of(&self, pfn: u64, page_shift: u32) -> Option<u64> {
        let extent = self.extent_of(pfn)?;
        let within = pfn - extent.range.start;
        (within < extent.stored).then(|| extent.offset + (within << page_shift))
    }
}

/// The part of each extent that each view shows, in the views' order.
fn shown(extents: &[Extent], views: &[View], page_shift: u32) -> Result<Vec<(usize, Load)>> {
    let mut loads = Vec::new();
    for view in views {
        let first = extents.partition_point(|extent| extent.range.end << page_shift <= view.start);
        let touched = extents.iter().enumerate().skip(first);
        for (index, extent) in touched.take_while(|(_, extent)| extent.range.start << page_shift < view.end) {
            loads.extend(view.show(extent, index, page_shift));
            if loads.len() > MAX_LOADS {
                return Err(Error::new(Kind::Output, "the ELF dump would have millions of segments")
                    .next_step("write the kdump format instead: -f kdump"));
            }
        }
    }
    Ok(loads)
}

/// Where the data begins, behind headers of `headers` bytes and the notes.
fn data_start(headers: u64, notes_len: u64) -> Result<u64> {
    align_up(headers + notes_len, DATA_ALIGNMENT).ok_or_else(too_large)
}

fn too_large() -> Error {
    Error::new(Kind::Output, "the ELF dump would be larger than a file can be")
}

/// The gap length up to which runs are joined: the smallest one that leaves few segments, but never so many gap frames that
/// the file's apparent size grows by more than an eighth.
fn best_gap(kept: &PageBitmap) -> u64 {
    let mut gaps = [0u64; MAX_GAP + 1];
    let (mut runs, mut pages) = (0u64, 0u64);
    let mut last_end = None;
    for run in kept.runs() {
        if let Some(gap) = last_end.map(|end: u64| run.start - end)
            && let Some(count) = usize::try_from(gap).ok().and_then(|gap| gaps.get_mut(gap))
        {
            *count += 1;
        }
        last_end = Some(run.end);
        (runs, pages) = (runs + 1, pages + run.len());
    }
    let mut filled = 0;
    for (gap, count) in (0u64..).zip(gaps) {
        filled += gap * count;
        if filled > pages / 8 {
            return gap.saturating_sub(1);
        }
        runs -= count;
        if runs <= MANY_LOADS {
            return gap;
        }
    }
    MAX_GAP as u64
}

/// Joins runs across gaps of up to `gap` frames; also returns the frames in those gaps.
fn join(kept: &PageBitmap, gap: u64) -> (Vec<PfnRange>, u64) {
    let mut joined: Vec<PfnRange> = Vec::new();
    let mut gap_pages = 0;
    for run in kept.runs() {
        match joined.last_mut() {
            Some(last) if run.start - last.end <= gap => {
                gap_pages += run.start - last.end;
                last.end = run.end;
            }
            _ => joined.push(run),
        }
    }
    (joined, gap_pages)
}

/// Ends extents at long runs of zeros, and calls runs long only as far as that leaves few segments.
fn extents(joined: &[PfnRange], zero: &PageBitmap) -> Vec<Extent> {
    let mut long = LONG_ZERO_RUN;
    loop {
        let extents = split_at_zeros(joined, zero, long);
        if extents.len() as u64 <= MANY_LOADS.max(joined.len() as u64) || long > zero.len() {
            return extents;
        }
        long *= 4;
    }
}

fn split_at_zeros(joined: &[PfnRange], zero: &PageBitmap, long: u64) -> Vec<Extent> {
    let mut extents = Vec::with_capacity(joined.len());
    for range in joined.iter().copied() {
        let mut start = range.start;
        for zeros in zero.runs_in(range) {
            if zeros.len() >= long || zeros.end == range.end {
                let range = PfnRange::new(start, zeros.end);
                extents.push(Extent { range, stored: zeros.start - start, offset: 0 });
                start = zeros.end;
            }
        }
        if start < range.end {
            let range = PfnRange::new(start, range.end);
            extents.push(Extent { range, stored: range.len(), offset: 0 });
        }
    }
    extents
}

/// A stretch of physical memory at one distance from its virtual addresses.
#[derive(Clone, Copy, Debug)]
struct View {
    start: u64,
    end: u64,
    /// Virtual minus physical, modulo 2^64.
    distance: u64,
}

/// The input's segments as views. Neighbours that touch, at one distance, are one view; nothing is assumed about what lies
/// between others. Memory may be in several views (the kernel's text is). The distance that shows most memory comes first:
/// of two segments over the same memory crash takes the first.
fn views(recorded: &[source::Load], page_shift: u32) -> Vec<View> {
    let page = 1u64 << page_shift;
    let mut by_distance: BTreeMap<u64, Vec<View>> = BTreeMap::new();
    for load in recorded {
        let (start, end) = (load.paddr & !(page - 1), load.paddr.saturating_add(load.memsz));
        let end = align_up(end, page).unwrap_or(end);
        let distance = load.vaddr.wrapping_sub(load.paddr);
        by_distance.entry(distance).or_default().push(View { start, end, distance });
    }
    let mut groups: Vec<Vec<View>> = by_distance.into_values().map(|views| Ranges::new(views).into_vec()).collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.iter().map(|view| view.end - view.start).sum::<u64>()));
    groups.into_iter().flatten().collect()
}

impl Stretch for View {
    fn start(&self) -> u64 {
        self.start
    }

    fn end(&self) -> u64 {
        self.end
    }

    fn part(&self, start: u64, end: u64) -> Self {
        Self { start, end, ..*self }
    }
}

impl View {
    /// The part of `extent` that this view shows, with a file offset relative to the extent.
    fn show(&self, extent: &Extent, index: usize, page_shift: u32) -> Option<(usize, Load)> {
        let (first, end) = (extent.range.start << page_shift, extent.range.end << page_shift);
        let (from, to) = (first.max(self.start), end.min(self.end));
        if from >= to {
            return None;
        }
        let stored_end = first + (extent.stored << page_shift);
        let filesz = stored_end.clamp(from, to) - from;
        // Without data the offset only has to be one that exists.
        let offset = (from - first).min(extent.stored << page_shift);
        let vaddr = from.wrapping_add(self.distance);
        Some((index, Load { paddr: from, vaddr, offset, filesz, memsz: to - from }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bitmap(len: u64, ranges: &[(u64, u64)]) -> PageBitmap {
        let mut bitmap = PageBitmap::new(len);
        for (start, end) in ranges {
            bitmap.fill(PfnRange::new(*start, *end), true);
        }
        bitmap
    }

    fn recorded(paddr: u64, vaddr: u64, memsz: u64) -> source::Load {
        source::Load { paddr, vaddr, offset: 0, filesz: memsz, memsz }
    }

    const DIRECT: u64 = 0xffff_8880_0000_0000;
    const TEXT: u64 = 0xffff_ffff_8100_0000;

    /// 64 TiB with some pages at each end. A bitmap that nobody writes to takes 2 GiB of addresses, and no memory.
    #[test]
    fn the_far_end_of_the_largest_machine_is_placed() {
        const END: u64 = 1 << 34;
        let kept = bitmap(END, &[(0, 10), (END - 300, END)]);
        let direct = recorded(0, DIRECT, END << 12);
        let plan = ElfPlan::make(&kept, &bitmap(0, &[]), &[direct], 100, 12, Class::Elf64).unwrap();
        let last = plan.loads[1];
        assert_eq!((last.paddr, last.vaddr, last.filesz), ((END - 300) << 12, DIRECT + ((END - 300) << 12), 300 << 12));
        assert_eq!(plan.offset_of(END - 1, 12), Some(plan.size - 4096));
        assert_eq!(plan.offset_of(END, 12), None);
        assert_eq!(plan.end_below(END - 299, 12), last.offset + 4096);
        let batches: Vec<_> = crate::plan::Batches::new(&kept, 256).map(|batch| batch.extents).collect();
        let runs = |ranges: &[(u64, u64)]| ranges.iter().map(|(start, end)| PfnRange::new(*start, *end)).collect();
        let expected: [Vec<_>; 2] = [runs(&[(0, 10), (END - 300, END - 54)]), runs(&[(END - 54, END)])];
        assert_eq!(batches, expected);
        let shares = crate::plan::shares(&kept, &[], 2).unwrap();
        assert_eq!((shares[0].end, shares[1].end), (END - 128, END));
    }

    #[test]
    fn few_runs_are_never_joined() {
        let kept = bitmap(100, &[(0, 10), (11, 20)]);
        let plan =
            ElfPlan::make(&kept, &bitmap(100, &[]), &[recorded(0, DIRECT, 100 << 12)], 100, 12, Class::Elf64).unwrap();
        assert_eq!(plan.gap_pages, 0);
        assert_eq!(plan.loads.len(), 2);
        assert_eq!(plan.loads[1].vaddr, DIRECT + (11 << 12));
        assert_eq!(plan.size, plan.loads[1].offset + (9 << 12));
        assert_eq!(plan.offset_of(10, 12), None);
        assert_eq!(plan.offset_of(11, 12), Some(plan.loads[1].offset));
    }

    #[test]
    fn many_runs_are_joined_across_the_smallest_gaps() {
        let runs: Vec<_> = (0..10_000u64).map(|run| (run * 20, run * 20 + 19)).collect();
        let kept = bitmap(200_000, &runs);
        let plan =
            ElfPlan::make(&kept, &bitmap(200_000, &[]), &[recorded(0, DIRECT, 200_000 << 12)], 100, 12, Class::Elf64)
                .unwrap();
        assert_eq!((plan.loads.len(), plan.gap_pages), (1, 9_999));
        let sparse: Vec<_> = (0..10_000u64).map(|run| (run * 2, run * 2 + 1)).collect();
        let kept = bitmap(20_000, &sparse);
        let plan =
            ElfPlan::make(&kept, &bitmap(20_000, &[]), &[recorded(0, DIRECT, 20_000 << 12)], 100, 12, Class::Elf64)
                .unwrap();
        assert_eq!((plan.loads.len(), plan.gap_pages), (10_000, 0));
    }

    #[test]
    fn long_zero_runs_take_no_room() {
        let kept = bitmap(200, &[(0, 100), (150, 160)]);
        let zero = bitmap(200, &[(2, 4), (10, 40), (90, 100), (150, 160)]);
        let plan = ElfPlan::make(&kept, &zero, &[recorded(0, DIRECT, 200 << 12)], 100, 12, Class::Elf64).unwrap();
        let shape: Vec<_> =
            plan.loads.iter().map(|load| (load.paddr >> 12, load.filesz >> 12, load.memsz >> 12)).collect();
        assert_eq!(shape, [(0, 10, 40), (40, 50, 60), (150, 0, 10)]);
        assert_eq!(plan.size - plan.extents[0].offset, 60 << 12);
    }

    #[test]
    fn many_zero_runs_do_not_make_many_segments() {
        let zeros: Vec<_> = (0..20_000u64).map(|run| (run * 17 + 1, run * 17 + 17)).collect();
        let (kept, zero) = (bitmap(340_000, &[(0, 340_000)]), bitmap(340_000, &zeros));
        let plan = ElfPlan::make(&kept, &zero, &[recorded(0, DIRECT, 340_000 << 12)], 100, 12, Class::Elf64).unwrap();
        assert_eq!(plan.loads.len(), 1);
    }

    #[test]
    fn no_virtual_address_is_invented() {
        // Two pages of one mapping with a page of another one between them, as in a dump of virtual memory.
        let loads = [
            recorded(0x10_0000, TEXT, 0x1000),
            recorded(0x10_2000, TEXT + 0x2000, 0x1000),
            recorded(0x10_1000, DIRECT, 0x1000),
        ];
        let kept = bitmap(0x200, &[(0x100, 0x103)]);
        let plan = ElfPlan::make(&kept, &bitmap(0x200, &[]), &loads, 100, 12, Class::Elf64).unwrap();
        let mut shown: Vec<_> = plan.loads.iter().map(|load| (load.paddr, load.vaddr, load.memsz)).collect();
        shown.sort_unstable();
        assert_eq!(shown, [(0x10_0000, TEXT, 0x1000), (0x10_1000, DIRECT, 0x1000), (0x10_2000, TEXT + 0x2000, 0x1000)]);
    }

    #[test]
    fn a_core_of_32_bits_stays_one_while_it_can() {
        let narrow = recorded(0x10_0000, 0xc010_0000, 100 << 12);
        let kept = bitmap(0x200, &[(0x100, 0x164)]);
        let made =
            |load, kept: &PageBitmap| ElfPlan::make(kept, &bitmap(0, &[]), &[load], 100, 12, Class::Elf32).unwrap();
        let plan = made(narrow, &kept);
        assert_eq!((plan.class, plan.notes, plan.loads[0].vaddr), (Class::Elf32, 52 + 2 * 32, 0xc010_0000));
        let wide = made(recorded(0x1_0000_0000, 0, 100 << 12), &bitmap(0x10_0100, &[(0x10_0000, 0x10_0064)]));
        assert_eq!((wide.class, wide.notes), (Class::Elf64, 64 + 2 * 56));
    }

    #[test]
    fn data_ends_where_the_next_frames_begin() {
        let kept = bitmap(100, &[(10, 20), (30, 40)]);
        let zero = bitmap(100, &[(36, 40)]);
        let plan = ElfPlan::make(&kept, &zero, &[recorded(0, DIRECT, 100 << 12)], 100, 12, Class::Elf64).unwrap();
        let start = plan.extents[0].offset;
        let ends: Vec<_> = [0, 10, 15, 25, 32, 38, 90].map(|pfn| (plan.end_below(pfn, 12) - start) >> 12).into();
        assert_eq!(ends, [0, 0, 5, 10, 12, 16, 16]);
        assert_eq!(plan.end_below(90, 12), plan.size);
    }

    #[test]
    fn the_kernels_text_is_shown_twice_from_one_place() {
        let kept = bitmap(100, &[(0, 100)]);
        let loads = [recorded(0x10_000, TEXT, 0x8000), recorded(0, DIRECT, 100 << 12)];
        let plan = ElfPlan::make(&kept, &bitmap(100, &[]), &loads, 100, 12, Class::Elf64).unwrap();
        assert_eq!(plan.loads.len(), 2);
        assert_eq!(
            plan.loads[1],
            Load {
                paddr: 0x10_000,
                vaddr: TEXT,
                offset: plan.loads[0].offset + 0x10_000,
                filesz: 0x8000,
                memsz: 0x8000
            }
        );
    }
}
