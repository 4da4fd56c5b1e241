//! A virtual address on its way through the kernel's page tables.
//!
//! Knows which addresses can be one of the kernel's. Must not know what lies there.

use serde::Serialize;

use crate::{
    error::{Error, Kind, Result},
    memory::VirtReader,
    report::{hex, hex_or_null},
};

/// One entry of a page table.
#[derive(Serialize)]
pub(super) struct Entry {
    pub(super) name: &'static str,
    #[serde(serialize_with = "hex")]
    pub(super) table: u64,
    pub(super) index: u64,
    #[serde(serialize_with = "hex")]
    pub(super) entry: u64,
}

/// The way from the top table to the page.
#[derive(Serialize)]
pub(super) struct Translation {
    #[serde(serialize_with = "hex")]
    pub(super) vaddr: u64,
    pub(super) entries: Vec<Entry>,
    #[serde(serialize_with = "hex_or_null")]
    pub(super) paddr: Option<u64>,
    /// Bytes that the last entry maps.
    pub(super) page_bytes: Option<u64>,
    /// Why it leads nowhere.
    pub(super) cause: Option<String>,
}

impl Translation {
    pub(super) fn of(virt: &VirtReader<'_>, vaddr: u64) -> Result<Self> {
        let bits = virt.space().address_bits();
        // Sign-extended: every higher bit is a copy of the highest that counts.
        let high = vaddr.cast_signed() >> (bits - 1);
        let refused = |cause: &str, next: &str| {
            Err(Error::new(Kind::Usage, format!("{vaddr:#x} is no virtual address of the kernel"))
                .because(cause)
                .next_step(next))
        };
        match high {
            -1 => {}
            0 => {
                return refused(
                    "it is in the half of the address space that belongs to processes, each with page tables of its own",
                    "give the page's frame (--pfn) or physical address (--paddr)",
                );
            }
            _ => return refused(&format!("this kernel's addresses have {bits} bits"), "check the address"),
        }
        let (steps, found) = virt.walk(vaddr);
        let entries =
            steps.iter().map(|(step, name)| Entry { name, table: step.table, index: step.index, entry: step.entry });
        let page_bytes = steps.last().map(|(step, _)| step.covers);
        Ok(Self {
            vaddr,
            entries: entries.collect(),
            paddr: found.as_ref().ok().map(|mapping| mapping.paddr),
            page_bytes: page_bytes.filter(|_| found.is_ok()),
            cause: found.err().map(|error| error.to_string()),
        })
    }
}
