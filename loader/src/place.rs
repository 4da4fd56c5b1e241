//! Placement: where each segment goes.
//!
//! Knows sizes, alignments and free ranges. Must not know what a segment holds. Pure: the same needs and ranges give the
//! same places. A failure says what is needed, what there is, and how much more would do.

use serde::Serialize;

use crate::{
    error::{Error, Result},
    range::{PAGE, Range, align_down, align_up, human, subtract, total},
};

/// Growing a reservation beyond this helps nobody: the search for its size stops.
const MOST_EXTRA: u64 = 64 << 30;

/// What one segment asks for.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Need {
    /// Its name, for messages.
    pub name: &'static str,
    /// Bytes of memory; rounded up to pages.
    pub size: u64,
    /// Its alignment, a power of two.
    pub align: u64,
    /// It may not lie below.
    pub min: u64,
    /// It must end here or before.
    pub max: u64,
}

impl Need {
    /// `size` bytes anywhere above `min`, on a page boundary.
    #[must_use]
    pub fn new(name: &'static str, size: u64, min: u64) -> Self {
        Self { name, size, align: PAGE, min, max: u64::MAX }
    }
}

/// Gives every need its place, in the order given, each as high as it can lie; and leaves `slack` bytes free.
///
/// # Errors
/// The first need that has no room, as an index; `needs.len()` stands for the slack.
pub fn place(needs: &[Need], free: &[Range], slack: u64) -> Result<Vec<Range>, usize> {
    let mut free = free.to_vec();
    let mut places = Vec::with_capacity(needs.len());
    for (index, need) in needs.iter().enumerate() {
        let place = highest(need, &free).ok_or(index)?;
        free = subtract(&free, &[place]);
        places.push(place);
    }
    let whole = free.iter().map(|range| {
        let end = align_down(range.end, PAGE);
        align_up(range.start, PAGE).map_or(0, |start| end.saturating_sub(start))
    });
    if whole.sum::<u64>() < slack { Err(needs.len()) } else { Ok(places) }
}

fn highest(need: &Need, free: &[Range]) -> Option<Range> {
    let (size, align) = (align_up(need.size.max(1), PAGE)?, need.align.max(PAGE));
    let in_range = |range: &Range| {
        let end = range.end.min(need.max);
        let start = align_down(end.checked_sub(size)?, align);
        (start >= range.start && start >= need.min).then(|| Range::with_len(start, size))
    };
    free.iter().filter_map(in_range).max()
}

/// Places needs into a reserved range.
///
/// # Errors
/// What is needed, what there is, and how much larger `crashkernel=` must be.
pub fn place_in_reserved(needs: &[Need], region: Range, slack: u64) -> Result<Vec<Range>> {
    place(needs, &[region], slack).map_err(|_| {
        let advice = match missing(needs, region, slack) {
            Some(extra) => format!(
                "make crashkernel= at least {} MiB larger ({} MiB in all, and what the capture kernel needs to run), and reboot",
                extra >> 20,
                (region.len() + extra) >> 20
            ),
            None => "no larger reservation there would do: reserve memory elsewhere (crashkernel=SIZE,high)".to_owned(),
        };
        let parts: Vec<String> = needs.iter().map(|need| format!("{} {}", need.name, human(need.size))).collect();
        let sum = needs.iter().map(|need| need.size).fold(slack, u64::saturating_add);
        Error::input(format!(
            "the capture kernel does not fit: {} needed ({}, room for the kernel's own tables {}), {} reserved at {region}",
            human(sum),
            parts.join(", "),
            human(slack),
            human(region.len()),
        ))
        .next_step(advice)
    })
}

/// The fewest whole MiB by which the region must grow upwards; `None` if that does not help.
#[must_use]
pub fn missing(needs: &[Need], region: Range, slack: u64) -> Option<u64> {
    let fits = |mib: u64| {
        let grown = Range::with_len(region.start, region.len().saturating_add(mib << 20));
        place(needs, &[grown], slack).is_ok()
    };
    let most = MOST_EXTRA >> 20;
    if !fits(most) {
        return None;
    }
    let (mut low, mut high) = (0, most);
    while low < high {
        let middle = low.midpoint(high);
        if fits(middle) { high = middle } else { low = middle + 1 }
    }
    Some(low << 20)
}

/// Where kernels that place a reservation themselves may put it; multiples of 16 MiB (`CRASH_ALIGN` in
/// arch/x86/include/asm/crash_reserve.h).
const ANYWHERE: u64 = 256 << 20;

/// The fewest whole MiB that a reservation must have; `None` if none is large enough.
#[must_use]
pub fn reservation(needs: &[Need], slack: u64) -> Option<u64> {
    missing(needs, Range::with_len(ANYWHERE, 0), slack)
}

/// Places needs into ordinary RAM, for a kernel that starts at the next reboot: below 4 GiB where there is room.
///
/// # Errors
/// Which part has no room.
pub fn place_in_ram(needs: &[Need], ram: &[Range]) -> Result<Vec<Range>> {
    let low: Vec<Range> = ram.iter().filter_map(|range| range.common(&Range::new(0, 1 << 32))).collect();
    place(needs, &low, 0).or_else(|_| place(needs, ram, 0)).map_err(|index| {
        let part = needs.get(index).map_or("it", |need| need.name);
        let size = needs.get(index).map_or(0, |need| need.size);
        Error::input(format!("the kernel does not fit: no free range of RAM for its {part} ({})", human(size)))
            .because(format!("there are {} of RAM in {} ranges", human(total(ram)), ram.len()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn kernel(size: u64) -> Need {
        Need { align: 2 * MIB, ..Need::new("kernel", size, 16 * MIB) }
    }

    #[test]
    fn each_lies_as_high_as_it_can() {
        let needs = [kernel(10 * MIB), Need::new("initrd", 5 * MIB + 1, 0)];
        let places = place(&needs, &[Range::new(64 * MIB, 96 * MIB)], 0).unwrap();
        assert_eq!(places[0], Range::with_len(86 * MIB, 10 * MIB));
        assert_eq!(places[1].end, places[0].start);
        assert_eq!(places[1].len(), 5 * MIB + PAGE);
    }

    #[test]
    fn what_is_missing_is_exact() {
        let needs = [kernel(60 * MIB), Need::new("initrd", 42 * MIB, 0)];
        let region = Range::with_len(512 * MIB, 64 * MIB);
        assert_eq!(missing(&needs, region, MIB), Some(39 * MIB), "102 of segments and 1 of slack in 64");
        let error = place_in_reserved(&needs, region, MIB).unwrap_err().to_string();
        assert!(error.contains("at least 39 MiB larger") && error.contains("initrd 42.0 MiB"), "{error}");
        assert!(place_in_reserved(&needs, Range::with_len(512 * MIB, 103 * MIB), MIB).is_ok());
    }

    #[test]
    fn a_limit_that_growing_cannot_help_is_told() {
        let needs = [Need { max: 4 << 30, ..kernel(60 * MIB) }];
        let error = place_in_reserved(&needs, Range::with_len(8 << 30, 512 * MIB), 0).unwrap_err().to_string();
        assert!(error.contains("elsewhere"), "{error}");
    }
}
