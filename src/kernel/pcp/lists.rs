//! One CPU's lists of free pages of one zone: followed from end to end, and believed only if everything agrees.
//!
//! A CPU that was stopped while it put a page on a list or took one off (`free_unref_page_commit`, `__rmqueue_pcplist`,
//! `free_pcppages_bulk` in mm/page_alloc.c) leaves a link or the count behind: nothing but this CPU's lock orders them, and
//! each of these functions changes list and count one after the other. Such lists are not believed, and their pages stay.

use vdump_filters::PfnRange;

use super::shape::Shape;
use crate::{
    arch::Words,
    kernel::zones::ZonePlace,
    layout::KernelLayout,
    memory::{MemMap, ReadVirt as _, StructPages, VirtReader},
};

/// A CPU's lists of one zone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lists<'a> {
    /// Where its `struct per_cpu_pages` lies.
    pub(super) at: u64,
    pub(super) zone: &'a ZonePlace,
    /// Frames on them, as the kernel counted.
    pub(super) count: u64,
}

/// Follows lists.
#[derive(Debug)]
pub(super) struct Follower<'a> {
    pub(super) shape: Shape,
    virt: VirtReader<'a>,
    pages: StructPages<'a>,
    map: &'a MemMap,
    layout: &'a KernelLayout,
}

/// Gets the frames of each entry; an error ends the way.
type Visit<'v> = dyn FnMut(PfnRange) -> Result<(), String> + 'v;

impl<'a> Follower<'a> {
    /// A follower with readers of its own.
    pub(super) fn new(
        shape: Shape,
        readers: [VirtReader<'a>; 2],
        map: &'a MemMap,
        ram: &'a crate::source::RamMap,
        layout: &'a KernelLayout,
    ) -> Self {
        let [virt, of_pages] = readers;
        Self { shape, virt, pages: StructPages::new(of_pages, map, ram, layout), map, layout }
    }

    /// The kernel's count of frames on a CPU's lists at `at`; `None` where it cannot be read.
    pub(super) fn count(&self, at: u64) -> Option<i32> {
        self.virt.int(at.wrapping_add(self.shape.count)).ok()
    }

    /// Shows the frames of each entry of the lists to `visit`, in the lists' order.
    ///
    /// # Errors
    /// Why the lists are not to be believed, or what `visit` said.
    pub(super) fn follow(&mut self, lists: Lists<'_>, visit: &mut Visit<'_>) -> Result<(), String> {
        let Shape { nr_lists, nr_small, .. } = self.shape;
        let mut left = lists.count;
        for list in 0..nr_small {
            self.list(lists, list, self.shape.order(list), &mut left, visit)?;
        }
        let entries = (nr_small..nr_lists).map(|list| self.entries(lists, list, left)).sum::<Result<u64, _>>()?;
        if entries > 0 {
            let order =
                Shape::large_order(entries, left).filter(|order| *order < self.layout.page.encodings.free_orders);
            let order = order
                .ok_or_else(|| format!("{entries} huge pages cannot be the {left} pages that its count leaves"))?;
            for list in nr_small..nr_lists {
                self.list(lists, list, order, &mut left, visit)?;
            }
        }
        match left {
            0 => Ok(()),
            _ => Err(format!("its count is {}, but the lists have {} pages", lists.count, lists.count - left)),
        }
    }

    /// One list, whose entries have `1 << order` frames each; `left` is what the count leaves for it and those after it.
    fn list(
        &mut self,
        lists: Lists<'_>,
        list: u64,
        order: u32,
        left: &mut u64,
        visit: &mut Visit<'_>,
    ) -> Result<(), String> {
        let head = self.head(lists, list);
        let [first, last] = self.links(head)?;
        let (mut before, mut at) = (head, first);
        while at != head {
            let range = self.block(at, order)?;
            *left = left.checked_sub(range.len()).ok_or("its lists have more pages than its count says")?;
            let [next, prev] = self.look(range, lists.zone)?;
            if prev != before {
                return Err(format!("the list entry at {at:#x} leads back to {prev:#x}, not to {before:#x}"));
            }
            visit(range)?;
            (before, at) = (at, next);
        }
        if last == before { Ok(()) } else { Err(format!("the list at {head:#x} does not close")) }
    }

    /// Entries of a list, `most` at the most, by its links alone.
    fn entries(&self, lists: Lists<'_>, list: u64, most: u64) -> Result<u64, String> {
        let head = self.head(lists, list);
        let mut at = self.links(head)?[0];
        for entries in 0..=most {
            if at == head {
                return Ok(entries);
            }
            at = self.links(at)?[0];
        }
        Err("its lists have more pages than its count says".to_owned())
    }

    fn head(&self, lists: Lists<'_>, list: u64) -> u64 {
        lists.at.wrapping_add(self.shape.lists).wrapping_add(list * 2 * self.virt.words().long_size() as u64)
    }

    /// `next` and `prev` of the `list_head` at an address.
    fn links(&self, at: u64) -> Result<[u64; 2], String> {
        let words = self.virt.words();
        let mut bytes = [0; 16];
        let bytes = &mut bytes[..2 * words.long_size()];
        self.virt.read_virt(at, bytes).map_err(|error| error.to_string())?;
        links(words, bytes).ok_or_else(|| format!("the list_head at {at:#x} has no links"))
    }

    /// The frames of the entry whose `list_head` lies at an address.
    fn block(&self, at: u64, order: u32) -> Result<PfnRange, String> {
        let page = at.wrapping_sub(self.shape.link);
        let is_its_own = |pfn: &u64| self.map.address(*pfn) == Some(page);
        let pfn = self.map.pfn_of(page).filter(is_its_own);
        let pfn = pfn.ok_or_else(|| format!("the list entry at {at:#x} is in no struct page"))?;
        let end = pfn.checked_add(1 << order).filter(|_| pfn.is_multiple_of(1 << order));
        end.map(|end| PfnRange::new(pfn, end))
            .ok_or_else(|| format!("page frame {pfn:#x} is no place for order {order}"))
    }

    /// Makes sure that all frames of an entry are at rest and of the zone; gives the links of the first.
    fn look(&mut self, range: PfnRange, zone: &ZonePlace) -> Result<[u64; 2], String> {
        let (shape, layout) = (self.shape, &self.layout.page);
        if zone.range.intersect(range) != range {
            return Err(format!("page frame {:#x} is not in the zone", range.start));
        }
        self.pages.read(range, |bytes, valid| {
            for ((pfn, page), valid) in (range.start..).zip(bytes.chunks_exact(layout.size)).zip(valid) {
                if !valid {
                    return Err(format!("the struct page of page frame {pfn:#x} cannot be read"));
                }
                let raw = layout.raw(page);
                if !layout.encodings.is_freed(raw, shape.all_flags) || layout.tail_word(page).is_some() {
                    return Err(format!("page frame {pfn:#x} is not at rest"));
                }
                if !shape.is_of(raw.flags, zone.node, zone.number) {
                    return Err(format!("page frame {pfn:#x} says that it is of another zone"));
                }
            }
            let link = bytes.get(shape.link as usize..).and_then(|bytes| links(layout.words, bytes));
            link.ok_or_else(|| "a struct page ends before its links".to_owned())
        })
    }
}

/// `next` and `prev` of a `list_head`; `None` where it is cut off.
fn links(words: Words, bytes: &[u8]) -> Option<[u64; 2]> {
    Some([words.long_at(bytes, 0)?, words.long_at(bytes, words.long_size())?])
}
