"""The repository's small vmcore: a real crash of a small guest, compressed."""

from __future__ import annotations

import subprocess
from pathlib import Path

from .crash import crash
from .guests import SAMPLE
from .lab_error import LabError

LIMIT_BYTES = 14 << 20
# Each crash is a throw of dice, for KASLR puts the kernel anywhere. It may leave no hole for the capture kernel. And
# the kernel's image lies in a vmcore twice, under its virtual address and in the direct map: it costs its size once
# only if both lie within zstd's window.
TRIES = 16


def make(out: Path) -> str:
    """Crashes the sample guest until the compressed vmcore is small enough, and puts it at `out`."""
    outcomes = []
    for _ in range(TRIES):
        try:
            result = crash(SAMPLE, fresh=True)
        except LabError as error:
            outcomes.append(str(error).splitlines()[0])
            continue
        partial = out.with_name(f"{out.name}.part")
        # The window stays at 128 MiB, the most that decoders take without being asked.
        subprocess.run(["zstd", "-q", "-f", "-19", "--long=27", "-T0", result.vmcore, "-o", partial], check=True)
        size, unpacked = partial.stat().st_size, result.vmcore.stat().st_size
        if size <= LIMIT_BYTES:
            partial.rename(out)
            return f"{out}: {size} bytes, {unpacked} unpacked, kernel {result.kernel.release}"
        partial.unlink()
        outcomes.append(f"{size} bytes")
    raise LabError(f"no sample of at most {LIMIT_BYTES} bytes in {TRIES} crashes: {'; '.join(outcomes)}")
