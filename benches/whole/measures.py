"""What is measured, one function each. All results are plain dictionaries, for JSON."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import kdump
from tools import MAKEDUMPFILE_CODECS, Run, filter_with_makedumpfile, filter_with_vdump, measure

COMPARED = ("none", "lzo", "zlib")
ALONE = ("snappy", "zstd", "zstd:1", "elf,none", "elf,lz4", "elf,zstd")
LEVELS_OF_GROWTH = (31, 23, 15, 1, 0)
TWICE = 2.0
HARD_LIMIT = 64 << 20


@dataclass
class Bench:
    """The programs, the places and how thoroughly to measure."""

    vdump: Path
    makedumpfile: str
    source: Path
    tmpfs: Path
    disk: Path
    rounds: int
    say: Callable[[str], None]
    """Says what is being done."""

    def vdump_run(self, codec: str, level: int = 31, folder: Path | None = None, *more: str, source: Path | None = None):
        target = (folder or self.tmpfs) / "vdump"
        return self.run(filter_with_vdump(self.vdump, source or self.source, target, level, codec, *more), target)

    def makedumpfile_run(
        self,
        codec: str,
        level: int = 31,
        folder: Path | None = None,
        threads: int = 0,
        stop_after: float | None = None,
        source: Path | None = None,
    ):
        target = (folder or self.tmpfs) / "makedumpfile"
        command = filter_with_makedumpfile(self.makedumpfile, source or self.source, target, level, codec, threads)
        return self.run(command, target, stop_after)

    def run(self, command: list[str], target: Path, stop_after: float | None = None) -> tuple[Run, dict]:
        """One run; the output is looked at and removed."""
        target.unlink(missing_ok=True)
        run = measure(command, stop_after)
        if run.code and not run.stopped:
            raise SystemExit(f"{' '.join(command)}\nfailed with {run.code}: {run.error}")
        made = {"bytes": 0, "kept_bytes": 0}
        if not run.stopped:
            made["bytes"] = target.stat().st_size
            with target.open("rb") as file:
                if file.read(8) == b"KDUMP   ":
                    made["kept_bytes"] = kdump.kept_bytes(target)
        target.unlink(missing_ok=True)
        Path(f"{target}-incomplete").unlink(missing_ok=True)
        return run, made


def summary(runs: list[Run], made: dict) -> dict:
    """Of several runs the best wall and CPU time: whatever else the machine does only adds to them."""
    wall = min(run.wall for run in runs)
    return {
        "wall": wall,
        "cpu": min(run.cpu for run in runs),
        "walls": [run.wall for run in runs],
        "anon": max(run.anon for run in runs),
        "resident": max(run.resident for run in runs),
        **made,
    }


def warm(path: Path) -> None:
    """Brings the file into the page cache."""
    with path.open("rb", buffering=0) as file:
        buffer = bytearray(8 << 20)
        while file.readinto(buffer):
            pass


def best_threads(bench: Bench, given: int | None) -> dict[str, int]:
    """What was given, or whether makedumpfile is faster with --num-threads 2 (or as many as there are CPUs), for each codec."""
    if given is not None:
        return dict.fromkeys(COMPARED, given)
    cpus = len(os.sched_getaffinity(0))
    best = {}
    for codec in COMPARED:
        bench.say(f"makedumpfile's threads, {codec}")
        alone, _ = bench.makedumpfile_run(codec)
        many, _ = bench.makedumpfile_run(codec, threads=cpus, stop_after=alone.wall * TWICE + 1)
        best[codec] = cpus if not many.stopped and many.wall < alone.wall else 0
    return best


def compare(bench: Bench, folder: Path, level: int, codecs: tuple[str, ...], rounds: int, threads: dict[str, int]) -> dict:
    """Both tools in turn, several rounds."""
    result = {}
    for codec in codecs:
        ours, theirs = [], []
        for number in range(rounds):
            bench.say(f"level {level}, {codec}, round {number + 1} of {rounds}")
            ours.append(bench.vdump_run(codec, level, folder))
            theirs.append(bench.makedumpfile_run(codec, level, folder, threads[codec]))
        both = {
            "vdump": summary([run for run, _ in ours], ours[0][1]),
            "makedumpfile": summary([run for run, _ in theirs], theirs[0][1]) | {"threads": threads[codec]},
        }
        result[codec] = both | ratios(both["vdump"], both["makedumpfile"])
    return result


def ratios(ours: dict, theirs: dict) -> dict:
    return {
        "wall_ratio": ours["wall"] / theirs["wall"],
        "cpu_ratio": ours["cpu"] / theirs["cpu"],
        "bytes_ratio": ours["bytes"] / theirs["bytes"],
        "kept_ratio": ours["kept_bytes"] / theirs["kept_bytes"],
    }


def alone(bench: Bench, level: int = 31) -> dict:
    """What makedumpfile cannot do."""
    result = {}
    for codec in ALONE:
        runs = []
        for number in range(bench.rounds):
            bench.say(f"level {level}, {codec}, round {number + 1} of {bench.rounds}")
            runs.append(bench.vdump_run(codec, level))
        result[codec] = summary([run for run, _ in runs], runs[0][1])
    return result


def codec_limits(bench: Bench) -> dict:
    """Compressing the same kept pages from memory on all CPUs, nothing else: as `vdump bench` measures it, on all of them
    if they fit into memory."""
    bench.say("the codecs alone")
    command = [bench.vdump, "bench", "--json", "--progress", "none", "--seconds", "10", "--sample", "4G"]
    command += ["-c", "none,lzo,snappy,zstd,zstd:1,zlib,lz4"]
    text = subprocess.run([*command, bench.source], check=True, stdout=subprocess.PIPE).stdout
    report = json.loads(text)
    stored = report["kept_bytes"] - report["zero_bytes"]
    codecs = [stage for stage in report["stages"] if "packed" in stage]
    report["limits"] = {stage["stage"]: stored / stage["all"] for stage in codecs}
    report["cpu_limits"] = {stage["stage"]: stored / stage["cpu"] for stage in codecs}
    return report


def copying(bench: Bench, folder: Path, size: int) -> dict[str, float]:
    """The best that the file system does: as many bytes copied by one call, and by cp. Seconds."""
    bench.say(f"copying {size >> 20} MiB")
    source, target = folder / "copy.from", folder / "copy.to"
    chunk = os.urandom(1 << 20)
    with source.open("wb") as file:
        for _ in range(size >> 20):
            file.write(chunk)
    times: dict[str, list[float]] = {"copy_file_range": [], "cp --reflink=never": []}
    for _ in range(bench.rounds):
        times["cp --reflink=never"].append(timed(lambda: subprocess.run(["cp", "--reflink=never", source, target], check=True)))
        target.unlink()
        times["copy_file_range"].append(timed(lambda: copy_file_range(source, target)))
        target.unlink()
    source.unlink()
    return {name: min(seconds) for name, seconds in times.items()}


def copy_file_range(source: Path, target: Path) -> None:
    with source.open("rb") as input, target.open("wb") as output:
        while os.copy_file_range(input.fileno(), output.fileno(), 1 << 30):
            pass


def timed(work: Callable[[], object]) -> float:
    start = time.monotonic()
    work()
    return time.monotonic() - start


def memory(bench: Bench) -> list[dict]:
    """Peak memory with two threads and every codec; the least that a run may be given; a hard limit."""
    result = []
    cases = [(codec, ("-j", "2")) for codec in (*COMPARED, *ALONE, "zlib:12", "elf,zstd:19")]
    cases += [(codec, ("--memory-limit", "16M")) for codec in ("lzo", "zstd", "elf,zstd")]
    for codec, more in cases:
        # The largest levels are for the memory alone: a small part of the dump is enough.
        bench.say(f"memory, {codec} {' '.join(more)}")
        limited = ("--limit", "4M") if codec in ("zlib:12", "elf,zstd:19") else ()
        target = bench.tmpfs / "vdump"
        run = measure(filter_with_vdump(bench.vdump, bench.source, target, 31, codec, *more, *limited))
        result.append(case(codec, more, run, bool(limited)))
        remove(target)
    for codec in ("lzo", "zstd", "zlib", "elf,zstd"):
        bench.say(f"memory, {codec}, hard limit")
        target = bench.tmpfs / "vdump"
        command = filter_with_vdump(bench.vdump, bench.source, target, 31, codec, "-j", "2")
        run = measure(command, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (HARD_LIMIT, HARD_LIMIT)))
        result.append(case(codec, ("RLIMIT_AS 64 MiB, -j 2",), run, False))
        remove(target)
    return result


def case(codec: str, more: tuple[str, ...], run: Run, ends_early: bool) -> dict:
    return {"codec": codec, "options": " ".join(more), "ends_early": ends_early, **asdict(run)}


def remove(target: Path) -> None:
    for path in (target, Path(f"{target}-incomplete")):
        path.unlink(missing_ok=True)


def growth(bench: Bench, smaller: list[Path], threads: dict[str, int]) -> dict:
    """Time against kept memory and against all memory, with lzo."""
    by_level, by_memory = [], []
    for level in LEVELS_OF_GROWTH:
        both = compare(bench, bench.tmpfs, level, ("lzo",), 1, threads)["lzo"]
        by_level.append({"level": level, **both})
    for source in [*smaller, bench.source]:
        warm(source)
        bench.say(f"{source.stat().st_size >> 20} MiB")
        ours = min((bench.vdump_run("lzo", source=source) for _ in range(2)), key=lambda made: made[0].wall)
        theirs = bench.makedumpfile_run("lzo", threads=threads["lzo"], source=source)
        by_memory.append({
            "input_bytes": source.stat().st_size,
            "vdump": summary([ours[0]], ours[1]),
            "makedumpfile": summary([theirs[0]], theirs[1]),
        })
    return {"by_level": by_level, "by_memory": by_memory}


def start(bench: Bench) -> dict:
    """How large the program is and how long it takes to start."""
    times = [timed(lambda: subprocess.run([bench.vdump, "--version"], stdout=subprocess.DEVNULL)) for _ in range(20)]
    return {"bytes": bench.vdump.stat().st_size, "seconds": min(times)}


def complain_about(problem: str) -> None:
    print(f"benches/whole: {problem}", file=sys.stderr)


assert set(COMPARED) == set(MAKEDUMPFILE_CODECS)
