//! The words of a `struct page`, cut out of its bytes.
//!
//! Knows offsets (from the layout). Must not know what the words mean: that is the `filters` crate's. Used by the block
//! classifier.

use vdump_filters::RawPage;

use crate::layout::{PageLayout, bytes_at};

/// The struct pages of a block, as bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pages<'a> {
    bytes: &'a [u8],
    layout: &'a PageLayout,
}

impl<'a> Pages<'a> {
    pub(super) fn new(bytes: &'a [u8], layout: &'a PageLayout) -> Self {
        Self { bytes, layout }
    }

    /// One `struct page`. The caller promises that `index` lies in the block; what does not is empty, and its words are zero.
    #[inline]
    fn page(&self, index: usize) -> &'a [u8] {
        let at = index * self.layout.size;
        self.bytes.get(at..at + self.layout.size).unwrap_or_default()
    }

    #[inline]
    fn bytes<const N: usize>(&self, index: usize, offset: usize) -> [u8; N] {
        bytes_at(self.page(index), offset)
    }

    #[inline]
    fn long(&self, index: usize, offset: usize) -> u64 {
        self.layout.long(self.page(index), offset)
    }

    #[inline]
    pub(super) fn raw(&self, index: usize) -> RawPage {
        self.layout.raw(self.page(index))
    }

    /// How many pages from `first` on have the essence of `like` and are no tails: one tight loop, since most pages are like
    /// their neighbours.
    pub(super) fn alike(&self, first: usize, like: RawPage) -> usize {
        // A copy, so that the loop need not look the offsets up for each page.
        let (layout, like) = (*self.layout, like.essence());
        let pages = self.bytes.get(first.saturating_mul(layout.size)..).unwrap_or_default().chunks_exact(layout.size);
        pages.take_while(|page| layout.raw(page).essence() == like && layout.tail_word(page).is_none()).count()
    }

    #[inline]
    pub(super) fn flags(&self, index: usize) -> u64 {
        self.long(index, self.layout.flags)
    }

    /// `private`: a free block's order. `None` where the layout does not give its place.
    pub(super) fn private(&self, index: usize) -> Option<u64> {
        self.layout.private.map(|at| self.long(index, at))
    }

    /// A tail page's word that leads to its head; `None` for anything that is not a tail.
    #[inline]
    pub(super) fn tail_word(&self, index: usize) -> Option<u64> {
        self.layout.tail_word(self.page(index))
    }

    /// Whether tails lead to their heads at all (since 4.4).
    pub(super) fn has_tail_words(&self) -> bool {
        self.layout.compound.is_some()
    }

    /// `sizeof(struct page)`.
    pub(super) fn size(&self) -> usize {
        self.layout.size
    }

    /// The order of a compound whose second page is at `second`.
    pub(super) fn compound_order(&self, second: usize) -> Option<u64> {
        let places = self.layout.second;
        let byte = places.order.map_or(0, |at| self.bytes::<1>(second, at)[0]);
        let lru_prev = places.lru_prev.map_or(0, |at| self.long(second, at));
        self.layout.encodings.compound_order(self.flags(second), byte, lru_prev)
    }

    /// Whether the second page at `second` marks its compound as hugetlb.
    pub(super) fn hugetlb_by_second(&self, second: usize) -> bool {
        use vdump_filters::HugetlbEncoding::DtorAddress;
        let encodings = &self.layout.encodings;
        let dtor = self.layout.second.dtor.map_or(0, |at| match encodings.hugetlb {
            DtorAddress(_) => self.long(second, at),
            _ => u64::from(self.bytes::<1>(second, at)[0]),
        });
        encodings.hugetlb_by_second_page(self.flags(second), dtor)
    }
}
