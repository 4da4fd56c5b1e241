"""The judges judged: on dumps of a known tool they agree, and a spoilt dump does not get past them."""

from __future__ import annotations

from pathlib import Path

import pytest

from judge import drgn_view, kernel_pages, makedumpfile, readers
from judge.kdump import Kdump
from judge.truth import Truth
from judge.vmcore import Vmcore
from vmlab.crash import Crash
from vmlab.guests import LA57

pytestmark = pytest.mark.parametrize("crashed", [LA57], indirect=True, ids=lambda guest: guest.name)


@pytest.fixture
def known(crashed: Crash, tmp_path: Path) -> Kdump:
    """makedumpfile 1.7.2 gets a 6.1 kernel right."""
    return makedumpfile.run(crashed.vmcore, 31, tmp_path / "dump")


def test_the_truth_is_what_makedumpfile_finds(known: Kdump, truth: Truth) -> None:
    """Two programs that share nothing come to the same set, page for page, but for what only the per-CPU lists tell."""
    assert known.ram - known.kept == (truth.dropped(31) - truth.free_pcp) & known.ram


def test_a_flipped_bit_is_found(known: Kdump, vmcore: Vmcore, tmp_path: Path) -> None:
    pfn, row = next((pfn, row) for pfn, row in known.descriptors.items() if not row.flags)
    spoilt = tmp_path / "spoilt"
    content = bytearray(known.data)
    content[row.offset] ^= 1
    spoilt.write_bytes(content)
    assert pfn in readers.compare(readers.Dump(spoilt), known.kept, vmcore).different
    assert not readers.compare(readers.Dump(known.path), known.kept, vmcore).different


def test_lost_pages_are_found(crashed: Crash, known: Kdump, truth: Truth, tmp_path: Path) -> None:
    """All task stacks are replaced by the first one: a dump that opens, with stacks that are not theirs."""
    spoilt = bytearray(known.data)
    stacks = sorted(kernel_pages.stacks(truth.prog))
    for pfn in stacks[1:]:
        spoilt[known.descriptor_at(pfn)] = spoilt[known.descriptor_at(stacks[0])]
    path = tmp_path / "spoilt"
    path.write_bytes(spoilt)
    full, seen = (drgn_view.tasks(drgn_view.open_dump(dump, crashed.vmlinux)) for dump in (crashed.vmcore, path))
    assert [task.pid for task in seen] == [task.pid for task in full]
    assert seen != full


def test_an_unexplained_difference_is_found(known: Kdump, truth: Truth) -> None:
    """A page that nothing excuses: the kernel's first page of text, as if one tool alone had dropped it."""
    counts, unexplained = makedumpfile.explain({min(truth.image)}, makedumpfile.WE_DROPPED_ALONE, truth, 31)
    assert not counts
    assert len(unexplained) == 1
