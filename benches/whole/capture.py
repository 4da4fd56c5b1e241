#!/usr/bin/env python3
"""Both tools where they are used: in a capture kernel with one CPU and 256 MiB, on the same /proc/vmcore, in turn. Crashes a
2 GiB guest of the VM lab (QEMU, no KVM), and writes time, CPU time, memory and size of each run into a dated results file;
beside them the instructions that they take, counted in a second such crash, and what both do here, on one CPU, with the same
memory. Without options it takes the static release build, Debian's makedumpfile, and 20 minutes of an idle machine."""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median

import capture_report
import kdump
import machine
from tools import filter_with_vdump

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
STATIC = ROOT / "target/x86_64-unknown-linux-gnu/release/vdump"
sys.path.insert(0, str(ROOT / "tests/vm"))

from vmlab import cache, programs  # noqa: E402
from vmlab.crash import Crash, Step, crash  # noqa: E402
from vmlab.guests import BUSY, OUT, SAVE, VMCORE, Guest  # noqa: E402
from vmlab.lab_error import LabError  # noqa: E402

GUEST = "busy-capture"
DUMP = Path(OUT) / "dump"
HEAD_BYTES = 4 << 20
"""Both bitmaps of a guest's dump lie within."""
CODECS = {"none": [], "lzo": ["-l"], "zlib": ["-c"]}
"""What Debian's makedumpfile is built with, in its own words."""


@dataclass(frozen=True)
class Case:
    """What all tools do several times."""

    level: int
    codec: str
    to: str
    """`disk`: a file, and the sync that brings it to the disk; `null`: a flattened dump on standard output, thrown away."""
    rounds: int

    def run_name(self, number: int, tool: str) -> str:
        return f"{self.level}-{self.codec}-{self.to}-{number}-{tool}"

    def turns(self, tools: list[str]) -> Iterator[tuple[int, str]]:
        """Each second round goes the other way round: who comes first has no advantage."""
        for number in range(self.rounds):
            for tool in tools if number % 2 == 0 else reversed(tools):
                yield number, tool

    def words(self, tool: str, program: Path, source: Path, target: Path) -> list[str]:
        to_disk = self.to == "disk"
        if tool == "vdump":
            # Its report on standard output says where its own time went.
            how = ["--json"] if to_disk else []
            return filter_with_vdump(program, source, target if to_disk else Path("-"), self.level, self.codec, *how)
        words = [str(program), "--message-level", "0", "-d", str(self.level), *CODECS[self.codec]]
        return [*words, "-f", str(source), str(target)] if to_disk else [*words, "-F", str(source)]


def main() -> int:
    options = parse()
    if not options.vdump.is_file():
        build = "RUSTFLAGS='-C target-feature=+crt-static' cargo build --release --target x86_64-unknown-linux-gnu"
        raise SystemExit(f"there is no {options.vdump}: {build}, or give --vdump")
    os.environ["VDUMP_BIN"] = str(options.vdump.absolute())
    cases = [
        *(Case(31, codec, "disk", options.slow_rounds if codec == "zlib" else options.rounds) for codec in CODECS),
        # The same pages, whatever the version: no class depends on new page types, since user memory stays.
        *(Case(23, codec, "disk", options.slow_rounds) for codec in ("none", "lzo")),
        *(Case(31, codec, "null", options.slow_rounds) for codec in ("none", "lzo")),
    ]
    others = makedumpfiles(options.makedumpfile)
    tools = ["vdump", *others]
    brings = tuple((name, str(path)) for name, path in others.items())
    guest = replace(
        BUSY, name=GUEST, memory_mib=options.memory, brings=brings, steps=(*all_steps(cases, tools), *SAVE)
    )
    # What is the same each time needs one round; without a disk there is nothing more to count.
    once = [replace(case, rounds=1) for case in cases if case.to == "disk"]
    counted = replace(guest, name=f"{GUEST}-counted", counted=True, steps=all_steps(once, tools))
    about = described(options.vdump, others)
    try:
        with cache.held():
            crashed, counting = (one_crash(guest, options.reuse) for guest in (guest, counted))
        results = {
            "date": datetime.date.today().isoformat(),
            "machine": about | in_guest(crashed),
            "cases": in_capture_kernel(crashed, cases, tools),
            "counted": in_capture_kernel(counting, once, tools),
            "here": here(crashed.vmcore, [case for case in cases if case.to == "disk"], {"vdump": options.vdump} | others),
        }
    except LabError as error:
        raise SystemExit(f"benches/whole: {error}") from None
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


def one_crash(guest: Guest, reuse: bool) -> Crash:
    say(f"the guest says on its console how far it is: {cache.root()}/crash/{guest.name}.new/console.log")
    return crash(guest, fresh=not reuse)


