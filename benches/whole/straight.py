"""Growth as points, and how far they are from a straight line."""

from __future__ import annotations


def series(results: dict) -> dict[str, list[tuple[float, float]]]:
    """vdump's: bytes and seconds."""
    levels = [(run["kept_bytes"], run["wall"]) for run in results["ours"] if run["codec"] == "lzo"]
    machines = [(pair["input_bytes"], pair["vdump"]["wall"]) for pair in same_kind(results)]
    found = {"kept bytes, levels 31 to 0": levels, "size of the vmcore": machines}
    for name in ("vdump", "vdump --memory-limit 16M"):
        points = [(one["ram_bytes"], one["runs"][name]["wall"]) for one in results["simulated"]]
        found[f"RAM, dry runs, {name}"] = points
    return found


def same_kind(results: dict) -> list[dict]:
    """lzo at level 31 of machines of different size, beside the first makedumpfile."""
    first = results["peers"][0]["name"]
    largest = [pair for pair in results["pairs"] if (pair["level"], pair["codec"], pair["peer"]) == (31, "lzo", first)]
    return results["growth"] + largest


def distance(points: list[tuple[float, float]]) -> float:
    """The largest distance from the line of least squares, in parts of the largest value."""
    count = len(points)
    middle_x, middle_y = sum(x for x, _ in points) / count, sum(y for _, y in points) / count
    spread = sum((x - middle_x) ** 2 for x, _ in points)
    slope = sum((x - middle_x) * (y - middle_y) for x, y in points) / spread if spread else 0.0
    return max(abs(y - middle_y - slope * (x - middle_x)) for x, y in points) / max(y for _, y in points)
