//! Huge pages, as hugetlbfs counts them for each of their sizes.
//!
//! Knows the array of sizes. Must not know the pages themselves.

use super::{Count, lacks, sane};
use crate::{kernel::crashed::Crashed, layout::VmcoreInfo};

/// More sizes than any architecture has (`HUGE_MAX_HSTATE`).
const MAX_SIZES: u32 = 16;
/// The largest order of a huge page: 16 GiB.
const MAX_ORDER: u32 = 22;

pub(super) fn read(crashed: &Crashed<'_>) -> Result<Count, String> {
    let info = crashed.info;
    let symbol = |name: &str| crashed.symbol(name).ok_or_else(|| format!("the kernel's symbol table has no {name}"));
    let offset = |name: &str| info.offset(name).ok_or_else(|| lacks(&format!("OFFSET({name})")));
    let (table, count) = (symbol("hstates")?, symbol("hugetlb_max_hstate")?);
    let (order, pages) = (offset("hstate.order")?, offset("hstate.nr_huge_pages")?);
    let resizing = Resizing::of(info);
    let size = info.size("hstate").ok_or_else(|| lacks("SIZE(hstate)"))?;
    let sizes = crashed.half(count).filter(|sizes| *sizes <= MAX_SIZES);
    let sizes = sizes.ok_or_else(|| format!("hugetlb_max_hstate at {count:#x} is no number of sizes"))?;
    let mut sum = 0;
    for index in 0..u64::from(sizes) {
        let state = table.wrapping_add(index.wrapping_mul(size));
        resizing.is_none_at(crashed, state)?;
        let one = || {
            let order = crashed.half(state.wrapping_add(order)).filter(|order| *order <= MAX_ORDER)?;
            sane(crashed.word(state.wrapping_add(pages))?.saturating_mul(1 << order)).ok()
        };
        sum += one().ok_or_else(|| format!("the size at {state:#x} cannot be read"))?;
    }
    Ok(Count { pages: sane(sum)?, slack: 0 })
}

/// Where it shows that a task is changing the size of a pool. While it makes it larger (`set_max_huge_pages` in mm/hugetlb.c) it
/// holds new pages on a list of its own, all of them marked and none counted until it has them all (d67e32f26713, 6.7): any number.
/// It holds the size's `resize_lock` meanwhile (2938396771c8, 5.13); kernels without one have no such list.
enum Resizing {
    NeverUncounted,
    /// The offset of the lock's owner in an `hstate`.
    ByOwner(u64),
    /// A kernel whose mutexes have no such word, as real-time ones.
    Unknown,
}

impl Resizing {
    fn of(info: &VmcoreInfo) -> Self {
        match (info.offset("hstate.resize_lock"), info.offset("mutex.owner")) {
            (None, _) => Self::NeverUncounted,
            (Some(lock), Some(owner)) => Self::ByOwner(lock.saturating_add(owner)),
            (Some(_), None) => Self::Unknown,
        }
    }

    /// # Errors
    /// The pool of the size at `state` is being changed, or may be: there may be more pages than it counts.
    fn is_none_at(&self, crashed: &Crashed<'_>, state: u64) -> Result<(), String> {
        let maybe = |why: &str| Err(format!("{why}: there may be any number of pages that are not counted yet"));
        match self {
            Self::NeverUncounted => Ok(()),
            Self::Unknown => maybe("nothing says whether a task was changing a pool's size"),
            Self::ByOwner(at) => match crashed.word(state.wrapping_add(*at)) {
                Some(0) => Ok(()),
                Some(_) => maybe("a task was changing a pool's size"),
                None => Err(format!("the size at {state:#x} cannot be read")),
            },
        }
    }
}
