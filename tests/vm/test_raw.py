"""Raw memory of a real guest, as QEMU's pmemsave writes it: what of it is RAM say the core headers that kexec-tools put
there for the capture kernel, or the guest's /proc/iomem."""

from __future__ import annotations

import filecmp
import json
import mmap
import re
from pathlib import Path

import pytest

from conftest import Note
from judge import drgn_view
from judge.kdump import Kdump
from judge.readers import Dump, compare
from judge.vmcore import PAGE, Vmcore
from tool import Options, filter_dump, run
from vmlab.crash import Crash

WAYS = ("headers", "iomem")
# The page that QEMU's low RAM ends in: the rest of it is no RAM.
RAGGED = 0x9F
LOW_MIB = (1 << 20) // PAGE


def words(raw: Crash, way: str) -> list[str]:
    """Who says what is RAM; the address as the capture kernel was told it."""
    if way == "iomem":
        return ["--iomem", str(raw.out / "iomem")]
    return ["--elfcorehdr", re.search(r"elfcorehdr=(\S+)", raw.step("cmdline").text("out"))[1]]


def filtered(raw: Crash, way: str, moment: str, output: Path) -> dict:
    options = [*Options().words, *words(raw, way)]
    return json.loads(run("filter", "--json", "--progress", "none", *options, raw.memory(moment), output))


@pytest.mark.parametrize("way", WAYS)
def test_drgn_opens_what_convert_makes(raw: Crash, scratch: Path, note: Note, way: str) -> None:
    output = scratch / f"raw-{way}.elf"
    run("convert", "--progress", "none", *words(raw, way), raw.memory("before"), output)
    made, memory = Vmcore(output), mapped(raw.memory("before"))
    assert len(made.whole) > 100_000
    assert all(made.page(pfn) == memory[pfn * PAGE : (pfn + 1) * PAGE] for pfn in made.whole.keys() - {RAGGED})
    seen, expected = (drgn_view.tasks(drgn_view.open_dump(dump, raw.vmlinux)) for dump in (output, raw.qemu_dump))
    assert [(task.pid, task.name) for task in seen] == [(task.pid, task.name) for task in expected]
    # Only QEMU knows the registers of the CPUs of a machine that runs.
    without = [task for task in seen if task.stack.startswith("no stack")]
    assert len(without) <= 2
    assert len(seen) > 50
    note(f"raw by {way}: {len(made.whole)} pages as they were, {len(seen)} tasks, {len(without)} of them running")
    output.unlink()


@pytest.mark.parametrize("way", WAYS)
def test_keeps_what_is_kept_of_the_dump_of_the_same_moment(raw: Crash, scratch: Path, way: str) -> None:
    mine, other = scratch / f"raw-{way}.kdump", scratch / "raw-qemu.kdump"
    report = filtered(raw, way, "before", mine)
    if not other.exists():
        filter_dump(raw.qemu_dump, other, Options())
    assert report["complete"]
    if way == "iomem":
        address = (raw.out / "vmcoreinfo").read_text().split()[0]
        assert any(f"by its content at {int(address, 16):#x}" in warning for warning in report["warnings"])
    small, large = Kdump(mine), Kdump(other)
    # QEMU's dump has ROM, the first MiB's holes and the capture kernel's memory too.
    assert len(small.ram) > 100_000
    assert small.ram < large.ram
    assert small.kept == large.kept & small.ram
    full = Vmcore(raw.qemu_dump)
    kept = small.kept - {RAGGED}
    result = compare(Dump(mine), kept, full)
    assert (result.equal, result.different) == (len(kept), [])


def test_after_the_crash_it_is_what_the_capture_kernel_shows(raw: Crash, scratch: Path) -> None:
    """To the byte: RAM, the CPUs' merged notes, and the low memory that purgatory moved."""
    of_raw, of_vmcore = scratch / "raw-after.kdump", scratch / "raw-vmcore.kdump"
    report = filtered(raw, "headers", "after", of_raw)
    assert report["complete"]
    filter_dump(raw.vmcore, of_vmcore, Options())
    assert filecmp.cmp(of_raw, of_vmcore, shallow=False)


def test_a_device_that_gives_a_part_of_the_memory(raw: Crash, note: Note) -> None:
    """Debian's kernels have no /dev/oldmem. /dev/mem of the capture kernel reads old memory up to the end of its own: what
    it refuses is lost and counted, all else is as /proc/vmcore has it. (But of the first MiB, which is the capture
    kernel's own now, it gives zeros.)"""
    assert "oldmem" not in raw.step("devices").text("out").split()
    step = raw.step("devmem")
    assert step.exit_code == 0, step.text("err")
    report, _ = json.JSONDecoder().raw_decode(step.text("out"))
    dump, full = Kdump(step.dump), Vmcore(raw.vmcore)
    assert {error["cause"].split(" at ")[0] for error in report["read_errors"]} == {"Bad address"}
    # They keep their bits, with empty descriptors: readers call them errors, not excluded.
    assert dump.ram == dump.kept
    lost = {pfn for pfn, row in dump.descriptors.items() if not row.size}
    first = min(lost)
    assert report["unreadable_pages"] == len(lost) > 0
    # High memory in one piece, and nothing else.
    assert lost == {pfn for pfn in dump.ram if pfn >= first}
    there = {pfn for pfn in dump.kept - lost if pfn >= LOW_MIB}
    assert len(there) > 10_000
    result = compare(Dump(step.dump), there, full)
    assert (result.equal, result.different) == (len(there), [])
    note(f"raw by /dev/mem in the capture kernel: {len(there)} pages equal, {len(lost)} refused by the kernel")


def mapped(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
