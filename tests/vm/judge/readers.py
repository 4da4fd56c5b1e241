"""Debian's libkdumpfile as a judge: every page that it finds in a dump must equal the full vmcore's, byte for byte."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import kdumpfile

from .vmcore import PAGE, Vmcore

RUN = 512


@dataclass
class Comparison:
    equal: int = 0
    different: list[int] = field(default_factory=list)


class Dump:
    """A dump of any format that libkdumpfile opens."""

    def __init__(self, path: Path):
        self.handle = kdumpfile.kdumpfile(str(path))

    def pfns(self) -> set[int]:
        """The PFNs that libkdumpfile itself finds in a kdump. (For an ELF whose LOADs overlap, 0.5.1 stops at the
        first one's end.)"""
        bits = self.handle.attr["file.pagemap"].get_bits(0, self.handle.attr["max_pfn"] - 1)
        return {index * 8 + bit for index, byte in enumerate(bits) if byte for bit in range(8) if byte >> bit & 1}

    def read(self, pfn: int, pages: int = 1) -> bytes:
        return bytes(self.handle.read(kdumpfile.KDUMP_MACHPHYSADDR, pfn * PAGE, pages * PAGE))

    def is_absent(self, pfn: int) -> bool:
        """Whether reading the page says that it is not in the dump, as it must for an excluded page."""
        try:
            self.read(pfn)
        except kdumpfile.exceptions.NoDataException:
            return True
        return False


def compare(dump: Dump, pfns: Iterable[int], vmcore: Vmcore) -> Comparison:
    """Reads the pages through libkdumpfile, and compares them."""
    result = Comparison()
    for first, count in runs(pfns):
        content = dump.read(first, count)
        for index in range(count):
            if content[index * PAGE : (index + 1) * PAGE] == vmcore.page(first + index):
                result.equal += 1
            else:
                result.different.append(first + index)
    return result


def runs(pfns: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Neighbouring PFNs as (first, count), at most RUN of them at once."""
    first = count = 0
    for pfn in sorted(pfns):
        if count and (pfn != first + count or count == RUN):
            yield first, count
            count = 0
        if not count:
            first = pfn
        count += 1
    if count:
        yield first, count
