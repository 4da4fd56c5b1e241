"""What is known of a kernel by other ways than its VMCOREINFO: DWARF, BTF, its own memory. All must say the same, and each
must do where VMCOREINFO says nothing."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from conftest import Note
from judge.kdump import Kdump
from judge.truth import Truth
from judge.vmcore import PAGE, Vmcore
from tool import SECONDS, Options, filter_dump, run
from vmlab import programs
from vmlab.crash import Crash
from vmlab.guests import LA57

# What makes a page's class: sizes, offsets, flags, page types, destructors.
TYPES = re.compile(r"(OFFSET\((page|folio|zone|free_area|list_head|mem_section|pglist_data)\.|SIZE\(|LENGTH\(|NUMBER\((PG_|PAGE_|HUGETLB_|NR_))")
PAGE_KEYS = re.compile(rb"(OFFSET\((page|folio)\.|SIZE\(page\)|NUMBER\((PG_|PAGE_|HUGETLB_)|LENGTH\(zone)")
# Not in any type: macros, values, and what is about one boot.
NO_TYPES = {"LENGTH(mem_section)", "NUMBER(PAGE_BUDDY_MAPCOUNT_VALUE)", "NUMBER(PAGE_OFFLINE_MAPCOUNT_VALUE)"}


def lines(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines())


def btf_of(crashed: Crash, folder: Path) -> Path:
    path = folder / f"{crashed.guest.name}.btf"
    command = ["objcopy", "-O", "binary", "--only-section=.BTF", crashed.vmlinux.resolve(), path]
    subprocess.run(command, check=True, timeout=SECONDS)
    return path


def without_keys(vmcore: Path, copy: Path, pattern: re.Pattern[bytes]) -> Path:
    """A copy of the vmcore whose note lacks the keys; nothing else moves."""
    shutil.copy(vmcore, copy)
    with copy.open("r+b") as file:
        head = file.read(1 << 20)
        start = head.index(b"OSRELEASE=")
        text = head[start : head.index(b"\0", start)]
        blank = b"\n".join(b"#" * len(line) if pattern.match(line) else line for line in text.split(b"\n"))
        assert blank != text and len(blank) == len(text)
        file.seek(start)
        file.write(blank)
    return copy


def test_every_witness_says_what_vmcoreinfo_says(crashed: Crash, vmcore: Vmcore, scratch: Path, note: Note) -> None:
    """DWARF alone (the BTF taken out), BTF alone, and all together with the kernel's own memory."""
    told = {key: int(value, 0) for key, value in vmcore.vmcoreinfo.items() if TYPES.match(key)}
    bare = scratch / f"{crashed.guest.name}-no-btf"
    subprocess.run(["objcopy", "--rename-section", ".BTF=.was_BTF", crashed.vmlinux.resolve(), bare], check=True, timeout=SECONDS)
    ways = {"DWARF": ["--vmlinux", bare], "memory": ["--from", crashed.vmcore]}
    if crashed.guest.has_btf:
        ways["BTF"] = ["--btf", btf_of(crashed, scratch)]
    for name, words in ways.items():
        said = lines(run("layout", *words))
        both = told.keys() & said.keys()
        different = {key: (told[key], said[key]) for key in both if told[key] != int(said[key], 0)}
        assert not different, f"{name}: {different}"
        missing = told.keys() - said.keys()
        assert missing <= (set() if name == "memory" else NO_TYPES | {"LENGTH(node_data)"}), f"{name}: {missing}"
        note(f"{crashed.guest.name}: {name} agrees with VMCOREINFO on {len(both)} values")
    bare.unlink()
    together = json.loads(run("layout", "--json", "--from", crashed.vmcore, "--vmlinux", crashed.vmlinux))
    assert not together["disagreements"]


