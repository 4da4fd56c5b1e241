//! The CPUs' own variables.
//!
//! Knows the first chunk of each CPU's area (mm/percpu.c): static variables, what modules have of them, and the first
//! dynamic ones. Later chunks lie in vmalloc's area.

use super::{Found, Frames, Gap};
use crate::kernel::crashed::Crashed;

/// A CPU's part of the first chunk is smaller than this; 2 MiB is what x86_64 sets aside for it.
const MAX_AREA: u64 = 64 << 20;

pub(super) fn find(crashed: &Crashed<'_>, frames: &mut Frames) -> Found {
    let start = crashed.symbol("__per_cpu_start");
    let len = start.zip(crashed.symbol("__per_cpu_end")).and_then(|(start, end)| end.checked_sub(start));
    let len = len.filter(|len| (1..=MAX_AREA).contains(len));
    let (Some(start), Some(len)) = (start, len) else {
        return Err(Gap::Unknown("the kernel's symbol table does not bound them".to_owned()));
    };
    // Behind it the unit's rest is free, so the chunk must say how far it goes.
    let len = dynamic_end(crashed).filter(|end| *end > len).unwrap_or(len);
    let mut whole = true;
    for offset in crashed.cpu_offsets() {
        whole &= frames.add_virtual(start.wrapping_add(offset), len, crashed);
    }
    match (frames.is_empty(), whole) {
        (true, _) => Err(Gap::Unknown("no CPU's area could be found".to_owned())),
        (_, false) => Err(Gap::Damaged("some of them are not mapped".to_owned())),
        _ => Ok(()),
    }
}

/// How far a CPU's part of the first chunk goes, bytes from its start: the dynamic variables come last (`pcpu_setup_first_chunk`).
fn dynamic_end(crashed: &Crashed<'_>) -> Option<u64> {
    let info = crashed.info;
    let chunk = crashed.variable("pcpu_first_chunk")?;
    let base = crashed.word(chunk.wrapping_add(info.offset("pcpu_chunk.base_addr")?))?;
    let pages = crashed.half(chunk.wrapping_add(info.offset("pcpu_chunk.nr_pages")?))?;
    let from = base.checked_sub(crashed.variable("pcpu_base_addr")?)?;
    let unit = crashed.symbol("pcpu_unit_size").and_then(|at| crashed.half(at)).map(u64::from)?;
    let end = from.checked_add(u64::from(pages) << crashed.layout.page_shift)?;
    (end <= unit.min(MAX_AREA)).then_some(end)
}
