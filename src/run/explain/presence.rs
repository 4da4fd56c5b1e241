//! Whether the dump has a page, and if not, why.
//!
//! Knows maps of memory and what the dump's headers say. Must not know how a class is found.

use serde::Serialize;
use vdump_filters::{DumpLevel, Pfn};

use super::{decision::Decision, struct_page::StructPage};
use crate::{
    report::{hex, hex_or_null},
    source::{RamMap, Source},
};

/// A stretch of memory as the input describes it.
#[derive(Serialize)]
pub(super) struct Segment {
    #[serde(serialize_with = "hex")]
    pub(super) paddr: u64,
    #[serde(serialize_with = "hex")]
    pub(super) end: u64,
    /// Virtual address of the page in it; `null`: the input does not say.
    #[serde(serialize_with = "hex_or_null")]
    pub(super) page_vaddr: Option<u64>,
}

/// Where the page lies in the machine's memory and in the dump.
#[derive(Serialize)]
pub(super) struct Memory {
    /// `stored`, `zeros`, `excluded`, `lost`, `left-out` or `none`.
    pub(super) presence: &'static str,
    /// The same in words.
    pub(super) explanation: String,
    /// The range of RAM that it lies in, as far as the dump tells.
    #[serde(serialize_with = "hex_or_null")]
    pub(super) ram_start: Option<u64>,
    #[serde(serialize_with = "hex_or_null")]
    pub(super) ram_end: Option<u64>,
    /// RAM begins or ends within the page.
    pub(super) partial: bool,
    pub(super) segments: Vec<Segment>,
    /// Where the page's first byte lies in the file, of ELF cores and raw memory.
    pub(super) file_offset: Option<u64>,
}

impl Memory {
    pub(super) fn of(
        source: &Source,
        pfn: u64,
        page_shift: u32,
        decision: Option<&Decision>,
        page: Option<&StructPage>,
    ) -> Self {
        let (paddr, end) = (Pfn(pfn).paddr(page_shift), Pfn(pfn + 1).paddr(page_shift));
        let range = range_of(source.existing(), pfn, page_shift);
        let covered: u64 = overlap(source.existing(), paddr, end);
        let first = source.ram().overlapping(paddr, end).next();
        let (presence, explanation) = match first {
            Some(piece) if piece.offset.is_some() => ("stored", "yes".to_owned()),
            Some(_) => (
                "zeros",
                "yes, as zeros that take no room in the file: it was zero, or, if the dump was filtered, excluded"
                    .to_owned(),
            ),
            None if range.is_some() => absent(source, pfn, decision),
            None => ("none", nothing(source, page)),
        };
        let in_file = |piece: crate::source::Piece| {
            let offset = piece.offset.filter(|_| source.recorded().is_none() && piece.paddr <= paddr)?;
            Some(offset + (paddr - piece.paddr))
        };
        let segments = source.loads().iter().filter(|load| load.paddr < end && load.paddr + load.memsz > paddr);
        Self {
            presence,
            explanation,
            ram_start: range.map(|(start, _)| start),
            ram_end: range.map(|(_, end)| end),
            partial: covered > 0 && covered < end - paddr,
            segments: segments
                .map(|load| Segment {
                    paddr: load.paddr,
                    end: load.paddr + load.memsz,
                    page_vaddr: (load.vaddr != load.paddr && load.vaddr != 0)
                        .then(|| load.vaddr.wrapping_add(paddr.wrapping_sub(load.paddr))),
                })
                .collect(),
            file_offset: first.and_then(in_file),
        }
    }
}

/// The stretch of RAM, pieces that touch each other joined, that has a byte of the page.
fn range_of(map: &RamMap, pfn: u64, page_shift: u32) -> Option<(u64, u64)> {
    let range = map.pfn_ranges(page_shift).find(|range| range.contains(pfn))?;
    let (start, end) = (Pfn(range.start).paddr(page_shift), Pfn(range.end).paddr(page_shift));
    let (first, last) = (map.overlapping(start, end).next()?, map.overlapping(start, end).last()?);
    Some((first.paddr, last.end()))
}