def test_memory_alone_gives_the_same_classes(crashed: Crash, filtered, scratch: Path) -> None:
    """With every key about pages gone from VMCOREINFO, the kernel's own BTF and its free pages make up for it."""
    if not crashed.guest.has_btf:
        pytest.skip("this kernel carries no BTF")
    forgetful = without_keys(crashed.vmcore, scratch / f"{crashed.guest.name}-forgetful", PAGE_KEYS)
    output = scratch / f"{crashed.guest.name}-remembered"
    report = filter_dump(forgetful, output, Options())
    direct, ours = Kdump(filtered(Options())), Kdump(output)
    assert ours.kept == direct.kept and len(ours.kept) > 5_000
    # All but the note is the same, byte for byte.
    assert ours.data[ours.bitmaps_at :] == direct.data[direct.bitmaps_at :]
    assert not report["warnings"]
    forgetful.unlink()
    output.unlink()


@pytest.mark.parametrize("way", ["--vmlinux", "--layout", "--btf"])
def test_a_named_file_does_where_memory_says_nothing(
    crashed: Crash, vmcore: Vmcore, truth: Truth, filtered, scratch: Path, way: str
) -> None:
    """Without kallsyms the kernel's BTF cannot be found."""
    if way == "--btf" and not crashed.guest.has_btf:
        pytest.skip("this kernel has no BTF")
    keys = re.compile(PAGE_KEYS.pattern + rb"|SYMBOL\(kallsyms")
    forgetful = without_keys(crashed.vmcore, scratch / f"{crashed.guest.name}-mute", keys)
    layout = scratch / f"{crashed.guest.name}-layout"
    files = {"--vmlinux": crashed.vmlinux, "--layout": layout}
    if way == "--layout":
        run("layout", "--force", "--from", crashed.vmcore, "--vmlinux", crashed.vmlinux, "-o", layout)
    if way == "--btf":
        files[way] = btf_of(crashed, scratch)
    output = scratch / f"{crashed.guest.name}-helped"
    command = [programs.vdump(), "filter", "--progress", "none", *Options().words, forgetful, output]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    assert refused.returncode == 1 and "SIZE(page)" in refused.stderr and not output.exists()
    run("filter", "--progress", "none", *Options().words, way, files[way], forgetful, output)
    kept = Kdump(output).kept
    expected = Kdump(filtered(Options())).kept
    # kallsyms bounds the parts of the kernel's image; without it all that the segment maps is kept.
    # So are the zones found, and with them the free pages on per-CPU lists: the BTF has no addresses.
    more = image(vmcore) | (truth.free_pcp if way == "--btf" else set())
    assert kept >= expected and kept - expected <= more
    forgetful.unlink()
    output.unlink()


def image(vmcore: Vmcore) -> set[int]:
    """The frames of the segment that maps the kernel's text."""
    (load,) = (load for load in vmcore.loads if load.vaddr >= 0xFFFF_FFFF_8000_0000)
    return set(range(load.paddr // PAGE, -(-(load.paddr + load.memsz) // PAGE)))


def test_makedumpfile_takes_our_layout_file(crashed: Crash, scratch: Path) -> None:
    layout = scratch / f"{crashed.guest.name}-for-makedumpfile"
    run("layout", "--force", "--vmlinux", crashed.vmlinux, "-o", layout)
    output = scratch / f"{crashed.guest.name}-by-makedumpfile"
    command = ["makedumpfile", "-f", "-l", "-d", "31", "-i", layout, crashed.vmcore, output]
    result = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    assert result.returncode == 0, result.stdout + result.stderr
    output.unlink()


@pytest.mark.parametrize("crashed", [LA57], indirect=True, ids=lambda guest: guest.name)
def test_another_kernels_vmlinux_is_refused(crashed: Crash, qemu_dump: Crash, scratch: Path) -> None:
    words = ["filter", "--dry-run", "--vmlinux", qemu_dump.vmlinux, crashed.vmcore]
    result = subprocess.run([programs.vdump(), *words], capture_output=True, text=True, timeout=SECONDS)
    assert result.returncode == 1
    assert vmcore_id(crashed) in result.stderr and vmcore_id(qemu_dump) in result.stderr


def vmcore_id(crashed: Crash) -> str:
    return Vmcore(crashed.vmcore).vmcoreinfo["BUILD-ID"]
