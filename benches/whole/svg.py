"""SVG by hand: bars, text, and charts of lines with both axes from zero."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from html import escape

INK, FAINT = "#222", "#d8dde2"
FONT = "font-family='DejaVu Sans, Verdana, sans-serif'"
BAR = 20
CHART = (320, 250)
CLOSE = 8
"""Labels of points that are nearer to each other are one label."""


@dataclass(frozen=True)
class Line:
    colour: str
    points: list[tuple[float, float, str]]
    """Where on both axes, and what stands beside it."""
    hollow: set[int] = field(default_factory=set)
    below: bool = False
    """Where its words stand."""


def chart(left: int, top: int, label: str, lines: list[Line]) -> list[str]:
    width, height = CHART
    most_x, most_y = (nice(max(point[axis] for line in lines for point in line.points)) for axis in (0, 1))
    out = []
    for part in range(5):
        y, x = top + height * (1 - part / 4), left + width * part / 4
        out.append(f"<line x1='{left}' x2='{left + width}' y1='{y}' y2='{y}' stroke='{FAINT}'/>")
        out.append(text(left - 6, y + 4, f"{most_y * part / 4:g}", anchor="end", size=11))
        out.append(text(x, top + height + 18, f"{most_x * part / 4:g}", anchor="middle", size=11))
    for line in lines:
        places = [(left + x / most_x * width, top + height - y / most_y * height, words) for x, y, words in line.points]
        way = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in sorted(places))
        out.append(f"<polyline points='{way}' fill='none' stroke='{line.colour}' stroke-width='2.5'/>")
        for index, (x, y, _) in enumerate(places):
            fill = "white" if index in line.hollow else line.colour
            out.append(f"<circle cx='{x:.1f}' cy='{y:.1f}' r='4' fill='{fill}' stroke='{line.colour}' stroke-width='2'/>")
        out += [text(x, y + (20 if line.below else -10), words, anchor="end", size=11) for x, y, words in labels(places)]
    out.append(text(left + width / 2, top + height + 42, label, anchor="middle"))
    return out


def labels(places: list[tuple[float, float, str]]) -> list[tuple[float, float, str]]:
    """Points that lie on each other share a label."""
    out: list[tuple[float, float, str]] = []
    for x, y, words in places:
        near = next((index for index, (a, b, _) in enumerate(out) if abs(a - x) < CLOSE and abs(b - y) < CLOSE), None)
        if near is None:
            out.append((x, y, words))
        else:
            out[near] = (out[near][0], min(out[near][1], y), f"{out[near][2]}, {words}")
    return [place for place in out if place[2]]


def nice(value: float) -> float:
    """A round number that is not smaller and has round quarters."""
    power = 10 ** math.floor(math.log10(value)) if value > 0 else 1
    return next((step * power for step in (1, 1.2, 1.6, 2, 3, 4, 6, 8) if step * power >= value), 10 * power)


def key(x: int, y: int, entries: Iterable[tuple[str, str]]) -> list[str]:
    out = []
    for name, colour in entries:
        out.append(f"<rect x='{x}' y='{y - 10}' width='12' height='12' fill='{colour}'/>")
        out.append(text(x + 18, y, name, size=12))
        x += 34 + 7.5 * len(name)
    return out


def bar(x: float, y: float, width: float, colour: str) -> str:
    return f"<rect x='{x}' y='{y}' width='{max(width, 1):.1f}' height='{BAR}' fill='{colour}'/>"


def text(x: float, y: float, words: str, anchor: str = "start", size: int = 13, weight: str = "normal") -> str:
    style = f"text-anchor='{anchor}' font-size='{size}' font-weight='{weight}' fill='{INK}'"
    return f"<text x='{x:.1f}' y='{y:.1f}' {FONT} {style}>{escape(words)}</text>"


def svg(parts: list[str], width: float, height: float) -> str:
    size = f"width='{width}' height='{height}' viewBox='0 0 {width} {height}'"
    back = f"<rect width='{width}' height='{height}' fill='white'/>"
    return "\n".join([f"<svg xmlns='http://www.w3.org/2000/svg' {size}>", back, *parts, "</svg>"]) + "\n"
