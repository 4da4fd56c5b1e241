"""The repository's small vmcores: real crashes of small guests, compressed."""

from __future__ import annotations

import subprocess
from pathlib import Path

from . import deps
from .crash import Crash, crash
from .guests import PADDED_GUEST, SAMPLE, Guest
from .lab_error import LabError

LIMIT_BYTES = 26 << 20
ALTERED_LIMIT_BYTES = 10 << 20
# Each crash is a throw of dice, for KASLR puts the kernel anywhere. It may leave no hole for the capture kernel.
TRIES = 16


def make(out: Path, guest: Guest = SAMPLE, limit: int = LIMIT_BYTES) -> tuple[str, Crash]:
    """Crashes the guest until the compressed vmcore is small enough, and puts it at `out`."""
    outcomes = []
    for _ in range(TRIES):
        try:
            result = crash(guest, fresh=True)
        except LabError as error:
            outcomes.append(str(error).splitlines()[0])
            continue
        partial = out.with_name(f"{out.name}.part")
        # A window of 8 MiB, which a capture kernel can bear. One of 128 MiB would make the file smaller by 10 MB, as the
        # kernel's image lies in a vmcore twice, under its virtual address and in the direct map.
        subprocess.run(["zstd", "-q", "-f", "-19", "-T0", result.vmcore, "-o", partial], check=True)
        size, unpacked = partial.stat().st_size, result.vmcore.stat().st_size
        if size <= limit:
            partial.rename(out)
            return f"{out}: {size} bytes, {unpacked} unpacked, kernel {result.kernel.release}", result
        partial.unlink()
        outcomes.append(f"{size} bytes")
    raise LabError(f"no sample of at most {limit} bytes in {TRIES} crashes: {'; '.join(outcomes)}")


def make_altered(out: Path) -> str:
    """The padded kernel's, and beside it what drgn says of each page."""
    said, result = make(out, PADDED_GUEST, ALTERED_LIMIT_BYTES)
    command = [deps.python(), "-m", "judge.truth_file", result.folder, out.absolute().with_suffix(".truth")]
    subprocess.run(command, cwd=Path(__file__).parent.parent, check=True)
    return said
