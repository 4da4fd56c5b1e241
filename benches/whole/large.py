"""Dry runs: of the vmcore itself, and of simulated machines with up to a tebibyte (benches/large)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import memory
from bench import Bench, summary
from tools import Peer, dry_run_of_vdump, measure

MAKE = Path(__file__).resolve().parents[1] / "large/make.py"
TEBIBYTES = (1 / 16, 1 / 4, 1 / 2, 1)
STRUCT_PAGE = 64
"""Bytes of a struct page, on x86-64."""
FEW = 3
NORMAL, ONE, LITTLE = "vdump", "vdump -j 1", "vdump --memory-limit 16M"


@dataclass(frozen=True)
class Dry:
    """Series of dry runs of one vmcore: vdump's rounds and makedumpfile's."""

    series: dict[str, list[str]]
    rounds: int
    peers: dict[Peer, int]


def of_source(bench: Bench) -> dict:
    both = {NORMAL: ["-j", "2"], ONE: ["-j", "1"]}
    return dry_runs(bench, bench.source, Dry(both, bench.rounds, dict.fromkeys(bench.peers, bench.rounds)))


def of_simulations(bench: Bench, memories: list[dict]) -> list[dict]:
    """Time against memory, with the bitmaps in memory and in files. The largest machine is measured more thoroughly."""
    found = []
    file = bench.disk / "large"
    for tebibytes in TEBIBYTES:
        bench.say(f"making a machine with {tebibytes:g} TiB")
        subprocess.run([sys.executable, MAKE, str(tebibytes), file, "--vdump", bench.vdump], check=True, stdout=subprocess.DEVNULL)
        # Written back, so that nothing is while it is measured.
        os.sync()
        series = {NORMAL: ["-j", "2"], LITTLE: ["-j", "2", "--memory-limit", "16M"]}
        largest = tebibytes == TEBIBYTES[-1]
        few = min(bench.rounds, FEW)
        if largest:
            dry = Dry(series | {ONE: ["-j", "1"]}, bench.rounds, dict.fromkeys(bench.peers, 1) | {bench.peers[0]: few})
        else:
            dry = Dry(series, few, {bench.peers[0]: 1})
        # Holes cost time once, too.
        once(bench, file, [])
        found.append({"tebibytes": tebibytes, **dry_runs(bench, file, dry)})
        if largest:
            memories += memory.of_simulation(bench, file, f"{tebibytes:g} TiB")
        file.unlink()
    return found


def dry_runs(bench: Bench, source: Path, dry: Dry) -> dict:
    """In turn. Each of vdump's series also says how long classification took, and where the bitmaps were."""
    runs: dict[str, list] = {name: [] for name in dry.series} | {peer.name: [] for peer in dry.peers}
    reports: dict[str, list[dict]] = {name: [] for name in dry.series}
    for number in range(max(dry.rounds, *dry.peers.values())):
        bench.say(f"dry runs of {source.stat().st_size >> 30} GiB, round {number + 1}")
        for name, options in dry.series.items():
            if number < dry.rounds:
                run, report = once(bench, source, options)
                runs[name].append(run)
                reports[name].append(report)
        for peer, rounds in dry.peers.items():
            if number < rounds:
                run = measure(peer.dry_run(source, bench.tmpfs / "makedumpfile"))
                if run.code:
                    raise SystemExit(f"the dry run of {peer.name} failed with {run.code}: {run.error}")
                runs[peer.name].append(run)
    ram = reports[NORMAL][0]["pages"]["ram"]
    made = {name: {"classify": middle(of), "in_files": in_files(of[0])} for name, of in reports.items()}
    return {
        "ram_bytes": ram * reports[NORMAL][0]["page_size"],
        "struct_page_bytes": ram * STRUCT_PAGE,
        "runs": {name: summary(of, **made.get(name, {})) for name, of in runs.items()},
    }


def once(bench: Bench, source: Path, options: list[str]) -> tuple:
    said = bench.tmpfs / "report.json"
    run = measure(dry_run_of_vdump(bench.vdump, source, *options), output=said)
    if run.code:
        raise SystemExit(f"vdump's dry run of {source} failed with {run.code}: {run.error}")
    report = json.loads(said.read_text())
    said.unlink()
    return run, report


def middle(reports: list[dict]) -> float:
    seconds = sorted(report["seconds"]["classify"] for report in reports)
    return seconds[len(seconds) // 2]


def in_files(report: dict) -> bool:
    """Whether the page bitmaps were kept in files, as a warning says then."""
    return any(warning.startswith("page bitmaps") for warning in report["warnings"])
