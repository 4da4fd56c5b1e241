"""What gdb reads from an ELF dump: it knows virtual addresses only, so this judges the p_vaddr of each LOAD."""

from __future__ import annotations

import re
import subprocess
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
    command = ["gdb", "--batch", "--nx", *(word for line in script for word in ("-ex", line))]
    run = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS)
    found = re.search(r'<linux_banner>:\s*"(.*)"', run.stdout)
    assert found, f"gdb could not read linux_banner from {dump}:\n{run.stdout}{run.stderr}"
    return found[1]
