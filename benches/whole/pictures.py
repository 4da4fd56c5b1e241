"""The pictures of the results: bars for each codec, and lines of growth. All axes begin at zero."""

from __future__ import annotations

import straight
from svg import BAR, Line, bar, chart, key, svg, text
from targets import LIMITS

OURS, LITTLE, LIMIT = "#1b6ca8", "#c2410c", "#e08a1e"
GREYS = ("#8d959d", "#c3c9cf")
WIDTH = 860
LEFT = 190


def all_of(results: dict) -> dict[str, str]:
    return {"codecs": codecs(results), "growth": growth(results)}


def codecs(results: dict) -> str:
    """Bars for each codec: vdump and every makedumpfile that has it. Each codec has its own scale: zlib would hide the others."""
    subtitle = "median seconds; each group has its own scale from zero; orange: the codec alone"
    out = [heading("Time of a dump at level 31", subtitle)]
    y = 78
    groups: dict[str, list[dict]] = {}
    for pair in results["pairs"]:
        if pair["level"] == 31:
            groups.setdefault(pair["codec"], []).append(pair)
    for codec, pairs in groups.items():
        limit = results["limits"]["limits"].get((LIMITS | {"zlib": "zlib, pages", "snappy": "snappy, pages"}).get(codec, ""), 0)
        longest = max(pair[tool]["wall"] for pair in pairs for tool in ("vdump", "makedumpfile"))
        scale = (WIDTH - LEFT - 310) / longest
        out.append(text(20, y - 6, name_of(codec), size=14, weight="bold"))
        rows = [("vdump", pairs[0]["vdump"]["wall"], OURS, "")]
        for pair, grey in zip(pairs, GREYS):
            kept = 1 / pair["kept_ratio"]
            more = f"ratio {pair['wall_ratio']:.2f}" + (f", keeps {kept:.2f} times as much" if abs(kept - 1) > 0.001 else "")
            rows.append((pair["peer"], pair["makedumpfile"]["wall"], grey, more))
        for row, (tool, seconds, colour, words) in enumerate(rows):
            top = y + row * (BAR + 4)
            out.append(bar(LEFT, top, seconds * scale, colour))
            out.append(text(LEFT - 8, top + 15, tool, anchor="end", size=11))
            end = max(seconds, limit if tool == "vdump" else 0) * scale
            out.append(text(LEFT + end + 6, top + 15, f"{seconds:.2f} s  {words}", size=12))
        if limit:
            x = LEFT + limit * scale
            out.append(f"<line x1='{x:.1f}' x2='{x:.1f}' y1='{y - 3}' y2='{y + BAR + 3}' stroke='{LIMIT}' stroke-width='3'/>")
        y += len(rows) * (BAR + 4) + 30
    return svg(out, WIDTH, y)


def name_of(codec: str) -> str:
    return f"{codec[4:]} in frames (ELF), beside zstd for each page" if codec.startswith("elf,") else codec


def growth(results: dict) -> str:
    """Four charts: kept memory, all memory, simulated memory with both tools and with vdump alone."""
    peer = results["peers"][0]["name"]
    out = [heading("Growth", "median seconds against gigabytes (10⁹ bytes)")]
    out += key(300, 30, (("vdump", OURS), ("vdump with --memory-limit 16M", LITTLE), (peer, GREYS[0])))
    levels = [pair for pair in results["pairs"] if pair["codec"] == "lzo" and pair["peer"] == peer]
    machines = straight.same_kind(results)
    kept = [
        Line(GREYS[0], [(p["makedumpfile"]["kept_bytes"] / 1e9, p["makedumpfile"]["wall"], str(p["level"])) for p in levels]),
        Line(OURS, [(p["vdump"]["kept_bytes"] / 1e9, p["vdump"]["wall"], str(p["level"])) for p in levels], below=True),
    ]
    whole = [
        Line(colour, [(p["input_bytes"] / 1e9, p[tool]["wall"], "") for p in machines])
        for tool, colour in (("makedumpfile", GREYS[0]), ("vdump", OURS))
    ]
    ours = [
        simulated(results, "vdump --memory-limit 16M", LITTLE),
        simulated(results, "vdump", OURS),
    ]
    out += chart(60, 80, "kept memory, GB (lzo; points: dump levels)", kept)
    out += chart(490, 80, "vmcore, GB (lzo, level 31)", whole)
    out += chart(60, 420, "RAM of simulated machines, GB (dry runs)", [simulated(results, peer, GREYS[0]), *ours])
    out += chart(490, 420, "the same, vdump alone (hollow: bitmaps in files)", ours)
    return svg(out, WIDTH, 740)


def simulated(results: dict, name: str, colour: str) -> Line:
    of = [(one["ram_bytes"] / 1e9, one["runs"][name]) for one in results["simulated"] if name in one["runs"]]
    hollow = {index for index, (_, run) in enumerate(of) if run.get("in_files")}
    return Line(colour, [(ram, run["wall"], "") for ram, run in of], hollow)


def heading(title: str, subtitle: str) -> str:
    return text(20, 30, title, size=18, weight="bold") + text(20, 50, subtitle, size=12)
