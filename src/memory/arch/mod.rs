//! One architecture, one file: how virtual addresses become physical ones.
//!
//! Knows page table entries. Must not know why an address is wanted. Used by the virtual reader.

mod x86_64;

use std::ops::RangeInclusive;

use object::elf::EM_X86_64;

use crate::{
    layout::PagingLayout,
    source::{PageReader, ReadError},
};

/// Where a virtual address lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapping {
    /// The physical address.
    pub paddr: u64,
    /// Bytes from there to the end of the page (4 KiB, 2 MiB or 1 GiB) that maps it.
    pub len: u64,
}

/// Why a virtual address has no physical one.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WalkError {
    /// An entry on the way is not present.
    #[error("not mapped (level {0} entry)")]
    NotMapped(u32),
    /// An entry cannot be what the architecture defines.
    #[error("broken page table (level {0} entry {1:#x})")]
    Broken(u32, u64),
    /// A page table could not be read.
    #[error("page table: {0}")]
    Read(#[from] ReadError),
}

/// What a page table entry says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Entry {
    /// Nothing.
    Absent,
    /// Memory of a process that lies elsewhere now: it was swapped out, or is being moved.
    Elsewhere,
    /// What the architecture does not define.
    Broken,
    /// The page at a physical address, as large as one entry of this level covers.
    Page(u64),
    /// The next lower table at a physical address.
    Table(u64),
}

/// One entry on the way from the top table to a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Walk {
    /// The table's level; 1 is the lowest.
    pub level: u32,
    /// Physical address of the table.
    pub table: u64,
    /// Which of its entries.
    pub index: u64,
    /// The entry.
    pub entry: u64,
    /// Bytes of memory that one entry of such a table covers.
    pub covers: u64,
}

/// Entries of a page table.
pub const TABLE_ENTRIES: u64 = (TABLE_SIZE / 8) as u64;

/// What an architecture must provide.
pub trait Arch: Send + Sync + std::fmt::Debug {
    /// Physical address of the top table, and its level.
    fn top(&self) -> (u64, u32);

    /// Log2 of the bytes that an entry of a table of `level` covers.
    fn shift(&self, level: u32) -> u32;

    /// What `entry` of a table of `level` says.
    fn entry(&self, level: u32, entry: u64) -> Entry;

    /// The same for the memory of a process, whose pages may be there although nobody may use them.
    fn user_entry(&self, level: u32, entry: u64) -> Entry;

    /// The addresses that a process has, first and last.
    fn user_part(&self) -> RangeInclusive<u64>;

    /// The stack pointer that a task had in user mode, from the bytes at the top of its kernel stack: the registers saved when
    /// it entered the kernel. `None` if they are not those of user mode.
    fn user_stack(&self, top: &[u8]) -> Option<u64>;

    /// The parts of the address space that hold the kernel's own memory, what is needed most first: first and last address.
    fn kernel_parts(&self) -> Vec<RangeInclusive<u64>>;

    /// What the kernel calls a table of `level`.
    fn level_name(&self, level: u32) -> &'static str;

    /// Walks the crashed kernel's page tables and shows each entry to `seen`. Takes a bounded number of reads, whatever the tables
    /// say.
    ///
    /// # Errors
    /// [`WalkError`].
    fn walk(&self, tables: &mut TableReader<'_>, vaddr: u64, seen: &mut dyn FnMut(Walk)) -> Result<Mapping, WalkError>;

    /// Where `vaddr` lies.
    ///
    /// # Errors
    /// As [`Arch::walk`].
    fn translate(&self, tables: &mut TableReader<'_>, vaddr: u64) -> Result<Mapping, WalkError> {
        self.walk(tables, vaddr, &mut |_| ())
    }
}

/// The architecture for a layout; `None` for one that is not known.
#[must_use]
pub fn for_layout(paging: PagingLayout) -> Option<Box<dyn Arch>> {
    match paging.machine {
        EM_X86_64 => Some(Box::new(x86_64::X86_64 { paging })),
        _ => None,
    }
}

/// Size of a page table, bytes.
const TABLE_SIZE: usize = 4096;
/// Levels of the deepest page tables.
const MAX_LEVELS: usize = 5;

/// Reads page table entries, keeping the last table of each level: neighbouring addresses share all but the last.
#[derive(Debug)]
pub struct TableReader<'a> {
    reader: PageReader<'a>,
    tables: Vec<Option<(u64, Box<[u8]>)>>,
}

impl<'a> TableReader<'a> {
    /// Makes a reader on top of a physical one.
    #[must_use]
    pub fn new(reader: PageReader<'a>) -> Self {
        Self { reader, tables: vec![None; MAX_LEVELS] }
    }

    /// Entry `index` of the table at physical address `table`, which is of `level` (1 is the lowest).
    ///
    /// # Errors
    /// The table cannot be read.
    pub fn entry(&mut self, level: u32, table: u64, index: u64) -> Result<u64, ReadError> {
        let absent = ReadError::Absent(table);
        let slot = self.tables.get_mut(level as usize - 1).ok_or_else(|| absent.clone())?;
        let cached = match slot {
            Some((paddr, bytes)) if *paddr == table => bytes,
            _ => &mut slot.insert((table, self.reader.read_whole(table, TABLE_SIZE)?.into())).1,
        };
        let (entries, _) = cached.as_chunks::<8>();
        entries.get(index as usize).map(|entry| u64::from_le_bytes(*entry)).ok_or(absent)
    }
}
