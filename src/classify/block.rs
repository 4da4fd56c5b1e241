//! Classifying one block of frames.
//!
//! Knows free blocks and compound pages: a head speaks for many frames, also for those in later blocks. Must not know
//! the dump's format. Writes the block's part of the bitmap of kept frames.

use vdump_filters::{Doubt, DumpLevel, Encodings, PageClass, PageFacts, PfnRange, Selection, decide, rule_for};

use super::{
    Counts,
    memo::{Memo, Verdict},
    parse::Pages,
    picks::{Pick, Picks},
    trace::{Listener, Spoken, Step, Trace, Watch},
};
use crate::{
    kernel::{FreePcp, Part, Protected},
    layout::PageLayout,
    memory::{MemMap, StructPages},
};

/// The largest compound page looked for: 16 GiB of 4 KiB pages; x86_64 has 1 GiB.
const MAX_COMPOUND_ORDER: u64 = 22;
/// Orders of heads that can lie in an earlier block.
const ORDERS_ABOVE: usize = (MAX_COMPOUND_ORDER - BLOCK_ORDER) as usize;
const BLOCK_ORDER: u64 = super::BLOCK_PAGES.trailing_zeros() as u64;
/// HVO maps a huge page's later struct pages onto its first page of them, in units of this many bytes.
const VMEMMAP_PAGE: usize = 4096;

/// One thread's workspace.
#[derive(Debug)]
pub(super) struct Block<'a> {
    pages: StructPages<'a>,
    layout: &'a PageLayout,
    protected: &'a Protected,
    free_pcp: &'a FreePcp,
    picks: Picks<'a>,
    picked: Vec<Pick>,
    classes: Vec<PageClass>,
    present: Vec<bool>,
    memo: Memo,
    /// The last head of each order above a block's that was looked at: neighbouring blocks have the same ones.
    heads: [Option<(u64, Option<Span>)>; ORDERS_ABOVE],
}

/// A head that speaks for the frames of `span`.
#[derive(Clone, Copy, Debug)]
enum Head {
    /// A free block, or one of memory that was never accepted.
    Free(PageClass),
    /// A compound page of this class, whose head has these flags and whose first `struct page` lies at this address.
    Compound { class: PageClass, flags: u64, address: Option<u64> },
}

#[derive(Clone, Copy, Debug)]
struct Span {
    head: Head,
    range: PfnRange,
}

impl Span {
    fn class(&self) -> PageClass {
        match self.head {
            Head::Free(class) | Head::Compound { class, .. } => class,
        }
    }

    fn spoken(&self) -> Spoken {
        let (head, order) = (self.range.start, self.range.len().trailing_zeros());
        Spoken { head, order, class: self.class(), compound: matches!(self.head, Head::Compound { .. }) }
    }
}

impl<'a> Block<'a> {
    pub(super) fn new(
        pages: StructPages<'a>,
        layout: &'a PageLayout,
        (protected, free_pcp): (&'a Protected, &'a FreePcp),
        picks: Picks<'a>,
    ) -> Self {
        Self {
            pages,
            layout,
            protected,
            free_pcp,
            picks,
            picked: Vec::new(),
            classes: Vec::new(),
            present: Vec::new(),
            memo: Memo::new(),
            heads: [None; ORDERS_ABOVE],
        }
    }

    /// Classifies the frames of `range` whose bits are set, counts them, and clears the bits of those to drop.
    pub(super) fn classify(&mut self, range: PfnRange, bits: &mut [u8], drop: Selection, counts: &mut Counts) {
        if bits.iter().all(|byte| *byte == 0) {
            return;
        }
        if !self.pages.exist(range) {
            // Nothing of the memory map is there to be read: however much memory this is, there is no more to say.
            let frames = bits.iter().map(|byte| u64::from(byte.count_ones())).sum();
            return counts.add(PageClass::Unmapped, frames);
        }
        self.decide(range, &mut (), |index, part, misfit| {
            let in_dump = u64::from(bits[index / 8] >> (index % 8) & 1);
            counts.parts[part.index()] += in_dump;
            if let Some(class) = misfit {
                counts.misfits[part.index()][class.index()] += in_dump;
            }
        });
        self.picks.of(range, self.protected, &mut self.picked);
        for (index, (byte, classes)) in bits.iter_mut().zip(self.classes.chunks(8)).enumerate() {
            // Most frames are of the same class as their neighbours.
            if self.picked.is_empty() && classes.iter().all(|class| *class == classes[0]) {
                counts.add(classes[0], u64::from(byte.count_ones()));
                *byte &= !(u8::from(drop.drops(classes[0])) * u8::MAX);
                continue;
            }
            for (bit, class) in classes.iter().enumerate() {
                if *byte >> bit & 1 == 1 {
                    counts.add(*class, 1);
                    let drops = match self.picked.get(index * 8 + bit) {
                        Some(pick) => pick.drops(*class, drop, &mut counts.picked),
                        None => drop.drops(*class),
                    };
                    *byte &= !(u8::from(drops) << bit);
                }
            }
        }
    }

