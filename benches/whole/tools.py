"""The programs: their command lines, what they can do, and running one of them with a stopwatch, or watched for memory."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

SAMPLE_SECONDS = 0.002


@dataclass(frozen=True)
class Run:
    """One run. Seconds and bytes."""

    wall: float
    cpu: float
    anon: int
    """The most anonymous memory that was seen resident (RssAnon of /proc/PID/status, sampled): a short peak may be missed."""
    resident: int
    """The most memory that was ever resident until the last sample, mapped files included (VmHWM, which the kernel keeps
    itself): what was anonymous never was more. (What wait4 says counts the moment before the program was started, too.)"""
    code: int
    error: str
    stopped: bool = False


def measure(
    command: list[str], stop_after: float | None = None, watched: bool = False, output: Path | None = None, **how: object
) -> Run:
    """Runs the command to its end, or kills it after so many seconds. Watching takes CPU time, so times are taken without;
    standard output goes to a file, if one is given."""
    with open(output or os.devnull, "wb") as out:
        start = time.monotonic()
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.PIPE, **how)
    peaks, over = {"RssAnon:": 0, "VmHWM:": 0}, threading.Event()
    watcher = threading.Thread(target=watch, args=(process.pid, peaks, over))
    killer = threading.Timer(stop_after, process.kill) if stop_after else None
    for helper in [watcher] * watched + [killer] * bool(killer):
        helper.start()
    error = process.stderr.read().decode(errors="replace")
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - start
    over.set()
    if watched:
        watcher.join()
    if killer:
        killer.cancel()
    process.returncode = code = os.waitstatus_to_exitcode(status)
    stopped = code == -9 and stop_after is not None and wall >= stop_after
    return Run(wall, usage.ru_utime + usage.ru_stime, peaks["RssAnon:"], peaks["VmHWM:"], code, error.strip(), stopped)


def watch(pid: int, peaks: dict[str, int], over: threading.Event) -> None:
    with open(f"/proc/{pid}/status", "rb", buffering=0) as status:
        while not over.wait(SAMPLE_SECONDS):
            try:
                text = os.pread(status.fileno(), 4096, 0).decode()
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


def dry_run_of_vdump(program: Path, source: Path, *more: str) -> list[str]:
    return [str(program), "filter", "--progress", "none", "--dry-run", "--json", "-d", "31", "-c", "lzo", *more, str(source)]


CODECS = {"none": [], "lzo": ["-l"], "zlib": ["-c"], "snappy": ["-p"], "zstd": ["-z"]}
"""makedumpfile's options."""


@dataclass(frozen=True)
class Peer:
    """A makedumpfile."""

    program: str
    name: str
    codecs: tuple[str, ...]

    @classmethod
    def ask(cls, program: str) -> Peer:
        """By its own word: name, version, and the codecs that it is built with."""
        words = subprocess.run([program, "-v"], check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout
        version = re.search(r"version (\S+)", words)
        built = set(re.findall(r"^(\w+)\s+enabled", words, re.MULTILINE)) | {"none", "zlib"}
        return cls(program, f"makedumpfile {version[1] if version else '?'}", tuple(codec for codec in CODECS if codec in built))

    def filter(self, source: Path, target: Path, level: int, codec: str, threads: int) -> list[str]:
        words = [self.program, "--message-level", "0", "-f", "-d", str(level), *CODECS[codec]]
        return [*words, *(["--num-threads", str(threads)] if threads else []), str(source), str(target)]

    def dry_run(self, source: Path, target: Path) -> list[str]:
        return [self.program, "--message-level", "0", "--dry-run", "-f", "-d", "31", "-l", str(source), str(target)]
