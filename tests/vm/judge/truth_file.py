"""The truth of one crash as a text, for tests that have the vmcore but neither drgn nor the kernel's debug information.

    page FIRST END CLASS             what the struct pages say of RAM, by PFN (hex, END is the first after them)
    planted FIRST END KIND LEVELS    what the guest's program put there; the bits of the dump level that drop it, or -1

`tests/altered.rs` reads it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from . import planted
from .truth import Truth
from .vmcore import Vmcore

IMAGE, PARTIAL, NO_PAGE = "image", "partial", "none"


def lines(crash: Path) -> Iterator[str]:
    vmcore = Vmcore(crash / "vmcore")
    truth = Truth(crash / "vmcore", crash / "vmlinux")

    def name(pfn: int) -> str:
        # What stays whatever its struct page says.
        if pfn in vmcore.partial:
            return PARTIAL
        return IMAGE if pfn in truth.image else truth.classes.get(pfn, NO_PAGE)

    for first, end, (kind,) in runs((pfn, (name(pfn),)) for pfn in vmcore.whole.keys() | vmcore.partial):
        yield f"page {first:x} {end:x} {kind}"
    pages = ((page.pfn, (page.kind, planted.DROPPED_BY[page.kind])) for page in planted.read(crash / "out"))
    for first, end, (kind, levels) in runs(set(pages)):
        yield f"planted {first:x} {end:x} {kind} {levels}"


def runs(pages: Iterable[tuple[int, tuple]]) -> Iterator[tuple[int, int, tuple]]:
    """Pages in order, those that follow each other and are alike as one."""
    run: tuple[int, int, tuple] | None = None
    for pfn, what in sorted(pages):
        if run and run[1] == pfn and run[2] == what:
            run = (run[0], pfn + 1, what)
            continue
        if run:
            yield run
        run = (pfn, pfn + 1, what)
    if run:
        yield run


if __name__ == "__main__":
    crash, target = map(Path, sys.argv[1:])
    target.write_text("".join(f"{line}\n" for line in lines(crash)))
