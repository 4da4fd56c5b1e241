//! The backup region: whether the lowest memory is copied aside before the capture kernel starts.
//!
//! Knows which kernels need it. x86 starts CPUs from the lowest MiB, so a capture kernel overwrites it. Kernels since 5.13
//! keep no data there (f1d4d47c5851, "x86/setup: Always reserve the first 1M"); those since 5.5 keep none when
//! `crashkernel=` is given (6f599d84231f). On a machine with memory encryption the copy would be of no use.

use crate::{
    host::Host,
    range::{PAGE, Range, align_down, align_up},
};

/// The end of conventional memory.
const LOW_END: u64 = 0xa_0000;

/// The memory to copy: the RAM below 640 KiB, whole pages.
#[must_use]
pub fn source(host: &Host) -> Option<Range> {
    let low = Range::new(0, LOW_END);
    let ram: Vec<Range> = host.iomem.ram().iter().filter_map(|range| range.common(&low)).collect();
    let start = ram.first()?.start;
    let end = ram.last()?.end;
    // From the first byte to the last, whatever is between: one copy.
    Some(Range::new(align_down(start, PAGE), align_up(end, PAGE)?)).filter(|range| !range.is_empty())
}

/// Whether this kernel may have data of its own below 1 MiB; an unknown kernel may.
#[must_use]
pub fn is_needed(host: &Host) -> bool {
    host.version().is_none_or(|version| version < (5, 5))
}
