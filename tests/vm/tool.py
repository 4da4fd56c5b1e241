"""The vdump under test, as its users call it."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from vmlab import programs

SECONDS = 240
CODECS = ("none", "zlib", "lzo", "snappy", "zstd")
LEVELS = (0, 1, 2, 4, 8, 16, 31)


@dataclass(frozen=True)
class Options:
    """One way to filter a dump."""

    level: int = 31
    format: str = "kdump"
    codec: str = ""
    threads: int = 2
    virtual: bool = False

    @property
    def words(self) -> list[str]:
        codec = ["-c", self.codec] if self.codec else []
        virtual = ["--virtual"] if self.virtual else []
        return ["-d", str(self.level), "-f", self.format, *codec, *virtual, "-j", str(self.threads)]

    @property
    def name(self) -> str:
        virtual = "-virtual" if self.virtual else ""
        return f"d{self.level}-{self.format}-{self.codec or 'default'}-j{self.threads}{virtual}"


def run(*words: object) -> str:
    """Runs vdump and gives its standard output; a failure shows its standard error."""
    command = [str(programs.vdump()), *map(str, words)]
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS)
    assert result.returncode == 0, f"{' '.join(command)} ended with {result.returncode}:\n{result.stderr}"
    return result.stdout


def filter_dump(vmcore: Path, output: Path, options: Options) -> dict:
    """Filters and gives the JSON report."""
    return json.loads(run("filter", "--json", "--progress", "none", *options.words, vmcore, output))
