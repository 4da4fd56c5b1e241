"""Struct pages overwritten in a copy of a vmcore: pages are made to look like others, as a stray write would do it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

import drgn
from drgn.helpers.linux.mm import follow_pfn

from judge.kernel_pages import translate
from judge.truth import FREE, Page, Truth
from judge.vmcore import PAGE, Vmcore

TABLE = 512 * 8
PRESENT, LARGE, ADDRESS = 1, 1 << 7, 0x000F_FFFF_FFFF_F000


class Damage:
    """A copy of a vmcore whose struct pages can be overwritten."""

    def __init__(self, vmcore: Vmcore, truth: Truth, copy: Path):
        self.vmcore, self.truth, self.path = vmcore, truth, copy
        subprocess.run(["cp", "--reflink=auto", "--sparse=always", vmcore.path, copy], check=True)

    def like(self, name: str) -> bytes:
        """The struct page of a page of this class that speaks for itself alone."""
        truth = self.truth

        def speaks(pfn: int, page: Page) -> bool:
            if name == FREE:
                return truth.is_type(page, "buddy")
            return truth.classes[pfn] == name and not page.head & 1 and not page.flags & truth.bits["head"]

        pfn = next(pfn for pfn, page in truth.pages.items() if speaks(pfn, page))
        image = bytearray(truth.prog.read(truth.address_of(pfn), truth.layout.size))
        if name == FREE:
            # A guest need not have a free block of one page: the order is made that of one.
            order = truth.layout.member("private").bit_offset // 8
            image[order : order + 8] = bytes(8)
        return bytes(image)

    def overwrite(self, pfns: Iterable[int], name: str) -> None:
        """Makes the pages look like those of a class."""
        image = self.like(name)
        kernel = self.truth.prog["init_mm"].address_of_()
        with self.path.open("r+b") as file:
            for pfn in pfns:
                address = self.truth.address_of(pfn)
                frame = follow_pfn(kernel, address).value_()
                file.seek(self.vmcore.whole[frame] + address % PAGE)
                file.write(image)


def mem_map(truth: Truth, pfns: Iterable[int]) -> set[int]:
    """The frames that hold the struct pages of these."""
    addresses = {truth.address_of(pfn) // PAGE * PAGE for pfn in pfns}
    return {frame for address in addresses for frame in translate(truth.prog, address, 1)}


def page_tables(prog: drgn.Program) -> set[int]:
    """All tables of the kernel's half."""
    top = prog.symbol("swapper_pg_dir" if has(prog, "swapper_pg_dir") else "init_top_pgt").address
    root = follow_pfn(prog["init_mm"].address_of_(), top).value_()
    levels = 5 if prog["__pgtable_l5_enabled"].value_() else 4
    tables = {root}

    def walk(table: int, level: int, first: int) -> None:
        memory = prog.read(table * PAGE, TABLE, physical=True)
        for index in range(first, 512):
            entry = int.from_bytes(memory[index * 8 : index * 8 + 8], "little")
            below = (entry & ADDRESS) // PAGE
            if entry & PRESENT and not entry & LARGE and below not in tables:
                tables.add(below)
                if level > 2:
                    walk(below, level - 1, 0)

    walk(root, levels, 256)
    return tables


def has(prog: drgn.Program, name: str) -> bool:
    try:
        return bool(prog.symbol(name))
    except LookupError:
        return False


def log(prog: drgn.Program) -> set[int]:
    """The ring of messages and its descriptors."""
    ring = prog["prb"]
    descriptors, text = ring.desc_ring, ring.text_data_ring
    count = 1 << descriptors.count_bits.value_()
    areas = [
        (text.data.value_(), 1 << text.size_bits.value_()),
        (descriptors.descs.value_(), count * prog.type("struct prb_desc").size),
        (descriptors.infos.value_(), count * prog.type("struct printk_info").size),
    ]
    return {pfn for address, size in areas for pfn in translate(prog, address, size)}
