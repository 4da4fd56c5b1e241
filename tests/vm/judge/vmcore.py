"""An ELF core as the kernel or vdump writes it: the smallest reader that can serve as an oracle. Knows program
headers and notes only."""

from __future__ import annotations

import mmap
import re
import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PAGE = 4096
PT_LOAD, PT_NOTE = 1, 4
PN_XNUM = 0xFFFF
NO_PADDR = (1 << 64) - 1


@dataclass(frozen=True)
class Load:
    """A PT_LOAD: `filesz` bytes of the file at `offset`, then zeros up to `memsz`."""

    offset: int
    vaddr: int
    paddr: int
    filesz: int
    memsz: int


class Vmcore:
    """An ELF core, mapped. Pages are asked for by PFN."""

    def __init__(self, path: Path):
        self.path = path
        with path.open("rb") as file:
            self.data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        assert self.data[:6] == b"\x7fELF\x02\x01", f"{path} is not a little-endian ELF64"
        (offset,) = struct.unpack_from("<Q", self.data, 32)
        size, count = struct.unpack_from("<HH", self.data, 54)
        if count == PN_XNUM:
            (sections,) = struct.unpack_from("<Q", self.data, 40)
            (count,) = struct.unpack_from("<I", self.data, sections + 44)
        self.headers = [struct.unpack_from("<IIQQQQQQ", self.data, offset + index * size) for index in range(count)]

    @cached_property
    def loads(self) -> list[Load]:
        """The segments of physical memory."""
        return [load for load in self.all_loads if load.paddr != NO_PADDR]

    @cached_property
    def mapped(self) -> list[Load]:
        """The segments of virtual memory only."""
        return [load for load in self.all_loads if load.paddr == NO_PADDR]

    @cached_property
    def all_loads(self) -> list[Load]:
        return [Load(*header[2:7]) for header in self.headers if header[0] == PT_LOAD]

    @cached_property
    def notes(self) -> bytes:
        return b"".join(
            self.data[offset : offset + size] for kind, _, offset, _, _, size, *_ in self.headers if kind == PT_NOTE
        )

    @cached_property
    def vmcoreinfo(self) -> dict[str, str]:
        # The name is padded to 12 bytes; the text follows, up to the end of its note.
        found = re.search(rb"VMCOREINFO\0\0([^\0]*)", self.notes)
        assert found, f"{self.path} has no VMCOREINFO note"
        return dict(line.split("=", 1) for line in found[1].decode().splitlines() if "=" in line)

    @cached_property
    def whole(self) -> dict[int, int]:
        """PFN to file offset, for each page that lies wholly in the file. Kernel text is there twice; either copy
        serves."""
        pages: dict[int, int] = {}
        for load in self.loads:
            first = -(-load.paddr // PAGE)
            last = (load.paddr + load.filesz) // PAGE
            start = load.offset - load.paddr
            pages.update((pfn, start + pfn * PAGE) for pfn in range(first, last))
        return pages

    @cached_property
    def zeros(self) -> set[int]:
        """PFNs that a LOAD covers only by its memory size: readers give zeros for them."""
        covered: set[int] = set()
        for load in self.loads:
            covered.update(range(-(-(load.paddr + load.filesz) // PAGE), (load.paddr + load.memsz) // PAGE))
        return covered - self.whole.keys()

    @cached_property
    def partial(self) -> set[int]:
        """PFNs of which only a part is RAM, at the ragged ends of RAM ranges."""
        edges: set[int] = set()
        for load in self.loads:
            ends = (load.paddr, load.paddr + load.filesz, load.paddr + load.memsz)
            edges.update(edge // PAGE for edge in ends if edge % PAGE)
        return edges - self.whole.keys() - self.zeros

    def page(self, pfn: int) -> bytes:
        """The page's bytes; a partial page has zeros around its RAM."""
        offset = self.whole.get(pfn)
        if offset is not None:
            return self.data[offset : offset + PAGE]
        content = bytearray(PAGE)
        for load in self.loads:
            start, end = max(load.paddr, pfn * PAGE), min(load.paddr + load.filesz, (pfn + 1) * PAGE)
            if start < end:
                offset = load.offset + start - load.paddr
                content[start - pfn * PAGE : end - pfn * PAGE] = self.data[offset : offset + end - start]
        return bytes(content)
