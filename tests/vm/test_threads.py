"""The number of threads changes nothing but the time."""

from __future__ import annotations

import filecmp

import pytest

from tool import Options


@pytest.mark.parametrize("format", ["kdump", "elf"])
def test_same_bytes_for_any_number_of_threads(filtered, format: str) -> None:
    one = filtered(Options(format=format, threads=1))
    for threads in (2, 7):
        assert filecmp.cmp(one, filtered(Options(format=format, threads=threads)), shallow=False), f"-j {threads}"
