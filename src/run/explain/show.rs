//! A story as a person reads it.
//!
//! Knows columns. Must not find anything out.

use std::fmt::{self, Formatter};

use vdump_filters::PageClass;

use super::{
    Report,
    decision::Decision,
    fields::Flag,
    presence::{Content, Memory},
    story::{Section, Story},
    struct_page::StructPage,
    translation::Translation,
    words,
};
use crate::error::printable;

/// Width of the first column.
const LABEL: usize = 14;

fn row(f: &mut Formatter<'_>, label: &str, text: impl fmt::Display) -> fmt::Result {
    writeln!(f, "{label:<LABEL$}  {text}")
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let kernel = self.kernel.as_deref().unwrap_or("unknown");
        let level = self.dump_level.map_or_else(String::new, |level| format!(", made at level {level}"));
        writeln!(f, "{}: {}{level}, kernel {kernel}", printable(&self.input), printable(&self.format))?;
        for warning in &self.warnings {
            writeln!(f, "note: {}", printable(warning))?;
        }
        self.pages.iter().try_for_each(|page| write!(f, "\n{page}"))
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match (self.pfn, self.paddr) {
            (Some(pfn), Some(paddr)) => {
                row(f, "page", format!("{pfn:#x} ({pfn}), physical {paddr:#x}, asked for by {}", self.asked))?;
            }
            _ => row(f, "page", format!("none: {} is not mapped", self.asked))?,
        }
        self.translation.iter().try_for_each(|translation| translate(f, translation))?;
        if let (Some(memory), Some(content)) = (&self.memory, &self.content) {
            place(f, memory)?;
            contents(f, content)?;
        }
        if !self.zones.is_empty() {
            row(f, "zone", self.zones.iter().map(|zone| printable(zone)).collect::<Vec<_>>().join(" or "))?;
        }
        self.section.iter().try_for_each(|section| sections(f, section))?;
        self.struct_page.iter().try_for_each(|page| struct_page(f, page))?;
        self.decision.iter().try_for_each(|decision| decide(f, decision, self.content.as_ref()))
    }
}

fn translate(f: &mut Formatter<'_>, translation: &Translation) -> fmt::Result {
    for (number, entry) in translation.entries.iter().enumerate() {
        let label = if number == 0 { "page tables" } else { "" };
        row(
            f,
            label,
            format!("{} at {:#x}, entry {:>3}: {:#018x}", entry.name, entry.table, entry.index, entry.entry),
        )?;
    }
    let text = match (translation.paddr, translation.page_bytes, &translation.cause) {
        (Some(paddr), Some(bytes), _) => {
            format!("{:#x} -> {paddr:#x}, in a mapping of {} KiB", translation.vaddr, bytes >> 10)
        }
        (_, _, Some(cause)) => format!("{:#x} -> {cause}", translation.vaddr),
        _ => return Ok(()),
    };
    row(f, "", text)
}

fn place(f: &mut Formatter<'_>, memory: &Memory) -> fmt::Result {
    row(f, "in the dump", &memory.explanation)?;
    if let (Some(start), Some(end)) = (memory.ram_start, memory.ram_end) {
        let partial = if memory.partial { "; it begins or ends within this page" } else { "" };
        row(f, "RAM", format!("{start:#x} to {end:#x}{partial}"))?;
    }
    for segment in &memory.segments {
        let vaddr = segment.page_vaddr.map_or_else(String::new, |vaddr| format!(", the page at virtual {vaddr:#x}"));
        row(f, "PT_LOAD", format!("{:#x} to {:#x}{vaddr}", segment.paddr, segment.end))?;
    }
    memory.file_offset.iter().try_for_each(|offset| row(f, "file offset", format!("{offset:#x}")))
}

