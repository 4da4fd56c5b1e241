"""The kdump-compressed format: header, bitmaps and page descriptors, for the judges. Independent of vdump's writer."""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

SIGNATURE = b"KDUMP   "
DESCRIPTOR = struct.Struct("<QIIQ")
INCOMPLETE = 8


@dataclass(frozen=True)
class Descriptor:
    offset: int
    size: int
    flags: int


class Kdump:
    def __init__(self, path: Path):
        self.path = path
        with path.open("rb") as file:
            self.data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        assert self.data[:8] == SIGNATURE, f"{path} is not a kdump-compressed dump"
        (self.version,) = struct.unpack_from("<i", self.data, 8)
        self.tv_sec, self.tv_usec = struct.unpack_from("<qq", self.data, 408)
        self.status, self.block, self.sub_blocks, self.bitmap_blocks = struct.unpack_from("<IiiI", self.data, 424)
        (self.dump_level,) = struct.unpack_from("<i", self.data, self.block + 8)
        notes_at, notes_size = struct.unpack_from("<QQ", self.data, self.block + 48)
        self.notes = self.data[notes_at : notes_at + notes_size]
        (self.max_mapnr,) = struct.unpack_from("<Q", self.data, self.block + 96)

    @property
    def bitmaps_at(self) -> int:
        return self.block * (1 + self.sub_blocks)

    @cached_property
    def ram(self) -> set[int]:
        """Bitmap 1: the PFNs that exist."""
        return self.bits(0)

    @cached_property
    def kept(self) -> set[int]:
        """Bitmap 2: the PFNs that are in the dump."""
        return self.bits(1)

    def bits(self, which: int) -> set[int]:
        size = self.bitmap_blocks // 2 * self.block
        start = self.bitmaps_at + which * size
        bitmap = self.data[start : start + size]
        return {index * 8 + bit for index, byte in enumerate(bitmap) if byte for bit in range(8) if byte >> bit & 1}

    @property
    def table_at(self) -> int:
        return self.bitmaps_at + self.bitmap_blocks * self.block

    @cached_property
    def descriptors(self) -> dict[int, Descriptor]:
        """Per kept PFN, in PFN order as they are stored."""
        table = self.data[self.table_at : self.table_at + len(self.kept) * DESCRIPTOR.size]
        return {
            pfn: Descriptor(*row[:3]) for pfn, row in zip(sorted(self.kept), DESCRIPTOR.iter_unpack(table), strict=True)
        }

    def descriptor_at(self, pfn: int) -> slice:
        """Where in the file a page's descriptor lies."""
        start = self.table_at + list(self.descriptors).index(pfn) * DESCRIPTOR.size
        return slice(start, start + DESCRIPTOR.size)
