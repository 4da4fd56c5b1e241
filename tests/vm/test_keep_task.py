"""`--keep-task`: drgn reads the user stacks of tasks from a dump without user pages as it reads them in the full vmcore,
also inside a transparent huge page; everything else of user memory stays dropped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import drgn
import pytest
from drgn.helpers.linux.mm import PHYS_PFN, access_process_vm, compound_order, follow_page, follow_phys, for_each_vma
from drgn.helpers.linux.pid import find_task

from conftest import Note
from judge import drgn_view
from judge.kdump import Kdump
from judge.vmcore import PAGE
from tool import Options, run
from vmlab.crash import Crash

HUGE_PAGES = 512


class Pattern(NamedTuple):
    """What the plant wrote on a stack: the thread that sleeps on it, and where it lies."""

    tid: int
    address: int
    length: int


@pytest.fixture(autouse=True)
def knows_its_types(crashed: Crash) -> None:
    """A kernel without BTF does not say where tasks and counters are, and drgn needs its memory map in one piece."""
    if not crashed.guest.has_btf:
        pytest.skip("the kernel has no BTF")


@pytest.fixture(scope="module")
def full(crashed: Crash) -> drgn.Program:
    return drgn_view.open_dump(crashed.vmcore, crashed.vmlinux)


@pytest.fixture(scope="module")
def patterns(crashed: Crash) -> dict[str, Pattern]:
    lines = [line.split() for line in (crashed.out / "stacks").read_text().splitlines()]
    return {name: Pattern(int(tid), int(address, 16), int(length, 16)) for name, tid, address, length in lines}


class Kept:
    """A dump at level 31 that keeps tasks."""

    def __init__(self, crashed: Crash, path: Path, *words: object) -> None:
        output = run("filter", "--json", "--progress", "none", "-d", 31, *words, crashed.vmcore, path)
        self.report = json.loads(output)
        self.kept = Kdump(path).kept
        self.prog = drgn_view.open_dump(path, crashed.vmlinux)

    def read(self, pattern: Pattern, tid: int | None = None) -> bytes:
        return access_process_vm(find_task(self.prog, tid or pattern.tid), pattern.address, pattern.length)


@pytest.fixture
def keep(crashed: Crash, scratch: Path, request: pytest.FixtureRequest):
    def make(*words: object) -> Kept:
        return Kept(crashed, scratch / f"{crashed.guest.name}-{request.node.name.split('[')[0]}", "--force", *words)

    return make


def stamped(name: str, length: int) -> bytes:
    """What the plant writes: each page tells its class and its number, over and over."""
    pages = [f"vdump {name:10} page {index:8} ".encode() for index in range(length // PAGE)]
    return b"".join((page * (PAGE // len(page) + 1))[:PAGE] for page in pages)


def mappings(task: drgn.Object) -> Iterator[tuple[int, int]]:
    for vma in for_each_vma(task.mm):
        yield vma.vm_start.value_(), vma.vm_end.value_()


def frames(task: drgn.Object, start: int, end: int) -> set[int]:
    """The frames that a task has there, as drgn walks its page tables in the full vmcore."""
    found = set()
    for page in range(start, end, PAGE):
        try:
            found.add(PHYS_PFN(task.prog_, follow_phys(task.mm, page)).value_())
        except drgn.FaultError:
            continue
    return found


def around(task: drgn.Object, address: int) -> set[int]:
    return frames(task, *next((start, end) for start, end in mappings(task) if start <= address < end))


def test_a_stack_inside_a_huge_page_is_read_whole(
    crashed: Crash, full: drgn.Program, filtered, keep, patterns: dict[str, Pattern], note: Note
) -> None:
    huge, below, other = patterns["stack-huge"], patterns["below"], patterns["vdump-plant"]
    task = find_task(full, huge.tid)
    page = follow_page(task.mm, huge.address & -(HUGE_PAGES * PAGE))
    if "anon-thp" not in crashed.guest.lacks:
        assert compound_order(page).value_() == 9, "the stack does not lie in a huge page"
    dump = keep("--keep-task", "stack-huge")
    assert dump.read(huge) == stamped("stack-huge", huge.length) == access_process_vm(task, huge.address, huge.length)
    # The lower half of the stack is what was there before the thread.
    assert dump.read(below, huge.tid) == access_process_vm(task, below.address, below.length)
    # Its frames and no others are kept, and the stack of the process's first thread is none of them.
    plain = Kdump(filtered(Options())).kept
    assert dump.kept - plain == around(task, huge.address) - plain
    assert len(dump.kept - plain) >= HUGE_PAGES
    with pytest.raises(drgn.FaultError):
        dump.read(other)
    assert [line["pid"] for line in dump.report["tasks"]] == [huge.tid]
    note(f"--keep-task: {len(dump.kept - plain)} pages of a stack in a huge page, drgn reads its {huge.length} bytes of pattern")


def test_a_process_stands_for_all_its_threads(full: drgn.Program, filtered, keep, patterns: dict[str, Pattern]) -> None:
    threads = [patterns["stack-huge"], patterns["vdump-plant"]]
    dump = keep("--keep-task", patterns["vdump-plant"].tid)
    for name in ("stack-huge", "vdump-plant"):
        assert dump.read(patterns[name]) == stamped(name, patterns[name].length)
    want = set()
    for line in dump.report["tasks"]:
        task = find_task(full, line["pid"])
        top = task.stack.value_() + 4 * PAGE
        pointer = int.from_bytes(full.read(top - 16, 8), "little")
        want |= around(task, pointer)
    plain = Kdump(filtered(Options())).kept
    assert dump.kept - plain == want - plain
    assert {thread.tid for thread in threads} < {line["pid"] for line in dump.report["tasks"]}


def test_the_panicking_tasks_stack_is_read_whole(crashed: Crash, full: drgn.Program, filtered, keep) -> None:
    task = full.crashed_thread().object
    dump = keep("--keep-task", "panic")
    assert [line["pid"] for line in dump.report["tasks"]] == [task.pid.value_()]
    start = task.mm.start_stack.value_()
    end = next(end for first, end in mappings(task) if first <= start < end)
    same = find_task(dump.prog, task.pid)
    # Between the stack and the words above it the kernel leaves a gap by chance, which nobody may have touched.
    pages = [page for page in range(start & -PAGE, end, PAGE) if frames(task, page, page + PAGE)]
    assert pages
    for page in pages:
        assert access_process_vm(same, page, PAGE) == access_process_vm(task, page, PAGE)
    plain = Kdump(filtered(Options())).kept
    assert dump.kept - plain == around(task, start) - plain != set()


def test_all_memory_of_a_task_is_all_that_its_tables_map(
    full: drgn.Program, filtered, keep, patterns: dict[str, Pattern], note: Note
) -> None:
    tid = patterns["stack-huge"].tid
    task = find_task(full, tid)
    dump = keep("--keep-task", "vdump-plant", "--keep-task-memory", "all")
    want = set().union(*(frames(task, start, end) for start, end in mappings(task)))
    plain = Kdump(filtered(Options())).kept
    assert dump.kept - plain == want - plain
    # Anonymous, huge, file pages of the class tests are among them.
    assert len(want - plain) > 2 * HUGE_PAGES
    note(f"--keep-task-memory all: {len(want)} pages that drgn finds in the task's page tables")
