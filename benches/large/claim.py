#!/usr/bin/env python3
"""Makes an ELF core that claims terabytes and stores two mebibytes: pages at both ends that hold their own number, and between
them zeros that no file has.

    claim.py TIB OUTPUT           one stretch of memory of so many TiB
    claim.py TIB OUTPUT --holes   of them the first GiB and the last MiB alone
    claim.py TIB DUMP --judge     reads both ends of a dump of such a core with libkdumpfile
"""

from __future__ import annotations

import argparse
import struct
from pathlib import Path

MIB, GIB, TIB, PAGE = 1 << 20, 1 << 30, 1 << 40, 4096
DIRECT = 0xFFFF_8880_0000_0000


def page(pfn: int) -> bytes:
    return struct.pack("<Q", pfn + 1) * (PAGE // 8)


def make(path: Path, end: int, holes: bool) -> None:
    stored = [(0, GIB if holes else end - MIB), (end - MIB, MIB)]
    headers, at = b"", PAGE
    for start, size in stored:
        headers += struct.pack("<IIQQQQQQ", 1, 7, at, DIRECT + start, start, MIB, size, 0)
        at += MIB
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 4, 62, 1, 0, 64, 0, 0, 64, 56, len(stored), 0, 0, 0)
    data = b"".join(page((start + offset) // PAGE) for start, _ in stored for offset in range(0, MIB, PAGE))
    path.write_bytes((header + headers).ljust(PAGE, b"\0") + data)


def judge(path: Path, end: int) -> None:
    import kdumpfile  # type: ignore[import-not-found]

    dump = kdumpfile.kdumpfile(str(path))
    dump.attr["arch.name"] = "x86_64"
    for start in (0, end - MIB):
        for address in range(start, start + MIB, PAGE):
            assert dump.read(kdumpfile.KDUMP_MACHPHYSADDR, address, PAGE) == page(address // PAGE), hex(address)
    print("both ends are right")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tib", type=int)
    parser.add_argument("path", type=Path)
    parser.add_argument("--holes", action="store_true")
    parser.add_argument("--judge", action="store_true")
    words = parser.parse_args()
    if words.judge:
        judge(words.path, words.tib * TIB)
    else:
        make(words.path, words.tib * TIB, words.holes)


if __name__ == "__main__":
    main()
