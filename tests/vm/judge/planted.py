"""The plant's report: where the guest's program put pages of known kinds, and the levels at which each must be gone."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from . import kpageflags

USER, CACHE, PRIVATE_CACHE = 8, 2 | 4, 4
ALWAYS = -1
# By the program's class names. File pages depend on whether the filesystem keeps buffers at them, which the kernel's
# flags tell.
DROPPED_BY = {
    "anon": USER,
    "anon-random": USER,
    "anon-zero": USER,
    "anon-mlocked": USER,
    "anon-ksm": USER,
    "anon-thp": USER,
    "hugetlb": USER,
    "shm": CACHE,
    "file-clean": CACHE,
    "file-dirty": PRIVATE_CACHE,
    "hwpoison": ALWAYS,
    "soft-offline": ALWAYS,
}


class Planted(NamedTuple):
    kind: str
    pfn: int
    flags: int
    head: bytes
    """The page's first 32 bytes; empty for a page that was not to be read."""

    def is_dropped_at(self, level: int) -> bool:
        bits = DROPPED_BY[self.kind]
        return bits == ALWAYS or bool(bits & level)


def read(out: Path, name: str = "planted") -> list[Planted]:
    rows = (line.split(" ") for line in (out / name).read_text().splitlines())
    return [Planted(kind, int(pfn, 16), int(flags, 16), bytes.fromhex(head)) for kind, pfn, flags, head in rows]


def misfits(page: Planted) -> str:
    """Why the kernel's flags do not fit the class, if they do not: then the plant is wrong, not the filter."""
    private = bool(page.flags & kpageflags.PRIVATE)
    wanted = {CACHE: not private, PRIVATE_CACHE: private, USER: bool(page.flags & kpageflags.ANON)}
    return (
        ""
        if wanted.get(DROPPED_BY[page.kind], True)
        else f"{page.kind} at {page.pfn:#x} is {kpageflags.names(page.flags)}"
    )
