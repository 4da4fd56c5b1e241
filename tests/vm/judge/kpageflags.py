"""The kernel's own word on each page: /proc/kpageflags as the plant saved it, twice, shortly before the crash.

Bit numbers: include/uapi/linux/kernel-page-flags.h, and fs/proc/page.c for those from 32 on. KPF_KSM is not used:
6.12 sets it for every anonymous page.
"""

from __future__ import annotations

from array import array
from pathlib import Path

LRU = 1 << 5
SLAB = 1 << 7
BUDDY = 1 << 10
ANON = 1 << 12
SWAPCACHE = 1 << 13
SWAPBACKED = 1 << 14
TAIL = 1 << 16
HUGE = 1 << 17
HWPOISON = 1 << 19
NOPAGE = 1 << 20
THP = 1 << 22
OFFLINE = 1 << 23
PGTABLE = 1 << 26
RESERVED = 1 << 32
PRIVATE = 1 << 35

NAMES = {name: value for name, value in globals().items() if name.isupper() and isinstance(value, int)}


def stable(out: Path) -> dict[int, int]:
    """Flags by PFN, for the pages whose flags were the same in both snapshots: what was changing proves nothing."""
    first, second = (array("Q", (out / f"kpageflags.{number}").read_bytes()) for number in (1, 2))
    return {pfn: flags for pfn, (flags, later) in enumerate(zip(first, second, strict=True)) if flags == later}


def names(flags: int) -> str:
    return "|".join(name for name, value in NAMES.items() if flags & value) or "none"
