"""Dumps as streams: compressed ELF as zstd and lz4 unpack it, flattened dumps as makedumpfile, crash and drgn read them,
and makedumpfile's own flattened ELF as vdump reads it."""

from __future__ import annotations

import filecmp
import subprocess
from pathlib import Path

import pytest

from conftest import Note
from judge import crash_view, drgn_view
from tool import SECONDS, Options, filter_dump
from vmlab import programs
from vmlab.crash import Crash
from vmlab.guests import LA57

ELF = Options(format="elf")


@pytest.fixture(scope="module")
def flat(crashed: Crash, scratch: Path) -> Path:
    """The flattened dump, as a shell redirects it."""
    path = scratch / f"{crashed.guest.name}-flat"
    command = [programs.vdump(), "filter", "--progress", "none", *Options().words, crashed.vmcore, "-"]
    with path.open("wb") as file:
        subprocess.run(command, check=True, stdout=file, timeout=SECONDS)
    return path


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_a_compressed_elf_unpacks_to_the_plain_one(
    crashed: Crash, filtered, scratch: Path, note: Note, codec: str
) -> None:
    packed = filtered(Options(format="elf", codec=codec))
    plain = scratch / f"{crashed.guest.name}-unpacked"
    with plain.open("wb") as file:
        subprocess.run([codec, "-q", "-d", "-c", packed], check=True, stdout=file, timeout=SECONDS)
    assert filecmp.cmp(plain, filtered(ELF), shallow=False)
    plain.unlink()
    kdump = filtered(Options()).stat().st_size
    note(f"{crashed.guest.name}: ELF in {codec} frames {packed.stat().st_size} bytes, kdump with zstd {kdump} bytes")


@pytest.mark.parametrize("codec", ["zstd", "lz4"])
def test_a_compressed_elf_is_filtered_like_the_vmcore(crashed: Crash, filtered, scratch: Path, codec: str) -> None:
    packed = filtered(Options(level=0, format="elf", codec=codec))
    again, plain = scratch / f"{crashed.guest.name}-again", scratch / f"{crashed.guest.name}-plain"
    filter_dump(packed, again, Options())
    filter_dump(filtered(Options(level=0, format="elf")), plain, Options())
    assert filecmp.cmp(again, plain, shallow=False)
    again.unlink()
    plain.unlink()


def test_makedumpfile_rearranges_the_stream_to_the_file(crashed: Crash, filtered, flat: Path, scratch: Path) -> None:
    back = scratch / f"{crashed.guest.name}-rearranged"
    with flat.open("rb") as file:
        subprocess.run(["makedumpfile", "-R", back], check=True, stdin=file, capture_output=True, timeout=SECONDS)
    assert filecmp.cmp(back, filtered(Options()), shallow=False)
    back.unlink()


def test_drgn_reads_the_flattened_dump(crashed: Crash, flat: Path) -> None:
    full = drgn_view.tasks(drgn_view.open_dump(crashed.vmcore, crashed.vmlinux))
    assert drgn_view.tasks(drgn_view.open_dump(flat, crashed.vmlinux)) == full


@pytest.mark.parametrize("crashed", [LA57], indirect=True, ids=lambda guest: guest.name)
def test_crash_reads_the_flattened_dump(crashed: Crash, full_views: dict[str, str], flat: Path) -> None:
    seen = crash_view.views(flat, crashed.vmlinux)
    assert not crash_view.trouble(seen)
    assert seen == full_views


def test_makedumpfiles_flattened_elf_is_read_like_its_file(crashed: Crash, scratch: Path) -> None:
    flat, plain = (scratch / f"{crashed.guest.name}-theirs-{kind}" for kind in ("flat", "plain"))
    with flat.open("wb") as file:
        command = ["makedumpfile", "-E", "-F", "-d", "0", crashed.vmcore]
        subprocess.run(command, check=True, stdout=file, stderr=subprocess.DEVNULL, timeout=SECONDS)
    with flat.open("rb") as file:
        subprocess.run(["makedumpfile", "-R", plain], check=True, stdin=file, capture_output=True, timeout=SECONDS)
    outputs = [path.with_name(f"{path.name}-out") for path in (flat, plain)]
    for path, output in zip((flat, plain), outputs, strict=True):
        filter_dump(path, output, Options())
    assert filecmp.cmp(*outputs, shallow=False)
    for path in (flat, plain, *outputs):
        path.unlink()
