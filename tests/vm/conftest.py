"""Fixtures: each guest crashes once (or its saved crash is reused), and each way to filter it runs once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from judge import crash_view
from judge.truth import Truth
from judge.vmcore import Vmcore
from tool import Options, filter_dump
from vmlab import cache, deps
from vmlab.crash import Crash, crash
from vmlab.guests import ALTERED_GUESTS, FOUR_LEVEL, LA57, QEMU_DUMP, RAW, one_cpu

Filter = Callable[[Options], Path]
Note = Callable[[str], None]
NOTES = pytest.StashKey[list[str]]()

# Their kernels are built here first, so they are judged only when asked for (`lab.py altered`).
ALTERED = ALTERED_GUESTS if os.environ.get("VDUMP_ALTERED") else ()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[NOTES] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """The figures behind the passes: peak memory, counts of tasks, reasons for differences."""
    terminalreporter.section("noted")
    for line in config.stash[NOTES]:
        terminalreporter.write_line(line)


@pytest.fixture
def note(pytestconfig: pytest.Config) -> Note:
    """Writes a line into the summary at the end of the run."""
    return pytestconfig.stash[NOTES].append


@pytest.fixture(scope="session", autouse=True)
def lab() -> Iterator[None]:
    """A missing tool is a failure: a judge that stays away proves nothing. The cache is ours until the end."""
    os.environ["PATH"] += f":{deps.PATH}"
    assert not deps.missing()
    with cache.held():
        yield


@pytest.fixture(scope="session", params=[LA57, FOUR_LEVEL, *ALTERED], ids=lambda guest: guest.name)
def crashed(request: pytest.FixtureRequest) -> Crash:
    """The guests whose full vmcore was saved next to what vdump made of it in the capture kernel."""
    return crash(request.param)


@pytest.fixture(
    scope="session",
    params=[LA57, one_cpu(LA57), FOUR_LEVEL, one_cpu(FOUR_LEVEL), *ALTERED],
    ids=lambda guest: guest.name,
)
def captured(request: pytest.FixtureRequest) -> Crash:
    """Every guest whose capture kernel ran vdump."""
    return crash(request.param)


@pytest.fixture(scope="session")
def qemu_dump() -> Crash:
    return crash(QEMU_DUMP)


@pytest.fixture(scope="session")
def raw() -> Crash:
    return crash(RAW)


@pytest.fixture(scope="session")
def vmcore(crashed: Crash) -> Vmcore:
    return Vmcore(crashed.vmcore)


@pytest.fixture(scope="session")
def truth(crashed: Crash) -> Truth:
    return Truth(crashed.vmcore, crashed.vmlinux, crashed.guest.has_btf)


@pytest.fixture(scope="session")
def full_views(crashed: Crash) -> dict[str, str]:
    """What the crash utility says of the full vmcore."""
    return crash_view.views(crashed.vmcore, crashed.vmlinux)


@pytest.fixture(scope="session")
def scratch() -> Iterator[Path]:
    """A folder in the cache, removed at the end: pytest's own would keep gigabytes of three runs."""
    path = cache.root() / f"scratch-{os.getpid()}"
    path.mkdir(parents=True)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session")
def filtered(crashed: Crash, scratch: Path) -> Filter:
    """Filters the guest's full vmcore on this machine, once per set of options."""
    return filtering(crashed, scratch)


@pytest.fixture(scope="session")
def filtered_qemu(qemu_dump: Crash, scratch: Path) -> Filter:
    return filtering(qemu_dump, scratch)


def filtering(of: Crash, scratch: Path) -> Filter:
    def run(options: Options) -> Path:
        output = scratch / f"{of.guest.name}-{options.name}"
        if not output.exists():
            filter_dump(of.vmcore, output, options)
        return output

    return run
