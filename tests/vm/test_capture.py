"""vdump in the capture kernel, on the real /proc/vmcore, with 256 MB of crash memory and one or two CPUs."""

from __future__ import annotations

import filecmp

import pytest

from conftest import Note
from tool import Options
from vmlab.crash import Crash

LIMIT_KIB = 64 << 10
STEPS = ("kdump-j1", "kdump-j2", "elf-j2")


@pytest.mark.parametrize("step", STEPS)
def test_succeeds_within_the_memory_promise(captured: Crash, note: Note, step: str) -> None:
    result = captured.step(step)
    assert result.exit_code == 0, result.text("err")
    peak, seconds = result.max_rss_kib, result.measured("seconds")
    note(f"{captured.guest.name} {step}: peak resident memory {peak} KiB in {seconds} s")
    assert result.max_rss_kib < LIMIT_KIB


def test_ran_with_the_cpus_it_is_said_to_have(captured: Crash) -> None:
    assert int((captured.out / "nproc").read_text()) == captured.guest.capture_cpus


def test_threads_do_not_change_the_dump(captured: Crash) -> None:
    assert filecmp.cmp(captured.step("kdump-j1").dump, captured.step("kdump-j2").dump, shallow=False)


@pytest.mark.parametrize(("step", "format"), [("kdump-j2", "kdump"), ("elf-j2", "elf")])
def test_writes_what_it_writes_of_the_saved_vmcore(crashed: Crash, filtered, step: str, format: str) -> None:
    """So that what the other tests find out on this machine holds for the capture kernel."""
    assert filecmp.cmp(crashed.step(step).dump, filtered(Options(format=format)), shallow=False)


@pytest.mark.parametrize("step", ["info", "dmesg"])
def test_looks_at_the_live_vmcore(crashed: Crash, step: str) -> None:
    result = crashed.step(step)
    assert result.exit_code == 0, result.text("err")
    assert crashed.kernel.release in result.text("out")
