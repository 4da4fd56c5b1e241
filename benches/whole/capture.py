#!/usr/bin/env python3
"""Both tools where they are used: in a capture kernel with one CPU and 256 MiB, on the same /proc/vmcore, in turn. Crashes a
2 GiB guest of the VM lab (QEMU, no KVM), and writes time, CPU time, memory and size of each run into a dated results file;
beside them what both do here, on one CPU, with the same memory. Without options it takes the static release build, Debian's
makedumpfile, and a quarter of an hour of an idle machine."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

import capture_report
import kdump
import machine
import measures
from tools import MAKEDUMPFILE_CODECS, filter_with_makedumpfile, filter_with_vdump

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
STATIC = ROOT / "target/x86_64-unknown-linux-gnu/release/vdump"
sys.path.insert(0, str(ROOT / "tests/vm"))

from vmlab import cache  # noqa: E402
from vmlab.crash import Crash, crash  # noqa: E402
from vmlab.guests import BUSY, OUT, SAVE, VMCORE, Guest  # noqa: E402
from vmlab.lab_error import LabError  # noqa: E402

GUEST = "busy-capture"
DUMP = Path(f"{OUT}/dump")
HEAD_BYTES = 4 << 20
"""Both bitmaps of a guest's dump lie within."""


@dataclass(frozen=True)
class Case:
    """What both tools do several times."""

    level: int
    codec: str
    to: str
    """`disk`: a file, and the sync that brings it to the disk; `null`: a flattened dump on standard output, thrown away."""
    rounds: int

    @property
    def name(self) -> str:
        return f"{self.level}-{self.codec}-{self.to}"


def main() -> int:
    options = parse()
    if not options.vdump.is_file():
        build = "RUSTFLAGS='-C target-feature=+crt-static' cargo build --release --target x86_64-unknown-linux-gnu"
        raise SystemExit(f"there is no {options.vdump}: {build}, or give --vdump")
    os.environ["VDUMP_BIN"] = str(options.vdump.absolute())
    cases = [
        *(Case(31, codec, "disk", options.slow_rounds if codec == "zlib" else options.rounds) for codec in MAKEDUMPFILE_CODECS),
        # Here both tools of any version keep the same pages: user memory stays, and no class depends on new page types.
        *(Case(23, codec, "disk", options.slow_rounds) for codec in ("none", "lzo")),
        *(Case(31, codec, "null", options.slow_rounds) for codec in ("none", "lzo")),
    ]
    others = makedumpfiles(options.makedumpfile)
    brings = tuple((name, str(path)) for name, path in others.items())
    guest = replace(BUSY, name=GUEST, memory_mib=options.memory, steps=tuple(steps(cases, others)) + SAVE, brings=brings)
    log = cache.root() / "crash" / f"{GUEST}.new/console.log"
    say(f"{sum(case.rounds for case in cases) * (1 + len(others))} runs in the guest, which says on its console how far it is: {log}")
    about = described(others)
    try:
        with cache.held():
            crashed = crash(guest, fresh=not options.reuse)
        results = {
            "date": datetime.date.today().isoformat(),
            "machine": about | in_guest(crashed),
            "cases": [asdict(case) | {"tools": compared(crashed, case, others)} for case in cases],
        }
    except LabError as error:
        raise SystemExit(f"benches/whole: {error}") from None
    results["here"] = here(crashed.vmcore, [case for case in cases if case.to == "disk"], others)
    results["machine"]["load when it ended"] = f"{os.getloadavg()[0]:.1f}"
    write(results, options.results, options.name)
    return 0


def say(text: str) -> None:
    print(text, flush=True)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--vdump", type=Path, default=Path(os.environ.get("VDUMP_BIN", STATIC)), help="the static program")
    parser.add_argument(
        "--makedumpfile", action="append", default=[], metavar="PATH", help="one more build of it, beside Debian's"
    )
    parser.add_argument("--memory", type=int, default=2048, metavar="MIB", help="the guest's memory")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of level 31 to the disk, without compression and with lzo")
    parser.add_argument("--slow-rounds", type=int, default=3, help="rounds of all else")
    parser.add_argument("--reuse", action="store_true", help="take the last crash if nothing that went into it has changed")
    parser.add_argument("--results", type=Path, default=HERE.parent / "results", help="where the results go")
    parser.add_argument("--name", help="name of the results; else the date and `capture`")
    return parser.parse_args()


def makedumpfiles(more: list[str]) -> dict[str, Path]:
    """The builds by the names that they have in the guest, Debian's first."""
    named = {"makedumpfile": Path("/usr/bin/makedumpfile")}
    for path in more:
        words = machine.first_line([path, "-v"]).split()
        if words[:2] != ["makedumpfile:", "version"]:
            raise SystemExit(f"{path} does not say which makedumpfile it is")
        name = f"makedumpfile-{words[2]}"
        if name in named:
            raise SystemExit(f"{path} and {named[name]} are both {name}")
        named[name] = Path(path).absolute()
    return named


def steps(cases: list[Case], others: dict[str, Path]) -> list[tuple[str, str]]:
    """What the capture kernel runs. Each second round goes the other way round: who comes first has no advantage."""
    result = []
    for case in cases:
        for number in range(case.rounds):
            tools = ["vdump", *others]
            for tool in tools if number % 2 == 0 else reversed(tools):
                result += one_run(case, number, tool)
    return result


