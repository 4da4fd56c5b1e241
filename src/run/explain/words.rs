//! The classifier's steps as sentences.
//!
//! Knows English. Must not decide anything.

use vdump_filters::{Doubt, DumpLevel, PageClass, PageFacts, Rule};

use crate::classify::{Spoken, Step};

/// The way to the page's class, a sentence a step.
pub(super) fn why(pfn: u64, steps: &[Step], is_ram: bool, readable: bool, protected: &[&str]) -> Vec<String> {
    if !is_ram {
        return vec!["there is no memory, so there is nothing to classify".to_owned()];
    }
    let mut why: Vec<_> = steps.iter().map(|step| sentence(pfn, step, protected)).collect();
    if !readable {
        why.push("its struct page cannot be read: kept, whatever it is".to_owned());
    }
    why
}

fn sentence(pfn: u64, step: &Step, protected: &[&str]) -> String {
    match step {
        Step::Rule { facts, rule } => by_rule(*facts, rule),
        Step::Head(spoken) => by_head(pfn, spoken),
        Step::Doubt(doubt) => format!("in doubt ({}): {}; kept", doubt.name(), meaning(*doubt)),
        Step::Alone(doubt) => {
            format!("its marks as a head are not sound ({}): {}; it is kept in any case", doubt.name(), meaning(*doubt))
        }
        Step::Poison => "the hardware reported errors here (hwpoison): it is never read".to_owned(),
        Step::FreePcp => {
            "it is on a per-CPU list of the page allocator, whose links and count agree: free-pcp".to_owned()
        }
        Step::Protected => format!("kept all the same: it holds the {}", listed(protected)),
    }
}

fn listed(names: &[&str]) -> String {
    if names.is_empty() { "kernel image or the notes".to_owned() } else { names.join(", ") }
}

fn words(facts: PageFacts) -> String {
    facts.names().map(str::to_lowercase).collect::<Vec<_>>().join("+")
}

fn by_rule(facts: PageFacts, rule: &Rule) -> String {
    let said = if facts == PageFacts::NONE { "nothing special".to_owned() } else { words(facts) };
    let without =
        if rule.must_not() == PageFacts::NONE { String::new() } else { format!(" without {}", words(rule.must_not())) };
    match rule.must() {
        PageFacts::NONE => format!("its struct page says {said}: no rule names such a page, so it is the kernel's own"),
        must => format!("its struct page says {said}: rule {}{without} -> {}", words(must), rule.class()),
    }
}

fn by_head(pfn: u64, spoken: &Spoken) -> String {
    let Spoken { head, order, class, compound } = *spoken;
    let what = if compound { "compound page" } else { "block of free pages" };
    let last = head + (1u64 << order.min(63)) - 1;
    let range = format!("{head:#x} to {last:#x}, order {order}");
    match pfn == head {
        true if order == 0 => format!("it is a {what} by itself, order 0: {class}"),
        true => format!("it is the head of a {what} ({range}), which is {class}"),
        false => format!("it is page {} of the {what} at {head:#x} ({range}), which is {class}", pfn - head),
    }
}

/// What a doubt is about.
fn meaning(doubt: Doubt) -> &'static str {
    match doubt {
        Doubt::BuddyOrder => "it is marked as a free block of an order that the kernel does not have",
        Doubt::BuddyAlignment => "it is marked as a free block that does not begin at a multiple of its size",
        Doubt::FreeButUsed => {
            "it is marked as free, or lies in a free block, and its struct page says that it is in use"
        }
        Doubt::CompoundOrder => {
            "it is marked as the head of a compound page whose order is missing, impossible or unaligned"
        }
        Doubt::OrphanTail => "it is a tail, and no head in reach claims it",
        Doubt::TailElsewhere => "it lies within a compound page and does not point to its head",
        Doubt::Uninitialised => "its struct page is all ones: never initialised",
        Doubt::LoneMapping => "its mapping looks anonymous, and no flag that every anonymous page has confirms that",
    }
}

/// At which levels pages of a class go, for people.
pub(super) fn levels(class: PageClass) -> String {
    const BITS: [(u8, &str); 5] = [
        (1, "1 (zero pages)"),
        (2, "2 (page cache)"),
        (4, "4 (page cache with private data)"),
        (8, "8 (user memory)"),
        (16, "16 (free pages)"),
    ];
    if DumpLevel::NONE.drops(class) {
        return "excluded at every level, 0 too".to_owned();
    }
    let drops = |bits: u8| DumpLevel::new(bits).is_ok_and(|level| level.drops(class));
    let names: Vec<_> = BITS.iter().filter(|(bits, _)| drops(*bits)).map(|(_, name)| *name).collect();
    if names.is_empty() {
        "kept at every level".to_owned()
    } else {
        format!("excluded at every level with {}", names.join(" or "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_those_of_the_filter() {
        assert_eq!(levels(PageClass::Free), "excluded at every level with 16 (free pages)");
        assert_eq!(
            levels(PageClass::Cache),
            "excluded at every level with 2 (page cache) or 4 (page cache with private data)"
        );
        assert_eq!(levels(PageClass::HwPoison), "excluded at every level, 0 too");
        for class in [PageClass::Slab, PageClass::Kernel, PageClass::Protected, PageClass::Unmapped] {
            assert_eq!(levels(class), "kept at every level");
        }
    }

    #[test]
    fn a_page_in_a_block_says_where() {
        let spoken = Spoken { head: 0x1000, order: 4, class: PageClass::Free, compound: false };
        let text = sentence(0x1003, &Step::Head(spoken), &[]);
        assert_eq!(
            text,
            "it is page 3 of the block of free pages at 0x1000 (0x1000 to 0x100f, order 4), which is free"
        );
    }
}
