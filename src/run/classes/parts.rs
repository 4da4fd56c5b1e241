//! Zones as parts of memory that do not overlap, so that each page is counted once.
//!
//! Knows ranges only. Zones of several nodes may span frames of one another: those belong to nobody surely.

use vdump_filters::PfnRange;

use super::ZoneCount;
use crate::{classify::Counts, kernel::Zone};

/// All frames, cut where a zone begins or ends.
pub(super) struct Parts {
    ranges: Vec<PfnRange>,
    /// Which zone each lies in, by number; `None`: in none, or in more than one.
    zones: Vec<Option<usize>>,
}

impl Parts {
    /// Cuts the frames below `max_pfn`.
    pub(super) fn new(zones: &[Zone], max_pfn: u64) -> Self {
        let mut cuts: Vec<u64> = zones.iter().flat_map(|zone| [zone.range.start, zone.range.end]).collect();
        cuts.extend([0, max_pfn]);
        cuts.retain(|cut| *cut <= max_pfn);
        cuts.sort_unstable();
        cuts.dedup();
        let ranges: Vec<_> = cuts.windows(2).map(|cut| PfnRange::new(cut[0], cut[1])).collect();
        let zone_of = |range: &PfnRange| {
            let mut spanning = (0..).zip(zones).filter(|(_, zone)| zone.range.contains(range.start));
            match (spanning.next(), spanning.next()) {
                (Some((number, _)), None) => Some(number),
                _ => None,
            }
        };
        let zones = ranges.iter().map(zone_of).collect();
        Self { ranges, zones }
    }

    pub(super) fn ranges(&self) -> &[PfnRange] {
        &self.ranges
    }

    /// Joins the counts of the parts for each zone, and at the end for what is in no zone surely, if there is any.
    pub(super) fn by_zone(&self, counts: &[Counts], zones: Vec<Zone>) -> Vec<ZoneCount> {
        let of = |wanted: Option<usize>| {
            let own = self.zones.iter().zip(counts).filter(|(zone, _)| **zone == wanted);
            own.fold(Counts::default(), |sum, (_, counts)| sum.merge(counts))
        };
        let rest = ZoneCount { zone: None, counts: of(None) };
        let zones = (0..).zip(zones).map(|(number, zone)| ZoneCount { zone: Some(zone), counts: of(Some(number)) });
        zones.chain([rest]).filter(|zone| zone.counts.total() > 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use vdump_filters::PageClass;

    use super::*;

    fn zone(name: &str, start: u64, end: u64) -> Zone {
        Zone { node: 0, name: name.to_owned(), range: PfnRange::new(start, end) }
    }

    #[test]
    fn each_frame_is_in_one_part_and_overlaps_are_nobodys() {
        let zones = vec![zone("A", 10, 50), zone("B", 40, 90), zone("C", 95, 1000)];
        let parts = Parts::new(&zones, 100);
        let expected = [(0, 10), (10, 40), (40, 50), (50, 90), (90, 95), (95, 100)];
        assert_eq!(parts.ranges, expected.map(|(start, end)| PfnRange::new(start, end)));
        assert_eq!(parts.zones, [None, Some(0), None, Some(1), None, Some(2)]);
        let mut counts = vec![Counts::default(); parts.ranges.len()];
        for (range, counts) in parts.ranges.iter().zip(&mut counts) {
            counts.add(PageClass::Free, range.len());
        }
        let total = |zone: &ZoneCount| (zone.zone.as_ref().map(|zone| zone.name.clone()), zone.counts.total());
        let totals: Vec<_> = parts.by_zone(&counts, zones).iter().map(total).collect();
        assert_eq!(totals, [(Some("A".into()), 30), (Some("B".into()), 40), (Some("C".into()), 5), (None, 25)]);
    }

    #[test]
    fn without_zones_all_is_one_part() {
        assert_eq!(Parts::new(&[], 100).ranges, [PfnRange::new(0, 100)]);
        assert!(Parts::new(&[], 0).ranges.is_empty());
    }
}
