"""ELF dumps with `--virtual`: gdb reads modules, vmalloc'ed memory and all else that the kernel mapped by virtual
address, every other reader sees physical memory as before. drgn, which walks the page tables of the full vmcore itself,
says what must be read where."""

from __future__ import annotations

import filecmp
from collections.abc import Iterator
from pathlib import Path

import drgn
import pytest
from drgn.helpers.linux.list import list_for_each_entry
from drgn.helpers.linux.mm import PHYS_PFN, follow_phys, for_each_vmap_area
from drgn.helpers.linux.percpu import per_cpu_ptr

from conftest import Note
from judge import crash_view, drgn_view, gdb_view, readers
from judge.kdump import Kdump
from judge.vmcore import PAGE, Load, Vmcore
from tool import Options, run
from vmlab.crash import Crash
from vmlab.guests import LA57

PLAIN, VIRTUAL = Options(format="elf"), Options(format="elf", virtual=True)


@pytest.fixture(scope="module")
def full(crashed: Crash) -> drgn.Program:
    return drgn_view.open_dump(crashed.vmcore, crashed.vmlinux)


@pytest.fixture(scope="module")
def elf(filtered) -> Vmcore:
    return Vmcore(filtered(VIRTUAL))


def areas(prog: drgn.Program) -> Iterator[tuple[int, int]]:
    """vmalloc's areas and the modules' sections, as the kernel lists them: the first and the last page's end."""
    for area in for_each_vmap_area(prog):
        yield area.va_start.value_(), area.va_end.value_()
    for module in loaded(prog):
        yield from sections(module)


def loaded(prog: drgn.Program) -> list[drgn.Object]:
    """The modules; an altered kernel can have none."""
    if "modules" not in prog:
        return []
    return list(list_for_each_entry("struct module", prog["modules"].address_of_(), "list"))


def sections(module: drgn.Object) -> Iterator[tuple[int, int]]:
    """6.4 put each kind of a module's memory into an area of its own."""
    parts = module.mem if hasattr(module, "mem") else [module.core_layout]
    for part in parts:
        if size := part.size.value_():
            yield part.base.value_(), part.base.value_() + size


def content(elf: Vmcore, load: Load) -> bytes:
    return elf.data[load.offset : load.offset + load.filesz] + bytes(load.memsz - load.filesz)


def test_every_segment_shows_what_the_kernel_saw(crashed: Crash, full: drgn.Program, elf: Vmcore, note: Note) -> None:
    wrong = [hex(load.vaddr) for load in elf.mapped if full.read(load.vaddr, load.memsz) != content(elf, load)]
    assert not wrong
    assert len(elf.mapped) > 50
    pages = sum(load.memsz for load in elf.mapped) // PAGE
    note(f"{crashed.guest.name}: {len(elf.mapped)} segments show {pages} pages as drgn reads them in the full vmcore")


def test_gdb_reads_them(full: drgn.Program, elf: Vmcore) -> None:
    ranges = [(load.vaddr, load.memsz) for load in elf.mapped]
    seen = gdb_view.memory(elf.path, ranges)
    assert seen == [full.read(*where) for where in ranges]


def test_every_kept_page_of_vmalloc_and_modules_is_there(
    crashed: Crash, filtered, full: drgn.Program, elf: Vmcore, note: Note
) -> None:
    kept = Kdump(filtered(Options())).kept
    shown = {load.vaddr + at for load in elf.all_loads for at in range(0, load.memsz, PAGE)}
    table, found, dropped = full["init_mm"].address_of_(), 0, 0
    for start, end in areas(full):
        for page in range(start, end, PAGE):
            try:
                pfn = PHYS_PFN(full, follow_phys(table, page)).value_()
            except drgn.FaultError:
                continue
            assert (page in shown) == (pfn in kept), f"{page:#x}, frame {pfn:#x}"
            found, dropped = found + (pfn in kept), dropped + (pfn not in kept)
    assert found > 100
    note(f"{crashed.guest.name}: {found} kept pages of vmalloc's areas and modules are shown, {dropped} others are not")


def test_gdb_reads_modules_and_per_cpu_variables(crashed: Crash, full: drgn.Program, filtered) -> None:
    text = [next(sections(module)) for module in loaded(full)]
    assert text or crashed.guest.altered
    ranges = [(start, min(end - start, PAGE)) for start, end in text]
    ranges += [(per_cpu_ptr(full["runqueues"].address_of_(), cpu).value_(), 1024) for cpu in range(2)]
    assert gdb_view.memory(filtered(VIRTUAL), ranges) == [full.read(*where) for where in ranges]
    # The judge can fail: without the segments a module is out of gdb's reach.
    without = gdb_view.memory(filtered(PLAIN), ranges)
    assert without[: len(text)] == [None] * len(text)
    assert None not in without[len(text) :]


def test_physical_memory_is_what_it_was(full: drgn.Program, filtered, elf: Vmcore) -> None:
    plain = Vmcore(filtered(PLAIN))
    assert plain.whole.keys() == elf.whole.keys()
    dump = readers.Dump(elf.path)
    result = readers.compare(dump, plain.whole.keys(), plain)
    assert (result.equal, result.different) == (len(plain.whole), [])
    without = readers.Dump(plain.path)
    absent = [pfn for pfn in range(max(plain.whole)) if pfn not in plain.whole]
    assert [pfn for pfn in absent if dump.is_absent(pfn)] == [pfn for pfn in absent if without.is_absent(pfn)]
    prog = drgn.Program()
    prog.set_core_dump(elf.path)
    assert all(prog.read(pfn * PAGE, PAGE, True) == plain.page(pfn) for pfn in plain.whole)


def test_drgn_sees_the_same_tasks(crashed: Crash, full: drgn.Program, filtered) -> None:
    assert drgn_view.tasks(drgn_view.open_dump(filtered(VIRTUAL), crashed.vmlinux)) == drgn_view.tasks(full)


@pytest.mark.parametrize("crashed", [LA57], indirect=True, ids=lambda guest: guest.name)
def test_crash_sees_what_it_sees_in_the_full_vmcore(crashed: Crash, filtered, full_views: dict[str, str]) -> None:
    seen = crash_view.views(filtered(VIRTUAL), crashed.vmlinux)
    assert not crash_view.trouble(seen)
    assert seen == full_views


def test_vdump_filters_it_like_the_plain_one(crashed: Crash, filtered, scratch: Path) -> None:
    def again(source: Path, *words: str) -> Path:
        output = scratch / f"{crashed.guest.name}-again-{source.name}{''.join(words)}"
        run("filter", "--progress", "none", *words, source, output)
        return output

    plain, virtual = filtered(PLAIN), filtered(VIRTUAL)
    assert filecmp.cmp(again(plain), again(virtual), shallow=False)
    assert filecmp.cmp(again(virtual, "--virtual", "-felf"), virtual, shallow=False)
