"""The bench: the programs, the places, and a run of which the output is looked at. A run that fails ends everything."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import kdump
from tools import Peer, Run, filter_with_vdump, measure

MAGIC = {
    "kdump": (b"KDUMP   ",),
    "elf,none": (b"\x7fELF",),
    "elf,zstd": (b"\x28\xb5\x2f\xfd",),
    "elf,lz4": (b"\x04\x22\x4d\x18",),
}
"""How each output begins."""


@dataclass(frozen=True)
class Bench:
    vdump: Path
    peers: list[Peer]
    source: Path
    tmpfs: Path
    disk: Path
    rounds: int
    say: Callable[[str], None]
    """Says what is being done."""

    def ours(self, codec: str, level: int = 31, folder: Path | None = None, source: Path | None = None, **how):
        target = (folder or self.tmpfs) / "vdump"
        command = filter_with_vdump(self.vdump, source or self.source, target, level, codec, "-j", "2")
        return self.run(command, target, codec, **how)

    def theirs(self, peer: Peer, codec: str, level: int, threads: int, folder: Path | None = None, source: Path | None = None, **how):
        target = (folder or self.tmpfs) / "makedumpfile"
        return self.run(peer.filter(source or self.source, target, level, codec, threads), target, codec, **how)

    def run(self, command: list[str], target: Path, codec: str, **how) -> tuple[Run, dict]:
        """One run; the output is looked at and removed."""
        remove(target)
        run = measure(command, **how)
        if run.code and not run.stopped:
            raise SystemExit(f"{' '.join(command)}\nfailed with {run.code}: {run.error}")
        made = {"bytes": 0, "kept_bytes": 0} if run.stopped else look_at(target, codec, " ".join(command))
        remove(target)
        return run, made


def look_at(target: Path, codec: str, command: str) -> dict:
    """Size and, of a kdump-compressed file, what it keeps."""
    if not target.exists():
        raise SystemExit(f"{command}\nended well, but there is no {target}")
    with target.open("rb") as file:
        head = file.read(8)
    form = codec.partition(":")[0] if codec.startswith("elf,") else "kdump"
    if not head.startswith(MAGIC[form]):
        raise SystemExit(f"{command}\nended well, but its output begins with {head.hex(' ')}")
    return {"bytes": target.stat().st_size, "kept_bytes": kdump.kept_bytes(target) if form == "kdump" else 0}


def remove(target: Path) -> None:
    for path in (target, Path(f"{target}-incomplete")):
        path.unlink(missing_ok=True)


def summary(runs: list[Run], **made: object) -> dict:
    """Of several runs the medians, and every wall time."""
    return {
        "wall": statistics.median(run.wall for run in runs),
        "cpu": statistics.median(run.cpu for run in runs),
        "walls": [run.wall for run in runs],
        **made,
    }


def warm(path: Path) -> None:
    """Brings the file into the page cache."""
    with path.open("rb", buffering=0) as file:
        buffer = bytearray(8 << 20)
        while file.readinto(buffer):
            pass
