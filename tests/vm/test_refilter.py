"""Filtering what was filtered before: makedumpfile's dumps and vdump's own, made from the same vmcore."""

from __future__ import annotations

import filecmp
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import Note
from judge import drgn_view, makedumpfile, readers
from judge.kdump import Kdump
from judge.vmcore import Vmcore
from tool import SECONDS, Options, filter_dump, run
from vmlab.crash import Crash

PARTS = 3


def again(inputs: list[Path], output: Path, level: int = 31, codec: str = "") -> Path:
    """Filters one dump in one file or several."""
    words = Options(level=level, codec=codec).words
    run("filter", "--force", "--progress", "none", *words, *inputs, output)
    return output


@pytest.mark.parametrize("split", [False, True], ids=["whole", "split"])
def test_makedumpfiles_dump_is_filtered_on(
    crashed: Crash, filtered, vmcore: Vmcore, scratch: Path, note: Note, split: bool
) -> None:
    """Every page that both would keep is there and equal; what only makedumpfile kept is gone."""
    name = f"{crashed.guest.name}-makedumpfile-31"
    theirs = makedumpfile.run(crashed.vmcore, 31, scratch / f"{name}-{split}")
    inputs = [theirs.path]
    if split:
        inputs = makedumpfile.split(crashed.vmcore, 31, [scratch / f"{name}.{part}" for part in range(PARTS)])
        inputs.reverse()
    ours = Kdump(again(inputs, scratch / f"{name}-again-{split}"))
    direct = Kdump(filtered(Options()))
    assert ours.ram == theirs.ram
    wanted = theirs.kept & direct.kept
    assert not wanted - ours.kept, f"lost {len(wanted - ours.kept)} pages"
    extra = ours.kept - wanted
    # makedumpfile left out zero pages: struct pages in them cannot be read, and their frames are kept.
    assert len(extra) < len(wanted) // 100, f"{len(extra)} pages could not be dropped"
    dump = readers.Dump(ours.path)
    assert dump.pfns() == ours.kept
    result = readers.compare(dump, ours.kept, vmcore)
    assert not result.different and result.equal == len(ours.kept) > 0
    source = f"{crashed.guest.name} makedumpfile -d 31{' --split' if split else ''}"
    note(f"{source}: of {len(theirs.kept)} pages {result.equal} kept, all equal; {len(extra)} more than from the vmcore")


@pytest.mark.parametrize("level", [0, 31])
def test_split_sets_are_read_page_for_page(crashed: Crash, vmcore: Vmcore, scratch: Path, level: int) -> None:
    name = f"{crashed.guest.name}-split-{level}"
    parts = makedumpfile.split(crashed.vmcore, level, [scratch / f"{name}.{part}" for part in range(PARTS)])
    theirs = Kdump(parts[0])
    ours = Kdump(again(parts, scratch / f"{name}-joined", level=0, codec="lzo"))
    # Poisoned and offline pages leave at every level.
    assert ours.kept <= theirs.kept and len(theirs.kept - ours.kept) < 20_000
    result = readers.compare(readers.Dump(ours.path), ours.kept, vmcore)
    assert not result.different and result.equal == len(ours.kept)


def test_drgn_sees_the_same_tasks(crashed: Crash, scratch: Path) -> None:
    # Only free pages are left to makedumpfile 1.7.2: at -d 31 it loses slab pages of 6.12, and everywhere zero pages.
    theirs = makedumpfile.run(crashed.vmcore, 16, scratch / f"{crashed.guest.name}-makedumpfile-16-drgn").path
    ours = again([theirs], scratch / f"{crashed.guest.name}-drgn-again")
    seen, expected = (drgn_view.tasks(drgn_view.open_dump(path, crashed.vmlinux)) for path in (ours, crashed.vmcore))
    assert seen == expected and len(seen) > 40


@pytest.mark.parametrize("codec", ["zstd", "lzo"])
def test_our_own_dump_stays_as_it_is(filtered, crashed: Crash, scratch: Path, codec: str) -> None:
    """Nothing is left to drop, so the bytes are the same; the same goes for a dump that was saved whole first."""
    direct = filtered(Options(codec=codec))
    second = again([direct], scratch / f"{crashed.guest.name}-second-{codec}", codec=codec)
    assert filecmp.cmp(direct, second, shallow=False)
    whole = filtered(Options(level=0, codec="lzo"))
    from_whole = again([whole], scratch / f"{crashed.guest.name}-from-whole-{codec}", codec=codec)
    assert filecmp.cmp(direct, from_whole, shallow=False)


@pytest.mark.parametrize("options", [Options(codec="lzo"), Options(format="elf")], ids=["kdump", "elf"])
@pytest.mark.parametrize("level", [0, 31])
def test_makedumpfile_filters_ours_on(
    crashed: Crash, vmcore: Vmcore, filtered, scratch: Path, options: Options, level: int
) -> None:
    """What it makes of our dump is what it makes of the vmcore, but for what we had dropped already. Of an ELF it must not
    map: then 1.7.2 reads the next segment's data, or crashes, where a segment's end is zeros that are not in the file."""
    ours = filtered(replace(options, level=level))
    output = scratch / f"{crashed.guest.name}-by-makedumpfile-{options.format}-{level}"
    command = ["makedumpfile", "-l", "-d", "31", "--non-mmap", ours, output]
    subprocess.run(command, check=True, capture_output=True, timeout=SECONDS)
    direct = makedumpfile.run(crashed.vmcore, 31, scratch / f"{output.name}-direct").kept
    theirs = Kdump(output)
    kept = Kdump(filtered(Options(level=level))).kept
    assert theirs.kept <= kept and len(theirs.kept) > 5_000
    # Zero pages are excluded ones to it: struct pages in them cannot be read, and their frames stay.
    assert not (direct & kept) - theirs.kept - zero_pages(vmcore, direct & kept)
    assert len(theirs.kept - direct) < len(direct) // 50
    result = readers.compare(readers.Dump(output), theirs.kept, vmcore)
    assert not result.different and result.equal == len(theirs.kept)
    for path in (output, scratch / f"{output.name}-direct"):
        path.unlink()


def zero_pages(vmcore: Vmcore, pfns: set[int]) -> set[int]:
    return {pfn for pfn in pfns if not any(vmcore.page(pfn))}


def test_an_elf_of_a_kdump_has_the_same_addresses(crashed: Crash, filtered, scratch: Path) -> None:
    """The kernel's symbols and page tables give what the kdump format does not keep."""
    output = scratch / f"{crashed.guest.name}-again.elf"
    filter_dump(filtered(Options(level=0, codec="lzo")), output, Options(format="elf"))
    paths = (output, filtered(Options(format="elf")))
    seen, expected = ({(load.paddr, load.vaddr) for load in Vmcore(path).loads} for path in paths)
    assert seen == expected
