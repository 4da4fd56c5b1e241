"""How much memory runs take at most, and whether they come to an end where there is little of it. Nothing here is timed."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from bench import Bench, remove
from tools import dry_run_of_vdump, filter_with_vdump, measure

HARD_LIMIT = 64 << 20
CODECS = ("none", "lzo", "zlib", "snappy", "zstd", "zstd:1", "elf,none", "elf,lz4", "elf,zstd")
JUDGED = ("none", "lzo", "zlib", "zstd", "elf,zstd")
LARGEST_LEVELS = ("zlib:12", "elf,zstd:19")
GROUPS = Path("/sys/fs/cgroup")
USUAL, LITTLE = "-j 2", "-j 2 --memory-limit 16M"
ADDRESSES, GROUP = "RLIMIT_AS 64 MiB", "cgroup, 64 MiB"


def of_dumps(bench: Bench) -> list[dict]:
    """The realistic case: every codec, and the same in little memory."""
    cases = [one(bench, codec, USUAL) for codec in CODECS]
    # For the memory alone: a small part of the dump is enough.
    cases += [one(bench, codec, f"{USUAL} --limit 1M") for codec in LARGEST_LEVELS]
    for codec in JUDGED:
        cases.append(one(bench, codec, LITTLE))
        cases.append(one(bench, codec, USUAL, ADDRESSES, preexec_fn=limit_addresses))
        cases.append(one(bench, codec, LITTLE, ADDRESSES, preexec_fn=limit_addresses))
    with group() as (join, reason):
        for codec in JUDGED:
            # Into a file on a disk: what is in a tmpfs would count as memory, and cannot be given back.
            cases.append(one(bench, codec, USUAL, GROUP, folder=bench.disk, preexec_fn=join) if join else not_made(codec, reason))
    return cases + [of_peer(bench, peer, codec) for peer in bench.peers for codec in peer.codecs if codec in ("lzo", "zstd")]


def of_simulation(bench: Bench, source: Path, name: str) -> list[dict]:
    """The machine with a tebibyte: dry runs and a dump."""
    found = []
    for options, hard, how in (
        (USUAL, "", {}),
        (LITTLE, "", {}),
        (USUAL, ADDRESSES, {"preexec_fn": limit_addresses}),
        (LITTLE, ADDRESSES, {"preexec_fn": limit_addresses}),
    ):
        bench.say(f"memory, {name}, {options} {hard}")
        run = measure(dry_run_of_vdump(bench.vdump, source, *options.split()), watched=True, **how)
        found.append({"input": name, "codec": "dry run", "options": options, "hard": hard, **asdict(run)})
    for codec in ("lzo", "zstd"):
        found.append(one(bench, codec, USUAL, source=source) | {"input": name})
    return found


def one(bench: Bench, codec: str, options: str, hard: str = "", folder: Path | None = None, source: Path | None = None, **how) -> dict:
    """A run of vdump that is allowed to fail: that is what is asked here."""
    bench.say(f"memory, {codec} {options} {hard}")
    target = (folder or bench.tmpfs) / "vdump"
    remove(target)
    command = filter_with_vdump(bench.vdump, source or bench.source, target, 31, codec, *options.split())
    run = measure(command, watched=True, **how)
    whole = target.exists()
    remove(target)
    if run.code == 0 and not whole:
        raise SystemExit(f"{' '.join(command)}\nended well, but there is no {target}")
    return {"input": "", "codec": codec, "options": options, "hard": hard, **asdict(run)}


def of_peer(bench: Bench, peer, codec: str) -> dict:
    bench.say(f"memory, {peer.name}, {codec}")
    target = bench.tmpfs / "makedumpfile"
    run = measure(peer.filter(bench.source, target, 31, codec, 0), watched=True)
    remove(target)
    return {"input": "", "codec": f"{codec}, {peer.name}", "options": "", "hard": "", **asdict(run)}


def not_made(codec: str, reason: str) -> dict:
    return {"input": "", "codec": codec, "options": USUAL, "hard": GROUP, "skipped": reason}


def limit_addresses() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (HARD_LIMIT, HARD_LIMIT))


@contextmanager
def group() -> Iterator[tuple[Callable[[], object] | None, str]]:
    """A control group with a hard limit and no swap, version 2 or 1: how to join it, or why there is none."""
    second = (GROUPS / "cgroup.controllers").exists()
    folder = (GROUPS if second else GROUPS / "memory") / f"vdump-bench-{os.getpid()}"
    try:
        folder.mkdir()
    except OSError as error:
        yield None, f"cannot make {folder}: {error.strerror}"
        return
    try:
        (folder / ("memory.max" if second else "memory.limit_in_bytes")).write_text(str(HARD_LIMIT))
        join = lambda: (folder / "cgroup.procs").write_text("0")
    except OSError as error:
        join, reason = None, f"cannot limit the memory of {folder}: {error.strerror}"
    try:
        yield (join, "") if join else (None, reason)
    finally:
        folder.rmdir()