    /// Classifies the frames of `range` whose bits are set, and counts them for each of `parts` (sorted, disjoint) that the
    /// range touches.
    pub(super) fn survey(&mut self, range: PfnRange, bits: &[u8], parts: &[PfnRange]) -> Vec<(usize, Counts)> {
        if bits.iter().all(|byte| *byte == 0) {
            return Vec::new();
        }
        self.decide(range, &mut (), |_, _, _| {});
        let first = parts.partition_point(|part| part.end <= range.start);
        let touched = parts.iter().enumerate().skip(first).take_while(|(_, part)| part.start < range.end);
        let count = |(number, part): (usize, &PfnRange)| {
            let (part, mut counts) = (part.intersect(range), Counts::default());
            for index in (part.start - range.start) as usize..(part.end - range.start) as usize {
                if bits.get(index / 8).is_some_and(|byte| byte >> (index % 8) & 1 == 1) {
                    counts.add(self.classes[index], 1);
                }
            }
            (number, counts)
        };
        touched.map(count).collect()
    }

    /// The class of one frame of the block `range`, and why.
    pub(super) fn trace(&mut self, range: PfnRange, pfn: u64) -> Trace {
        let index = pfn.saturating_sub(range.start) as usize;
        let mut listener = Listener { index, steps: Vec::new() };
        self.decide(range, &mut listener, |_, _, _| {});
        let readable = self.pages.read(PfnRange::new(pfn, pfn + 1), |_, valid| valid == [true]);
        Trace {
            class: self.classes.get(index).copied().unwrap_or(PageClass::Unmapped),
            steps: listener.steps,
            is_ram: self.present.get(index).copied().unwrap_or(false),
            readable,
        }
    }

    /// Finds the class of every frame of `range`. What is protected goes to `guarded`: its index, the part, and the class that it
    /// would have had.
    fn decide<W: Watch>(
        &mut self,
        range: PfnRange,
        watch: &mut W,
        guarded: impl FnMut(usize, Part, Option<PageClass>),
    ) {
        let covering = self.covering(range.start);
        self.classes.clear();
        self.classes.resize(range.len() as usize, PageClass::Unmapped);
        // Heads count even where the dump no longer has their pages, or what they speak for could not be dropped later.
        self.pages.present(range, &mut self.present);
        let Self { pages, layout, classes, present, memo, .. } = self;
        let map = pages.map();
        pages.read(range, |bytes, valid| {
            let pages = Pages::new(bytes, layout);
            let whole = valid.iter().chain(present.iter()).all(|is| *is);
            Scan { pages, layout, valid, present, whole, range, classes, memo, map, watch: &mut *watch }.run(covering);
        });
        self.free(range, watch);
        self.protect(range, watch, guarded);
    }

    /// Looks for a head in an earlier block that speaks for `start`. Heads are aligned to their own size, so there is
    /// one candidate for each order above a block's.
    fn covering(&mut self, start: u64) -> Option<Span> {
        let mut seen = start;
        for (place, order) in (BLOCK_ORDER + 1..=MAX_COMPOUND_ORDER).enumerate() {
            let head = start & !((1 << order) - 1);
            if head == seen {
                continue;
            }
            seen = head;
            let span = match self.heads[place] {
                Some((known, span)) if known == head => span,
                _ => {
                    let span = if self.pages.is_ram(head) { self.head_at(head) } else { None };
                    self.heads[place] = Some((head, span));
                    span
                }
            };
            if let Some(span) = span.filter(|span| span.range.contains(start)) {
                return Some(span);
            }
        }
        None
    }

