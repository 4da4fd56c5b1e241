"""The results file: Markdown with the machine, the targets and every figure."""

from __future__ import annotations

from collections.abc import Iterable

from targets import LIMITS, MB, targets


def markdown(results: dict, stem: str, findings: str) -> str:
    copy = ", ".join(f"`{name}` {seconds:.2f} s" for name, seconds in results["copy"]["tmpfs"].items())
    parts = [
        f"# Whole dumps, {results['date']}",
        head(results),
        table(("", ""), results["machine"].items()),
        "## Targets",
        "Ratios of medians, vdump over makedumpfile.",
        table(("what", "wanted", "measured", ""), (target.row() for target in targets(results))),
        *(["## Findings", findings.strip()] if findings else []),
        "## Both tools",
        f"![Wall time of both tools for each codec]({stem}-codecs.svg)",
        "Into memory (tmpfs):",
        compared(results["pairs"]),
        "Level 31 onto the disk; vdump brings its output to the disk before it ends, makedumpfile does not:",
        compared(results["disk"]),
        "makedumpfile's threads; a run with more of them was stopped at twice the time of one:",
        threads(results),
        "## vdump beside the codec alone",
        "The codec alone: the same kept pages of level 31 compressed from memory by two threads, nothing else (`vdump bench`).",
        beside_limits(results),
        f"Copying {results['copy']['bytes'] / MB:.0f} MB within tmpfs: {copy}.",
        "## Stages (`vdump bench`)",
        stages(results["limits"]),
        "## Dry runs",
        "Struct pages are counted as 64 bytes for each page of RAM. A tool's dry run classifies all memory and writes nothing.",
        dry_runs(results),
        "## Growth",
        f"![Time against kept memory, all memory and simulated memory]({stem}-growth.svg)",
        growth(results),
        "## Memory",
        MEMORY,
        memory(results["memory"]),
    ]
    return "\n\n".join(parts) + "\n"


MEMORY = (
    "Resident: the most that was resident at any time, files and the program itself included, as the kernel keeps it (VmHWM): "
    "anonymous memory never was more. Anonymous: the most that was seen, looking every 2 ms (RssAnon); short peaks may be "
    "missed. These runs are not timed."
)


def head(results: dict) -> str:
    rounds = f"medians of {results['rounds']} rounds" if results["rounds"] > 1 else "those of a single round"
    words = [
        f"Both tools read the same vmcore of {results['input_bytes'] / MB:.0f} MB from the page cache, in turn.",
        f"Times are {rounds}, but for those that say otherwise; behind them the shortest and the longest.",
        "vdump has 2 threads, makedumpfile as many as are best for it here.",
        "MB are 10⁶ bytes. CPU is user and system time together.",
    ]
    return "\n".join(words)