fn contents(f: &mut Formatter<'_>, content: &Content) -> fmt::Result {
    match (content.zero, &content.unreadable, &content.head) {
        (Some(true), ..) => row(f, "contents", "all zeros"),
        (Some(false), _, Some(head)) => row(f, "contents", format!("not zero; begins with {head}")),
        (_, Some(cause), _) => row(f, "contents", printable(cause)),
        _ => Ok(()),
    }
}

fn sections(f: &mut Formatter<'_>, section: &Section) -> fmt::Result {
    let Section { number, start_pfn, end_pfn, .. } = section;
    row(f, "section", format!("{number}: page frames {start_pfn:#x} to {:#x}", end_pfn - 1))?;
    if let (Some(entry), Some(word)) = (section.mem_section, section.section_mem_map) {
        let flags = if section.flags.is_empty() { "no flags".to_owned() } else { section.flags.join(", ") };
        row(f, "", format!("mem_section at {entry:#x}: section_mem_map {word:#x} ({flags})"))?;
    }
    match (&section.mem_map, &section.cause) {
        (Some(map), _) => row(f, "", format!("its struct pages begin at {map:#x}")),
        (None, Some(cause)) => row(f, "", format!("no struct pages: {}", printable(cause))),
        _ => Ok(()),
    }
}

fn struct_page(f: &mut Formatter<'_>, page: &StructPage) -> fmt::Result {
    let at = page.vaddr.map_or_else(|| "none".to_owned(), |vaddr| format!("at {vaddr:#x}"));
    let physical = page.paddr.map_or_else(String::new, |paddr| format!(", physical {paddr:#x}"));
    let cause = page.cause.as_ref().map_or_else(String::new, |cause| format!(": {}", printable(cause)));
    row(f, "struct page", format!("{at}{physical}{cause}"))?;
    for field in &page.fields {
        let value = if field.width == 8 { format!("{:#018x}", field.value) } else { format!("{:#010x}", field.value) };
        let meaning = if field.name == "flags" { flags(page) } else { field.meaning.clone() };
        row(f, "", format!("{:<13} {value:<18}  {meaning}", field.name).trim_end())?;
    }
    Ok(())
}

fn flags(page: &StructPage) -> String {
    let name = |flag: &Flag| {
        let aliases: Vec<_> = flag.aliases.iter().map(|alias| printable(alias)).collect();
        match aliases.as_slice() {
            [] => printable(&flag.name),
            // The bits that an owner may use have more names than a line bears.
            [_, _, _, ..] => format!("{} ({} ...)", printable(&flag.name), aliases[..2].join(", ")),
            aliases => format!("{} ({})", printable(&flag.name), aliases.join(", ")),
        }
    };
    let names: Vec<_> = page.flags.iter().map(name).collect();
    let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    let rest = page.other_flag_bits;
    if rest == 0 { names } else { format!("{names}; the rest ({rest:#x}) says node, zone and the like") }
}

fn decide(f: &mut Formatter<'_>, decision: &Decision, content: Option<&Content>) -> fmt::Result {
    let class = match (decision.class, decision.doubt) {
        (Some(class), Some(doubt)) => format!("{class} ({doubt})"),
        (Some(class), None) => class.to_owned(),
        (None, _) => "none".to_owned(),
    };
    row(f, "class", class)?;
    for (number, why) in decision.why.iter().enumerate() {
        row(f, if number == 0 { "because" } else { "" }, why)?;
    }
    if let Some(class) = decision.of {
        row(f, "level", levels(class, content))?;
    }
    if !decision.protected.is_empty() {
        row(f, "protected", format!("holds the {}: never dropped", decision.protected.join(", ")))?;
    }
    Ok(())
}

/// Zeros are left out besides, whatever the class: they stay readable.
fn levels(class: PageClass, content: Option<&Content>) -> String {
    let by_class = words::levels(class);
    if content.is_some_and(|content| content.zero == Some(true)) {
        format!("{by_class}; all zeros, it takes no room in a dump of a level with 1")
    } else {
        by_class
    }
}