def makedumpfiles(more: list[str]) -> dict[str, Path]:
    """The builds by the names that they have in the guest, Debian's first."""
    named = {}
    for path in ("/usr/bin/makedumpfile", *more):
        words = machine.first_line([path, "-v"]).split()
        if words[:2] != ["makedumpfile:", "version"]:
            raise SystemExit(f"{path} does not say which makedumpfile it is; Debian's is in the package makedumpfile")
        name = f"makedumpfile-{words[2].rstrip('+')}"
        if name in named:
            raise SystemExit(f"{path} and {named[name]} are both {name}")
        named[name] = Path(path).absolute()
    return named


def all_steps(cases: list[Case], tools: list[str]) -> tuple[tuple[str, str], ...]:
    """What the capture kernel runs."""
    return tuple(step for case in cases for step in steps(case, tools))


def steps(case: Case, tools: list[str]) -> Iterator[tuple[str, str]]:
    for number, tool in case.turns(tools):
        name = case.run_name(number, tool)
        how = "synced" if case.to == "disk" else "unseen"
        yield name, " ".join(["vdump-plant", how, "--", *case.words(tool, Path(tool), Path(VMCORE), DUMP)])
        if case.to == "disk":
            yield f"{name}-size", f"stat -c %s {DUMP}"
            if number == 0:
                yield f"{name}-head", f"head -c {HEAD_BYTES} {DUMP}"
                yield f"{name}-check", f"vdump check --progress none {DUMP}"
            # The next run finds a disk that has nothing left to do.
            yield "clear", f"vdump-plant synced -- rm -f {DUMP}"


def described(vdump: Path, others: dict[str, Path]) -> dict[str, str]:
    """This machine and the programs."""
    about = {
        "machine": f"{machine.short_name()}, Linux {platform.release()}",
        "load when it began": f"{os.getloadavg()[0]:.1f}",
        "vdump": f"{machine.first_line([str(vdump), '--version'])}, {machine.revision()}",
    }
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


def in_capture_kernel(crashed: Crash, cases: list[Case], tools: list[str]) -> list[dict]:
    return [asdict(case) | {"tools": {tool: captured(crashed, case, tool) for tool in tools}} for case in cases]


def captured(crashed: Crash, case: Case, tool: str) -> dict:
    """What one tool did in the capture kernel."""
    names = [case.run_name(number, tool) for number in range(case.rounds)]
    result = summary([crashed.step(name) for name in names])
    if case.to == "disk":
        checked = crashed.step(f"{names[0]}-check")
        result |= {
            "bytes": max(int(crashed.step(f"{name}-size").text("out").split()[0]) for name in names),
            "kept_bytes": kdump.kept_bytes(crashed.out / f"{names[0]}-head.out"),
            "check": {"exit": checked.exit_code, "said": checked.text("out").strip()},
        }
        if tool == "vdump":
            result["phases"] = phases([crashed.step(name).text("out") for name in names])
    return result


def summary(steps: list[Step]) -> dict:
    """Seconds and bytes; medians, and each round's figures beside them."""
    runs = [figures(step) for step in steps]
    result = {key: median(run[key] for run in runs) for key in ("wall", "cpu", "user", "system")}
    return result | {"resident": max(run["resident"] for run in runs), "rounds": runs}


def figures(step: Step) -> dict:
    if step.exit_code:
        raise LabError(f"{step.name} failed with {step.exit_code}: {step.text('err').strip()}; see {step.out}")
    wall, user, system = (float(step.measured(key)) for key in ("seconds", "user", "system"))
    return {"wall": wall, "cpu": user + system, "user": user, "system": system, "resident": step.max_rss_kib << 10}


def phases(reports: list[str]) -> dict[str, float]:
    """What vdump says of its own time, medians: seconds."""
    # The measuring program's line follows the JSON.
    said = [json.JSONDecoder().raw_decode(report)[0]["seconds"] for report in reports]
    return {key: median(seconds[key] for seconds in said) for key in ("classify", "write", "total")}


def here(vmcore: Path, cases: list[Case], tools: dict[str, Path]) -> list[dict]:
    """The same memory on one CPU of this machine, from the page cache into memory, measured by the same program."""
    before, plant, result = os.sched_getaffinity(0), programs.plant(), []
    subprocess.run(["cat", vmcore], stdout=subprocess.DEVNULL, check=True)
    os.sched_setaffinity(0, {min(before)})
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        for case in cases:
            say(f"here: level {case.level}, {case.codec}")
            names: dict[str, list[str]] = {tool: [] for tool in tools}
            sizes: dict[str, int] = {}
            for number, tool in case.turns(list(tools)):
                name, dump = case.run_name(number, tool), Path(folder) / "dump"
                command = case.words(tool, tools[tool].absolute(), vmcore, dump)
                with (Path(folder) / f"{name}.err").open("wb") as error:
                    measuring = [plant, "peak", f"{folder}/{name}.peak", "--"]
                    subprocess.run([*measuring, *command], stdout=subprocess.DEVNULL, stderr=error)
                names[tool].append(name)
                sizes[tool] = dump.stat().st_size if dump.exists() else 0
                dump.unlink(missing_ok=True)
            made = {tool: summary([Step(Path(folder), name) for name in names[tool]]) | {"bytes": sizes[tool]} for tool in tools}
            result.append(asdict(case) | {"tools": made})
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
