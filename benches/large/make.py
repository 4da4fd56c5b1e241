#!/usr/bin/env python3
"""Makes the vmcore of a machine with terabytes of memory, as a sparse file: an ELF core of Linux 6.12 with page tables,
section table, memory map and VMCOREINFO in place, and nothing in most of its pages.

    make.py TIB OUTPUT [--vdump VDUMP]

The machine has eight NUMA nodes with holes between them, and hot-added sections at the end, every other one. The struct
pages of all sections lie in 512 different pages of 2 MiB (1 GiB of the file holds data), which the virtual memory map
shows again and again: free blocks of all orders, anonymous memory, page cache, slab and the kernel's own, no compound
pages, whose tails would have to point into one section only. The layout is that of the repository's sample vmcore.
"""

from __future__ import annotations

import argparse
import random
import struct
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "tests/data/vmcore-6.12.zst"

MIB, GIB, TIB = 1 << 20, 1 << 30, 1 << 40
SECTION = 128 * MIB
PAGES_PER_SECTION = SECTION >> 12
NODES = 8
HOT_SECTIONS = 64

IMAGE = 0xFFFF_FFFF_8000_0000
TEXT_AT = 16 * MIB
IMAGE_END = 128 * MIB
DIRECT = 0xFFFF_8880_0000_0000
VMEMMAP = 0xFFFF_EA00_0000_0000

# Where the simulated kernel keeps what this script writes (physical).
TABLES = 256 * MIB
MAPS = 1 * GIB
TEMPLATES = 512

PRESENT_RW = 0x163
LARGE = 0x80

PAGE = struct.Struct("<QQQQQQIIQ")
"""flags, lru.next, lru.prev, mapping, index, private, page_type, _refcount, memcg_data"""
NO_TYPE = 0xFFFF_FFFF


def ranges(tib: float) -> list[tuple[int, int]]:
    """RAM: the low hole, nodes with 16 GiB between them, and hot-added sections with gaps."""
    out = [(0x1000, 0x9F000), (1 * MIB, 3 * GIB)]
    at = 4 * GIB
    for _ in range(NODES):
        size = int(tib * TIB) // NODES
        out.append((at, at + size))
        at += size + 16 * GIB
    for number in range(HOT_SECTIONS):
        start = at + 2 * number * SECTION
        out.append((start, start + SECTION))
    return out


class Image:
    """The sparse file: physical memory behind ELF headers."""

    def __init__(self, path: Path, ram: list[tuple[int, int]], note: bytes) -> None:
        self.file = path.open("wb")
        loads = [(IMAGE + TEXT_AT, TEXT_AT, IMAGE_END - TEXT_AT)]
        loads += [(DIRECT + start, start, end - start) for start, end in ram]
        at = 4096 + 4096 * (56 * (len(loads) + 1) // 4096 + 1)
        self.places: list[tuple[int, int, int]] = []
        headers = []
        for vaddr, paddr, size in loads:
            headers.append(struct.pack("<IIQQQQQQ", 1, 7, at, vaddr, paddr, size, size, 0))
            self.places.append((paddr, size, at))
            at += size
        note_at = 64 + 56 * (len(loads) + 1)
        header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 4, 62, 1, 0, 64, 0, 0, 64, 56, len(loads) + 1, 0, 0, 0)
        noted = struct.pack("<IIQQQQQQ", 4, 0, note_at, 0, 0, len(note), len(note), 0)
        self.file.write(header + noted + b"".join(headers) + note)
        self.file.truncate(at)

    def put(self, paddr: int, data: bytes) -> None:
        """Writes to every segment that shows the address: the image is shown twice."""
        for start, size, offset in self.places:
            if start <= paddr < start + size:
                self.file.seek(offset + paddr - start)
                self.file.write(data)


class Tables:
    """Page tables, made as they are needed."""

    def __init__(self, top: int) -> None:
        self.next = TABLES
        self.tables: dict[int, dict[int, int]] = {top: {}}
        self.top = top

    def map(self, vaddr: int, paddr: int, level: int) -> None:
        table = self.top
        for shift in range(39, 12 + 9 * (level - 1), -9):
            index = vaddr >> shift & 511
            entry = self.tables[table].get(index)
            if entry is None:
                entry = self.next | PRESENT_RW
                self.tables[table][index] = entry
                self.tables[self.next] = {}
                self.next += 4096
            table = entry & ~0xFFF
        self.tables[table][vaddr >> 12 + 9 * (level - 1) & 511] = paddr | PRESENT_RW | LARGE

    def write(self, image: Image) -> None:
        for at, entries in self.tables.items():
            words = [0] * 512
            for index, entry in entries.items():
                words[index] = entry
            image.put(at, struct.pack("<512Q", *words))


