"""The programs of the guest: ours, built here, and the vdump under test, which the caller names."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from . import cache
from .guests import Guest
from .lab_error import LabError

TARGET = "x86_64-unknown-linux-gnu"
PLANT = Path(__file__).parent.parent / "plant" / "Cargo.toml"


def for_guest(guest: Guest) -> dict[str, Path]:
    """The programs by the name that they have in the guest."""
    programs = {"vdump-plant": plant()}
    if guest.needs_vdump:
        programs["vdump"] = vdump()
    return programs


def vdump() -> Path:
    """$VDUMP_BIN: the static binary under test."""
    name = os.environ.get("VDUMP_BIN")
    if not name:
        build = f"RUSTFLAGS='-C target-feature=+crt-static' cargo build --release --target {TARGET}"
        raise LabError(f"VDUMP_BIN is not set; build a static vdump with {build}")
    path = Path(name).absolute()
    if not path.is_file():
        raise LabError(f"VDUMP_BIN={name}: there is no such file")
    return path


def plant() -> Path:
    """Builds the guest's helper. Its own target folder: other flags than the workspace's builds."""
    target = cache.folder("build", "plant")
    command = [
        "cargo",
        "build",
        "--release",
        "--target",
        TARGET,
        "--manifest-path",
        str(PLANT),
        "--target-dir",
        str(target),
    ]
    result = subprocess.run(
        command, env=os.environ | {"RUSTFLAGS": "-C target-feature=+crt-static"}, capture_output=True, text=True
    )
    if result.returncode:
        raise LabError(f"vdump-plant does not build:\n{result.stderr}")
    return target / TARGET / "release" / "vdump-plant"
