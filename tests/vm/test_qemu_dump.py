"""The dump that QEMU writes of a running guest: an ELF without kernel virtual addresses, its program headers not
where others have them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from judge import drgn_view, readers
from judge.drgn_view import Task
from judge.kdump import Kdump
from judge.truth import Truth
from judge.vmcore import Vmcore
from tool import Options
from vmlab.crash import Crash


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
