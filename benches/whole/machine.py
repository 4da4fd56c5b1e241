"""This machine in words, for the results file."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from pathlib import Path


def describe(tmpfs: Path, disk: Path, vdump: Path, makedumpfile: str) -> dict[str, str]:
    cpuinfo = Path("/proc/cpuinfo").read_text()
    model = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    memory = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())
    virtual = "hypervisor" in re.findall(r"\w+", cpuinfo)
    cpus = len(os.sched_getaffinity(0))
    return {
        "CPU": f"{model[1] if model else platform.machine()}, {cpus} CPU{'s' if cpus > 1 else ''}",
        "memory": f"{int(memory[1]) / (1 << 20):.1f} GiB" if memory else "unknown",
        "kernel": platform.release(),
        "virtualised": "yes" if virtual else "no",
        "file systems": f"{file_system(tmpfs)} and {file_system(disk)}",
        "load when it began": f"{os.getloadavg()[0]:.1f}",
        "vdump": f"{first_line([str(vdump), '--version'])}, {revision()}",
        "makedumpfile": first_line([makedumpfile, "-v"]),
    }


def file_system(folder: Path) -> str:
    return first_line(["stat", "-f", "-c", "%T", str(folder)])


def revision() -> str:
    here = Path(__file__).parent
    return first_line(["git", "-C", str(here), "describe", "--always", "--dirty", "--exclude", "*"]) or "no git"


def first_line(command: list[str]) -> str:
    try:
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except OSError:
        return "not here"
    return result.stdout.strip().partition("\n")[0]


def short_name() -> str:
    """For the name of the results file."""
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    words = re.sub(r"\(.*?\)|CPU|Processor|@.*", " ", found[1] if found else platform.machine())
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-") + f"-{len(os.sched_getaffinity(0))}cpu"
