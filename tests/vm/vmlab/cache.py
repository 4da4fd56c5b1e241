"""The lab's folder, outside git: packages, unpacked kernels, builds, crashes. Files appear under their final name
only when whole."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def root() -> Path:
    """$VDUMP_LAB, or ~/.cache/vdump-lab."""
    return Path(os.environ.get("VDUMP_LAB") or Path.home() / ".cache" / "vdump-lab").absolute()


def folder(*parts: str) -> Path:
    path = root().joinpath(*parts)
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def held() -> Iterator[None]:
    """The cache for this process alone: a crash must not be replaced while another run's tests judge it."""
    with (folder() / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another run to leave {root()}", flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder to fill, which takes `target`'s place when the block ends well. On failure it stays, as
    `<target>.failed`, to be looked at."""
    work = target.with_name(f"{target.name}.new")
    failed = target.with_name(f"{target.name}.failed")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        yield work
    except BaseException:
        shutil.rmtree(failed, ignore_errors=True)
        work.rename(failed)
        raise
    old = target.with_name(f"{target.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if target.exists():
        target.rename(old)
    work.rename(target)
    shutil.rmtree(old, ignore_errors=True)
