"""`vdump check` on real dumps: what makedumpfile and vdump write of a crash breaks no rule, and readers agree."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from judge import drgn_view, makedumpfile
from judge.readers import Dump
from tool import CODECS, SECONDS, Options, run
from vmlab import programs
from vmlab.crash import Crash


def broken(*dumps: Path) -> list[str]:
    report = json.loads(run("check", "--json", "--progress", "none", *dumps))
    assert report["whole"]
    assert report["pages"] > 1000
    return [rule["name"] for rule in report["rules"] if rule["status"] == "broken"]


def test_the_vmcore_breaks_no_rule(crashed: Crash) -> None:
    assert broken(crashed.vmcore) == []


@pytest.mark.parametrize("codec", CODECS)
def test_our_kdump_breaks_no_rule(filtered, codec: str) -> None:
    assert broken(filtered(Options(codec=codec))) == []


@pytest.mark.parametrize("codec", ["none", "zstd", "lz4"])
def test_our_elf_breaks_no_rule(filtered, codec: str) -> None:
    assert broken(filtered(Options(format="elf", codec=codec))) == []


def test_our_stream_breaks_no_rule(crashed: Crash, scratch: Path) -> None:
    flat = scratch / f"{crashed.guest.name}-checked-flat"
    command = [programs.vdump(), "filter", "--progress", "none", crashed.vmcore, "-"]
    with flat.open("wb") as file:
        subprocess.run(command, check=True, stdout=file, timeout=SECONDS)
    assert broken(flat) == []
    flat.unlink()


@pytest.mark.parametrize("words", [["-c"], ["-l"], ["-E"], ["-l", "-F"], ["-E", "-F"]], ids=" ".join)
def test_makedumpfiles_dump_breaks_no_rule(crashed: Crash, scratch: Path, words: list[str]) -> None:
    theirs = scratch / f"{crashed.guest.name}-checked-theirs"
    command = ["makedumpfile", "-d", "31", *words, str(crashed.vmcore)]
    if "-F" in words:
        with theirs.open("wb") as file:
            subprocess.run(command, check=True, stdout=file, stderr=subprocess.DEVNULL, timeout=SECONDS)
    else:
        subprocess.run([*command, str(theirs)], check=True, capture_output=True, timeout=SECONDS)
        assert Dump(theirs).pfns()
        drgn_view.open_dump(theirs, crashed.vmlinux)
    # Its flattened ELF has the program headers twice: crash sorts records by offset, and equal ones in any order.
    assert set(broken(theirs)) <= ({"flattened-once"} if words == ["-E", "-F"] else set())
    theirs.unlink()


def test_makedumpfiles_parts_break_at_most_the_rule_that_they_may(crashed: Crash, scratch: Path) -> None:
    """Blocks smaller than makedumpfile's own start parts at frames that crash miscounts; else all is well."""
    parts = [scratch / f"{crashed.guest.name}-checked-{number}" for number in range(3)]
    makedumpfile.split(crashed.vmcore, 31, parts)
    assert set(broken(*parts)) <= {"split-start"}
    for path in parts:
        path.unlink()
