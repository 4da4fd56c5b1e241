"""How many pages a kdump-compressed file keeps: the set bits of its second bitmap (makedumpfile's IMPLEMENTATION)."""

from __future__ import annotations

import struct
from pathlib import Path

HEADER_FIELDS = 424
"""The status field: behind signature, version, utsname and timestamp of the 64-bit layout."""
PIECE = 16 << 20


def kept_bytes(path: Path) -> int:
    with path.open("rb") as file:
        head = file.read(4096)
        if head[:8] != b"KDUMP   ":
            raise ValueError(f"{path} is no kdump-compressed file")
        _, block, sub_header, bitmap = struct.unpack_from("<IiiI", head, HEADER_FIELDS)
        file.seek(block * (1 + sub_header) + bitmap * block // 2)
        left, count = bitmap * block // 2, 0
        while left > 0 and (piece := file.read(min(left, PIECE))):
            count += int.from_bytes(piece, "little").bit_count()
            left -= len(piece)
    return count * block
