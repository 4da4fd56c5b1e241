#!/usr/bin/env python3
"""Whole runs of vdump and makedumpfile on the same vmcore, in turn: time, memory and size, into a dated results file with
pictures. Without options it takes the VM lab's busy guest (6.5 GiB, crashed if it is not there yet) and the static release
build, and needs about 15 minutes, 16 GiB of free memory and 2 GiB of disk. NAME.findings.md in the folder of the results,
written by hand, becomes part of them; --again makes the report and the pictures anew without measuring."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import alone
import bench
import large
import machine
import memory
import pictures
import report
import tools
import turns

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
STATIC = ROOT / "target/x86_64-unknown-linux-gnu/release/vdump"


def main() -> int:
    options = parse()
    if options.again:
        write(json.loads(options.again.read_text()), options.again.parent, options.again.stem)
        return 0
    vdump = options.vdump.absolute()
    if not vdump.is_file():
        build = "RUSTFLAGS='-C target-feature=+crt-static' cargo build --release --target x86_64-unknown-linux-gnu"
        raise SystemExit(f"there is no {vdump}: {build}, or give --vdump")
    programs = [program for program in (options.makedumpfile, options.other_makedumpfile) if program]
    for program in programs:
        if not shutil.which(program):
            raise SystemExit(f"there is no {program}: install the package makedumpfile, or give --makedumpfile")
    source, smaller = (options.vmcore, []) if options.vmcore else busy_guests(vdump)
    smaller += options.smaller
    check_machine(source)
    name = options.name or f"{datetime.date.today().isoformat()}-{machine.short_name()}"
    with tempfile.TemporaryDirectory(dir=options.tmpfs) as tmpfs, tempfile.TemporaryDirectory(dir=options.disk) as disk:
        bench_ = bench.Bench(vdump, named(programs), source, Path(tmpfs), Path(disk), options.rounds, Saying())
        results: dict = {}
        try:
            measure_all(results, bench_, smaller, turns.Threads(options.threads))
        except BaseException:
            # What a failed run measured is no results file, but may say why it failed.
            left = options.disk / f"{name}.json-incomplete"
            left.write_text(json.dumps(results, indent=1) + "\n")
            complain_about(f"what was measured is in {left}")
            raise
    write(results, options.results, name)
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--vmcore", type=Path, help="the vmcore to dump; else the VM lab's busy guest")
    parser.add_argument("--smaller", type=Path, nargs="*", default=[], help="more vmcores, for the growth with memory")
    parser.add_argument("--vdump", type=Path, default=Path(os.environ.get("VDUMP_BIN", STATIC)), help="the program")
    parser.add_argument("--makedumpfile", default="makedumpfile", help="the other program")
    parser.add_argument("--other-makedumpfile", help="another build of it, with more codecs or for newer kernels")
    parser.add_argument("--threads", type=int, help="its --num-threads, 0 for none; else what is faster here is tried")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of a comparison; a few slow ones have less, and say so")
    parser.add_argument("--tmpfs", type=Path, default=Path("/dev/shm"), help="a folder in memory")
    parser.add_argument("--disk", type=Path, default=ROOT / "target", help="a folder on a disk")
    parser.add_argument("--results", type=Path, default=HERE.parent / "results", help="where the results go")
    parser.add_argument("--name", help="name of the results; else the date and the machine")
    parser.add_argument("--again", type=Path, metavar="JSON", help="only write the report of these results anew")
    return parser.parse_args()


def named(programs: list[str]) -> list[tools.Peer]:
    peers = [tools.Peer.ask(program) for program in programs]
    if len({peer.name for peer in peers}) < len(peers):
        raise SystemExit(f"both are {peers[0].name}: one of them is enough")
    return peers


def busy_guests(vdump: Path) -> tuple[Path, list[Path]]:
    """The realistic case and smaller ones like it, crashed now if need be."""
    os.environ.setdefault("VDUMP_BIN", str(vdump))
    # Any vdump loads the capture kernel as well as another: crashes are not repeated for each build.
    sys.path.insert(0, str(ROOT / "tests/vm"))
    from vmlab import cache, guests
    from vmlab.crash import crash

    with cache.held():
        made = []
        for guest in (guests.BUSY, guests.HALF_BUSY, guests.QUARTER_BUSY):
            saved = cache.root() / "crash" / guest.name / "vmcore"
            print(f"the guest {guest.name}: {'saved' if saved.exists() else 'crashing it takes two minutes'}", flush=True)
            made.append(saved if saved.exists() else crash(guest).vmcore)
    return made[0], sorted(made[1:], key=lambda path: path.stat().st_size)


def check_machine(source: Path) -> None:
    text = Path("/proc/meminfo").read_text()
    available = int(text.partition("MemAvailable:")[2].split()[0]) << 10
    needed = 2 * source.stat().st_size
    if available < needed:
        complain_about(
            f"{available >> 20} MiB of memory are available, and the vmcore with an unfiltered dump take {needed >> 20}: "
            "the figures may be those of the disk"
        )
    if os.getloadavg()[0] > 0.5:
        complain_about(f"the machine has other work to do (load {os.getloadavg()[0]:.1f}): the figures will say so")


class Saying:
    """Says what is being done, and since when."""

    def __init__(self) -> None:
        self.start = time.monotonic()

    def __call__(self, words: str) -> None:
        print(f"{time.monotonic() - self.start:4.0f} s  {words}", flush=True)


def measure_all(results: dict, bench_: bench.Bench, smaller: list[Path], threads: turns.Threads) -> None:
    """Fills the results step by step."""
    others = machine.Others()
    results["date"] = datetime.date.today().isoformat()
    results["machine"] = about = machine.describe(bench_.tmpfs, bench_.disk, bench_.vdump, bench_.peers)
    results["peers"] = [{"name": peer.name, "codecs": peer.codecs} for peer in bench_.peers]
    results["input_bytes"], results["rounds"] = bench_.source.stat().st_size, bench_.rounds
    results["threads"], results["given_threads"] = threads.tries, threads.given
    results["pairs"], results["ours"], results["memory"] = [], [], []
    bench.warm(bench_.source)
    results["start"] = alone.start(bench_)
    turns.all_turns(bench_, threads, results["pairs"], results["ours"])
    results["limits"] = alone.codec_limits(bench_)
    stored = next(run["bytes"] for run in results["ours"] if (run["level"], run["codec"]) == (31, "none"))
    results["copy"] = {"tmpfs": alone.copying(bench_, stored), "bytes": stored}
    results["dry"] = large.of_source(bench_)
    results["memory"] += memory.of_dumps(bench_)
    results["growth"] = turns.growth(bench_, threads, smaller)
    results["simulated"] = large.of_simulations(bench_, results["memory"])
    results["disk"] = turns.on_disk(bench_, threads)
    about["load when it ended"] = f"{os.getloadavg()[0]:.1f}"
    about |= others.described()


def write(results: dict, folder: Path, stem: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # First, so that nothing that was measured is lost.
    (folder / f"{stem}.json").write_text(json.dumps(results, indent=1) + "\n")
    found = folder / f"{stem}.findings.md"
    files = {f"-{name}.svg": picture for name, picture in pictures.all_of(results).items()}
    files[".md"] = report.markdown(results, stem, found.read_text() if found.exists() else "")
    for suffix, text in files.items():
        (folder / f"{stem}{suffix}").write_text(text)
    print(f"{folder / stem}.md")


def complain_about(problem: str) -> None:
    print(f"benches/whole: {problem}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