fn overlap(map: &RamMap, paddr: u64, end: u64) -> u64 {
    map.overlapping(paddr, end).map(|piece| piece.end().min(end) - piece.paddr.max(paddr)).sum()
}

/// Why the dump does not have a page that the machine had.
fn absent(source: &Source, pfn: u64, decision: Option<&Decision>) -> (&'static str, String) {
    if let Some(cut) = source.truncated() {
        return ("lost", format!("no: the file is truncated, at byte {} of {}", cut.size, cut.wanted));
    }
    let missing = source.missing_parts().is_some_and(|parts| parts.frames.iter().any(|range| range.contains(pfn)));
    let level = source.recorded().map(|recorded| recorded.dump_level);
    let by_level = level.and_then(|level| u8::try_from(level).ok()).and_then(|bits| DumpLevel::new(bits & 31).ok());
    let class = decision.and_then(|decision| decision.of);
    match (by_level, class) {
        (Some(level), Some(class)) if level.drops(class) => {
            ("excluded", format!("no: it was made at level {level}, which excludes {class} pages"))
        }
        _ if missing => {
            ("lost", "no: it was in, or excluded from, a part of the split dump that is missing".to_owned())
        }
        _ if source.is_incomplete() => ("lost", "no: the dump is incomplete, and ended before this page".to_owned()),
        (Some(level), Some(class)) => (
            "left-out",
            format!(
                "no, although it was made at level {level}, which keeps {class} pages: it could not be read \
                 then, or was excluded by other means"
            ),
        ),
        (Some(level), None) => ("excluded", format!("no: it was made at level {level}")),
        _ => ("left-out", "no, and nothing says why".to_owned()),
    }
}

/// What there is to say of a frame without memory.
fn nothing(source: &Source, page: Option<&StructPage>) -> String {
    let none = "no: there is no memory, as far as the dump tells";
    let known = page.is_some_and(|page| page.cause.is_none());
    match page {
        Some(page) if known && page.reserved => format!(
            "{none}; the kernel knows the page and has it reserved: by firmware, or for the capture kernel, whose memory \
             no dump shows"
        ),
        // A filtered ELF does not say what it left out.
        Some(_) if known && source.recorded().is_none() && !source.is_live() => format!(
            "{none}; the kernel has a struct page for it: a hole, or, if this dump was filtered, a page that was excluded"
        ),
        _ => none.to_owned(),
    }
}

/// What is in the page.
#[derive(Serialize, Default)]
pub(super) struct Content {
    /// Nothing but zero bytes; `null`: it is not there, or cannot be read.
    pub(super) zero: Option<bool>,
    /// Why it cannot be read.
    pub(super) unreadable: Option<String>,
    /// Its first bytes.
    pub(super) head: Option<String>,
}

impl Content {
    /// Looks at the page, unless it must not be read.
    pub(super) fn of(source: &Source, pfn: u64, page_shift: u32, memory: &Memory, decision: Option<&Decision>) -> Self {
        /// As many as a line shows.
        const SHOWN: usize = 16;
        if !matches!(memory.presence, "stored" | "zeros") {
            return Self::default();
        }
        if decision.and_then(|decision| decision.of).is_some_and(|class| DumpLevel::NONE.drops(class)) {
            let cause = "not looked at: where such pages are memory of a machine, reading them may stop it";
            return Self { unreadable: Some(cause.to_owned()), ..Self::default() };
        }
        let mut reader = source.reader();
        match reader.read(Pfn(pfn).paddr(page_shift), 1 << page_shift) {
            Ok(bytes) => Self {
                zero: Some(bytes.iter().all(|byte| *byte == 0)),
                unreadable: None,
                head: Some(bytes.iter().take(SHOWN).map(|byte| format!("{byte:02x}")).collect()),
            },
            Err(error) => Self { unreadable: Some(error.to_string()), ..Self::default() },
        }
    }
}