    /// The span of the head at `pfn`, if there is a sound one.
    fn head_at(&mut self, pfn: u64) -> Option<Span> {
        let (address, layout) = (self.pages.map().address(pfn), self.layout);
        self.pages.read(PfnRange::new(pfn, pfn + 2), |bytes, valid| {
            let pages = Pages::new(bytes, layout);
            if valid != [true, true] || pages.tail_word(0).is_some() {
                return None;
            }
            let facts = PageFacts::read(pages.raw(0), &layout.encodings);
            let class = decide(facts.without(PageFacts::HWPOISON));
            if class == PageClass::Free {
                let order = free_order(&pages, 0, pfn, &layout.encodings).ok()?;
                return Some(Span { head: Head::Free(class), range: PfnRange::new(pfn, pfn + (1 << order)) });
            }
            let compound = facts.has(PageFacts::HEAD).then(|| compound_at(&pages, 0, pfn, facts, address))?;
            compound.ok()
        })
    }

    /// Gives pages on per-CPU lists their class. Only those that nothing else claims: their own struct pages say nothing.
    fn free<W: Watch>(&mut self, range: PfnRange, watch: &mut W) {
        for pfn in self.free_pcp.within(range) {
            let index = (pfn - range.start) as usize;
            if self.classes[index] == PageClass::Kernel {
                self.classes[index] = PageClass::FreePcp;
                watch.see(index, || Step::FreePcp);
            }
        }
    }

    /// Takes what must be kept out of the drop.
    fn protect<W: Watch>(
        &mut self,
        range: PfnRange,
        watch: &mut W,
        mut guarded: impl FnMut(usize, Part, Option<PageClass>),
    ) {
        for (kept, part) in self.protected.within(range) {
            for index in (kept.start - range.start) as usize..(kept.end - range.start) as usize {
                let class = self.classes[index];
                // Poison stays dropped: reading it may end the capture.
                let misfit = class != PageClass::HwPoison && contradicts(part, class);
                guarded(index, part, misfit.then_some(class));
                if misfit {
                    self.classes[index] = PageClass::Protected;
                    watch.see(index, || Step::Protected);
                }
            }
        }
    }
}

/// Whether a page of `class` cannot be in this part of the kernel's memory. What vmalloc's area maps may be shared with a
/// process or a file.
fn contradicts(part: Part, class: PageClass) -> bool {
    match part {
        Part::Mapped => matches!(class, PageClass::Free | PageClass::FreePcp | PageClass::Unaccepted),
        _ => DumpLevel::MAX.drops(class),
    }
}

/// The pass over a block's struct pages.
struct Scan<'a, W> {
    pages: Pages<'a>,
    layout: &'a PageLayout,
    valid: &'a [bool],
    present: &'a [bool],
    /// All of them are usable.
    whole: bool,
    range: PfnRange,
    classes: &'a mut [PageClass],
    memo: &'a mut Memo,
    map: &'a MemMap,
    watch: &'a mut W,
}

