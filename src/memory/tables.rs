//! Page tables, read from a dump: the way from a virtual address to a physical one.

use crate::{
    arch::{AddressSpace, Entry},
    source::{PageReader, ReadError},
};

/// Where a virtual address lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mapping {
    /// The physical address.
    pub paddr: u64,
    /// Bytes from there to the end of the page, of any size, that maps it.
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

/// Where `vaddr` lies by the tables of `space`, of which each entry on the way is shown to `seen`. Takes a bounded number of reads,
/// whatever the tables say.
///
/// # Errors
/// [`WalkError`].
pub fn walk(
    space: &dyn AddressSpace,
    tables: &mut TableReader<'_>,
    vaddr: u64,
    seen: &mut dyn FnMut(Walk),
) -> Result<Mapping, WalkError> {
    let (mut table, top) = space.top();
    for level in (1..=top).rev() {
        let size = 1u64 << space.shift(level);
        let index = vaddr / size % space.entries(level);
        let entry = tables.entry(space, level, table, index)?;
        seen(Walk { level, table, index, entry, covers: size });
        match space.entry(level, entry) {
            Entry::Absent | Entry::Elsewhere => return Err(WalkError::NotMapped(level)),
            Entry::Broken => return Err(WalkError::Broken(level, entry)),
            Entry::Page(paddr) => {
                let within = vaddr & (size - 1);
                return Ok(Mapping { paddr: paddr | within, len: size - within });
            }
            Entry::Table(next) => table = next,
        }
    }
    Err(WalkError::NotMapped(0))
}

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

    /// Entry `index` of the table of `space` at physical address `table`, which is of `level` (1 is the lowest).
    ///
    /// # Errors
    /// The table cannot be read.
    pub fn entry(&mut self, space: &dyn AddressSpace, level: u32, table: u64, index: u64) -> Result<u64, ReadError> {
        let absent = ReadError::Absent(table);
        let words = space.table_words();
        let slot = self.tables.get_mut(level as usize - 1).ok_or_else(|| absent.clone())?;
        let cached = match slot {
            Some((paddr, bytes)) if *paddr == table => bytes,
            _ => {
                let size = space.entries(level) as usize * words.long_size();
                &mut slot.insert((table, self.reader.read_whole(table, size)?.into())).1
            }
        };
        words.long_at(cached, index as usize * words.long_size()).ok_or(absent)
    }
}
