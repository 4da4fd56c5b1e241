"""The self-check on real kernels: a sound one raises nothing, and one whose struct pages were overwritten loses no page
of its own and says so."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import tool
from judge import damage, kernel_pages
from judge.damage import Damage
from judge.kdump import Kdump
from judge.truth import CACHE, FREE, SLAB, Truth
from judge.vmcore import Vmcore
from tool import Options, filter_dump
from vmlab.crash import Crash

PARTS = {
    "kernel image",
    "notes",
    "memory map",
    "page tables",
    "per-CPU areas",
    "task stacks",
    "log buffer",
    "vmalloc and modules",
}
# What a kernel built without it does not count.
UNKNOWN = {"padded": {"hugetlb pages"}}
COUNTS = {"free pages", "reclaimable pages", "hugetlb pages", "all memory"}


def check(dump: Path) -> dict:
    return json.loads(tool.run("filter", "--dry-run", "--json", "--progress", "none", dump))["self_check"]


def verdicts(checked: dict) -> dict[str, str]:
    return {line["name"]: line["verdict"] for line in checked["checks"]}


def test_a_sound_kernel_raises_nothing(crashed: Crash, note) -> None:
    checked = check(crashed.vmcore)
    assert checked["violated"] == 0, checked
    if not crashed.guest.has_btf:
        return
    assert {name for name, verdict in verdicts(checked).items() if verdict == "sound"} >= PARTS | COUNTS - UNKNOWN.get(crashed.guest.altered, set())
    for line in checked["checks"]:
        note(f"{crashed.guest.name}: {line['name']}: {line['found']} of {line['expected']} (+{line['slack']})")


def test_a_kernel_that_only_stood_still_raises_nothing(qemu_dump: Crash) -> None:
    checked = check(qemu_dump.vmcore)
    assert checked["violated"] == 0, checked


@pytest.fixture
def damaged(crashed: Crash, vmcore: Vmcore, truth: Truth, scratch: Path) -> Iterator[Damage]:
    if not crashed.guest.has_btf:
        # Stacks are not found, a count of free pages may be a block off, and drgn needs the memory map in one piece.
        pytest.skip("the kernel has no BTF")
    made = Damage(vmcore, truth, scratch / "damaged")
    yield made
    made.path.unlink()


@pytest.mark.parametrize("name", [FREE, CACHE])
def test_its_own_memory_stays_whatever_it_looks_like(damaged: Damage, truth: Truth, scratch: Path, name: str) -> None:
    image = sorted(truth.image)[::100]
    own = {
        "kernel image": set(image),
        "page tables": damage.page_tables(truth.prog),
        "memory map": damage.mem_map(truth, image),
        "per-CPU areas": kernel_pages.per_cpu(truth.prog),
        "task stacks": kernel_pages.stacks(truth.prog),
        "log buffer": damage.log(truth.prog),
    }
    every = set().union(*own.values()) & truth.pages.keys()
    damaged.overwrite(every, name)
    output = scratch / "of-damaged"
    report = filter_dump(damaged.path, output, Options())
    lost = every & Kdump(output).ram - Kdump(output).kept
    output.unlink()
    assert not lost, f"{len(lost)} of {len(every)} pages of the kernel lost, of " + str(
        {part: len(pages & lost) for part, pages in own.items()}
    )
    wrong = {part for part, verdict in verdicts(report["self_check"]).items() if verdict == "violated"}
    # The log lies in the image, unless it was made larger.
    assert wrong >= own.keys() - {"log buffer"}, wrong
    with pytest.raises(AssertionError, match="cannot believe the crashed kernel's struct pages"):
        tool.run("filter", "--strict", damaged.path, output)


def test_slab_that_looks_free_is_kept_by_the_kernels_own_counts(damaged: Damage, truth: Truth, scratch: Path) -> None:
    slab = {pfn for pfn, name in truth.classes.items() if name == SLAB and not truth.pages[pfn].head & 1}
    damaged.overwrite(slab, FREE)
    output = scratch / "of-damaged"
    report = filter_dump(damaged.path, output, Options())
    lost = slab - Kdump(output).kept
    output.unlink()
    assert not lost
    assert report["self_check"]["kept_classes"] == ["free"]
    free = next(line for line in report["self_check"]["checks"] if line["name"] == "free pages")
    assert free["expected"] == len(truth.free)
    assert free["verdict"] == "violated"
