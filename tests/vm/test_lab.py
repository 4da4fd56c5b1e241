"""The lab itself: what it does when QEMU breaks a guest."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from vmlab import cache, crash
from vmlab.guests import QEMU_DUMP, Guest
from vmlab.lab_error import LabError

OOPS = "[    1.405096] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI\n"
GUEST = replace(QEMU_DUMP, name="lab-itself")

Starts = list[str]


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> Iterator[Starts]:
    """The consoles that the next starts of a guest will show; one that did not reach its end fails."""
    consoles: Starts = []

    def run_to_end(_guest: Guest, _kernel: object, _initrd: bytes, work: Path) -> None:
        (work / "console.log").write_text(console := consoles.pop(0))
        if "LAB: captured" not in console:
            raise LabError("the capture kernel did not finish")

    monkeypatch.setattr(crash, "run_to_end", run_to_end)
    yield consoles
    for path in (cache.root() / "crash").glob(f"{GUEST.name}*"):
        shutil.rmtree(path)


def test_a_guest_that_qemu_broke_is_started_again(starts: Starts) -> None:
    starts += [OOPS, f"{OOPS}LAB: captured\n", "LAB: captured\n"]
    with pytest.warns(UserWarning, match="stale instruction"):
        assert "int3" not in crash.crash(GUEST).console
    assert not starts


def test_it_is_not_started_for_ever(starts: Starts) -> None:
    starts += [OOPS] * (crash.BOOTS + 1)
    with pytest.warns(UserWarning), pytest.raises(crash.EmulatorFault):
        crash.crash(GUEST)
    assert len(starts) == 1


def test_any_other_failure_is_one_at_once(starts: Starts) -> None:
    starts += ["[    1.4] Kernel panic - not syncing: sysrq triggered crash\n", "LAB: captured\n"]
    with pytest.raises(LabError, match="did not finish"):
        crash.crash(GUEST)
    assert len(starts) == 1
