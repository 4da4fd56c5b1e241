"""What vdump wants to reach, and whether it does."""

from __future__ import annotations

from dataclasses import dataclass

MB = 1e6


@dataclass(frozen=True)
class Target:
    """`value` may be `wanted` at most, or must be at least that."""

    what: str
    value: float
    wanted: float
    unit: str = ""
    at_least: bool = False

    @property
    def met(self) -> bool:
        return self.value >= self.wanted if self.at_least else self.value <= self.wanted

    def row(self) -> tuple[str, str, str, str]:
        sign = ">=" if self.at_least else "<="
        off = f" by {abs(self.value / self.wanted - 1) * 100:.0f} %" if self.wanted else ""
        verdict = "met" if self.met else f"**missed**{off}"
        return self.what, f"{sign} {self.wanted:g}{self.unit}", f"{self.value:.3g}{self.unit}", verdict


def targets(results: dict) -> list[Target]:
    tmpfs, alone, limits = results["tmpfs"], results["alone"], results["limits"]["limits"]
    found = []
    for codec, wanted in (("lzo", 0.65), ("zlib", 0.25), ("none", 0.95)):
        # Of the same number of pages: a tool that keeps more has more to do.
        both = tmpfs[codec]
        found.append(Target(f"{codec}: time beside makedumpfile", both["wall_ratio"], wanted))
        found.append(Target(f"{codec}: the same for each kept page", both["wall_ratio"] / both["kept_ratio"], wanted))
        found.append(Target(f"{codec}: CPU time beside makedumpfile (no target)", both["cpu_ratio"], 1))
    found.append(Target("zlib: output beside makedumpfile", tmpfs["zlib"]["bytes_ratio"], 1))
    pairs = (
        ("lzo", tmpfs["lzo"]["vdump"], "lzo, pages"),
        ("zstd", alone["zstd"], "zstd:-1, pages"),
        ("compressed ELF, zstd", alone["elf,zstd"], "zstd:3, frames"),
    )
    for name, run, limit in pairs:
        found.append(Target(f"{name}: time beside the codec alone on all CPUs", run["wall"] / limits[limit], 1.15))
    copy = min(results["copy"]["tmpfs"].values())
    found.append(Target("none: time beside the best copy of as many bytes", tmpfs["none"]["vdump"]["wall"] / copy, 1.25))
    struct_pages = next((s["cpu"] for s in results["limits"]["stages"] if s["stage"] == "struct pages"), 0)
    found.append(Target("struct pages for each second of CPU time", struct_pages / 1e9, 4, " GB", at_least=True))
    usual = [case for case in results["memory"] if case["options"] == "-j 2" and not case["ends_early"]]
    found.append(Target("anonymous memory at most, two threads", max(c["anon"] for c in usual) / MB, 40, " MB"))
    tight = [case for case in results["memory"] if case["options"] != "-j 2"]
    for options in dict.fromkeys(case["options"] for case in tight):
        failed = sum(case["code"] != 0 for case in tight if case["options"] == options)
        found.append(Target(f"runs that fail under {options}", failed, 0.0))
    found.append(Target("size of the program", results["start"]["bytes"] / MB, 6, " MB"))
    found.append(Target("time to start", results["start"]["seconds"] * 1000, 10, " ms"))
    return found
