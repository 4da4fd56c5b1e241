"""The results file of the capture kernel: Markdown with the machine, every figure, and whether both tools kept the same."""

from __future__ import annotations

from report import table
from targets import MB

INTRO = """Both tools read the same `/proc/vmcore`, in turn, in a capture kernel with one CPU; each second round in the other order. \
Medians.
The dump goes to an ext4 file on a virtio disk, and the time ends when it is on the disk: each run is followed by a `sync`, \
which counts. makedumpfile runs as it does by default: one thread, its own choice of buffers, `/proc/vmcore` mapped.
MB are 10⁶ bytes. CPU is user and system time together, without what the kernel's own threads take (they are in the wall time). \
Ratios are vdump's figure divided by makedumpfile's.

An emulated CPU has other costs than a real one: instructions that work on many bytes at once, which both tools use, gain less. \
What compares is the same work in the same place; seconds are not those of a real machine."""
DISK = "## To the disk"
PHASES = """## Where vdump's time goes

Its own words, seconds of wall time: looking at the kernel (symbols, types, tasks; the self-check), classifying all pages, and \
writing, which is reading, compressing and the file; the medians of each."""
HERE = """## The same memory on one CPU of this machine

The guest's `/proc/vmcore`, saved, from the page cache into tmpfs, each program on one CPU: no emulation, and no capture \
kernel. The best of the rounds."""
NULL = """## Without a disk

A flattened dump (`vdump filter ... -`, `makedumpfile -F`) to `/dev/null`: reading, looking, compressing alone."""


def markdown(results: dict) -> str:
    disk, null = ([case for case in results["cases"] if case["to"] == to] for to in ("disk", "null"))
    parts = [
        f"# In a capture kernel, {results['date']}",
        INTRO,
        table(("", ""), results["machine"].items()),
        DISK,
        table(HEAD, (row for case in disk for row in rows(case))),
        same_pages(disk),
        checks(disk),
        NULL,
        table(HEAD[:-2], (row[:-2] for case in null for row in rows(case))),
        PHASES,
        phases(disk),
        HERE,
        table(HERE_HEAD, (row for case in results["here"] for row in here_rows(case))),
    ]
    return "\n\n".join(parts) + "\n"


HEAD = (
    "level", "codec", "tool", "rounds", "wall s", "ratio", "CPU s", "ratio", "user s", "system s", "peak resident MB",
    "output MB", "kept MB",
)


def rows(case: dict) -> list[tuple[str, ...]]:
    ours = case["tools"]["vdump"]
    result = []
    for tool, run in case["tools"].items():
        ratios = ("", "") if run is ours else (f"**{ours['wall'] / run['wall']:.2f}**", f"**{ours['cpu'] / run['cpu']:.2f}**")
        sizes = [f"{run[key] / MB:.1f}" if key in run else "" for key in ("bytes", "kept_bytes")]
        result.append((
            str(case["level"]), case["codec"], tool, str(case["rounds"]), f"{run['wall']:.2f}", ratios[0], f"{run['cpu']:.2f}",
            ratios[1], f"{run['user']:.2f}", f"{run['system']:.2f}", f"{run['resident'] / MB:.1f}", *sizes,
        ))
    return result


def phases(cases: list[dict]) -> str:
    def row(case: dict) -> tuple[str, ...]:
        spent = case["tools"]["vdump"]["phases"]
        looking = spent["total"] - spent["classify"] - spent["write"]
        return (str(case["level"]), case["codec"], *(f"{value:.2f}" for value in (looking, spent["classify"], spent["write"], spent["total"])))

    return table(("level", "codec", "looking", "classifying", "writing", "all"), map(row, cases))


HERE_HEAD = ("level", "codec", "tool", "wall s", "ratio", "CPU s", "ratio", "output MB")


def here_rows(case: dict) -> list[tuple[str, ...]]:
    ours = case["tools"]["vdump"]
    result = []
    for tool, run in case["tools"].items():
        ratios = ("", "") if run is ours else (f"**{ours['wall'] / run['wall']:.2f}**", f"**{ours['cpu'] / run['cpu']:.2f}**")
        result.append((
            str(case["level"]), case["codec"], tool, f"{run['wall']:.2f}", ratios[0], f"{run['cpu']:.2f}", ratios[1],
            f"{run['bytes'] / MB:.1f}",
        ))
    return result


def same_pages(cases: list[dict]) -> str:
    """How many more pages than vdump the others keep, at each level."""
    said = []
    for level in sorted({case["level"] for case in cases}, reverse=True):
        tools = next(case["tools"] for case in cases if case["level"] == level)
        ours = tools["vdump"]["kept_bytes"]
        for tool, run in tools.items():
            if tool != "vdump":
                more = run["kept_bytes"] - ours
                words = f"{abs(more) / MB:.1f} MB {'more' if more > 0 else 'less'} than vdump" if more else "as many pages as vdump"
                said.append(f"At level {level} {tool} keeps {words}.")
    return "\n".join(said)


def checks(cases: list[dict]) -> str:
    """`vdump check` decodes every page of each first dump, in the capture kernel too."""
    failed = [
        f"{tool}, level {case['level']}, {case['codec']}: {run['check']['said']}"
        for case in cases
        for tool, run in case["tools"].items()
        if run["check"]["exit"]
    ]
    return "Every run ended well." + (
        "\n`vdump check` found faults in: " + "; ".join(failed) if failed else "\n`vdump check` finds no fault in any of the dumps."
    )
