"""Both tools in turn: which levels and codecs, how many rounds, and with how many threads makedumpfile is at its best."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

from bench import Bench, summary, warm
from tools import Peer

TWICE = 2.0


@dataclass(frozen=True)
class Turn:
    """One comparison: what each tool makes in each round."""

    level: int
    ours: tuple[str, ...]
    theirs: str
    most: int = 99
    """Rounds at most, where nothing is judged."""


PLAN = (
    Turn(31, ("lzo",), "lzo"),
    Turn(31, ("zlib",), "zlib"),
    Turn(31, ("none",), "none"),
    # vdump's two forms of zstd beside makedumpfile's one.
    Turn(31, ("zstd", "elf,zstd"), "zstd"),
    Turn(31, ("snappy",), "snappy", most=3),
    # Here a makedumpfile that does not know the kernel's huge pages keeps the same pages, too.
    Turn(23, ("lzo",), "lzo"),
    Turn(23, ("zlib",), "zlib"),
    Turn(23, ("none",), "none"),
    Turn(1, ("lzo",), "lzo"),
    Turn(1, ("zlib",), "zlib"),
    Turn(1, ("none",), "none"),
    Turn(1, ("zstd", "elf,zstd"), "zstd"),
    Turn(0, ("lzo",), "lzo"),
    Turn(0, ("none",), "none"),
    Turn(0, ("zstd", "elf,zstd"), "zstd"),
)
ALONE = tuple(Turn(31, (codec,), "", most=3) for codec in ("zstd:1", "elf,none", "elf,lz4"))
"""What makedumpfile cannot do."""
ON_DISK = tuple(Turn(31, (codec,), codec, most=2) for codec in ("lzo", "none"))
GROWTH = Turn(31, ("lzo",), "lzo", most=3)


class Threads:
    """What --num-threads each makedumpfile is given for each codec: as given, or as one try says."""

    def __init__(self, given: int | None) -> None:
        self.given = given
        self.tries: list[dict] = []

    def of(self, peer: Peer, codec: str) -> int:
        if self.given is not None:
            return self.given
        return next((tried["taken"] for tried in self.tries if (tried["peer"], tried["codec"]) == (peer.name, codec)), 0)

    def unknown(self, peer: Peer, codec: str) -> bool:
        return self.given is None and all((tried["peer"], tried["codec"]) != (peer.name, codec) for tried in self.tries)

    def try_all_cpus(self, bench: Bench, peer: Peer, codec: str, level: int, first: tuple) -> tuple:
        """The better one of the first run, made with one thread, and a run with a thread for each CPU, which is stopped when
        it takes twice as long."""
        cpus = len(os.sched_getaffinity(0))
        bench.say(f"{peer.name}, {codec}, --num-threads {cpus}")
        many = bench.theirs(peer, codec, level, cpus, stop_after=first[0].wall * TWICE + 1)
        better = not many[0].stopped and many[0].wall < first[0].wall
        self.tries.append({
            "peer": peer.name,
            "codec": codec,
            "one": first[0].wall,
            "threads": cpus,
            "many": None if many[0].stopped else many[0].wall,
            "taken": cpus if better else 0,
        })
        return many if better else first


def all_turns(bench: Bench, threads: Threads, pairs: list[dict], ours: list[dict]) -> None:
    """Level 31 beside every makedumpfile, the other levels beside the first one that knows the codec."""
    for turn in (*PLAN, *ALONE):
        knowing = [peer for peer in bench.peers if turn.theirs in peer.codecs]
        compare(bench, turn, knowing if turn.level == 31 else knowing[:1], threads, pairs, ours)


def on_disk(bench: Bench, threads: Threads) -> list[dict]:
    pairs: list[dict] = []
    for turn in ON_DISK:
        compare(bench, turn, bench.peers[:1], threads, pairs, [], bench.disk)
    return pairs


def growth(bench: Bench, threads: Threads, smaller: list[Path]) -> list[dict]:
    """Smaller machines of the same kind; what the levels of the largest take, its pairs say."""
    pairs: list[dict] = []
    for source in smaller:
        warm(source)
        compare(replace(bench, source=source), GROWTH, bench.peers[:1], threads, pairs, [])
    return pairs


def compare(
    bench: Bench, turn: Turn, peers: list[Peer], threads: Threads, pairs: list[dict], ours: list[dict], folder: Path | None = None
) -> None:
    """Adds vdump's runs, and one pair for each of them and each makedumpfile."""
    rounds = min(bench.rounds, turn.most)
    made: dict[str, list[tuple]] = {codec: [] for codec in turn.ours} | {peer.name: [] for peer in peers}
    for number in range(rounds):
        bench.say(f"level {turn.level}, {', '.join(turn.ours)}, round {number + 1} of {rounds}")
        for codec in turn.ours:
            made[codec].append(bench.ours(codec, turn.level, folder))
        for peer in peers:
            run = bench.theirs(peer, turn.theirs, turn.level, threads.of(peer, turn.theirs), folder)
            if threads.unknown(peer, turn.theirs):
                run = threads.try_all_cpus(bench, peer, turn.theirs, turn.level, run)
            made[peer.name].append(run)
    about = {"level": turn.level, "rounds": rounds, "input_bytes": bench.source.stat().st_size}
    sums = {name: summary([run for run, _ in runs], **runs[0][1]) for name, runs in made.items()}
    for codec in turn.ours:
        # An ELF core's segments do not tell zero pages from others: it keeps what the kdump-compressed file keeps.
        sums[codec]["kept_bytes"] = sums[codec]["kept_bytes"] or sums[turn.ours[0]]["kept_bytes"]
        ours.append(about | {"codec": codec} | sums[codec])
        for peer in peers:
            theirs = sums[peer.name] | {"threads": threads.of(peer, turn.theirs)}
            pair = {"codec": codec, "peer": peer.name, "peer_codec": turn.theirs, "vdump": sums[codec], "makedumpfile": theirs}
            pairs.append(about | pair | ratios(sums[codec], theirs))


def ratios(ours: dict, theirs: dict) -> dict:
    return {
        "wall_ratio": ours["wall"] / theirs["wall"],
        "cpu_ratio": ours["cpu"] / theirs["cpu"],
        "bytes_ratio": ours["bytes"] / theirs["bytes"],
        "kept_ratio": ours["kept_bytes"] / theirs["kept_bytes"],
    }
