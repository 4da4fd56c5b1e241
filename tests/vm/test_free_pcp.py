"""Free pages on the page allocator's per-CPU lists: vdump finds those that drgn finds, and what the guest's program gave back just
before the crash is in no dump without free pages."""

from __future__ import annotations

import json

import pytest

import tool
from conftest import Note
from judge import free_pcp, makedumpfile, planted
from judge.kdump import Kdump
from judge.truth import FREE, FREE_PCP, Truth
from judge.vmcore import Vmcore
from tool import Options
from vmlab.crash import Crash

CHECK = "free pages on per-CPU lists"


@pytest.fixture
def has_lists(crashed: Crash) -> None:
    if not crashed.guest.has_btf:
        pytest.skip("nothing tells where this kernel has its lists")


@pytest.mark.usefixtures("has_lists")
def test_finds_the_pages_that_drgn_finds(crashed: Crash, filtered, truth: Truth, vmcore: Vmcore, note: Note) -> None:
    lists = list(free_pcp.walk(truth.prog))
    on_lists = free_pcp.frames(truth.prog) & vmcore.whole.keys() - truth.image
    gone = Kdump(filtered(Options(level=15))).kept - Kdump(filtered(Options(level=31))).kept
    assert len(on_lists) > 1000
    assert {pfn for pfn in gone if truth.classes[pfn] == FREE_PCP} == on_lists
    assert not gone - on_lists - truth.free
    report = json.loads(tool.run("filter", "--dry-run", "--json", "--progress", "none", crashed.vmcore))
    line = next(line for line in report["self_check"]["checks"] if line["name"] == CHECK)
    assert line["expected"] == sum(each.count for each in lists)
    agree = all(each.count == len(each.frames) for each in lists)
    assert (line["verdict"], line["gap"]) == ("sound", None) if agree else line["verdict"] == "fewer"
    note(f"{crashed.guest.name}: {len(on_lists)} free pages on per-CPU lists, {len(truth.free)} in the allocator's blocks")


@pytest.mark.usefixtures("has_lists")
def test_the_dump_is_smaller_than_makedumpfiles(crashed: Crash, filtered, scratch, note: Note) -> None:
    theirs = makedumpfile.run(crashed.vmcore, 31, scratch / f"{crashed.guest.name}-beside-lists").path
    ours = filtered(Options(codec="lzo"))
    note(f"{crashed.guest.name}: -d 31 with lzo takes {ours.stat().st_size} bytes, makedumpfile's {theirs.stat().st_size}")
    assert ours.stat().st_size < theirs.stat().st_size


@pytest.mark.usefixtures("has_lists")
def test_what_was_given_back_before_the_crash_is_in_no_dump(
    crashed: Crash, filtered, truth: Truth, vmcore: Vmcore, note: Note
) -> None:
    freed = planted.read(crashed.out, "freed")
    # The others were used anew since.
    left = {page.pfn for page in freed if vmcore.page(page.pfn).startswith(page.head)}
    assert left
    kinds = {pfn: truth.classes[pfn] for pfn in left}
    assert set(kinds.values()) <= {FREE, FREE_PCP}, kinds
    on_lists = {pfn for pfn, kind in kinds.items() if kind == FREE_PCP}
    assert on_lists
    assert not left & Kdump(filtered(Options(level=31))).kept
    assert left <= Kdump(filtered(Options(level=15))).kept
    note(f"{crashed.guest.name}: of {len(freed)} freed pages {len(left)} have their contents, {len(on_lists)} of them on per-CPU lists")