impl<W: Watch> Scan<'_, W> {
    fn run(mut self, covering: Option<Span>) {
        let mut at = match covering {
            Some(span) => self.spread(span),
            None => 0,
        };
        while at < self.classes.len() {
            at = if self.is_usable(at) { self.page(at) } else { at + 1 };
        }
    }

    /// Whether the frame is RAM and its `struct page` could be read. What lies in holes is not believed.
    fn is_usable(&self, index: usize) -> bool {
        self.valid[index] && self.present[index]
    }

    /// Classifies the frame at `index` and those it speaks for; returns the next one.
    fn page(&mut self, index: usize) -> usize {
        let pfn = self.range.start + index as u64;
        let raw = self.pages.raw(index);
        let Verdict { facts, class, alone } = self.memo.verdict(raw, &self.layout.encodings);
        let rule = || {
            let own = facts.without(PageFacts::HWPOISON);
            Step::Rule { facts: own, rule: rule_for(own) }
        };
        if alone && self.pages.tail_word(index).is_none() {
            let next = index + 1 + if self.whole { self.pages.alike(index + 1, raw) } else { 0 };
            self.classes[index..next].fill(class);
            (index..next).for_each(|index| self.watch.see(index, rule));
            return next;
        }
        self.watch.see(index, rule);
        let poisoned = facts.has(PageFacts::HWPOISON) && !facts.has(PageFacts::UNINITIALISED);
        let next = match self.span_of(index, pfn, facts, class) {
            Ok(Some(span)) => self.spread(span),
            Ok(None) => {
                self.classes[index] = class;
                index + 1
            }
            Err(doubt) => {
                let doubtful = DumpLevel::MAX.drops(class) || matches!(class, PageClass::Doubtful(_));
                let doubtful = doubtful || doubt == Doubt::OrphanTail;
                self.watch.see(index, || if doubtful { Step::Doubt(doubt) } else { Step::Alone(doubt) });
                self.classes[index] = if doubtful { PageClass::Doubtful(doubt) } else { class };
                index + 1
            }
        };
        if poisoned {
            self.watch.see(index, || Step::Poison);
            self.classes[index] = PageClass::HwPoison;
        }
        next
    }

    /// The frames that the page at `index` speaks for; `None`: only itself.
    fn span_of(&self, index: usize, pfn: u64, facts: PageFacts, class: PageClass) -> Result<Option<Span>, Doubt> {
        if facts.has(PageFacts::UNINITIALISED) {
            return Err(Doubt::Uninitialised);
        }
        if self.pages.tail_word(index).is_some() {
            return Err(Doubt::OrphanTail);
        }
        match class {
            PageClass::Free => free_order(&self.pages, index, pfn, &self.layout.encodings)
                .map(|order| Some(Span { head: Head::Free(class), range: PfnRange::new(pfn, pfn + (1 << order)) })),
            PageClass::Unaccepted => Ok(Some(self.unaccepted(pfn))),
            // Before 6.9 only the second page tells a hugetlb page, so a head's doubt is not the last word.
            _ if facts.has(PageFacts::HEAD) => {
                if !self.valid.get(index + 1).is_some_and(|valid| *valid) {
                    return Err(Doubt::CompoundOrder);
                }
                compound_at(&self.pages, index, pfn, facts, self.map.address(pfn)).map(Some)
            }
            PageClass::Doubtful(doubt) => Err(doubt),
            _ => Ok(None),
        }
    }

    /// Unaccepted memory comes in blocks of the largest order (mm/page_alloc.c, `__accept_page`), on a single page only
    /// where the layout disagrees with itself.
    fn unaccepted(&self, pfn: u64) -> Span {
        let pages = 1u64 << (self.layout.encodings.free_orders - 1);
        let len = if pfn.is_multiple_of(pages) { pages } else { 1 };
        Span { head: Head::Free(PageClass::Unaccepted), range: PfnRange::new(pfn, pfn + len) }
    }

    /// Gives every frame of the span that lies in this block its class; returns the first index after it.
    fn spread(&mut self, span: Span) -> usize {
        let part = span.range.intersect(self.range);
        for pfn in part.start..part.end {
            let index = (pfn - self.range.start) as usize;
            if self.valid[index] {
                let class = self.member(&span, pfn, index);
                self.classes[index] = class;
                self.watch.see(index, || Step::Head(span.spoken()));
                match class {
                    PageClass::Doubtful(doubt) if class != span.class() => self.watch.see(index, || Step::Doubt(doubt)),
                    PageClass::HwPoison if class != span.class() => self.watch.see(index, || Step::Poison),
                    _ => {}
                }
            }
        }
        (part.end - self.range.start) as usize
    }

    fn member(&self, span: &Span, pfn: u64, index: usize) -> PageClass {
        match span.head {
            // The head has been decided; its marks are not those of a page inside.
            Head::Free(class) if pfn == span.range.start => class,
            Head::Free(class) => {
                let raw = self.pages.raw(index);
                if self.is_poisoned(raw.flags) {
                    PageClass::HwPoison
                } else if self.layout.encodings.is_at_rest(raw) && self.pages.tail_word(index).is_none() {
                    class
                } else {
                    PageClass::Doubtful(Doubt::FreeButUsed)
                }
            }
            Head::Compound { class, .. } if pfn == span.range.start => class,
            Head::Compound { class, flags, address } => self.tail(span.range.start, pfn, index, class, flags, address),
        }
    }

    fn is_poisoned(&self, flags: u64) -> bool {
        self.layout.encodings.flags.hwpoison.is_some_and(|bit| flags >> bit & 1 == 1)
    }

    /// A tail goes with its head, except that a poisoned tail is itself and that one which does not point to this head
    /// is not believed to be part of it.
    fn tail(
        &self,
        head: u64,
        pfn: u64,
        index: usize,
        class: PageClass,
        head_flags: u64,
        head_address: Option<u64>,
    ) -> PageClass {
        let flags = self.pages.flags(index);
        let offset = (pfn - head) as usize * self.layout.size;
        // HVO: this struct page is the head's own, mapped a second time (e7d324850bfc, 5.18; gone since 757128806237, 7.1).
        let alias = class == PageClass::Hugetlb && offset.is_multiple_of(VMEMMAP_PAGE) && flags == head_flags;
        if self.is_poisoned(flags) && !alias {
            return PageClass::HwPoison;
        }
        let (Some(_), Some(address)) = (self.layout.compound, head_address) else {
            return class;
        };
        let own_address = address.wrapping_add(offset as u64);
        let points_here = self.pages.tail_word(index).is_some_and(|word| head_of(word, own_address) == address);
        if points_here || alias || !DumpLevel::MAX.drops(class) {
            class
        } else {
            PageClass::Doubtful(Doubt::TailElsewhere)
        }
    }
}

