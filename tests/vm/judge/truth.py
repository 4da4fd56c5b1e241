"""What each page was when the kernel died: its own `struct page`, read from the full vmcore with the kernel's DWARF
through drgn.

This is the oracle of the dropped sets. Field places and numbers come from the debug information; only what exists as
a macro in the kernel's source is written down here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import drgn
from drgn.helpers.linux.mm import for_each_valid_page_range

from . import free_pcp

# page_type of kernels before 6.11: one bit cleared out of ~0 (include/linux/page-flags.h). Later kernels have enum
# pagetype in their debug information, and keep the type in the top byte.
CLEARED_BITS = {"buddy": 0x80, "offline": 0x100}
CLEARED_BASE = 0xF0000000

MAPPING_ANON = 1
START_KERNEL_MAP = 0xFFFFFFFF80000000
# Symbols around the parts of the image that stay (arch/x86/kernel/vmlinux.lds.S). The last one ends where the memory
# for encrypted guests begins, which mem_encrypt_free_decrypted_mem() gives back when it is of no use; other kernels have
# none.
IMAGE = (
    ("_text", ("_etext",)),
    ("__start_rodata", ("__end_rodata",)),
    ("_sdata", ("_edata",)),
    ("__bss_start", ("__start_bss_decrypted_unused", "__bss_stop")),
)

FREE, FREE_PCP, OFFLINE, HWPOISON, HUGETLB, ANON = "free", "free-pcp", "offline", "hwpoison", "hugetlb", "anon"
CACHE, CACHE_PRIVATE, SLAB, OTHER = "cache", "cache-private", "slab", "other"
# The bits of the dump level that drop each class. Poisoned and offline pages are not to be read at all: they are out
# at every level.
DROPPED_BY = {FREE: 16, FREE_PCP: 16, HUGETLB: 8, ANON: 8, CACHE: 2 | 4, CACHE_PRIVATE: 4, SLAB: 0, OTHER: 0}
DROPPED_ALWAYS = {OFFLINE, HWPOISON}


class Map(NamedTuple):
    """Struct pages that lie one after the other: those of the PFNs `first..end`, from address `start` on."""

    first: int
    end: int
    start: int


class Page(NamedTuple):
    """The fields of one struct page that decide its class."""

    flags: int
    head: int
    mapping: int
    private: int
    type: int
    dtor: int


class Truth:
    """Classes by PFN, for every page that has a struct page."""

    def __init__(self, vmcore: Path, vmlinux: Path, knows_lists: bool = True):
        """`knows_lists`: whether the kernel has the types with which vdump finds its per-CPU lists of free pages."""
        self.prog = drgn.Program()
        self.prog.set_core_dump(vmcore)
        self.prog.load_debug_info([vmlinux])
        self.layout = self.prog.type("struct page")
        self.maps = list(self.read_maps())
        self.bits = {
            name: self.flag(name) for name in ("lru", "slab", "private", "swapbacked", "swapcache", "hwpoison", "head")
        }
        self.types = {name: self.page_type(name) for name in ("buddy", "offline", "hugetlb", "slab")}
        self.hugetlb_dtor = self.number("HUGETLB_PAGE_DTOR")
        self.pages = dict(self.read_pages())
        self.free = set(self.free_pages())
        self.free_pcp = free_pcp.frames(self.prog) if knows_lists else set()
        self.classes = {pfn: self.classify(pfn) for pfn in self.pages}

    def dropped(self, level: int) -> set[int]:
        """The pages that a dump of this level leaves out."""
        out = {name for name, bits in DROPPED_BY.items() if bits & level} | DROPPED_ALWAYS
        return {pfn for pfn, name in self.classes.items() if name in out}

    def number(self, name: str) -> int | None:
        try:
            return self.prog.constant(name).value_()
        except LookupError:
            return None

    def flag(self, name: str) -> int:
        """The mask of a page flag; 0 where the kernel has none."""
        bit = self.number(f"PG_{name}")
        return 0 if bit is None else 1 << bit

    def page_type(self, name: str) -> tuple[int, int]:
        """Mask and value that tell a page type."""
        number = self.number(f"PGTY_{name}")
        if number is not None:
            return 0xFF << 24, number << 24
        bit = CLEARED_BITS.get(name)
        return (CLEARED_BASE | bit, CLEARED_BASE) if bit else (0, 1)

    def read_maps(self) -> Iterator[Map]:
        """drgn does not know SPARSEMEM without a virtual memory map: there each section's own entry is read."""
        if self.prog.type("struct mem_section_usage").has_member("subsection_map"):
            for first, end, mem_map in for_each_valid_page_range(self.prog):
                yield Map(first, end, mem_map.value_() + first * self.layout.size)
            return
        length = 1 << self.prog["SECTION_SIZE_BITS"].value_() - self.prog["PAGE_SHIFT"].value_()
        has_map = 1 << self.prog.constant("SECTION_HAS_MEM_MAP_BIT").value_()
        below = (1 << self.prog.constant("SECTION_MAP_LAST_BIT").value_()) - 1
        per_root = self.prog["SECTIONS_PER_ROOT"].value_()
        for number in range(self.prog["__highest_present_section_nr"].value_() + 1):
            root = self.prog["mem_section"][number // per_root]
            word = root[number % per_root].section_mem_map.value_() if root else 0
            if word & has_map:
                first = number * length
                start = ((word & ~below) + first * self.layout.size) % (1 << 64)
                yield Map(first, first + length, start)

    def read_pages(self) -> Iterator[tuple[int, Page]]:
        fields = (
            ("flags", "<Q"),
            ("compound_head", "<Q"),
            ("mapping", "<Q"),
            ("private", "<Q"),
            ("_mapcount", "<I"),
            ("compound_dtor", "<B"),
        )
        unpack = [
            (struct.Struct(code).unpack_from, self.layout.member(name).bit_offset // 8)
            for name, code in fields
            if self.has(name)
        ]
        size = self.layout.size
        for first, end, start in self.maps:
            memory = self.prog.read(start, (end - first) * size)
            for index in range(end - first):
                values = [read(memory, index * size + place)[0] for read, place in unpack]
                yield first + index, Page(*values, *[0] * (len(fields) - len(values)))

    def has(self, member: str) -> bool:
        """Only the compound_dtor, which is last, may be missing."""
        try:
            return self.layout.member(member) is not None
        except LookupError:
            return False

    def is_type(self, page: Page, name: str) -> bool:
        mask, value = self.types[name]
        return page.type & mask == value

    def free_pages(self) -> Iterator[int]:
        """The pages of each buddy block: its first page carries the type, and the order in `private`."""
        for pfn, page in self.pages.items():
            if self.is_type(page, "buddy"):
                yield from range(pfn, pfn + (1 << page.private))

    def head_of(self, pfn: int) -> int:
        """A tail page is of its head's class; its own fields mean other things."""
        head = self.pages[pfn].head
        return self.pfn_of(head - 1) if head & 1 else pfn

    def address_of(self, pfn: int) -> int:
        """Where the page's struct page lies."""
        return next(start + (pfn - first) * self.layout.size for first, end, start in self.maps if first <= pfn < end)

    def pfn_of(self, address: int) -> int:
        """The page whose struct page lies there."""
        for first, end, start in self.maps:
            index, rest = divmod(address - start, self.layout.size)
            if 0 <= index < end - first and not rest:
                return first + index
        raise LookupError(f"there is no struct page at {address:#x}")

    def is_hugetlb(self, pfn: int, page: Page) -> bool:
        if self.hugetlb_dtor is None:
            return self.is_type(page, "hugetlb")
        return bool(page.flags & self.bits["head"]) and self.pages[pfn + 1].dtor == self.hugetlb_dtor

    def classify(self, pfn: int) -> str:
        if self.pages[pfn].flags & self.bits["hwpoison"]:
            return HWPOISON
        if pfn in self.free:
            return FREE
        head = self.head_of(pfn)
        name = self.classify_head(head, self.pages[head])
        # Nothing in their struct pages says so.
        return FREE_PCP if name == OTHER and pfn in self.free_pcp else name

    def classify_head(self, pfn: int, page: Page) -> str:
        if self.is_type(page, "offline"):
            return OFFLINE
        if page.flags & self.bits["slab"] or self.is_type(page, "slab"):
            return SLAB
        if self.is_hugetlb(pfn, page):
            return HUGETLB
        if page.mapping & MAPPING_ANON:
            return ANON
        swap = self.bits["swapbacked"] | self.bits["swapcache"]
        if page.flags & self.bits["lru"] or page.flags & swap == swap:
            return CACHE_PRIVATE if page.flags & self.bits["private"] else CACHE
        return OTHER

    @cached_property
    def image(self) -> set[int]:
        """The PFNs of the kernel's text, read-only data, data and bss. Its init part and gaps are freed: not those."""
        return {pfn for start, ends in IMAGE for pfn in self.symbols_pfns(start, ends)}

    @cached_property
    def phys_base(self) -> int:
        lines = self.prog["VMCOREINFO"].string_().decode().splitlines()
        return next(int(line.split("=")[1]) for line in lines if line.startswith("NUMBER(phys_base)="))

    def symbols_pfns(self, start: str, ends: tuple[str, ...]) -> range:
        """Up to the first of the ends that the kernel has."""
        first = self.physical(start)
        last = next(address for end in ends if (address := self.physical(end)) is not None)
        return range(first // 4096, -(-last // 4096))

    def physical(self, name: str) -> int | None:
        try:
            return self.prog.symbol(name).address - START_KERNEL_MAP + self.phys_base
        except LookupError:
            return None