def one_run(case: Case, number: int, tool: str) -> list[tuple[str, str]]:
    name = run_name(case, number, tool)
    command = " ".join(words(case, tool))
    if case.to == "null":
        return [(name, f"vdump-plant unseen -- {command}")]
    looks = [(f"{name}-size", f"stat -c %s {DUMP}")]
    if number == 0:
        looks += [
            (f"{name}-head", f"head -c {HEAD_BYTES} {DUMP}"),
            (f"{name}-check", f"vdump check --progress none {DUMP}"),
        ]
    # The next run finds a disk that has nothing left to do.
    clear = ("clear", f"vdump-plant synced -- rm -f {DUMP}")
    return [(name, f"vdump-plant synced -- {command}"), *looks, clear]


def run_name(case: Case, number: int, tool: str) -> str:
    return f"{case.name}-{number}-{tool}"


def words(case: Case, tool: str) -> list[str]:
    if tool == "vdump":
        target = DUMP if case.to == "disk" else Path("-")
        # Its report on standard output says where its own time went.
        report = ["--json"] if case.to == "disk" else []
        return filter_with_vdump(Path(tool), Path(VMCORE), target, case.level, case.codec, *report)
    command = filter_with_makedumpfile(tool, Path(VMCORE), DUMP, case.level, case.codec, threads=0)
    return command if case.to == "disk" else [*command[:-2], "-F", VMCORE]


def described(others: dict[str, Path]) -> dict[str, str]:
    """This machine and the programs."""
    about = machine.describe(cache.root(), cache.root(), Path(os.environ["VDUMP_BIN"]), str(others["makedumpfile"]))
    del about["file systems"]
    about |= {name: machine.first_line([str(path), "-v"]) for name, path in others.items()}
    return about | {"emulator": f"{machine.first_line(['qemu-system-x86_64', '--version'])}, TCG: no KVM, all is emulated"}


def in_guest(crashed: Crash) -> dict[str, str]:
    guest, said = crashed.guest, crashed.console.partition("LAB: capture kernel")[2]
    kib = int(said.partition("MemAvailable:")[2].split()[0])
    cpus = (crashed.out / "nproc").read_text().strip()
    return {
        "guest": f"a busy server's memory, {guest.memory_mib} MiB, CPU {guest.cpu}, Linux {crashed.kernel.release}",
        "capture kernel": f"{cpus} CPU, crashkernel={guest.crashkernel_mib}M, of which {kib >> 10} MiB are available",
    }


def compared(crashed: Crash, case: Case, others: dict[str, Path]) -> dict[str, dict]:
    return {tool: summary(crashed, case, tool) for tool in ("vdump", *others)}


def summary(crashed: Crash, case: Case, tool: str) -> dict:
    """Seconds and bytes; medians, and each round's figures beside them."""
    runs = [figures(crashed, run_name(case, number, tool)) for number in range(case.rounds)]
    result = {key: median(run[key] for run in runs) for key in ("wall", "cpu", "user", "system")}
    result |= {"resident": max(run["resident"] for run in runs), "rounds": runs}
    if case.to == "disk":
        first = run_name(case, 0, tool)
        sizes = {int(crashed.step(f"{run_name(case, number, tool)}-size").text("out").split()[0]) for number in range(case.rounds)}
        checked = crashed.step(f"{first}-check")
        result |= {
            "bytes": max(sizes),
            "kept_bytes": kdump.kept_bytes(crashed.out / f"{first}-head.out"),
            "check": {"exit": checked.exit_code, "said": checked.text("out").strip()},
        }
    if tool == "vdump" and case.to == "disk":
        result["phases"] = phases(crashed, case)
    return result


def figures(crashed: Crash, name: str) -> dict:
    step = crashed.step(name)
    if step.exit_code:
        raise LabError(f"{name} failed with {step.exit_code}: {step.text('err').strip()}; see {crashed.folder}")
    wall, user, system = (float(step.measured(key)) for key in ("seconds", "user", "system"))
    return {"wall": wall, "cpu": user + system, "user": user, "system": system, "resident": step.max_rss_kib << 10}


def phases(crashed: Crash, case: Case) -> dict[str, float]:
    """What vdump says of its own time, medians: seconds."""
    # What measures it adds a line.
    said = [json.JSONDecoder().raw_decode(crashed.step(run_name(case, number, "vdump")).text("out"))[0] for number in range(case.rounds)]
    return {key: median(report["seconds"][key] for report in said) for key in ("classify", "write", "total")}


def here(vmcore: Path, cases: list[Case], others: dict[str, Path]) -> list[dict]:
    """The same memory on one CPU of this machine, from the page cache into memory: the best of the rounds."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    result = []
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        measures.warm(vmcore)
        for case in cases:
            tools: dict[str, dict] = {}
            for name, path in others.items():
                bench = measures.Bench(
                    Path(os.environ["VDUMP_BIN"]), str(path), vmcore, Path(folder), Path(folder), case.rounds, say=lambda text: say(f"here: {text}")
                )
                pair = measures.compare(bench, Path(folder), case.level, (case.codec,), case.rounds, {case.codec: 0})[case.codec]
                tools.setdefault("vdump", pair["vdump"])
                tools[name] = pair["makedumpfile"]
            result.append(asdict(case) | {"tools": tools})
    os.sched_setaffinity(0, before)
    return result


def write(results: dict, folder: Path, name: str | None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    stem = name or f"{results['date']}-capture"
    # First, so that nothing that was measured is lost.
    (folder / f"{stem}.json").write_text(json.dumps(results, indent=1) + "\n")
    (folder / f"{stem}.md").write_text(capture_report.markdown(results))
    print(f"{folder / stem}.md")


if __name__ == "__main__":
    sys.exit(main())
