//! The words of a `struct page`, each with what it means.
//!
//! Knows the kernel's names for flags and page types, where the kernel says them. Must not decide a class.

use serde::Serialize;
use vdump_filters::{Encodings, RawPage, SlabEncoding, TypeTest};

use crate::{
    layout::{PageLayout, VmcoreInfo},
    memory::MemMap,
    report::hex,
};

/// One field.
#[derive(Serialize)]
pub(super) struct Field {
    pub(super) name: &'static str,
    #[serde(serialize_with = "hex")]
    pub(super) value: u64,
    /// Bytes.
    pub(super) width: u8,
    pub(super) meaning: String,
}

/// One page flag that is set.
#[derive(Serialize)]
pub(super) struct Flag {
    pub(super) bit: u32,
    /// Without `PG_`; `bit N` where the kernel does not say a name.
    pub(super) name: String,
    /// Other names of the same bit: it means another thing for other owners.
    pub(super) aliases: Vec<String>,
}

/// `SECTION_*` bits of `section_mem_map` (include/linux/mmzone.h); further ones differ between releases.
const SECTION_FLAGS: [&str; 4] = ["present", "has-mem-map", "online", "early"];

pub(super) fn section_flags(word: u64) -> Vec<String> {
    let name = |bit: u32| SECTION_FLAGS.get(bit as usize).map_or_else(|| format!("bit {bit}"), ToString::to_string);
    (0..64).filter(|bit| word >> bit & 1 == 1).map(name).collect()
}

/// A `struct page`'s bytes.
pub(super) struct Values<'a> {
    bytes: &'a [u8],
    layout: &'a PageLayout,
}

impl<'a> Values<'a> {
    pub(super) fn new(bytes: &'a [u8], layout: &'a PageLayout) -> Self {
        Self { bytes, layout }
    }

    fn long(&self, at: usize) -> u64 {
        self.layout.long(self.bytes, at)
    }

    pub(super) fn raw(&self) -> RawPage {
        self.layout.raw(self.bytes)
    }

    /// The address of the head's `struct page`, if this is a tail.
    pub(super) fn head(&self, vaddr: u64) -> Option<u64> {
        let word = self.layout.tail_word(self.bytes)?;
        Some(crate::classify::head_of(word, vaddr))
    }

    pub(super) fn fields(&self, map: &MemMap, vaddr: u64, info: Option<&VmcoreInfo>) -> Vec<Field> {
        let raw = self.raw();
        let long = |name, value, meaning: String| Field { name, value, width: 8, meaning };
        let int = |name, value: u32, meaning: String| Field { name, value: value.into(), width: 4, meaning };
        let tail = self.head(vaddr);
        // In a tail the word is the compound's own.
        let of_page = |meaning: String| if tail.is_none() { meaning } else { String::new() };
        let mut fields =
            vec![long("flags", raw.flags, String::new()), long("mapping", raw.mapping, of_page(mapping(raw.mapping)))];
        if let Some(word) = raw.type_word {
            fields.push(int("_mapcount", word, type_word(word, &self.layout.encodings, info)));
        }
        if let Some(count) = raw.refcount {
            let users = if count == 0 { "nobody uses it".to_owned() } else { String::new() };
            fields.push(int("_refcount", count, users));
        }
        if let Some(at) = self.layout.private {
            let is_buddy =
                matches!((self.layout.encodings.buddy, raw.type_word), (Some(test), Some(word)) if test.matches(word));
            let meaning = if is_buddy { "order of the free block" } else { "" };
            fields.push(long("private", self.long(at), meaning.to_owned()));
        }
        if let Some(at) = self.layout.compound {
            let meaning = match tail.map(|head| map.pfn_of(head)) {
                None => "no tail".to_owned(),
                Some(Some(pfn)) => format!("tail of page frame {pfn:#x}"),
                Some(None) => "tail of no page that the dump tells of".to_owned(),
            };
            fields.push(long("compound_head", self.long(at), meaning));
        }
        fields
    }
}

/// The low bits of `mapping` (include/linux/page-flags.h).
fn mapping(word: u64) -> String {
    let (owner, low) = (word & !3, word & 3);
    match low {
        _ if word == 0 => String::new(),
        0 => "of a file, or its owner's own".to_owned(),
        1 => format!("anonymous: anon_vma {owner:#x}"),
        2 => format!("movable: {owner:#x}"),
        _ => format!("anonymous, shared by KSM: stable node {owner:#x}"),
    }
}

