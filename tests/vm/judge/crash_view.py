"""What the crash utility says of a dump. Debian's 8.0.2 opens 6.1 kernels, not 6.12."""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path

COMMANDS = {
    "bt": "bt -a",
    "kmem": "kmem -i",
    "log": "log",
    "ps": "ps",
    "slab": "kmem -s",
    "runq": "runq",
    "mod": "mod",
    "mount": "mount",
}
# What crash prints when a page that it needs is not in the dump.
TROUBLE = re.compile(
    r".*(?:page excluded|seek error|read error|page incomplete|cannot (?:read|access|determine)|invalid .* address).*",
    re.IGNORECASE,
)
SECONDS = 180


def views(dump: Path | list[Path], vmlinux: Path) -> dict[str, str]:
    """The output of each command; `all` is what crash said besides. A split dump is the list of its parts."""
    dumps = dump if isinstance(dump, list) else [dump]
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "commands"
        lines = [f"{command} > {folder}/{name}" for name, command in COMMANDS.items()]
        script.write_text("\n".join(["set scroll off", *lines, "quit", ""]))
        command = ["crash", "-s", "-i", str(script), str(vmlinux), *map(str, dumps)]
        run = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS, errors="replace"
        )
        texts = {name: read(Path(folder) / name) for name in COMMANDS}
    # Where a task ran since when is counted against the time that crash was started: it shows in no command used here.
    return texts | {"all": run.stdout + run.stderr}


def read(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def trouble(texts: dict[str, str]) -> list[str]:
    """The lines in which crash complains of a page, except where the kernel's own log happens to use such words."""
    return [line for name, text in texts.items() if name != "log" for line in TROUBLE.findall(text)]
