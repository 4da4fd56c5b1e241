"""What the lab needs on this machine, and the Python of the judges."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from . import cache
from .debian import run

# Debian's package for each program.
TOOLS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "busybox": "busybox-static",
    "kexec": "kexec-tools",
    "mke2fs": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "dpkg-deb": "dpkg",
    "apt-get": "apt",
    "apt-cache": "apt",
    "ldd": "libc-bin",
    "systemctl": "systemd",
    "zstd": "zstd",
    "lz4": "lz4",
    "makedumpfile": "makedumpfile",
    "crash": "crash",
    "gdb": "gdb",
    "cargo": "rustup (not a package: see rustup.rs)",
}
# Debian's own Python: only it has Debian's kdumpfile module.
SYSTEM_PYTHON = "/usr/bin/python3"
SYSTEM_MODULES = {"kdumpfile": "python3-libkdumpfile", "venv": "python3-venv", "ensurepip": "python3-venv"}
JUDGE_PACKAGES = ("drgn==0.3.0", "pytest==9.2.0")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def missing() -> list[str]:
    """A line for each thing that is not there."""
    tools = [f"{tool} (package {package})" for tool, package in TOOLS.items() if not find(tool)]
    return tools + [
        f"Python module {module} (package {package})"
        for module, package in SYSTEM_MODULES.items()
        if not importable(module)
    ]


def find(tool: str) -> str | None:
    """Also in the sbin folders, which an ordinary user's PATH may lack."""
    return shutil.which(tool) or shutil.which(tool, path=PATH)


def importable(module: str) -> bool:
    return subprocess.run([SYSTEM_PYTHON, "-c", f"import {module}"], capture_output=True).returncode == 0


def python() -> Path:
    """The judges' Python: Debian's modules plus drgn and pytest from PyPI."""
    venv = cache.root() / "venv"
    stamp = venv / "packages"
    wanted = "\n".join(JUDGE_PACKAGES)
    if not stamp.exists() or stamp.read_text() != wanted:
        run([SYSTEM_PYTHON, "-m", "venv", "--system-site-packages", str(venv)])
        run([str(venv / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", *JUDGE_PACKAGES])
        stamp.write_text(wanted)
    return venv / "bin" / "python"
