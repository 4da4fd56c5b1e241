"""Kernels that nobody ships: Debian's source of 6.12 with struct page, page flags and page types moved, built small.
Built once into the cache, and again when the source, the edits or the configuration change."""

from __future__ import annotations

import hashlib
import inspect
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from . import cache as lab_cache
from . import debian, edits
from .debian import Kernel, run
from .lab_error import LabError

CONFIGS = Path(__file__).parent.parent / "altered"
SOURCE = "linux-source-6.12"
# Debian's package for each program, and for the header that the kernel's own tools need.
TOOLS = {"flex": "flex", "bison": "bison", "bc": "bc", "pahole": "dwarves", "gcc": "gcc", "make": "make"}
HEADERS = {"/usr/include/libelf.h": "libelf-dev"}
# So that the same source makes the same kernel: these are in its banner.
STAMPS = {"KBUILD_BUILD_TIMESTAMP": "2026-01-01", "KBUILD_BUILD_USER": "vdump", "KBUILD_BUILD_HOST": "lab"}
BUILD_SECONDS = 3600


@dataclass(frozen=True)
class Altered:
    """One kernel: `NAME.config` beside `base.config` in tests/vm/altered, and what is done to the source."""

    name: str
    edits: tuple[Callable[[Path], None], ...]
    lacks: frozenset[str] = frozenset()
    """Kinds of pages that this kernel cannot have."""
    has_btf: bool = True


PADDED = Altered("padded", (edits.pad_before_flags, edits.renumber_flags), frozenset({"hugetlb"}))
"""Another size, every offset and most flags moved; KASLR, huge pages, poisoned pages, BTF."""
SPARSE = Altered(
    "sparse",
    (edits.refcount_before_mapcount, edits.renumber_page_types),
    frozenset({"hugetlb", "anon-thp", "hwpoison", "soft-offline"}),
    has_btf=False,
)
"""SPARSEMEM without a virtual memory map, the two counts swapped, page types renumbered; no BTF, no KASLR."""

ALTERED = {kernel.name: kernel for kernel in (PADDED, SPARSE)}


@cache
def built(name: str) -> Kernel:
    """The kernel, from the cache if it was built of the same parts."""
    altered = ALTERED[name]
    package = debian.download(SOURCE)
    folder = lab_cache.root() / "kernel" / f"altered-{name}"
    stamp = folder / "inputs"
    wanted = key(altered, package)
    if not stamp.exists() or stamp.read_text() != wanted:
        require_tools()
        print(f"building the altered kernel {name}, which takes minutes: {folder}.new/build.log", file=sys.stderr, flush=True)
        with lab_cache.new_folder(folder) as work:
            build(altered, package, work)
            (work / "inputs").write_text(wanted)
    return Kernel((folder / "release").read_text().strip(), folder)


def key(altered: Altered, package: Path) -> str:
    names = [change.__name__ for change in altered.edits]
    parts = (package.name, inspect.getsource(edits), *names, config(altered))
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def config(altered: Altered) -> str:
    return "".join((CONFIGS / f"{name}.config").read_text() for name in ("base", altered.name))


def require_tools() -> None:
    missing = [package for tool, package in TOOLS.items() if not shutil.which(tool)]
    missing += [package for file, package in HEADERS.items() if not Path(file).exists()]
    if missing:
        raise LabError(f"a kernel cannot be built: please install {', '.join(sorted(set(missing)))}")


def build(altered: Altered, package: Path, work: Path) -> None:
    """Leaves `vmlinuz`, `vmlinux`, `config`, `release` and `build.log` in `work`."""
    tree, objects, log = work / "source", work / "objects", work / "build.log"
    unpack(package, tree)
    for change in altered.edits:
        change(tree)
    objects.mkdir()
    fragment = objects / "fragment"
    fragment.write_text(config(altered))
    start = time.monotonic()
    make(tree, objects, log, f"KCONFIG_ALLCONFIG={fragment}", "allnoconfig")
    require_configured(fragment.read_text(), (objects / ".config").read_text())
    make(tree, objects, log, f"-j{os.cpu_count()}", "vmlinux", "bzImage")
    (work / "seconds").write_text(f"{time.monotonic() - start:.0f}\n")
    (objects / "vmlinux").rename(work / "vmlinux")
    (objects / "arch/x86/boot/bzImage").rename(work / "vmlinuz")
    (objects / ".config").rename(work / "config")
    (objects / "include/config/kernel.release").rename(work / "release")
    shutil.rmtree(objects)
    shutil.rmtree(tree)


def unpack(package: Path, tree: Path) -> None:
    """The source, without the drivers of no use here: three quarters of it."""
    unpacked = tree.with_suffix(".deb")
    run(["dpkg-deb", "-x", str(package), str(unpacked)])
    tree.mkdir()
    skipped = [f"--exclude=*/{folder}/*.[chS]" for folder in ("drivers/gpu", "drivers/net", "drivers/media", "sound")]
    archive = unpacked / "usr/src" / f"{SOURCE}.tar.xz"
    run(["tar", "-x", "-f", str(archive), "-C", str(tree), "--strip-components=1", "--wildcards", *skipped])
    shutil.rmtree(unpacked)


def make(tree: Path, objects: Path, log: Path, *words: str) -> None:
    command = ["nice", "make", "-s", "-C", str(tree), f"O={objects}", *words]
    with log.open("a") as output:
        status = subprocess.run(
            command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | STAMPS, timeout=BUILD_SECONDS
        ).returncode
    if status:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
        raise LabError(f"{' '.join(command)} failed; the end of {log}:\n{tail}")


def require_configured(wanted: str, got: str) -> None:
    """Kconfig drops in silence what something else rules out."""
    lines = set(got.splitlines())
    # What is wanted off is in the result as a comment.
    wishes = [
        re.sub(r"^(CONFIG_\w+)=n$", r"# \1 is not set", line) for line in wanted.splitlines() if line.startswith("CONFIG_")
    ]
    lost = [wish for wish in wishes if wish not in lines]
    if lost:
        raise LabError(f"the kernel cannot be configured with: {'; '.join(lost)}")
