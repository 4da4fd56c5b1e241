"""The results file of the capture kernel: Markdown with the machine, every figure, and whether all kept the same pages."""

from __future__ import annotations

from report import table
from targets import MB

INTRO = """\
All tools read the same `/proc/vmcore`, in turn, in a capture kernel with one CPU; each second round in the other order.
Times are medians, behind them the shortest of the rounds: an emulated CPU counts as its own what the host gives to others, so on
a busy host the shortest says more.
The dump goes to an ext4 file on a virtio disk, and the time ends when it is on the disk: each run is followed by a `sync`,
which counts. makedumpfile runs as it does by default: one thread, its own choice of buffers, `/proc/vmcore` mapped.
MB are 10⁶ bytes. CPU is user and system time of the process; what the kernel's own threads take is in the wall time. Ratios are
vdump's figure divided by that makedumpfile's: below 1, vdump is faster.

An emulated CPU (TCG) takes a time for each instruction and memory access, and knows neither parallel execution nor prediction:
programs that do more of them, or work on many bytes at once, seem slower than they are on a real one. So the same memory is
also dumped on one real CPU, below."""
PHASES = """## Where vdump's time goes in the capture kernel

Its own words, seconds of wall time, medians: looking at the kernel (symbols, types, tasks, the self-check), classifying all
pages, and writing, which is reading, compressing, and the file with its sync."""
HERE = """## The same memory on one CPU of this machine

The guest's `/proc/vmcore`, saved, from the page cache into tmpfs, all on the same CPU: no emulation, and no capture kernel."""
COUNTED = """## Instructions

10⁹ instructions of each run to the disk, in another crash of such a guest whose clock counts them (QEMU's `-icount`): the same
in each round, whatever else the host does. A real CPU does several at once, and waits for memory."""
NULL = """## Without a disk

In the capture kernel again: a flattened dump (`vdump filter ... -`, `makedumpfile -F`) to `/dev/null`."""


def markdown(results: dict) -> str:
    disk, null = ([case for case in results["cases"] if case["to"] == to] for to in ("disk", "null"))
    parts = [
        f"# In a capture kernel, {results['date']}",
        INTRO,
        table(("", ""), results["machine"].items()),
        "## To the disk",
        figures(disk),
        same_pages(disk) + "\n" + checks(disk),
        COUNTED,
        instructions(results["counted"]),
        HERE,
        figures(results["here"]),
        NULL,
        figures(null),
        PHASES,
        phases(disk),
    ]
    return "\n\n".join(parts) + "\n"


def figures(cases: list[dict]) -> str:
    head = ("level", "codec", "rounds", "tool", "wall s", "ratio", "CPU s", "ratio", "peak resident MB", "output MB", "kept MB")
    return table(head, (row for case in cases for row in rows(case)))


def rows(case: dict) -> list[tuple[str, ...]]:
    ours, result = case["tools"]["vdump"], []
    for tool, run in case["tools"].items():
        cells = [str(case["level"]), case["codec"], str(case["rounds"]), tool]
        for key in ("wall", "cpu"):
            least = shortest(run, key)
            cells.append(f"{run[key]:.2f} ({least:.2f})")
            cells.append(f"**{ours[key] / run[key]:.2f}** ({shortest(ours, key) / least:.2f})" if run is not ours else "")
        result.append((*cells, *(f"{run[key] / MB:.1f}" if key in run else "" for key in ("resident", "bytes", "kept_bytes"))))
    return result


def instructions(cases: list[dict]) -> str:
    """Its clock's seconds are so many instructions."""
    result = []
    for case in cases:
        ours = case["tools"]["vdump"]
        for tool, run in case["tools"].items():
            ratio = "" if run is ours else f"**{ours['cpu'] / run['cpu']:.2f}**"
            counts = (f"{run[key]:.2f}" for key in ("cpu", "user", "system"))
            result.append((str(case["level"]), case["codec"], tool, next(counts), ratio, *counts))
    return table(("level", "codec", "tool", "all", "ratio", "user", "kernel"), result)


def shortest(run: dict, key: str) -> float:
    return min(round[key] for round in run["rounds"])


def same_pages(cases: list[dict]) -> str:
    """How many more pages than vdump the others keep, at each level."""
    said = []
    for level in sorted({case["level"] for case in cases}, reverse=True):
        tools = next(case["tools"] for case in cases if case["level"] == level)
        for tool, run in tools.items():
            more = (run["kept_bytes"] - tools["vdump"]["kept_bytes"]) / MB
            words = f"{abs(more):.1f} MB {'more' if more > 0 else 'less'} than vdump" if more else "as many pages as vdump"
            said += [f"At level {level} {tool} keeps {words}."] * (tool != "vdump")
    return "\n".join(said)


def checks(cases: list[dict]) -> str:
    """`vdump check` decodes every page of each tool's first dump, in the capture kernel too."""
    faults = [
        f"- {tool}, level {case['level']}, {case['codec']}: {run['check']['said']}"
        for case in cases
        for tool, run in case["tools"].items()
        if run["check"]["exit"]
    ]
    if faults:
        return "Every run ended with exit code 0. `vdump check` found faults:\n\n" + "\n".join(faults)
    return "Every run ended with exit code 0, and `vdump check` finds no fault in any tool's dumps."


def phases(cases: list[dict]) -> str:
    def row(case: dict) -> tuple[str, ...]:
        spent = case["tools"]["vdump"]["phases"]
        parts = (spent["total"] - spent["classify"] - spent["write"], spent["classify"], spent["write"], spent["total"])
        return (str(case["level"]), case["codec"], *(f"{seconds:.2f}" for seconds in parts))

    return table(("level", "codec", "looking", "classifying", "writing", "all"), map(row, cases))
