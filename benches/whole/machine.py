"""This machine in words, for the results file."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from pathlib import Path

from tools import Peer


def describe(tmpfs: Path, disk: Path, vdump: Path, peers: list[Peer]) -> dict[str, str]:
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
    } | {peer.name: ", ".join(peer.codecs) for peer in peers}


class Others:
    """How long it takes, and what else the machine does meanwhile: what its CPUs did, without this process and the programs
    that it ran; and what other machines took from them."""

    def __init__(self) -> None:
        self.start = time.monotonic()
        self.before = self.now()

    @staticmethod
    def now() -> tuple[float, float]:
        words = Path("/proc/stat").read_text().partition("\n")[0].split()[1:]
        user, nice, system, _, _, irq, softirq, steal = (int(word) / os.sysconf("SC_CLK_TCK") for word in words[:8])
        return user + nice + system + irq + softirq - sum(os.times()[:4]), steal

    def described(self) -> dict[str, str]:
        wall = time.monotonic() - self.start
        others, stolen = ((now - then) / wall for now, then in zip(self.now(), self.before))
        return {
            "CPU time of other programs": f"{max(others, 0) * 100:.1f} % of a CPU, and {stolen * 100:.1f} % stolen",
            "took": f"{wall / 60:.1f} minutes",
        }


def file_system(folder: Path) -> str:
    return first_line(["stat", "-f", "-c", "%T", str(folder)])


def revision() -> str:
    here = Path(__file__).parent
    return first_line(["git", "-C", str(here), "describe", "--always", "--dirty", "--exclude", "*"]) or "no git"


def first_line(command: list[str]) -> str:
    try:
        result = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    except OSError:
        return "not here"
    return result.stdout.strip().partition("\n")[0]


def short_name() -> str:
    """For the name of the results file."""
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    words = re.sub(r"\(.*?\)|CPU|Processor|@.*", " ", found[1] if found else platform.machine())
    return re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-") + f"-{len(os.sched_getaffinity(0))}cpu"
