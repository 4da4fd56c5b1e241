"""The side-by-side with Debian's makedumpfile 1.7.2: which pages the two drop differently, and why.

A difference counts as explained only when the page's own struct page, read by drgn (`truth.py`), takes vdump's side
and the page is of the kind that the named shortcoming of the old makedumpfile is about.
"""

from __future__ import annotations

import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from .kdump import Kdump
from .truth import ANON, FREE_PCP, HUGETLB, OFFLINE, SLAB, Truth

SECONDS = 180


def run(vmcore: Path, level: int, output: Path) -> Kdump:
    command = ["makedumpfile", "-l", "-d", str(level), str(vmcore), str(output)]
    subprocess.run(command, check=True, capture_output=True, timeout=SECONDS)
    return Kdump(output)


def split(vmcore: Path, level: int, outputs: list[Path]) -> list[Path]:
    """The same in several files, in blocks small enough for each to get some."""
    command = ["makedumpfile", "-l", "-d", str(level), "--split", "--splitblock-size", "64", str(vmcore)]
    subprocess.run([*command, *map(str, outputs)], check=True, capture_output=True, timeout=SECONDS)
    return outputs


class Case(NamedTuple):
    """One PFN on which the two disagree."""

    pfn: int
    truth: Truth
    level: int

    @property
    def kind(self) -> str:
        return self.truth.classes.get(self.pfn, "no struct page")

    @property
    def is_tail(self) -> bool:
        return bool(self.truth.pages[self.pfn].head & 1)

    @property
    def has_page_type_values(self) -> bool:
        """Whether this kernel (6.11 and later) keeps page types as values in the top byte."""
        return self.truth.number("PGTY_buddy") is not None

    @property
    def has_compound_order_member(self) -> bool:
        """Before 6.6 a compound page's order was a member of its second struct page; then it moved into the flags."""
        return self.truth.has("compound_order")


class Reason(NamedTuple):
    text: str
    holds: Callable[[Case], bool]


WE_DROPPED_ALONE = (
    Reason("a free page on a per-CPU list: makedumpfile does not look at those", lambda case: case.kind == FREE_PCP),
    Reason(
        "an offline page: without NUMBER(PG_hwpoison), makedumpfile looks at no struct page below -d 2",
        lambda case: case.kind == OFFLINE and case.level < 2 and not case.truth.bits["hwpoison"],
    ),
    Reason(
        "a hugetlb page: makedumpfile 1.7.2 does not know its page type",
        lambda case: case.kind == HUGETLB and case.has_page_type_values,
    ),
    Reason(
        "a huge page's tail: makedumpfile 1.7.2 does not find the compound order in the flags",
        lambda case: case.kind == ANON and case.is_tail and not case.has_compound_order_member,
    ),
)
THEY_DROPPED_ALONE = (
    Reason(
        "a slab page: makedumpfile 1.7.2 does not know its page type, and takes a word of it for an anonymous mapping",
        lambda case: case.kind == SLAB and case.has_page_type_values,
    ),
    Reason("a page of the kernel's image", lambda case: case.pfn in case.truth.image),
)


def explain(pfns: set[int], reasons: tuple[Reason, ...], truth: Truth, level: int) -> tuple[Counter[str], list[Case]]:
    """How many pages each reason explains, and the pages that none does."""
    counts: Counter[str] = Counter()
    unexplained = []
    for pfn in sorted(pfns):
        case = Case(pfn, truth, level)
        reason = next((reason.text for reason in reasons if reason.holds(case)), None)
        if reason is None:
            unexplained.append(case)
        else:
            counts[reason] += 1
    return counts, unexplained
