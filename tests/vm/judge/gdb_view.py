"""What gdb reads from an ELF dump: it knows virtual addresses only, so this judges the p_vaddr of each LOAD."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

SECONDS = 180


def banner(dump: Path, vmlinux: Path, kernel_offset: int) -> str:
    """`linux_banner` out of the dump's memory. The symbols move by the KASLR offset; `-readnever` spares half a
    gigabyte of DWARF."""
    script = (
        f"symbol-file -readnever -o {kernel_offset:#x} {vmlinux}",
        f"core-file {dump}",
        "x/s (char *) &linux_banner",
    )
    said = gdb(script)
    found = re.search(r'<linux_banner>:\s*"(.*)"', said)
    assert found, f"gdb could not read linux_banner from {dump}:\n{said}"
    return found[1]


def gdb(script: Iterable[str]) -> str:
    """What gdb says when it runs these lines."""
    command = ["gdb", "--batch", "--nx", *(word for line in script for word in ("-ex", line))]
    run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS)
    return run.stdout + run.stderr


def memory(dump: Path, ranges: Iterable[tuple[int, int]]) -> list[bytes | None]:
    """The bytes at each (virtual address, length), `None` where gdb cannot read all of them."""
    ranges = list(ranges)
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "script.py"
        # A range that cannot be read must not end the script.
        script.write_text(
            "\n".join(
                (
                    "import gdb",
                    f"gdb.execute('core-file {dump}')",
                    f"for index, (start, length) in enumerate({ranges}):",
                    "    try:",
                    f"        gdb.execute(f'dump binary memory {folder}/{{index}} {{start}} {{start + length}}')",
                    "    except gdb.error:",
                    "        pass",
                )
            )
        )
        said = gdb([f"source {script}"])
        paths = [Path(folder) / str(index) for index in range(len(ranges))]
        found = [path.read_bytes() if path.exists() else None for path in paths]
    assert any(found), f"gdb could read nothing of {dump}:\n{said}"
    return [data if data is not None and len(data) == length else None for data, (_, length) in zip(found, ranges)]
