//! Why a page has its class: what the classifier saw on its way there.
//!
//! Knows the steps, not the decisions: the one classifier says them to whoever listens. Must not decide anything. Goes to
//! `vdump explain`.

use vdump_filters::{Doubt, PageClass, PageFacts, Rule};

/// One step on the way to a page's class. The last one that names a class decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// The page's own `struct page`: its facts, and the row of the table that fits them. Poison is left out of the facts.
    Rule {
        /// What the `struct page` says.
        facts: PageFacts,
        /// The row.
        rule: &'static Rule,
    },
    /// A head speaks for the page; of the first page of a block it is the page itself.
    Head(Spoken),
    /// The page, or what it speaks for, contradicts itself: kept.
    Doubt(Doubt),
    /// The page's marks as a head contradict themselves, but its class is kept in any case.
    Alone(Doubt),
    /// The page bears the mark of poison.
    Poison,
    /// The page is on one of the page allocator's per-CPU lists.
    FreePcp,
    /// The page holds what must never be dropped.
    Protected,
}

/// A head that speaks for a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Spoken {
    /// The head's frame.
    pub head: u64,
    /// Log2 of the pages it speaks for.
    pub order: u32,
    /// Their class.
    pub class: PageClass,
    /// Whether it is a compound page, and not a free block.
    pub compound: bool,
}

/// A page's class and the way to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trace {
    /// The class, as every command that classifies gets it.
    pub class: PageClass,
    /// The steps, in order.
    pub steps: Vec<Step>,
    /// Whether the machine had memory there, as far as the dump tells.
    pub is_ram: bool,
    /// Whether its `struct page` could be read.
    pub readable: bool,
}

/// Listens to the classifier.
pub(super) trait Watch {
    /// The page at `index` of the block comes one step nearer to its class.
    fn see(&mut self, index: usize, step: impl FnOnce() -> Step);
}

/// Nobody listens: nothing is left of it in the program.
impl Watch for () {
    #[inline]
    fn see(&mut self, _: usize, _: impl FnOnce() -> Step) {}
}

/// Listens to one page.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) index: usize,
    pub(super) steps: Vec<Step>,
}

impl Watch for Listener {
    fn see(&mut self, index: usize, step: impl FnOnce() -> Step) {
        if index == self.index {
            self.steps.push(step());
        }
    }
}