class Kernel:
    """Numbers of the sample's kernel."""

    def __init__(self, text: str) -> None:
        self.lines = [line for line in text.splitlines() if "kallsyms" not in line]
        self.values = dict(line.split("=", 1) for line in self.lines)

    def number(self, name: str) -> int:
        return int(self.values[f"NUMBER({name})"]) & 0xFFFF_FFFF

    def symbol(self, name: str) -> int:
        return int(self.values[f"SYMBOL({name})"], 16)

    def note(self, table: int) -> bytes:
        lines = self.lines + [
            f"SYMBOL(mem_section)={table:x}",
            "NUMBER(phys_base)=0",
            "NUMBER(pgtable_l5_enabled)=0",
            "KERNELOFFSET=0",
            "CRASHTIME=1700000000",
        ]
        text = ("\n".join(lines) + "\n").encode()
        return struct.pack("<III12s", 11, len(text), 0, b"VMCOREINFO\0\0") + text + bytes(-len(text) % 4)


class Contents:
    """Struct pages of one section, by chance."""

    def __init__(self, kernel: Kernel) -> None:
        bit = lambda name: 1 << kernel.number(name)
        zone = 2 << 62 & (1 << 64) - 1
        buddy, slab = kernel.number("PAGE_BUDDY_MAPCOUNT_VALUE"), kernel.number("PAGE_SLAB_MAPCOUNT_VALUE")
        page = lambda flags, mapping, private, kind, count: PAGE.pack(zone | flags, 0x100, 0x122, mapping, 7, private, kind, count, 0)
        self.rest = page(0, 0, 0, NO_TYPE, 0)
        self.free = [page(0, 0, order, buddy, 0) for order in range(11)]
        self.anon = page(bit("PG_lru") | bit("PG_swapbacked") | 8, 0xFFFF_8881_0000_1001, 0, 0, 1)
        self.cache = page(bit("PG_lru") | 8, 0xFFFF_8881_0000_2000, 0, NO_TYPE, 2)
        self.slab = page(0, 0, 0, slab, 1)
        self.own = page(1 << 13, 0, 0, NO_TYPE, 1)

    def section(self, chance: random.Random) -> bytes:
        out, left = [], PAGES_PER_SECTION
        while left:
            kind = chance.random()
            at = PAGES_PER_SECTION - left
            if kind < 0.25 or at % 64:
                order = chance.choice((10, 10, 9, *range(11)))
                while at % (1 << order) or 1 << order > left:
                    order -= 1
                out.append(self.free[order] + self.rest * ((1 << order) - 1))
                left -= 1 << order
                continue
            length = min(left, 64 * chance.randrange(1, 16))
            if kind > 0.97:
                length = chance.randrange(1, 5)
            record = self.anon if kind < 0.6 else self.cache if kind < 0.97 else self.slab if kind < 0.99 else self.own
            out.append(record * length)
            left -= length
        return b"".join(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tib", type=float, help="a multiple of 1/1024")
    parser.add_argument("output", type=Path)
    parser.add_argument("--vdump", default="vdump")
    arguments = parser.parse_args()
    layout = subprocess.run([arguments.vdump, "layout", "--from", SAMPLE], check=True, capture_output=True, text=True)
    kernel = Kernel(layout.stdout)
    ram = ranges(arguments.tib)
    top = kernel.symbol("init_top_pgt") - IMAGE
    tables = Tables(top)
    for at in range(TEXT_AT, IMAGE_END, 2 * MIB):
        tables.map(IMAGE + at, at, 2)
    for at in sorted({at for start, end in ram for at in range(start & -GIB, end, GIB)}):
        tables.map(DIRECT + at, at, 3)
    sections = sorted({number for start, end in ram for number in range(start // SECTION, (end - 1) // SECTION + 1)})
    # What lies below 3 GiB is the simulated kernel's: its pages say so.
    for index, number in enumerate(sections):
        template = TEMPLATES - 1 if number * SECTION < 3 * GIB else index % (TEMPLATES - 1)
        tables.map(VMEMMAP + number * PAGES_PER_SECTION * 64, MAPS + template * 2 * MIB, 2)
    roots = tables.next
    part = roots + 4 * 4096
    assert part + 4096 * (sections[-1] // 256 + 1) < MAPS
    image = Image(arguments.output, ram, kernel.note(DIRECT + roots))
    pointers = [0] * 2048
    present = set(sections)
    for root in sorted({number // 256 for number in sections}):
        entries = [VMEMMAP | 0xF if root * 256 + index in present else 0 for index in range(256)]
        image.put(part, b"".join(struct.pack("<QQ", entry, 0) for entry in entries))
        pointers[root] = DIRECT + part
        part += 4096
    image.put(roots, struct.pack("<2048Q", *pointers))
    tables.write(image)
    names = ("Linux", "large", kernel.values["OSRELEASE"], "#1", "x86_64", "(none)")
    image.put(kernel.symbol("init_uts_ns") - IMAGE, b"".join(name.encode().ljust(65, b"\0") for name in names))
    contents, chance = Contents(kernel), random.Random(1)
    for number in range(TEMPLATES - 1):
        image.put(MAPS + number * 2 * MIB, contents.section(chance))
    image.put(MAPS + (TEMPLATES - 1) * 2 * MIB, contents.own * PAGES_PER_SECTION)
    print(f"{arguments.output}: {sum(end - start for start, end in ram) / TIB:.2f} TiB of RAM in {len(sections)} sections")


if __name__ == "__main__":
    main()
