//! Huge pages, as hugetlbfs counts them for each of their sizes.
//!
//! Knows the array of sizes. Must not know the pages themselves.

use super::{Count, lacks, sane};
use crate::memory::witnessed::Crashed;

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
    let size = info.size("hstate").ok_or_else(|| lacks("SIZE(hstate)"))?;
    let sizes = crashed.half(count).filter(|sizes| *sizes <= MAX_SIZES);
    let sizes = sizes.ok_or_else(|| format!("hugetlb_max_hstate at {count:#x} is no number of sizes"))?;
    let mut sum = 0;
    for index in 0..u64::from(sizes) {
        let state = table.wrapping_add(index.wrapping_mul(size));
        let one = || {
            let order = crashed.half(state.wrapping_add(order)).filter(|order| *order <= MAX_ORDER)?;
            sane(crashed.word(state.wrapping_add(pages))?.saturating_mul(1 << order)).ok()
        };
        sum += one().ok_or_else(|| format!("the size at {state:#x} cannot be read"))?;
    }
    Ok(Count { pages: sane(sum)?, slack: 0 })
}
