//! What the crashed kernel itself counted: free blocks, pages on the lists of used ones, huge pages, all of its memory.
//!
//! Knows where the kernel keeps each count, and by how much it may be behind what the struct pages say. Must not know classes:
//! `classify` compares.

mod hugetlb;
mod lists;
mod zones;

use super::crashed::Crashed;

/// The kernel's variables with counts.
pub(super) const SYMBOLS: &[&str] = &[
    "vm_node_stat",
    "vm_zone_stat",
    "_totalram_pages",
    "totalram_pages",
    "num_poisoned_pages",
    "hstates",
    "hugetlb_max_hstate",
];

/// Keys that no kernel exports and that counts need: its own types say them.
pub const KEYS: [&str; 6] = [
    "OFFSET(zone.lock)",
    "SIZE(spinlock)",
    "NUMBER(NR_INACTIVE_ANON)",
    "NUMBER(NR_ISOLATED_ANON)",
    "OFFSET(hstate.nr_huge_pages)",
    "OFFSET(per_cpu_nodestat.vm_node_stat_diff)",
];

/// `enum node_stat_item` and `zone_stat_item` have fewer than these.
const MAX_ITEMS: i64 = 128;

/// The place of an enumerator's count.
fn item(crashed: &Crashed<'_>, name: &str) -> Result<u64, String> {
    let item = crashed.info.number(name).filter(|item| (0..MAX_ITEMS).contains(item));
    item.map(i64::cast_unsigned).ok_or_else(|| lacks(name))
}

/// What a count says.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Count {
    /// Pages.
    pub pages: u64,
    /// Pages that there may be more by rights: what was on its way from one state to another when the machine stopped.
    pub slack: u64,
}

/// All counts; `Err` says why one cannot be had.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Counters {
    /// Pages in free blocks.
    pub free: Result<Count, String>,
    /// Pages of memory that was never accepted.
    pub unaccepted: Result<Count, String>,
    /// Pages on the lists of pages that can be reclaimed (LRU), and those taken off for a moment: of files and of processes.
    pub lists: Result<Count, String>,
    /// Pages in hugetlbfs' pools.
    pub huge: Result<Count, String>,
    /// Pages that the hardware reported as bad.
    pub poisoned: Result<Count, String>,
    /// Pages that the kernel manages.
    pub managed: Result<Count, String>,
}

impl Counters {
    /// Reads all counts. Never fails: what cannot be read says so.
    #[must_use]
    pub fn read(crashed: &Crashed<'_>) -> Self {
        let nodes = zones::nodes(crashed);
        let of_nodes = |read: fn(&Crashed<'_>, &[u64]) -> Result<Count, String>| {
            nodes.as_ref().map_err(Clone::clone).and_then(|nodes| read(crashed, nodes))
        };
        Self {
            free: of_nodes(zones::free),
            unaccepted: zones::unaccepted(crashed),
            lists: of_nodes(lists::read),
            huge: hugetlb::read(crashed),
            poisoned: exactly(crashed, &["num_poisoned_pages"]),
            managed: exactly(crashed, &["_totalram_pages", "totalram_pages"]),
        }
    }
}

/// A variable that is a count of pages, by one of its names.
fn exactly(crashed: &Crashed<'_>, names: &[&str]) -> Result<Count, String> {
    let at = names.iter().find_map(|name| crashed.symbol(name));
    let at = at.ok_or_else(|| format!("the kernel's symbol table has no {}", names.join(" nor ")))?;
    let pages = crashed.word(at).ok_or_else(|| format!("{} at {at:#x} cannot be read", names.join(" or ")))?;
    Ok(Count { pages: sane(pages)?, slack: 0 })
}

/// More pages than an address can name are no count.
const MOST_PAGES: u64 = 1 << 52;

fn sane(pages: u64) -> Result<u64, String> {
    if pages <= MOST_PAGES { Ok(pages) } else { Err(format!("{} is no number of pages", pages.cast_signed())) }
}

fn lacks(key: &str) -> String {
    format!("nothing says what {key} is: neither VMCOREINFO nor the kernel's own types")
}
