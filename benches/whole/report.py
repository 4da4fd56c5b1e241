"""The results file: Markdown with the machine, the targets and every figure."""

from __future__ import annotations

from collections.abc import Iterable

from targets import MB, targets


def markdown(results: dict, stem: str) -> str:
    parts = [
        f"# Whole dumps, {results['date']}",
        head(results),
        table(("", ""), results["machine"].items()),
        "## Targets",
        table(("what", "wanted", "measured", ""), (target.row() for target in targets(results))),
        "## Both tools",
        f"![Wall time of both tools for each codec]({stem}-codecs.svg)",
        "Level 31 into memory (tmpfs):",
        compared(results["tmpfs"]),
        "Level 31 onto the disk; vdump brings its output to the disk before it ends, makedumpfile does not:",
        compared(results["disk"]),
        "## vdump beside the codec alone",
        "The codec alone: the same kept pages compressed from memory on all CPUs, nothing else (`vdump bench`).",
        beside_limits(results),
        f"Copying {results['copy']['bytes'] / MB:.0f} MB within tmpfs: "
        + ", ".join(f"`{name}` {seconds:.2f} s" for name, seconds in results["copy"]["tmpfs"].items())
        + f"; vdump without compression takes {results['tmpfs']['none']['vdump']['wall']:.2f} s.",
        "## Stages (`vdump bench`)",
        stages(results["limits"]),
        "## Growth",
        f"![Time against kept memory and against all memory]({stem}-growth.svg)",
        growth(results["growth"]),
        "## Memory",
        memory(results["memory"]),
    ]
    return "\n\n".join(parts) + "\n"


def head(results: dict) -> str:
    kept = results["tmpfs"]["lzo"]
    words = [
        f"Both tools read the same vmcore of {results['input_bytes'] / MB:.0f} MB from the page cache, in turn, "
        f"{results['rounds']} rounds; the best time of each counts, since whatever else the machine does only adds to it.",
        f"At level 31 vdump keeps {kept['vdump']['kept_bytes'] / MB:.0f} MB of its pages and makedumpfile "
        f"{kept['makedumpfile']['kept_bytes'] / MB:.0f} MB, so ratios are also given for each kept page.",
        "makedumpfile runs with the number of threads that is best for it here: "
        + ", ".join(f"{codec} {threads or 'none'}" for codec, threads in results["makedumpfile_threads"].items())
        + ".",
        "MB are 10⁶ bytes. CPU is user and system time together.",
    ]
    return "\n".join(words)


def table(head: tuple[str, ...], rows: Iterable[Iterable[str]]) -> str:
    lines = [head, tuple("---" if index == 0 else "---:" for index in range(len(head))), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def compared(both: dict) -> str:
    names = ("codec", "tool", "wall s", "CPU s", "peak anonymous MB", "peak resident MB", "output MB", "kept MB", "kept MB/s")
    rows = []
    for codec, pair in both.items():
        for tool in ("vdump", "makedumpfile"):
            rows.append((codec, tool, *figures(pair[tool])))
        kept = pair["kept_ratio"]
        rows.append((
            codec, "*ratio*", f"*{pair['wall_ratio']:.2f}*", f"*{pair['cpu_ratio']:.2f}*", "", "",
            f"*{pair['bytes_ratio']:.2f}*", f"*{kept:.2f}*", f"*{kept / pair['wall_ratio']:.2f}*",
        ))
    return table(names, rows)


def figures(run: dict) -> tuple[str, ...]:
    return (
        f"{run['wall']:.2f}",
        f"{run['cpu']:.2f}",
        f"{run['anon'] / MB:.1f}",
        f"{run['resident'] / MB:.1f}" if run["resident"] else "",
        f"{run['bytes'] / MB:.1f}",
        f"{run['kept_bytes'] / MB:.0f}" if run["kept_bytes"] else "",
        f"{run['kept_bytes'] / MB / run['wall']:.0f}" if run["kept_bytes"] else "",
    )


LIMIT_OF = {
    "lzo": "lzo, pages",
    "zlib": "zlib:1, pages",
    "snappy": "snappy, pages",
    "zstd": "zstd:-1, pages",
    "zstd:1": "zstd:1, pages",
    "elf,lz4": "lz4, frames",
    "elf,zstd": "zstd:3, frames",
}
"""The stage of `vdump bench` that is a codec's limit."""


def beside_limits(results: dict) -> str:
    runs = {codec: pair["vdump"] for codec, pair in results["tmpfs"].items()} | results["alone"]
    limits = results["limits"]["limits"]
    rows = []
    for codec, run in runs.items():
        cells = [codec]
        for key, limit in (("wall", limits), ("cpu", results["limits"]["cpu_limits"])):
            least = limit.get(LIMIT_OF.get(codec, ""))
            cells.append(f"{run[key]:.2f}")
            cells += (f"{least:.2f}", f"{run[key] / least:.2f}") if least else ("", "")
        rows.append((*cells, f"{run['bytes'] / MB:.1f}"))
    return table(("codec", "wall s", "codec alone s", "ratio", "CPU s", "codec alone s", "ratio", "output MB"), rows)


def stages(report: dict) -> str:
    def rate(value: float | None) -> str:
        return f"{value / MB:.0f}" if value else ""

    rows = ((s["stage"], rate(s["all"]), rate(s["one"]), rate(s["cpu"]), f"{1 / s['packed']:.2f}" if s.get("packed") else "") for s in report["stages"])
    return table(("stage", f"MB/s, {report['threads']} threads", "MB/s, one thread", "MB per CPU second", "to 1"), rows)


def growth(both: dict) -> str:
    names = ("", "vdump kept MB", "wall s", "CPU s", "makedumpfile kept MB", "wall s", "CPU s")

    def row(name: str, pair: dict) -> tuple[str, ...]:
        cells = [name]
        for tool in ("vdump", "makedumpfile"):
            run = pair[tool]
            cells += [f"{run['kept_bytes'] / MB:.0f}", f"{run['wall']:.2f}", f"{run['cpu']:.2f}"]
        return tuple(cells)

    rows = [row(f"level {pair['level']}", pair) for pair in both["by_level"]]
    rows += [row(f"level 31 of {pair['input_bytes'] / MB:.0f} MB", pair) for pair in both["by_memory"]]
    return table(names, rows)


def memory(cases: list[dict]) -> str:
    rows = []
    for case in cases:
        ended = "whole" if case["code"] == 0 else "cut at 4 MiB" if case["ends_early"] else f"**failed**: {case['error']}"
        anon, resident = (f"{case[key] / MB:.1f}" if case[key] else "" for key in ("anon", "resident"))
        rows.append((case["codec"], case["options"], anon, resident, ended))
    return table(("codec", "options", "peak anonymous MB", "peak resident MB", "dump"), rows)