def table(head: tuple[str, ...], rows: Iterable[Iterable[str]]) -> str:
    lines = [head, tuple("---" if index == 0 else "---:" for index in range(len(head))), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def compared(pairs: list[dict]) -> str:
    names = ("level", "codec", "rounds", "tool", "wall s", "CPU s", "output MB", "kept MB", "kept MB/s")
    rows, shown = [], None
    for pair in pairs:
        start = (str(pair["level"]), pair["codec"], str(pair["rounds"]))
        # A run of vdump is compared with several makedumpfiles.
        if (start, pair["vdump"]["walls"]) != shown:
            rows.append((*start, "vdump", *figures(pair["vdump"])))
            shown = (start, pair["vdump"]["walls"])
        count = pair["makedumpfile"]["threads"]
        words = f"{pair['peer']}{f', {count} threads' if count else ''}"
        rows.append((*start, words, *figures(pair["makedumpfile"])))
        shares = ("wall_ratio", "cpu_ratio", "bytes_ratio", "kept_ratio")
        rows.append((*start, "*ratio*", *(f"*{pair[share]:.2f}*" for share in shares), f"*{pair['kept_ratio'] / pair['wall_ratio']:.2f}*"))
    return table(names, rows)


def figures(run: dict) -> tuple[str, ...]:
    kept = run["kept_bytes"] / MB
    return (wall(run), f"{run['cpu']:.2f}", f"{run['bytes'] / MB:.1f}", f"{kept:.0f}", f"{kept / run['wall']:.0f}")


def wall(run: dict) -> str:
    walls = run["walls"]
    spread = f" ({min(walls):.2f}–{max(walls):.2f})" if len(walls) > 1 else ""
    return f"{run['wall']:.2f}{spread}"


def threads(results: dict) -> str:
    if results["given_threads"] is not None:
        return f"`--num-threads {results['given_threads']}` was given."
    rows = []
    for tried in results["threads"]:
        many = f"{tried['many']:.2f}" if tried["many"] else "stopped"
        taken = f"--num-threads {tried['taken']}" if tried["taken"] else "one thread"
        rows.append((tried["peer"], tried["codec"], f"{tried['one']:.2f}", many, taken))
    count = results["threads"][0]["threads"] if results["threads"] else 0
    return table(("", "codec", "one thread s", f"--num-threads {count} s", "taken"), rows)


LIMIT_OF = LIMITS | {"zlib": "zlib, pages", "snappy": "snappy, pages", "zstd:1": "zstd:1, pages", "elf,lz4": "lz4, frames"}


def beside_limits(results: dict) -> str:
    rows = []
    for run in results["ours"]:
        if run["level"] != 31:
            continue
        cells = [run["codec"], str(run["rounds"])]
        for key, limit in (("wall", results["limits"]["limits"]), ("cpu", results["limits"]["cpu_limits"])):
            least = limit.get(LIMIT_OF.get(run["codec"], ""))
            cells.append(f"{run[key]:.2f}")
            cells += (f"{least:.2f}", f"{run[key] / least:.2f}") if least else ("", "")
        rows.append((*cells, f"{run['bytes'] / MB:.1f}"))
    return table(("codec", "rounds", "wall s", "codec alone s", "ratio", "CPU s", "codec alone s", "ratio", "output MB"), rows)


def stages(report: dict) -> str:
    def rate(value: float | None) -> str:
        return f"{value / MB:.0f}" if value else ""

    def row(stage: dict) -> tuple[str, ...]:
        rates = (rate(stage[key]) for key in ("all", "one", "cpu"))
        return (stage["stage"], *rates, f"{1 / stage['packed']:.2f}" if stage.get("packed") else "")

    names = ("stage", f"MB/s, {report['threads']} threads", "MB/s, one thread", "MB per CPU second", "to 1")
    return table(names, (row(stage) for stage in report["stages"]))


def dry_runs(results: dict) -> str:
    names = ("RAM", "", "rounds", "wall s", "CPU s", "classification s", "struct pages GB/s", "in classification", "bitmaps")
    rows = []
    for one in [results["dry"], *results["simulated"]]:
        name = f"{one['tebibytes']:g} TiB simulated" if "tebibytes" in one else f"{one['ram_bytes'] / MB:.0f} MB"
        for tool, run in one["runs"].items():
            rate = f"{one['struct_page_bytes'] / 1e9 / run['wall']:.2f}"
            classified = ("", "", "")
            if "classify" in run:
                part = f"{one['struct_page_bytes'] / 1e9 / run['classify']:.2f}"
                classified = (f"{run['classify']:.3f}", part, "in files" if run["in_files"] else "in memory")
            rows.append((name, tool, str(len(run["walls"])), wall(run), f"{run['cpu']:.2f}", classified[0], rate, *classified[1:]))
    return table(names, rows)


def growth(results: dict) -> str:
    """Smaller machines; levels are above."""
    names = ("level 31, lzo", "vdump kept MB", "wall s", "CPU s", "makedumpfile kept MB", "wall s", "CPU s")
    rows = []
    for pair in results["growth"]:
        cells = [f"{pair['input_bytes'] / MB:.0f} MB"]
        for tool in ("vdump", "makedumpfile"):
            cells += [f"{pair[tool]['kept_bytes'] / MB:.0f}", wall(pair[tool]), f"{pair[tool]['cpu']:.2f}"]
        rows.append(tuple(cells))
    return table(names, rows) if rows else "There were no smaller machines."


def memory(cases: list[dict]) -> str:
    rows = []
    for case in cases:
        options = ", ".join(word for word in (case["hard"], case["options"]) if word)
        start = (case["input"], case["codec"], options)
        if "skipped" in case:
            rows.append((*start, "", "", f"not run: {case['skipped']}"))
            continue
        cut = "--limit" in options and "the limit of" in case["error"]
        ended = "whole" if case["code"] == 0 else "cut, as asked" if cut else f"**failed**: {case['error']}"
        rows.append((*start, f"{case['resident'] / MB:.1f}", f"{case['anon'] / MB:.1f}", ended))
    return table(("", "codec", "options", "peak resident MB", "peak anonymous MB", "dump"), rows)
