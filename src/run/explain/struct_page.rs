//! A page's `struct page`, as values.

use serde::Serialize;
use vdump_filters::{PageFacts, rule_for};

use super::fields::{self, Field, Flag};
use crate::{
    kernel::Kernel,
    layout::VmcoreInfo,
    memory::{ReadVirt as _, VirtReader},
    report::{hex, hex_or_null},
};

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
        let words = fields::Values::new(&bytes, layout);
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