/// Types by the bit that they clear, from 4.18 to 6.10 (include/linux/page-flags.h): macros, of which no type information
/// knows.
const CLEARED: [(u32, &str); 5] = [
    (0x80, "buddy"),
    (0x100, "offline, or balloon before 5.1"),
    (0x200, "page table, or charged to a cgroup before 5.11"),
    (0x400, "guard, or page table before 5.11"),
    (0x800, "hugetlb since 6.9, or guard before 5.11"),
];

/// What `_mapcount` and `page_type`, which are one word, say.
fn type_word(word: u32, encodings: &Encodings, info: Option<&VmcoreInfo>) -> String {
    if encodings.buddy.is_some_and(|buddy| buddy.is_typed(word)) {
        return format!("page type: {}", type_name(word, encodings, info));
    }
    match word.cast_signed() {
        -1 => "mapped by nobody".to_owned(),
        0 => "mapped once".to_owned(),
        count @ 1.. => format!("mapped {} times", i64::from(count) + 1),
        _ => String::new(),
    }
}

fn type_name(word: u32, encodings: &Encodings, info: Option<&VmcoreInfo>) -> String {
    let slab = match encodings.slab {
        SlabEncoding::Type(test) => Some(test),
        _ => None,
    };
    let hugetlb = match encodings.hugetlb {
        vdump_filters::HugetlbEncoding::Type(test) => Some(test),
        _ => None,
    };
    let known = [
        (encodings.buddy, "buddy"),
        (encodings.offline, "offline"),
        (encodings.unaccepted, "unaccepted"),
        (slab, "slab"),
        (hugetlb, "hugetlb"),
    ];
    if let Some((_, name)) = known.iter().find(|(test, _)| test.is_some_and(|test| test.matches(word))) {
        return (*name).to_owned();
    }
    let by_name = || {
        let wanted = (word >> 24).to_string();
        let lines = info?.lines().filter(|(_, value, _)| *value == wanted);
        lines.filter_map(|(key, ..)| key.strip_prefix("NUMBER(PGTY_")?.strip_suffix(')')).map(str::to_owned).next()
    };
    let by_bit = || {
        let cleared = CLEARED.iter().filter(|(bit, _)| word & bit == 0).map(|(_, name)| *name);
        Some(cleared.collect::<Vec<_>>().join(", ")).filter(|names| !names.is_empty())
    };
    let name = match encodings.buddy {
        Some(TypeTest::TopByte(_)) => by_name(),
        Some(TypeTest::FlagClear { base: 0xf000_0000, .. }) => by_bit(),
        _ => None,
    };
    name.unwrap_or_else(|| "one that the dump does not name".to_owned())
}

/// Names that a bit keeps whoever owns the page; the other names of such a bit are aliases.
const FIRST_NAMES: [&str; 6] = ["owner_priv_1", "owner_2", "uptodate", "reclaim", "active", "workingset"];

/// The kernel's names for page flags.
pub(super) struct FlagNames {
    names: Vec<(u32, Vec<String>)>,
    /// One past the highest flag, if the kernel named all.
    end: Option<u32>,
    head_mask: u64,
}

impl FlagNames {
    pub(super) fn new(info: Option<&VmcoreInfo>, encodings: &Encodings) -> Self {
        let mut names: Vec<(u32, Vec<String>)> = Vec::new();
        for (key, ..) in info.iter().flat_map(|info| info.lines()) {
            let Some(name) = key.strip_prefix("NUMBER(PG_").and_then(|rest| rest.strip_suffix(')')) else { continue };
            let bit = info.and_then(|info| info.value(key)).and_then(|bit| u32::try_from(bit).ok());
            // A mask is no flag's number.
            let Some(bit) = bit.filter(|bit| *bit < 64 && !name.ends_with("_mask")) else { continue };
            match names.iter_mut().find(|(known, _)| *known == bit) {
                Some((_, all)) => all.push(name.to_owned()),
                None => names.push((bit, vec![name.to_owned()])),
            }
        }
        names.sort_unstable();
        for (_, names) in &mut names {
            names.sort_by_key(|name| (!FIRST_NAMES.contains(&name.as_str()), name.clone()));
        }
        // The note has few names; types have all.
        let all = info.is_some_and(|info| info.number("PG_locked").is_some());
        let end = names.last().map(|(bit, _)| bit + 1).filter(|_| all);
        Self { names, end, head_mask: encodings.flags.head_mask }
    }

