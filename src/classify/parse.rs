//! The words of a `struct page`, cut out of its bytes.
//!
//! Knows offsets (from the layout). Must not know what the words mean: that is the `filters` crate's. Used by the block
//! classifier.

use vdump_filters::RawPage;

use crate::layout::PageLayout;

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

    /// The layout promises that every offset lies inside the structure, and the caller that `index` lies in the block;
    /// a word that would not is zero, which no rule drops.
    #[inline]
    fn bytes<const N: usize>(&self, index: usize, offset: usize) -> [u8; N] {
        let at = index * self.layout.size + offset;
        self.bytes.get(at..at + N).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; N])
    }

    #[inline]
    fn u64(&self, index: usize, offset: usize) -> u64 {
        u64::from_le_bytes(self.bytes(index, offset))
    }

    #[inline]
    fn u32(&self, index: usize, offset: usize) -> u32 {
        u32::from_le_bytes(self.bytes(index, offset))
    }

    #[inline]
    pub(super) fn raw(&self, index: usize) -> RawPage {
        RawPage {
            flags: self.flags(index),
            mapping: self.u64(index, self.layout.mapping),
            type_word: self.layout.type_word.map(|at| self.u32(index, at)),
            refcount: self.layout.refcount.map(|at| self.u32(index, at)),
        }
    }

    /// How many pages from `first` on say the very same as `raw` and are no tails: one tight loop, since most pages are like
    /// their neighbours.
    pub(super) fn alike(&self, first: usize, raw: RawPage) -> usize {
        let PageLayout { size, flags, mapping, type_word, refcount, compound, .. } = *self.layout;
        let pages = self.bytes.get(first.saturating_mul(size)..).unwrap_or_default();
        let used = raw.refcount.is_some_and(|count| count != 0);
        let like = |page: &[u8]| {
            let long =
                |at: usize| page.get(at..at + 8).and_then(|word| word.try_into().ok()).map_or(0, u64::from_le_bytes);
            let short =
                |at: usize| page.get(at..at + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_le_bytes);
            long(flags) == raw.flags
                && (long(mapping) ^ raw.mapping) & 1 == 0
                && type_word.map(short) == raw.type_word
                && refcount.is_some_and(|at| short(at) != 0) == used
                && compound.is_none_or(|at| long(at) & 1 == 0)
        };
        pages.chunks_exact(size).take_while(|page| like(page)).count()
    }

    #[inline]
    pub(super) fn flags(&self, index: usize) -> u64 {
        self.u64(index, self.layout.flags)
    }

    /// `private`: a free block's order. `None` where the layout does not give its place.
    pub(super) fn private(&self, index: usize) -> Option<u64> {
        self.layout.private.map(|at| self.u64(index, at))
    }

    /// A tail page's word that leads to its head; `None` for anything that is not a tail.
    #[inline]
    pub(super) fn tail_word(&self, index: usize) -> Option<u64> {
        self.layout.compound.map(|at| self.u64(index, at)).filter(|word| word & 1 == 1)
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
        let lru_prev = places.lru_prev.map_or(0, |at| self.u64(second, at));
        self.layout.encodings.compound_order(self.flags(second), byte, lru_prev)
    }

    /// Whether the second page at `second` marks its compound as hugetlb.
    pub(super) fn hugetlb_by_second(&self, second: usize) -> bool {
        use vdump_filters::HugetlbEncoding::DtorAddress;
        let encodings = &self.layout.encodings;
        let dtor = self.layout.second.dtor.map_or(0, |at| match encodings.hugetlb {
            DtorAddress(_) => self.u64(second, at),
            _ => u64::from(self.bytes::<1>(second, at)[0]),
        });
        encodings.hugetlb_by_second_page(self.flags(second), dtor)
    }
}
