"""The benches, which people run by hand, still start: what they import and ask of the lab must not rot meanwhile."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BENCHES = Path(__file__).parent.parent.parent / "benches"


@pytest.mark.parametrize("bench", ["large/make.py", "layout", "whole/capture.py", "whole/run.py"])
def test_starts(bench: str) -> None:
    subprocess.run([sys.executable, BENCHES / bench, "--help"], check=True, stdout=subprocess.DEVNULL)
