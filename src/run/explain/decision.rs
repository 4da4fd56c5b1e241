//! What was decided about a page, as values.

use serde::Serialize;
use vdump_filters::{DumpLevel, PageClass};

use crate::classify::Spoken;

/// What was decided about the page.
#[derive(Serialize)]
pub(super) struct Decision {
    /// `null`: there is no memory, as far as the dump tells.
    pub(super) class: Option<&'static str>,
    pub(super) doubt: Option<&'static str>,
    /// The way to the class, step by step.
    pub(super) why: Vec<String>,
    /// What the page holds that is never dropped.
    pub(super) protected: Vec<&'static str>,
    /// The free block or compound page that it lies in.
    pub(super) block: Option<Block>,
    /// Every dump level that leaves out pages of the class.
    pub(super) dropped_at: Vec<u8>,
    #[serde(skip)]
    pub(super) of: Option<PageClass>,
}

impl Decision {
    pub(super) fn new(
        of: Option<PageClass>,
        why: Vec<String>,
        protected: Vec<&'static str>,
        block: Option<Block>,
    ) -> Self {
        let doubt = match of {
            Some(PageClass::Doubtful(doubt)) => Some(doubt.name()),
            _ => None,
        };
        let drops = |level: &DumpLevel| of.is_some_and(|class| level.drops(class));
        let levels = (0..=DumpLevel::MAX.bits()).filter_map(|bits| DumpLevel::new(bits).ok());
        let dropped_at = levels.filter(drops).map(DumpLevel::bits).collect();
        Self { class: of.map(PageClass::name), doubt, why, protected, block, dropped_at, of }
    }
}

/// A free block or a compound page.
#[derive(Serialize)]
pub(super) struct Block {
    /// `compound` or `free`.
    pub(super) kind: &'static str,
    pub(super) head_pfn: u64,
    pub(super) order: u32,
    pub(super) class: &'static str,
}

impl Block {
    pub(super) fn new(spoken: Spoken) -> Self {
        let kind = if spoken.compound { "compound" } else { "free" };
        Self { kind, head_pfn: spoken.head, order: spoken.order, class: spoken.class.name() }
    }
}
