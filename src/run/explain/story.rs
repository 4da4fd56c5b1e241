//! What there is to tell about one page, as values: for JSON as they are, for people through `show`.
//!
//! Knows which facts belong together. Must not put them into sentences.

use serde::Serialize;

use super::{
    decision::Decision,
    fields,
    presence::{Content, Memory},
    struct_page::StructPage,
    translation::Translation,
};
use crate::{memory::SectionFacts, report::hex_or_null};

/// All about one page.
#[derive(Serialize, Default)]
pub(super) struct Story {
    /// How the page was named.
    pub(super) asked: String,
    pub(super) pfn: Option<u64>,
    /// Of the page's first byte.
    #[serde(serialize_with = "hex_or_null")]
    pub(super) paddr: Option<u64>,
    pub(super) translation: Option<Translation>,
    pub(super) memory: Option<Memory>,
    pub(super) content: Option<Content>,
    /// Node and zone; several where zones span frames of one another.
    pub(super) zones: Vec<String>,
    pub(super) section: Option<Section>,
    pub(super) struct_page: Option<StructPage>,
    #[serde(flatten)]
    pub(super) decision: Option<Decision>,
}

/// A memory section, as the kernel's table has it.
#[derive(Serialize)]
pub(super) struct Section {
    pub(super) number: u64,
    pub(super) start_pfn: u64,
    pub(super) end_pfn: u64,
    /// Virtual address of its `mem_section`.
    #[serde(serialize_with = "hex_or_null")]
    pub(super) mem_section: Option<u64>,
    #[serde(serialize_with = "hex_or_null")]
    pub(super) section_mem_map: Option<u64>,
    pub(super) flags: Vec<String>,
    /// Virtual address of the `struct page` of its first frame.
    #[serde(serialize_with = "hex_or_null")]
    pub(super) mem_map: Option<u64>,
    /// Why there is none.
    pub(super) cause: Option<String>,
}

impl Section {
    pub(super) fn new(facts: SectionFacts) -> Self {
        let cause = facts.entry.as_ref().err().or(facts.map.as_ref().err()).cloned();
        Self {
            number: facts.number,
            start_pfn: facts.range.start,
            end_pfn: facts.range.end,
            mem_section: facts.entry.ok(),
            section_mem_map: facts.word,
            flags: fields::section_flags(facts.flags),
            mem_map: facts.map.ok(),
            cause,
        }
    }

    /// Where the `struct page` of a frame of the section lies.
    pub(super) fn address(&self, pfn: u64, size: usize) -> Result<u64, String> {
        let none = || self.cause.clone().unwrap_or_else(|| "the kernel has no memory map for it".to_owned());
        let base = self.mem_map.ok_or_else(none)?;
        Ok(base.wrapping_add(pfn.saturating_sub(self.start_pfn).wrapping_mul(size as u64)))
    }
}
