"""Free pages on the page allocator's per-CPU lists, as drgn walks them: of each CPU and zone, if the lists have as many as the kernel
counted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import drgn
from drgn.helpers.linux.cpumask import for_each_possible_cpu
from drgn.helpers.linux.list import list_for_each_entry
from drgn.helpers.linux.mm import page_to_pfn
from drgn.helpers.linux.mmzone import for_each_online_pgdat
from drgn.helpers.linux.percpu import per_cpu_ptr

# include/linux/mmzone.h: lists of each order up to PAGE_ALLOC_COSTLY_ORDER, then those of huge pages.
COSTLY_ORDER, HUGE_ORDER = 3, 9


class Lists(NamedTuple):
    """One CPU's lists of one zone."""

    cpu: int
    count: int
    frames: list[int]


def frames(prog: drgn.Program) -> set[int]:
    """Their PFNs."""
    return {pfn for lists in walk(prog) if lists.count == len(lists.frames) for pfn in lists.frames}


def walk(prog: drgn.Program) -> Iterator[Lists]:
    types = prog.constant("MIGRATE_PCPTYPES").value_()
    for pgdat in for_each_online_pgdat(prog):
        for zone in (pgdat.node_zones[number] for number in range(pgdat.nr_zones.value_())):
            if not zone.spanned_pages:
                continue
            for cpu in for_each_possible_cpu(prog):
                pages = per_cpu_ptr(zone.per_cpu_pageset, cpu)
                yield Lists(cpu, pages.count.value_(), list(on_lists(pages, types)))


def on_lists(pages: drgn.Object, types: int) -> Iterator[int]:
    for number, head in enumerate(pages.lists):
        order = number // types if number < types * (COSTLY_ORDER + 1) else HUGE_ORDER
        for page in list_for_each_entry("struct page", head.address_of_(), "lru"):
            first = page_to_pfn(page).value_()
            yield from range(first, first + (1 << order))
