"""The pictures of the results, written as SVG by hand: bars for each codec, and lines of growth."""

from __future__ import annotations

import math
from html import escape

OURS, THEIRS, LIMIT, INK, FAINT = "#1b6ca8", "#b0b7bf", "#e08a1e", "#222", "#d8dde2"
FONT = "font-family='DejaVu Sans, Verdana, sans-serif'"
WIDTH = 760
LEFT = 150
BAR = 20
LIMITS = {"lzo": "lzo, pages", "zlib": "zlib:1, pages"}


def codecs(results: dict) -> str:
    """A pair of bars for each codec that both tools have. Each pair has its own scale: zlib would hide the others."""
    out = [heading("Time of a dump at level 31, both tools", "seconds; each pair has its own scale; orange: the codec alone")]
    y = 78
    for codec, pair in results["tmpfs"].items():
        times = {"vdump": pair["vdump"]["wall"], "makedumpfile": pair["makedumpfile"]["wall"]}
        limit = results["limits"]["limits"].get(LIMITS.get(codec, ""))
        scale = (WIDTH - LEFT - 190) / max(times.values())
        out.append(text(20, y + BAR + 6, codec, size=16, weight="bold"))
        for row, (tool, seconds) in enumerate(times.items()):
            top = y + row * (BAR + 4)
            out.append(bar(LEFT, top, seconds * scale, OURS if tool == "vdump" else THEIRS))
            out.append(text(LEFT - 8, top + 15, tool, anchor="end", size=11))
            out.append(text(LEFT + seconds * scale + 6, top + 15, f"{seconds:.2f} s"))
        if limit:
            x = LEFT + limit * scale
            out.append(f"<line x1='{x:.1f}' x2='{x:.1f}' y1='{y - 3}' y2='{y + BAR + 3}' stroke='{LIMIT}' stroke-width='3'/>")
        ratio = f"ratio {pair['wall_ratio']:.2f}"
        out.append(text(WIDTH - 20, y + BAR + 2, ratio, anchor="end", size=14, weight="bold"))
        each = f"{pair['wall_ratio'] / pair['kept_ratio']:.2f} a kept page"
        out.append(text(WIDTH - 20, y + BAR + 18, each, anchor="end", size=11))
        y += 2 * BAR + 30
    return svg(out, y)


def bar(x: float, y: float, width: float, colour: str) -> str:
    return f"<rect x='{x}' y='{y}' width='{max(width, 1):.1f}' height='{BAR}' fill='{colour}'/>"


def growth(results: dict) -> str:
    """Two charts side by side: time against kept memory, and against all memory."""
    both = results["growth"]
    out = [heading("Growth, lzo", "seconds against gigabytes")]
    for x, y, colour, name in ((400, 30, OURS, "vdump"), (500, 30, THEIRS, "makedumpfile")):
        out.append(f"<rect x='{x}' y='{y - 10}' width='12' height='12' fill='{colour}'/>")
        out.append(text(x + 18, y, name))

    def kept(pair: dict, tool: str) -> float:
        return pair[tool]["kept_bytes"] / 1e9

    def whole(pair: dict, _: str) -> float:
        return pair["input_bytes"] / 1e9

    out += chart(60, "kept memory (levels 31 to 0), GB", both["by_level"], kept)
    out += chart(430, "input at level 31, GB", both["by_memory"], whole)
    return svg(out, 400)


def chart(left: int, label: str, pairs: list[dict], place) -> list[str]:
    top, width, height = 80, 290, 250
    tools = ("makedumpfile", "vdump")
    most_x = nice(max(place(pair, tool) for pair in pairs for tool in tools))
    most_y = nice(max(pair[tool]["wall"] for pair in pairs for tool in tools))
    out = []
    for part in range(5):
        y, x = top + height * (1 - part / 4), left + width * part / 4
        out.append(f"<line x1='{left}' x2='{left + width}' y1='{y}' y2='{y}' stroke='{FAINT}'/>")
        out.append(text(left - 6, y + 4, f"{most_y * part / 4:g}", anchor="end", size=11))
        out.append(text(x, top + height + 18, f"{most_x * part / 4:g}", anchor="middle", size=11))
    for tool in tools:
        colour = OURS if tool == "vdump" else THEIRS
        points = sorted((place(pair, tool), pair[tool]["wall"]) for pair in pairs)
        places = [(left + x / most_x * width, top + height - y / most_y * height) for x, y in points]
        line = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        out.append(f"<polyline points='{line}' fill='none' stroke='{colour}' stroke-width='2.5'/>")
        out += [f"<circle cx='{x:.1f}' cy='{y:.1f}' r='4' fill='{colour}'/>" for x, y in places]
    out.append(text(left + width / 2, top + height + 42, label, anchor="middle"))
    return out


def nice(value: float) -> float:
    """A round number that is not smaller and has round quarters."""
    power = 10 ** math.floor(math.log10(value)) if value > 0 else 1
    return next((step * power for step in (1, 1.2, 2, 4, 6, 8) if step * power >= value), 10 * power)


def heading(title: str, subtitle: str) -> str:
    return text(20, 30, title, size=18, weight="bold") + text(20, 50, subtitle, size=12)


def text(x: float, y: float, words: str, anchor: str = "start", size: int = 13, weight: str = "normal") -> str:
    style = f"text-anchor='{anchor}' font-size='{size}' font-weight='{weight}' fill='{INK}'"
    return f"<text x='{x:.1f}' y='{y:.1f}' {FONT} {style}>{escape(words)}</text>"


def svg(parts: list[str], height: float) -> str:
    size = f"width='{WIDTH}' height='{height}' viewBox='0 0 {WIDTH} {height}'"
    back = f"<rect width='{WIDTH}' height='{height}' fill='white'/>"
    return "\n".join([f"<svg xmlns='http://www.w3.org/2000/svg' {size}>", back, *parts, "</svg>"]) + "\n"
