#!/usr/bin/env python3
"""Whole runs of vdump and makedumpfile on the same vmcore, in turn: time, memory and size, into a dated results file with
pictures. Without options it takes the VM lab's busy guest (6.5 GiB, crashed if it is not there yet) and the static release
build, and needs about 10 minutes and 10 GiB of free memory."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import machine
import measures
import pictures
import report

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
STATIC = ROOT / "target/x86_64-unknown-linux-gnu/release/vdump"


def main() -> int:
    options = parse()
    vdump = options.vdump.absolute()
    if not vdump.is_file():
        build = "RUSTFLAGS='-C target-feature=+crt-static' cargo build --release --target x86_64-unknown-linux-gnu"
        raise SystemExit(f"there is no {vdump}: {build}, or give --vdump")
    if not shutil.which(options.makedumpfile):
        raise SystemExit(f"there is no {options.makedumpfile}: install the package makedumpfile, or give --makedumpfile")
    source, smaller = (options.vmcore, []) if options.vmcore else busy_guests(vdump)
    smaller += options.smaller
    check_memory(source)
    with tempfile.TemporaryDirectory(dir=options.tmpfs) as tmpfs, tempfile.TemporaryDirectory(dir=options.disk) as disk:
        bench = measures.Bench(
            vdump, options.makedumpfile, source, Path(tmpfs), Path(disk), options.rounds, say=lambda text: print(text, flush=True)
        )
        results = measured(bench, smaller, options.threads)
    write(results, options.results, options.name)
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--vmcore", type=Path, help="the vmcore to dump; else the VM lab's busy guest")
    parser.add_argument("--smaller", type=Path, nargs="*", default=[], help="more vmcores, for the growth with memory")
    parser.add_argument("--vdump", type=Path, default=Path(os.environ.get("VDUMP_BIN", STATIC)), help="the program")
    parser.add_argument("--makedumpfile", default="makedumpfile", help="the other program")
    parser.add_argument("--threads", type=int, help="its --num-threads, 0 for none; else what is faster here is tried")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each comparison")
    parser.add_argument("--tmpfs", type=Path, default=Path("/dev/shm"), help="a folder in memory")
    parser.add_argument("--disk", type=Path, default=ROOT / "target", help="a folder on a disk")
    parser.add_argument("--results", type=Path, default=HERE.parent / "results", help="where the results go")
    parser.add_argument("--name", help="name of the results; else the date and the machine")
    return parser.parse_args()


def busy_guests(vdump: Path) -> tuple[Path, list[Path]]:
    """The realistic case and smaller ones like it, crashed now if need be."""
    os.environ.setdefault("VDUMP_BIN", str(vdump))
    # Any vdump loads the capture kernel as well as another: crashes are not repeated for each build.
    sys.path.insert(0, str(ROOT / "tests/vm"))
    from vmlab import cache, guests  # noqa: PLC0415
    from vmlab.crash import crash  # noqa: PLC0415

    with cache.held():
        made = []
        for guest in (guests.BUSY, guests.HALF_BUSY, guests.QUARTER_BUSY):
            saved = cache.root() / "crash" / guest.name / "vmcore"
            print(f"the guest {guest.name}: {'saved' if saved.exists() else 'crashing it takes two minutes'}", flush=True)
            made.append(saved if saved.exists() else crash(guest).vmcore)
    return made[0], sorted(made[1:], key=lambda path: path.stat().st_size)


def check_memory(source: Path) -> None:
    text = Path("/proc/meminfo").read_text()
    available = int(text.partition("MemAvailable:")[2].split()[0]) << 10
    if available < 2 * source.stat().st_size:
        measures.complain_about(
            f"{available >> 20} MiB of memory are available, and the vmcore with an unfiltered dump take "
            f"{2 * source.stat().st_size >> 20}: the figures may be those of the disk"
        )


def measured(bench: measures.Bench, smaller: list[Path], given_threads: int | None) -> dict:
    about = machine.describe(bench.tmpfs, bench.disk, bench.vdump, bench.makedumpfile)
    measures.warm(bench.source)
    threads = measures.best_threads(bench, given_threads)
    results = {
        "date": datetime.date.today().isoformat(),
        "machine": about,
        "input_bytes": bench.source.stat().st_size,
        "rounds": bench.rounds,
        "makedumpfile_threads": threads,
        "limits": measures.codec_limits(bench),
        "tmpfs": measures.compare(bench, bench.tmpfs, 31, measures.COMPARED, bench.rounds, threads),
        "alone": measures.alone(bench),
        "disk": measures.compare(bench, bench.disk, 31, ("none", "lzo"), 2, threads),
    }
    kept = results["tmpfs"]["none"]["vdump"]["bytes"]
    results["copy"] = {"tmpfs": measures.copying(bench, bench.tmpfs, kept), "bytes": kept}
    results["growth"] = measures.growth(bench, smaller, threads)
    results["memory"] = measures.memory(bench)
    results["start"] = measures.start(bench)
    results["machine"]["load when it ended"] = f"{os.getloadavg()[0]:.1f}"
    return results


def write(results: dict, folder: Path, name: str | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    stem = name or f"{results['date']}-{machine.short_name()}"
    # First, so that nothing that was measured is lost.
    (folder / f"{stem}.json").write_text(json.dumps(results, indent=1) + "\n")
    files = {
        "-codecs.svg": pictures.codecs(results),
        "-growth.svg": pictures.growth(results),
        ".md": report.markdown(results, stem),
    }
    for suffix, text in files.items():
        (folder / f"{stem}{suffix}").write_text(text)
    print(f"{folder / stem}.md")


if __name__ == "__main__":
    sys.exit(main())
