//! The page allocator's per-CPU lists of free pages, as the releases lay them out.
//!
//! Knows `struct per_cpu_pages`. Must not know the product: the orders are written down a second time.
//! Goes to machines as words to write and keys to export.

use super::machine::{MAPS, Machine};
use super::structpage::STRUCT_PAGE;

/// The lists of a range of releases, each with the order of what is on it.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub name: &'static str,
    pub orders: &'static [u32],
    /// `zone.pageset` leads to a `struct per_cpu_pageset`.
    pub in_pageset: bool,
}

pub const SHAPES: [Shape; 6] = [
    Shape { name: "until 5.13", orders: &[0, 0, 0], in_pageset: true },
    Shape { name: "5.14", orders: &[0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 9, 9, 9], in_pageset: false },
    Shape { name: "5.18", orders: &[0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 9], in_pageset: false },
    Shape { name: "6.10", orders: &[0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 9, 9], in_pageset: false },
    Shape { name: "without huge pages", orders: &[0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3], in_pageset: false },
    Shape { name: "huge pages in the pool alone", orders: &[0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 8], in_pageset: false },
];

/// Where the per-CPU pointer lies in a `struct zone`.
pub const PAGESET: u64 = 24;
pub const ZONE_START: u64 = 104;
const COUNT: u64 = 4;
const LISTS: u64 = 32;
/// Of `struct per_cpu_pages` in `struct per_cpu_pageset`.
const IN_PAGESET: u64 = 8;

impl Shape {
    /// What the kernel's types say.
    pub fn keys(&self) -> Vec<(String, u64)> {
        let (zone, mut keys) = if self.in_pageset {
            ("zone.pageset", vec![("OFFSET(per_cpu_pageset.pcp)", IN_PAGESET)])
        } else {
            ("zone.per_cpu_pageset", Vec::new())
        };
        let lists = self.orders.len() as u64;
        keys.extend([
            ("OFFSET(per_cpu_pages.count)", COUNT),
            ("OFFSET(per_cpu_pages.lists)", LISTS),
            ("LENGTH(per_cpu_pages.lists)", lists),
            ("NUMBER(MIGRATE_PCPTYPES)", 3),
            ("NUMBER(__NR_PAGEFLAGS)", 28),
            ("OFFSET(zone.zone_start_pfn)", ZONE_START),
            ("LENGTH(pglist_data.node_zones)", 5),
        ]);
        let keys = keys.into_iter().map(|(key, value)| (key.to_owned(), value));
        keys.chain([(format!("OFFSET({zone})"), PAGESET)]).collect()
    }

    /// Frames of an entry of a list.
    pub fn pages(&self, list: usize) -> u64 {
        1 << self.orders[list]
    }

    /// The words of one CPU's lists that lie at physical address `at`, with `entries` (list and first frame) on them.
    pub fn words(&self, machine: &Machine, at: u64, entries: &[(usize, u64)]) -> Vec<(u64, u64)> {
        let at = if self.in_pageset { at + IN_PAGESET } else { at };
        let count: u64 = entries.iter().map(|(list, _)| self.pages(*list)).sum();
        let mut words = vec![(at, count << 32)];
        for list in 0..self.orders.len() {
            let head = at + LISTS + list as u64 * 16;
            let frames = entries.iter().filter(|(on, _)| *on == list).map(|(_, pfn)| link_at(machine, *pfn));
            let ring: Vec<(u64, u64)> = [(head, machine.page_offset + head)].into_iter().chain(frames).collect();
            for (n, (pa, _)) in ring.iter().enumerate() {
                let (next, prev) = (ring[(n + 1) % ring.len()].1, ring[(n + ring.len() - 1) % ring.len()].1);
                words.extend([(*pa, next), (*pa + 8, prev)]);
            }
        }
        words
    }

    /// Where the count of the lists at `at` lies, with the lock before it.
    pub fn count_at(&self, at: u64) -> u64 {
        if self.in_pageset { at + IN_PAGESET } else { at }
    }

    /// Where the head of a list lies.
    pub fn head_at(&self, at: u64, list: usize) -> u64 {
        self.count_at(at) + LISTS + list as u64 * 16
    }
}

/// Physical and virtual address of the `list_head` in a frame's `struct page`.
pub fn link_at(machine: &Machine, pfn: u64) -> (u64, u64) {
    let (at, lru) = (pfn * STRUCT_PAGE, machine.era.page.lru as u64);
    (MAPS + at + lru, machine.vmemmap + at + lru)
}
