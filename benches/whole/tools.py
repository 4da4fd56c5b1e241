"""Running a program and measuring it: wall time, CPU time, memory."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

SAMPLE_SECONDS = 0.004


@dataclass(frozen=True)
class Run:
    """One run. Seconds and bytes."""

    wall: float
    cpu: float
    anon: int
    """The most anonymous memory that was seen resident (RssAnon of /proc/PID/status, sampled)."""
    resident: int
    """The most memory that was resident, mapped files included (VmHWM of the same file; what wait4 says counts the moment
    before the program was started, too)."""
    code: int
    error: str
    stopped: bool = False


def measure(command: list[str], stop_after: float | None = None, **how: object) -> Run:
    """Runs the command to its end, or kills it after so many seconds."""
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **how)
    peaks, over = {"RssAnon:": 0, "VmHWM:": 0}, threading.Event()
    watcher = threading.Thread(target=watch, args=(process.pid, peaks, over))
    watcher.start()
    killer = threading.Timer(stop_after, process.kill) if stop_after else None
    if killer:
        killer.start()
    error = process.stderr.read().decode(errors="replace")
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - start
    over.set()
    watcher.join()
    if killer:
        killer.cancel()
    process.returncode = code = os.waitstatus_to_exitcode(status)
    stopped = code == -9 and stop_after is not None and wall >= stop_after
    return Run(wall, usage.ru_utime + usage.ru_stime, peaks["RssAnon:"], peaks["VmHWM:"], code, error.strip(), stopped)


def watch(pid: int, peaks: dict[str, int], over: threading.Event) -> None:
    while not over.wait(SAMPLE_SECONDS):
        try:
            text = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            return
        for key, peak in peaks.items():
            _, found, rest = text.partition(key)
            if found:
                peaks[key] = max(peak, int(rest.split()[0]) << 10)


def filter_with_vdump(program: Path, source: Path, target: Path, level: int, codec: str, *more: str) -> list[str]:
    """The codec is vdump's word for it; `elf,CODEC` is a compact ELF core."""
    kind, _, rest = codec.rpartition(",")
    form = ["-f", kind or "kdump", "-c", rest]
    return [str(program), "filter", "--progress", "none", "--force", "-d", str(level), *form, *more, str(source), str(target)]


MAKEDUMPFILE_CODECS = {"none": [], "lzo": ["-l"], "zlib": ["-c"]}
"""What Debian's makedumpfile is built with."""


def filter_with_makedumpfile(program: str, source: Path, target: Path, level: int, codec: str, threads: int) -> list[str]:
    words = [program, "--message-level", "0", "-f", "-d", str(level), *MAKEDUMPFILE_CODECS[codec]]
    return [*words, *(["--num-threads", str(threads)] if threads else []), str(source), str(target)]
