//! Free pages that no struct page tells of: those on the page allocator's per-CPU lists (`zone.per_cpu_pageset`).
//!
//! To take a page from one's own list needs no lock of the zone, so each CPU keeps some, of each zone: thousands. Their struct
//! pages look like those of pages that the kernel uses for itself and that it needs no reference for. Must not know classes:
//! `classify` asks for the frames.

mod frames;
mod lists;
mod shape;

use std::time::{Duration, Instant};

use vdump_filters::PfnRange;

use super::{
    crashed::Crashed,
    zones::{ZonePlace, places},
};
use crate::memory::{MemMap, VirtReader};
use frames::Frames;
use lists::{Follower, Lists};
use shape::Shape;

pub use shape::KEYS;

/// As many lists as are looked at: more CPUs times zones than any machine has.
const MOST_LISTS: u64 = 1 << 20;
/// The longest that looking may take. A million pages take a second.
const MAX_TIME: Duration = Duration::from_secs(60);

/// What was found.
#[derive(Debug, Default)]
pub struct FreePcp {
    frames: Frames,
    /// Frames on all of the lists that were looked at, as the kernel counted; `None` where nobody could look.
    counted: Option<u64>,
    /// CPUs' lists of a zone that are not believed, and their frames by the kernel's count.
    refused: u64,
    refused_pages: u64,
    /// The first of them, and why.
    first: Option<String>,
    /// Why none, or not all, were looked at.
    gap: Option<String>,
}

impl FreePcp {
    /// Bytes that the frames below `max_pfn` take at the most.
    #[must_use]
    pub fn bytes_for(max_pfn: u64) -> u64 {
        Frames::bytes_for(max_pfn)
    }

    /// Follows all lists. Takes `most` bytes of memory at the most; never fails: what cannot be believed is not found.
    #[must_use]
    pub fn find(crashed: &Crashed<'_>, map: &MemMap, most: u64) -> Self {
        let mut found = Self { frames: Frames::new(most), ..Self::default() };
        found.gap = match most {
            0 => Some("the memory limit leaves no room for them".to_owned()),
            _ => found.look(crashed, map).err(),
        };
        found
    }

    /// Its frames in a range, in order.
    pub fn within(&self, range: PfnRange) -> impl Iterator<Item = u64> {
        self.frames.within(range)
    }

    /// Frames on all of the lists, as the kernel counted; `None` where nobody could look.
    #[must_use]
    pub fn counted(&self) -> Option<u64> {
        self.counted
    }

    /// Why not all of them are known, in words.
    #[must_use]
    pub fn gap(&self) -> Option<String> {
        let refused = self.first.as_ref().map(|first| {
            let Self { refused, refused_pages, .. } = self;
            format!("{refused_pages} pages on {refused} CPUs' lists are kept: {first}")
        });
        refused.or_else(|| self.gap.clone())
    }

    fn look(&mut self, crashed: &Crashed<'_>, map: &MemMap) -> Result<(), String> {
        let shape = Shape::of(crashed.info, crashed.layout)?;
        let zones = places(crashed.info, &crashed.virt)?;
        let cpus: Vec<_> = crashed.cpu_areas().collect();
        if cpus.is_empty() {
            return Err("nothing says where the CPUs' own variables lie".to_owned());
        }
        let reader = || VirtReader::new(crashed.source, &crashed.layout.space);
        let (source, layout) = (crashed.source, crashed.layout);
        let mut follower = Follower::new(shape, [reader(), reader()], map, source.existing(), layout);
        let started = Instant::now();
        let mut lists = 0;
        self.counted = Some(0);
        for zone in &zones {
            let pageset = crashed.word(zone.at.wrapping_add(shape.pageset)).filter(|at| *at != 0);
            let pageset = pageset.ok_or_else(|| format!("the zone at {:#x} has no per-CPU lists", zone.at))?;
            for (cpu, area) in &cpus {
                lists += 1;
                if lists > MOST_LISTS || started.elapsed() > MAX_TIME {
                    return Err("there are more per-CPU lists than are looked at".to_owned());
                }
                let at = pageset.wrapping_add(*area).wrapping_add(shape.pages);
                if let Err((pages, why)) = self.take(&mut follower, at, zone) {
                    self.refused += 1;
                    self.refused_pages = self.refused_pages.saturating_add(pages);
                    let of = || format!("CPU {cpu}, node {} zone {}: {why}", zone.node, zone.number);
                    self.first.get_or_insert_with(of);
                }
            }
        }
        Ok(())
    }

    /// Takes the frames of one CPU's lists, all or none.
    ///
    /// # Errors
    /// Frames on them by the kernel's count, and why they are not believed.
    fn take(&mut self, follower: &mut Follower<'_>, at: u64, zone: &ZonePlace) -> Result<(), (u64, String)> {
        let count = follower.count(at).ok_or((0, "its count cannot be read".to_owned()))?;
        let sane = u64::try_from(count).ok().filter(|count| *count <= zone.range.len());
        let count = sane.ok_or_else(|| (0, format!("{count} is no number of pages in the zone")))?;
        self.counted = self.counted.map(|counted| counted.saturating_add(count));
        let lists = Lists { at, zone, count };
        let mut taken = 0u64;
        let frames = &mut self.frames;
        let mut twice = None;
        let followed = follower.follow(lists, &mut |range| {
            if frames.has_any(range) {
                twice = Some(range);
                return Err(format!("page frame {:#x} is on two lists", range.start));
            }
            taken += 1;
            if frames.add(range) {
                return Ok(());
            }
            Err("the memory limit bears no more".to_owned())
        });
        followed.map_err(|why| {
            // The way is the same again, as far as it went.
            let _ = follower.follow(lists, &mut |range| {
                let more = taken.checked_sub(1).ok_or("far enough")?;
                taken = more;
                frames.remove(range);
                Ok(())
            });
            // Whose such a frame is, is in doubt.
            twice.into_iter().for_each(|range| frames.remove(range));
            (count, why)
        })
    }
}
