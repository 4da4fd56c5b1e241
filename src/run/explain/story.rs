//! What there is to tell about one page, as values: for JSON as they are, for people through `show`.
//!
//! Knows which facts belong together. Must not put them into sentences.

use serde::Serialize;
use vdump_filters::{DumpLevel, PageClass, PageFacts, rule_for};

use super::{
    fields::{self, Field, Flag},
    presence::{Content, Memory},
    translation::Translation,
};
use crate::{
    classify::Spoken,
    kernel::Kernel,
    layout::VmcoreInfo,
    memory::{ReadVirt as _, SectionFacts, VirtReader},
    report::{hex, hex_or_null},
};

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

/// A page's `struct page`.
#[derive(Serialize, Default)]
pub(super) struct StructPage {
    #[serde(serialize_with = "hex_or_null")]
    pub(super) vaddr: Option<u64>,
    #[serde(serialize_with = "hex_or_null")]
    pub(super) paddr: Option<u64>,
    /// Why there is none, or why it cannot be read.
    pub(super) cause: Option<String>,
    pub(super) fields: Vec<Field>,
    pub(super) flags: Vec<Flag>,
    /// The rest of the flags word: node, zone and what else the kernel keeps there.
    #[serde(serialize_with = "hex")]
    pub(super) other_flag_bits: u64,
    /// What the classifier reads off it.
    pub(super) facts: Vec<String>,
    /// The class that it says by itself, whatever surrounds it.
    pub(super) says: Option<&'static str>,
    /// The frame of the head that it leads to, if it is a tail.
    pub(super) tail_of_pfn: Option<u64>,
    #[serde(skip)]
    pub(super) reserved: bool,
}

impl StructPage {
    pub(super) fn read(
        address: Result<u64, String>,
        virt: &VirtReader<'_>,
        kernel: &Kernel,
        info: Option<&VmcoreInfo>,
    ) -> Self {
        let layout = &kernel.layout.page;
        let vaddr = match address {
            Ok(vaddr) => vaddr,
            Err(cause) => return Self { cause: Some(cause), ..Self::default() },
        };
        let paddr = virt.translate(vaddr).ok().map(|mapping| mapping.paddr);
        let mut bytes = vec![0; layout.size];
        if let Err(error) = virt.read_virt(vaddr, &mut bytes) {
            return Self { vaddr: Some(vaddr), paddr, cause: Some(error.to_string()), ..Self::default() };
        }
        let words = fields::Words::new(&bytes, layout);
        let facts = PageFacts::read(words.raw(), &layout.encodings);
        let names = fields::FlagNames::new(info, &layout.encodings);
        let (flags, other_flag_bits) = names.split(words.raw().flags);
        Self {
            vaddr: Some(vaddr),
            paddr,
            cause: None,
            fields: words.fields(&kernel.map, vaddr, info),
            reserved: flags.iter().any(|flag| flag.name == "reserved"),
            flags,
            other_flag_bits,
            facts: facts.names().map(str::to_lowercase).collect(),
            says: words.head(vaddr).is_none().then(|| rule_for(facts).class().name()),
            tail_of_pfn: words.head(vaddr).and_then(|head| kernel.map.pfn_of(head)),
        }
    }
}

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