/// The address of the head that a tail's word leads to: a pointer with bit 0 set, or, since 7.1 (d6746190bbf3), a mask for the
/// tail's own address. A mask has all its high bits set, where no `struct page` lies.
pub(crate) fn head_of(word: u64, own_address: u64) -> u64 {
    const LOWEST_MASK: u64 = 0xffff_ffff_0000_0000;
    if word >= LOWEST_MASK { own_address & word & !1 } else { word - 1 }
}

/// The order of the free block at `index`, checked against what the allocator can do.
fn free_order(pages: &Pages<'_>, index: usize, pfn: u64, encodings: &Encodings) -> Result<u64, Doubt> {
    let order = pages.private(index).filter(|order| *order < u64::from(encodings.free_orders));
    let order = order.ok_or(Doubt::BuddyOrder)?;
    if pfn.is_multiple_of(1 << order) { Ok(order) } else { Err(Doubt::BuddyAlignment) }
}

/// The span of the compound page whose head is at `index`, if its second page confirms it.
fn compound_at(
    pages: &Pages<'_>,
    index: usize,
    pfn: u64,
    facts: PageFacts,
    address: Option<u64>,
) -> Result<Span, Doubt> {
    let second = index + 1;
    let order = pages.compound_order(second).filter(|order| (1..=MAX_COMPOUND_ORDER).contains(order));
    let order = order.filter(|order| pfn.is_multiple_of(1 << order)).ok_or(Doubt::CompoundOrder)?;
    if let (Some(address), true) = (address, pages.has_tail_words()) {
        let own_address = address.wrapping_add(pages.size() as u64);
        let confirmed = pages.tail_word(second).is_some_and(|word| head_of(word, own_address) == address);
        if !confirmed {
            return Err(Doubt::CompoundOrder);
        }
    }
    let hugetlb = pages.hugetlb_by_second(second);
    let facts = if hugetlb { facts.and(PageFacts::HUGETLB) } else { facts };
    let class = match decide(facts.without(PageFacts::HWPOISON)) {
        // A hugetlb head bears the mark for all of its page; which part is bad is on a list elsewhere (mm/memory-failure.c,
        // `hugetlb_update_hwpoison`).
        PageClass::Hugetlb if facts.has(PageFacts::HWPOISON) => PageClass::HwPoison,
        class => class,
    };
    let head = Head::Compound { class, flags: pages.flags(index), address };
    Ok(Span { head, range: PfnRange::new(pfn, pfn + (1 << order)) })
}
