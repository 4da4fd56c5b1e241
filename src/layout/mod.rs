//! What the crashed kernel says about its own data structures.
//!
//! Knows VMCOREINFO, and which values each kernel era exports. Must not read memory: it only says where things are. The
//! [`KernelLayout`] goes to `memory` and `classify`; every value remembers where it came from.

pub mod known;
mod page;
mod sections;
mod space;
pub mod types;
mod vmcoreinfo;

use std::{fmt, sync::Arc};

pub use page::{PageLayout, bytes_at};
pub use sections::{MemMapLayout, SparseLayout};
pub use vmcoreinfo::{VmcoreInfo, Witness};

use crate::{
    arch::{AddressSpace, Usual},
    error::{Error, Kind, Result},
    source::Source,
};

/// Where a value came from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// A key of VMCOREINFO, and who said it.
    Key(String, Witness),
    /// A segment header of the dump.
    Segment,
    /// The header of a kdump-compressed dump.
    KdumpHeader,
    /// The kernel's page tables, read from the dump.
    PageTables,
    /// The kernel's symbol table, read from the dump.
    Kallsyms,
    /// Not given; the text says why this value is right.
    Default(&'static str),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key, witness) => write!(f, "{witness} {key}"),
            Self::Segment => f.write_str("PT_LOAD segment"),
            Self::KdumpHeader => f.write_str("kdump header"),
            Self::PageTables => f.write_str("page tables in the dump"),
            Self::Kallsyms => f.write_str("kallsyms in the dump"),
            Self::Default(why) => write!(f, "default: {why}"),
        }
    }
}

/// One value of the layout, for reports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fact {
    /// What it is, for example `page.flags offset`.
    pub name: &'static str,
    /// Its value, as text.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

/// Looks values up and remembers where each came from and what was missing.
#[derive(Debug)]
pub struct Resolver<'a> {
    info: &'a VmcoreInfo,
    facts: Vec<Fact>,
    limits: Vec<String>,
}

impl<'a> Resolver<'a> {
    fn new(info: &'a VmcoreInfo) -> Self {
        Self { info, facts: Vec::new(), limits: Vec::new() }
    }

    /// Notes a value and where it came from.
    fn note(&mut self, name: &'static str, value: impl fmt::Debug, origin: Origin) {
        self.facts.push(Fact { name, value: format!("{value:?}"), origin });
    }

    /// Notes an address, or what is added to one: a kernel's `unsigned long`, whatever sign VMCOREINFO prints it with.
    fn note_address(&mut self, name: &'static str, value: u64, origin: Origin) {
        self.note(name, format_args!("{value:#x}"), origin);
    }

    /// Notes what cannot be told apart because the kernel does not export something.
    fn limit(&mut self, text: impl Into<String>) {
        self.limits.push(text.into());
    }

    /// The first of `keys` that VMCOREINFO has, noted under `name`.
    fn first(&mut self, name: &'static str, keys: &[&str]) -> Option<i64> {
        let (key, value) = keys.iter().find_map(|key| Some((*key, self.info.value(key)?)))?;
        let witness = self.info.witness(key).unwrap_or(Witness::Note);
        let origin = Origin::Key(key.to_owned(), witness);
        if key.starts_with("SYMBOL(") || key == "NUMBER(phys_base)" {
            self.note_address(name, value.cast_unsigned(), origin);
        } else {
            self.note(name, value, origin);
        }
        Some(value)
    }

    /// The value of `key`, or what the machine's kernels have without one.
    fn or_usual(&mut self, name: &'static str, key: &str, usual: Usual) -> i64 {
        self.first(name, &[key]).unwrap_or_else(|| {
            self.note(name, usual.value, Origin::Default(usual.why));
            usual.value
        })
    }

    /// Like [`Resolver::first`] for something that filtering cannot do without.
    fn required(&mut self, name: &'static str, keys: &[&str]) -> Result<i64> {
        self.first(name, keys).ok_or_else(|| missing(keys))
    }

    /// An offset or size: small and not negative, or the dump lies.
    fn small(&mut self, name: &'static str, keys: &[&str]) -> Result<Option<usize>> {
        const LARGEST: i64 = 1 << 20;
        match self.first(name, keys) {
            None => Ok(None),
            Some(value @ 0..=LARGEST) => Ok(Some(value as usize)),
            Some(value) => Err(impossible(keys, value)),
        }
    }

    /// A C `int` printed signed, as the kernel's `VMCOREINFO_NUMBER` does: truncated to its 32 bits.
    fn int(&mut self, name: &'static str, keys: &[&str]) -> Option<u32> {
        self.first(name, keys).map(|value| value as u32)
    }

    /// A page flag's bit number.
    fn bit(&mut self, name: &'static str, key: &str) -> Result<Option<u32>> {
        match self.first(name, &[key]) {
            None => Ok(None),
            Some(value @ 0..=63) => Ok(Some(value as u32)),
            Some(value) => Err(impossible(&[key], value)),
        }
    }
}

fn missing(keys: &[&str]) -> Error {
    Error::new(Kind::Unsaid, format!("the kernel's layout is not known: VMCOREINFO has no {}", keys.join(" nor ")))
}

fn impossible(keys: &[&str], value: i64) -> Error {
    Error::input(format!("VMCOREINFO's {} has the impossible value {value}", keys.join(" or ")))
        .because("the note is damaged")
}

/// The crashed kernel's layout, as far as filtering needs it.
#[derive(Clone, Debug)]
pub struct KernelLayout {
    /// Log2 of the page size in bytes.
    pub page_shift: u32,
    /// Where its memory lies.
    pub space: Arc<dyn AddressSpace>,
    /// How to find a page's `struct page`.
    pub mem_map: MemMapLayout,
    /// What a `struct page` looks like.
    pub page: PageLayout,
    /// Every value with its origin.
    pub facts: Vec<Fact>,
    /// What this kernel does not tell, and what follows for the dump.
    pub limits: Vec<String>,
}

impl KernelLayout {
    /// Resolves the layout for filtering `source`.
    ///
    /// # Errors
    /// A value that filtering cannot do without is missing or impossible.
    pub fn resolve(source: &Source, info: &VmcoreInfo) -> Result<Self> {
        let mut resolver = Resolver::new(info);
        let page_shift = page_shift(info)?;
        let space = space::resolve(&mut resolver, source)?;
        let page = PageLayout::resolve(&mut resolver, &*space)?;
        let mem_map = MemMapLayout::resolve(&mut resolver, page_shift, &*space)?;
        let Resolver { facts, limits, .. } = resolver;
        Ok(Self { page_shift, space, mem_map, page, facts, limits })
    }

    /// Only what virtual addresses need.
    ///
    /// # Errors
    /// As [`KernelLayout::resolve`].
    pub fn address_space(source: &Source, info: &VmcoreInfo) -> Result<Arc<dyn AddressSpace>> {
        space::resolve(&mut Resolver::new(info), source)
    }
}

/// Log2 of `PAGESIZE=`.
///
/// # Errors
/// Not a power of two from 4 KiB to 64 KiB.
pub fn page_shift(info: &VmcoreInfo) -> Result<u32> {
    match info.text("PAGESIZE").and_then(|text| text.parse::<u64>().ok()) {
        Some(size) if size.is_power_of_two() && (4096..=65536).contains(&size) => Ok(size.trailing_zeros()),
        _ => Err(Error::input("VMCOREINFO's PAGESIZE is missing or is not a page size")
            .next_step("the note is damaged: copy the dump again, or give the vmcore it was made from")),
    }
}