    /// The flags that are set, and the rest of the word. Where not all are named, the rest has flags too.
    pub(super) fn split(&self, word: u64) -> (Vec<Flag>, u64) {
        let mut rest = word;
        let mut flags = Vec::new();
        for bit in (0..64).filter(|bit| word >> bit & 1 == 1) {
            let named = self.names.iter().find(|(known, _)| *known == bit).and_then(|(_, names)| names.split_first());
            let (name, aliases) = match named {
                Some((first, others)) => (first.clone(), others.to_vec()),
                None if self.head_mask >> bit & 1 == 1 => ("head".to_owned(), Vec::new()),
                None if self.end.is_some_and(|end| bit < end) => (format!("bit {bit}"), Vec::new()),
                None => continue,
            };
            rest &= !(1 << bit);
            flags.push(Flag { bit, name, aliases });
        }
        (flags, rest)
    }
}

#[cfg(test)]
mod tests {
    use vdump_filters::{FlagBits, HugetlbEncoding, OrderEncoding};

    use super::*;

    fn encodings(buddy: u32) -> Encodings {
        Encodings {
            flags: FlagBits { head_mask: 1 << 6, ..FlagBits::default() },
            slab: SlabEncoding::Unknown,
            hugetlb: HugetlbEncoding::Unknown,
            order: OrderEncoding::Unknown,
            buddy: Some(TypeTest::from_exported(buddy)),
            offline: None,
            unaccepted: None,
            free_orders: 11,
        }
    }

    #[test]
    fn flags_have_the_kernels_names_and_what_is_above_them_is_no_flag() {
        let info = VmcoreInfo::parse(
            b"NUMBER(PG_locked)=0\nNUMBER(PG_lru)=5\nNUMBER(PG_checked)=10\nNUMBER(PG_owner_priv_1)=10\n\
              NUMBER(PG_swapcache)=10\nNUMBER(PG_head_mask)=64\nNUMBER(PG_head)=6\nNUMBER(PG_wild)=99\n",
        );
        let names = FlagNames::new(Some(&info), &encodings(!0x80));
        let (flags, rest) = names.split(1 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 10 | 1 << 58);
        let names: Vec<_> = flags.iter().map(|flag| flag.name.as_str()).collect();
        assert_eq!((names.as_slice(), rest), (["locked", "lru", "head", "bit 7", "owner_priv_1"].as_slice(), 1 << 58));
        assert_eq!(flags[4].aliases, ["checked", "swapcache"]);
    }

    #[test]
    fn of_few_names_nothing_is_concluded() {
        let info = VmcoreInfo::parse(b"NUMBER(PG_lru)=5\n");
        let (flags, rest) = FlagNames::new(Some(&info), &encodings(!0x80)).split(1 | 1 << 5 | 1 << 6);
        assert_eq!((flags.len(), flags[1].name.as_str(), rest), (2, "head", 1));
    }

    #[test]
    fn types_by_every_eras_name() {
        let word =
            |word, buddy, info: &str| type_word(word, &encodings(buddy), Some(&VmcoreInfo::parse(info.as_bytes())));
        assert_eq!(word(0xf000_0000, 0xf000_0000, ""), "page type: buddy");
        assert_eq!(word(0xf200_0000, 0xf000_0000, "NUMBER(PGTY_table)=242\n"), "page type: table");
        assert!(word(0xf200_0000, 0xf000_0000, "").contains("does not name"));
        assert!(word(!0x200, !0x80, "").contains("page table"));
        assert_eq!(word(u32::MAX, !0x80, ""), "mapped by nobody");
        assert_eq!(word(2, !0x80, ""), "mapped 3 times");
    }

    #[test]
    fn section_flags_by_name() {
        assert_eq!(section_flags(0b10_1111), ["present", "has-mem-map", "online", "early", "bit 5"]);
    }
}
