"""What vdump is measured against besides makedumpfile: the codecs alone, a plain copy; and how large it is, how fast it starts."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from bench import Bench

EVERY_CODEC = "lzo,zstd,snappy,zstd:1,zlib,lz4"
JUDGED = "lzo,zstd"


def codec_limits(bench: Bench) -> dict:
    """Compressing the same kept pages from memory by two threads, nothing else: as `vdump bench` measures it, all of them
    if they fit into memory. The codecs that targets name three times: medians."""
    report: dict = {}
    rates: dict[str, list[dict]] = {}
    for number, codecs in enumerate((EVERY_CODEC, JUDGED, JUDGED)[: bench.rounds]):
        bench.say(f"the codecs alone, {codecs}")
        command = [bench.vdump, "bench", "--json", "--progress", "none", "-j", "2", "--seconds", "10", "--sample", "4G", "-c", codecs]
        made = json.loads(subprocess.run([*command, bench.source], check=True, stdout=subprocess.PIPE).stdout)
        report = report or made
        for stage in made["stages"]:
            rates.setdefault(stage["stage"], []).append(stage)
    for stage in report["stages"]:
        for key in ("all", "one", "cpu"):
            stage[key] = statistics.median(measured[key] for measured in rates[stage["stage"]])
    stored = report["kept_bytes"] - report["zero_bytes"]
    codecs = [stage for stage in report["stages"] if "packed" in stage]
    report["limits"] = {stage["stage"]: stored / stage["all"] for stage in codecs}
    report["cpu_limits"] = {stage["stage"]: stored / stage["cpu"] for stage in codecs}
    # No business of a results file.
    del report["input"], report["predictions"]
    return report


def copying(bench: Bench, size: int) -> dict[str, float]:
    """The best that the file system does: as many bytes copied by one call again and again, and by cp. Seconds, medians."""
    bench.say(f"copying {size >> 20} MiB")
    source, target = bench.tmpfs / "copy.from", bench.tmpfs / "copy.to"
    chunk = os.urandom(1 << 20)
    with source.open("wb") as file:
        for _ in range(size >> 20):
            file.write(chunk)
    ways = {
        "cp --reflink=never": lambda: subprocess.run(["cp", "--reflink=never", source, target], check=True),
        "copy_file_range": lambda: copied(source, target, lambda i, o: os.copy_file_range(i, o, 1 << 30)),
        "sendfile": lambda: copied(source, target, lambda i, o: os.sendfile(o, i, None, 1 << 30)),
    }
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(bench.rounds):
        for name, way in ways.items():
            times[name].append(timed(way))
            target.unlink()
    source.unlink()
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def copied(source: Path, target: Path, call: Callable[[int, int], int]) -> None:
    with source.open("rb") as input, target.open("wb") as output:
        while call(input.fileno(), output.fileno()):
            pass


def timed(work: Callable[[], object]) -> float:
    start = time.monotonic()
    work()
    return time.monotonic() - start


def start(bench: Bench) -> dict:
    """How large the program is and how long it takes to start."""
    times = [timed(lambda: subprocess.run([bench.vdump, "--version"], check=True, stdout=subprocess.DEVNULL)) for _ in range(50)]
    return {"bytes": bench.vdump.stat().st_size, "seconds": statistics.median(times)}
