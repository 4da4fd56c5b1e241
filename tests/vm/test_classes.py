"""The dropped sets, judged by the kernel's own words: struct pages read with DWARF, /proc/kpageflags, planted pages."""

from __future__ import annotations

import pytest

from judge import kernel_pages, kpageflags, planted
from judge.kdump import Kdump
from judge.planted import Planted
from judge.truth import DROPPED_ALWAYS, Truth
from judge.vmcore import Vmcore
from tool import LEVELS, Options
from vmlab.crash import Crash

# Between the snapshot of /proc/kpageflags and the panic a few pages change hands.
CHANGED_HANDS = 64


@pytest.fixture(scope="session")
def plants(crashed: Crash) -> list[Planted]:
    return planted.read(crashed.out)


def test_planted_what_the_report_says(crashed: Crash, plants: list[Planted], vmcore: Vmcore) -> None:
    """Judges the plant: the flags fit the classes, and the bytes are in the full vmcore where the report says."""
    assert not [reason for page in plants if (reason := planted.misfits(page))]
    moved = [page for page in plants if page.head and not vmcore.page(page.pfn).startswith(page.head)]
    assert not moved, f"{len(moved)} planted pages are not where they were, the first {moved[:2]}"
    huge = [page for page in plants if page.flags & (kpageflags.THP | kpageflags.HUGE)]
    assert {page.kind for page in huge} == {"anon-thp", "hugetlb"} - crashed.guest.lacks
    assert {page.kind for page in plants} == planted.DROPPED_BY.keys() - crashed.guest.lacks


@pytest.mark.parametrize("level", LEVELS)
def test_planted_pages_leave_at_their_level(filtered, plants: list[Planted], level: int) -> None:
    kept = Kdump(filtered(Options(level=level))).kept
    wrong = [page for page in plants if page.is_dropped_at(level) == (page.pfn in kept)]
    assert not wrong, f"{len(wrong)} planted pages are on the wrong side at -d {level}, the first {wrong[:2]}"


@pytest.mark.parametrize("level", LEVELS)
def test_drops_what_the_struct_pages_say(filtered, truth: Truth, vmcore: Vmcore, level: int) -> None:
    kdump = Kdump(filtered(Options(level=level)))
    assert kdump.ram == vmcore.whole.keys() | vmcore.partial
    # The kernel's image stays whatever its struct pages say, and so does a page that is only partly RAM.
    expected = truth.dropped(level) & kdump.ram - truth.image - vmcore.partial
    dropped = kdump.ram - kdump.kept
    for name, pages in (("dropped", dropped - expected), ("kept", expected - dropped)):
        kinds = sorted((hex(pfn), truth.classes.get(pfn, "no struct page")) for pfn in pages)
        assert not pages, f"-d {level}: {len(pages)} pages {name} in error, the first {kinds[:5]}"


def test_offline_and_poisoned_pages_are_out_at_every_level(filtered, truth: Truth) -> None:
    kept = Kdump(filtered(Options(level=0))).kept
    bad = {pfn for pfn, name in truth.classes.items() if name in DROPPED_ALWAYS}
    assert len(bad) > 1000, "the balloon took no memory from this guest"
    assert not bad & kept


@pytest.mark.parametrize("flag", ["SLAB", "PGTABLE", "RESERVED"])
def test_never_drops_what_the_kernel_said_is_its_own(crashed: Crash, filtered, truth: Truth, flag: str) -> None:
    kdump = Kdump(filtered(Options()))
    flags = kpageflags.stable(crashed.out)
    own = {pfn for pfn in kdump.ram if flags.get(pfn, 0) & kpageflags.NAMES[flag]}
    dropped = own - kdump.kept
    # Freed after the snapshot, and maybe somebody else's since: its struct page in the vmcore says so.
    changed = dropped & truth.dropped(Options().level)
    assert own
    assert dropped == changed
    assert len(changed) <= CHANGED_HANDS


@pytest.mark.parametrize("find", [kernel_pages.stacks, kernel_pages.per_cpu], ids=lambda find: find.__name__)
def test_never_drops_stacks_and_per_cpu_areas(filtered, truth: Truth, find) -> None:
    pages = find(truth.prog)
    assert len(pages) > 50
    assert pages <= Kdump(filtered(Options())).kept


def test_zero_pages_share_one_blob(filtered, vmcore: Vmcore) -> None:
    descriptors = Kdump(filtered(Options(level=1))).descriptors
    offsets = {row.offset for pfn, row in descriptors.items() if not any(vmcore.page(pfn))}
    assert len(offsets) == 1
