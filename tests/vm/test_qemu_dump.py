"""The dump that QEMU writes of a running guest: an ELF without kernel virtual addresses, its program headers not
where others have them."""

from __future__ import annotations

import filecmp
import json
import re
from pathlib import Path

import pytest

from conftest import Note
from judge import drgn_view, gdb_view, readers
from judge.drgn_view import Task
from judge.kdump import Kdump
from judge.truth import Truth
from judge.vmcore import Vmcore
from tool import Options, filter_dump, run
from vmlab.crash import QEMU_KDUMP, Crash


@pytest.fixture(scope="module")
def full(qemu_dump: Crash) -> Vmcore:
    return Vmcore(qemu_dump.vmcore)


@pytest.mark.parametrize("format", ["kdump", "elf"])
def test_drgn_sees_the_same_tasks(qemu_dump: Crash, filtered_qemu, format: str) -> None:
    seen, expected = (
        kernel_stacks(qemu_dump, dump) for dump in (filtered_qemu(Options(format=format)), qemu_dump.vmcore)
    )
    assert seen == expected
    assert len(seen) > 50


def kernel_stacks(crashed: Crash, dump: Path) -> list[Task]:
    """The tasks with their kernel frames. QEMU's LOADs give physical addresses as virtual ones, so that drgn goes on
    into user space and takes low memory for a user stack: not a frame to compare."""
    tasks = drgn_view.tasks(drgn_view.open_dump(dump, crashed.vmlinux))
    return [task._replace(stack=re.sub(r"\n#\d+ +0x\w+(?=\n|$)", "", task.stack)) for task in tasks]


def test_kept_pages_are_equal(filtered_qemu, full: Vmcore) -> None:
    path = filtered_qemu(Options())
    result = readers.compare(readers.Dump(path), Kdump(path).kept, full)
    assert not result.different


def test_drops_what_the_struct_pages_say(qemu_dump: Crash, filtered_qemu, full: Vmcore) -> None:
    kdump, truth = Kdump(filtered_qemu(Options())), Truth(qemu_dump.vmcore, qemu_dump.vmlinux)
    assert kdump.ram - kdump.kept == truth.dropped(31) & kdump.ram - truth.image - full.partial


@pytest.fixture(scope="module")
def kdump(qemu_dump: Crash) -> Path:
    """The same memory as QEMU writes it kdump-compressed: flattened, a page of zeros counted as dumped."""
    return qemu_dump.folder / QEMU_KDUMP


@pytest.mark.parametrize("format", ["kdump", "elf"])
def test_qemus_kdump_is_filtered_like_its_elf(kdump: Path, filtered_qemu, scratch: Path, format: str) -> None:
    output, expected = scratch / f"qemu-kdump-{format}", filtered_qemu(Options(format=format))
    assert filter_dump(kdump, output, Options(format=format))["complete"]
    if format == "kdump":
        # Every header, descriptor and byte of data.
        assert filecmp.cmp(output, expected, shallow=False)
    else:
        # The ELF gives virtual addresses now: vdump finds them in the kernel.
        pages, same = Vmcore(output), Vmcore(expected)
        assert pages.whole.keys() == same.whole.keys()
        assert all(pages.page(pfn) == same.page(pfn) for pfn in pages.whole)


def test_every_page_of_qemus_kdump_is_read(kdump: Path, full: Vmcore, scratch: Path) -> None:
    whole = scratch / "qemu-kdump-whole"
    run("convert", "--progress", "none", kdump, whole)
    pfns = readers.Dump(whole).pfns()
    assert pfns == full.whole.keys()
    result = readers.compare(readers.Dump(whole), pfns, full)
    assert (result.equal, result.different) == (len(pfns), [])
    whole.unlink()


def test_qemus_kdump_says_what_its_elf_says(qemu_dump: Crash, kdump: Path) -> None:
    seen, expected = (json.loads(run("info", "--json", path)) for path in (kdump, qemu_dump.vmcore))
    same = ("kernel", "build_id", "architecture", "page_size", "paging_levels", "kaslr_offset", "phys_base")
    assert [seen[key] for key in same] == [expected[key] for key in same]
    assert seen["format"] == "kdump-compressed v6, zlib, flattened"
    log = run("dmesg", kdump)
    assert log == run("dmesg", qemu_dump.vmcore)
    assert "vdump-lab: kernel log line three" in log


def test_virtual_memory_of_a_dump_without_virtual_addresses(
    qemu_dump: Crash, kdump: Path, filtered_qemu, scratch: Path, note: Note
) -> None:
    """The direct mapping and the kernel's image come from the page tables too."""
    program = drgn_view.open_dump(qemu_dump.vmcore, qemu_dump.vmlinux)
    virtual = scratch / "qemu-kdump-virtual"
    filter_dump(kdump, virtual, Options(format="elf", virtual=True))
    for path in (filtered_qemu(Options(format="elf", virtual=True)), virtual):
        elf = Vmcore(path)
        ranges = [(load.vaddr, load.memsz) for load in elf.mapped]
        assert gdb_view.memory(path, ranges) == [program.read(*where) for where in ranges]
        note(f"{path.name}: gdb reads {len(ranges)} segments of virtual memory as drgn does")
    banner = gdb_view.banner(path, qemu_dump.vmlinux, int(elf.vmcoreinfo["KERNELOFFSET"], 16))
    assert banner.startswith(f"Linux version {qemu_dump.kernel.release} ")
