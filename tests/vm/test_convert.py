"""Converting whole memories: no page is lost on the way through any format and back, by libkdumpfile's own reading."""

from __future__ import annotations

import filecmp
from pathlib import Path

from conftest import Note
from judge.readers import Dump, compare
from judge.vmcore import Vmcore
from tool import run
from vmlab.crash import Crash


def convert(source: Path, output: Path, *words: str) -> Path:
    run("convert", "--progress", "none", *words, source, output)
    return output


def test_every_page_survives_every_format(crashed: Crash, vmcore: Vmcore, scratch: Path, note: Note) -> None:
    def at(name: str) -> Path:
        return scratch / f"{crashed.guest.name}-{name}"

    kdump = convert(crashed.vmcore, at("whole.kdump"), "-c", "lzo")
    pfns = Dump(kdump).pfns()
    assert len(pfns) > 50_000
    result = compare(Dump(kdump), pfns, vmcore)
    assert (result.equal, result.different) == (len(pfns), [])
    elf = convert(kdump, at("whole.elf"))
    result = compare(Dump(elf), pfns, vmcore)
    assert (result.equal, result.different) == (len(pfns), [])
    packed = convert(elf, at("whole.elf.zst"))
    again = convert(packed, at("again.kdump"), "-c", "lzo")
    assert filecmp.cmp(kdump, again, shallow=False)
    note(f"{crashed.guest.name}: {len(pfns)} pages through kdump, ELF, compressed ELF and back, all equal")
    for path in (kdump, elf, packed, again):
        path.unlink()
