"""Split sets of real memories: crash opens the parts together, makedumpfile and vdump make one dump of them."""

from __future__ import annotations

import filecmp
import subprocess
from pathlib import Path

import pytest

from conftest import Note
from judge import crash_view, makedumpfile
from judge.kdump import Kdump
from judge.readers import Dump, compare
from judge.vmcore import Vmcore
from tool import SECONDS, Options, run
from vmlab.crash import Crash
from vmlab.guests import LA57

PARTS = 3


@pytest.fixture(scope="module")
def parts(crashed: Crash, scratch: Path) -> list[Path]:
    name = scratch / f"{crashed.guest.name}-set"
    run("filter", "--progress", "none", "--split", PARTS, *Options().words, crashed.vmcore, name)
    return [name.with_name(f"{name.name}-{number}") for number in range(1, PARTS + 1)]


def test_the_parts_are_about_equally_large(crashed: Crash, parts: list[Path], note: Note) -> None:
    sizes = [path.stat().st_size for path in parts]
    note(f"{crashed.guest.name}: parts of {sizes} bytes")
    assert max(sizes) - min(sizes) < max(sizes) // 5


@pytest.mark.parametrize("crashed", [LA57], indirect=True, ids=lambda guest: guest.name)
def test_crash_sees_in_the_parts_what_it_sees_in_the_full_vmcore(
    crashed: Crash, full_views: dict[str, str], parts: list[Path]
) -> None:
    seen = crash_view.views(parts[::-1], crashed.vmlinux)
    assert not crash_view.trouble(seen)
    assert seen == full_views


def test_merged_it_is_the_dump_that_was_never_split(filtered, parts: list[Path]) -> None:
    merged = parts[0].with_name(f"{parts[0].name}-merged")
    run("merge", "--progress", "none", "--strict", *parts[::-1], merged)
    assert filecmp.cmp(merged, filtered(Options()), shallow=False)
    merged.unlink()


def test_makedumpfile_puts_the_parts_together(filtered, vmcore: Vmcore, parts: list[Path]) -> None:
    whole = parts[0].with_name(f"{parts[0].name}-reassembled")
    command = ["makedumpfile", "--reassemble", *parts, whole]
    subprocess.run(command, check=True, capture_output=True, timeout=SECONDS)
    assert Kdump(whole).kept == Kdump(filtered(Options())).kept
    dump = Dump(whole)
    result = compare(dump, dump.pfns(), vmcore)
    assert not result.different and result.equal == len(Kdump(whole).kept)
    whole.unlink()


def test_makedumpfiles_parts_are_merged_as_it_does_it(crashed: Crash, scratch: Path) -> None:
    theirs = makedumpfile.split(crashed.vmcore, 31, [scratch / f"{crashed.guest.name}-their-{n}" for n in range(PARTS)])
    merged, whole = (scratch / f"{crashed.guest.name}-their-{name}" for name in ("merged", "whole"))
    run("merge", "--progress", "none", "--strict", *theirs, merged)
    subprocess.run(["makedumpfile", "--reassemble", *theirs, whole], check=True, capture_output=True, timeout=SECONDS)
    ours, expected = Kdump(merged), Kdump(whole)
    assert (ours.kept, ours.ram) == (expected.kept, expected.ram)
    for (pfn, mine), other in zip(ours.descriptors.items(), expected.descriptors.values(), strict=True):
        assert (mine.size, mine.flags) == (other.size, other.flags), hex(pfn)
        stored = [dump.data[at.offset : at.offset + at.size] for dump, at in ((ours, mine), (expected, other))]
        assert stored[0] == stored[1], hex(pfn)
    for path in (*theirs, merged, whole):
        path.unlink()
