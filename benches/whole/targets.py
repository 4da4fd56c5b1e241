"""What vdump wants to reach, and whether it does. What was not measured, or cannot be judged, says so."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import straight

MB = 1e6
TIMES = {"lzo": 0.65, "zlib": 0.25, "none": 0.95, "zstd": 0.40, "elf,zstd": 0.40}
SIZES = {"zlib": 1.0, "zstd": 1.03, "elf,zstd": 0.72}
"""vdump's over makedumpfile's, which makes the zstd of zstd and of a compressed ELF core."""
LEVELS = {"lzo": (31, 23, 1, 0), "none": (31, 23, 1, 0), "zlib": (31, 23, 1), "zstd": (31, 1, 0), "elf,zstd": (31, 1, 0)}
LIMITS = {"lzo": "lzo, pages", "zstd": "zstd, pages", "elf,zstd": "zstd:3, frames"}
"""The stage of `vdump bench` that is the codec alone."""
SAME_PAGES = 0.001


@dataclass(frozen=True)
class Target:
    """`value` may be `wanted` at most, or must be at least that. Without one, `remark` says why there is none."""

    what: str
    value: float | None
    wanted: float
    unit: str = ""
    at_least: bool = False
    remark: str = ""

    @property
    def met(self) -> bool:
        return self.value is not None and (self.value >= self.wanted if self.at_least else self.value <= self.wanted)

    def row(self) -> tuple[str, str, str, str]:
        wanted = f"{'>=' if self.at_least else '<='} {self.wanted:g}{self.unit}"
        if self.value is None:
            return self.what, wanted, "", f"*not judged: {self.remark}*"
        percent = abs(self.value / self.wanted - 1) * 100 if self.wanted else 0
        off = f" by {percent:{'.0f' if percent >= 10 else '.2g'}} %" if self.wanted else ""
        verdict = "met" if self.met else f"**missed**{off}"
        return self.what, wanted, f"{self.value:.3g}{self.unit}", f"{verdict}; {self.remark}" if self.remark else verdict


def targets(results: dict) -> list[Target]:
    parts = (beside_makedumpfile, beside_limits, dry_runs, memories, growth, program)
    return [target for part in parts for target in part(results)]


def beside_makedumpfile(results: dict) -> Iterator[Target]:
    for codec, levels in LEVELS.items():
        for level in levels:
            pairs = [pair for pair in results["pairs"] if (pair["level"], pair["codec"]) == (level, codec)]
            if not pairs:
                yield Target(f"{codec}, level {level}: time beside makedumpfile", None, TIMES[codec], remark=NO_PEER)
            for pair in pairs:
                yield from of_pair(pair, f"{codec}, level {level}", pair["peer"])


NO_PEER = "no makedumpfile here is built with this codec"


def of_pair(pair: dict, name: str, peer: str) -> Iterator[Target]:
    """Of the same pages: a tool that keeps more has more to do."""
    codec, kept = pair["codec"], 1 / pair["kept_ratio"]
    same = abs(kept - 1) <= SAME_PAGES
    remark = "" if same else f"it keeps {kept:.2f} times as much"
    rounds = "" if pair["rounds"] >= 5 else f"{pair['rounds']} rounds" if pair["rounds"] > 1 else "1 round"
    remarks = "; ".join(word for word in (remark, rounds) if word)
    yield Target(f"{name}: time beside {peer}", pair["wall_ratio"], TIMES[codec], remark=remarks)
    if codec in SIZES:
        what = f"{name}: output beside {peer}"
        yield Target(what, pair["bytes_ratio"] if same else None, SIZES[codec], remark=remark)


def ours(results: dict, codec: str) -> dict:
    return next(run for run in results["ours"] if (run["level"], run["codec"]) == (31, codec))


def beside_limits(results: dict) -> Iterator[Target]:
    for codec, limit in LIMITS.items():
        alone = results["limits"]["limits"][limit]
        yield Target(f"{codec}: time beside the codec alone, two threads", ours(results, codec)["wall"] / alone, 1.15)
    copy = results["copy"]["tmpfs"]
    best = min(copy, key=copy.get)
    what = "none: time beside the best copy of as many bytes"
    yield Target(what, ours(results, "none")["wall"] / copy[best], 1.25, remark=f"the best is {best}")


def dry_runs(results: dict) -> Iterator[Target]:
    large = results["simulated"][-1]
    one, many = large["runs"]["vdump -j 1"], large["runs"]["vdump"]
    name = f"dry run of {large['tebibytes']:g} TiB"
    size = large["struct_page_bytes"]
    yield Target(f"{name}: struct pages a second, one core, classification", size / one["classify"] / 1e9, 4, " GB", True)
    yield Target(f"{name}: the same of the whole run", size / one["wall"] / 1e9, 4, " GB", True)
    yield Target(f"{name}: two cores over one, classification", one["classify"] / many["classify"], 1.7, "", True, SCALING)
    for peer in results["peers"]:
        theirs = large["runs"].get(peer["name"])
        if theirs:
            yield Target(f"{name}: times as fast as {peer['name']}", theirs["wall"] / many["wall"], 8, "", True)


SCALING = "the number is ours; wanted is that it scales"


def memories(results: dict) -> Iterator[Target]:
    def cases(largest: bool, hard: str, options: str | None = None) -> list[dict]:
        return [
            case
            for case in results["memory"]
            if bool(case["input"]) == largest and case["hard"] == hard and case["options"] == (options or case["options"])
        ]

    for largest, name, wanted in ((False, "two threads, every codec", 40), (True, "two threads, 1 TiB simulated", 64)):
        usual = cases(largest, "", "-j 2")
        peak, seen = (max(case[key] for case in usual) / MB for key in ("resident", "anon"))
        remark = f"all that was resident, program and bitmap files included; {seen:.1f} MB of it seen anonymous"
        yield Target(f"peak memory, {name}", peak, wanted, " MB", remark=remark)
    hard_and_options = dict.fromkeys((case["hard"], case["options"]) for case in results["memory"] if limited(case))
    for hard, options in hard_and_options:
        tight = cases(False, hard, options) + cases(True, hard, options)
        what = f"runs that fail: {', '.join(word for word in (hard, options) if word)}"
        skipped = next((case["skipped"] for case in tight if "skipped" in case), "")
        failed = None if skipped else sum(case["code"] != 0 for case in tight)
        yield Target(what, failed, 0, remark=skipped or f"of {len(tight)}")


def limited(case: dict) -> bool:
    return bool(case["hard"]) or "--memory-limit" in case["options"]


def growth(results: dict) -> Iterator[Target]:
    """Distances from the straight line that fits best, in parts of the largest value. The number is ours."""
    for name, points in straight.series(results).items():
        if len(points) < 3:
            yield Target(f"growth, {name}: distance from a line", None, 10, " %", remark="there are fewer than three points")
            continue
        yield Target(f"growth, {name}: distance from a line", straight.distance(points) * 100, 10, " %", remark="the number is ours")


def program(results: dict) -> Iterator[Target]:
    yield Target("size of the program", results["start"]["bytes"] / MB, 6, " MB")
    yield Target("time to start", results["start"]["seconds"] * 1000, 10, " ms")
