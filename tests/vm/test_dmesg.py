"""`vdump dmesg`, judged by drgn's reading of the same ring buffer."""

from __future__ import annotations

from pathlib import Path

import pytest

from judge import drgn_view
from judge.truth import Truth
from tool import Options, run
from vmlab.crash import Crash
from vmlab.guests import LA57

MARKERS = [f"vdump-lab: kernel log line {line}" for line in ("one", "two", "three")]


@pytest.mark.parametrize("of", ["the full vmcore", "the filtered ELF"])
def test_prints_the_kernel_log(crashed: Crash, filtered, truth: Truth, of: str) -> None:
    dump: Path = crashed.vmcore if of == "the full vmcore" else filtered(Options(format="elf"))
    printed = lines(run("dmesg", "--caller", "kernel", dump))
    expected = lines(drgn_view.dmesg(truth.prog))
    assert printed == expected
    assert all(any(marker in line for line in printed) for marker in MARKERS)
    assert any("Kernel panic - not syncing: sysrq triggered crash" in line for line in printed)


def lines(text: str) -> list[str]:
    """Without the indent of a record's further lines, which dmesg and crash print and drgn does not."""
    return [line.strip() for line in text.splitlines()]


@pytest.mark.parametrize("crashed", [LA57], indirect=True, ids=lambda guest: guest.name)
def test_prints_what_crash_prints(crashed: Crash, full_views: dict[str, str]) -> None:
    assert run("dmesg", "--caller", "kernel", crashed.vmcore).splitlines() == full_views["log"].splitlines()
