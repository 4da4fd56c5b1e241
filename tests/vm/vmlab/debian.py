"""Debian's cloud kernels: finds the newest ABI of a line, downloads it into the cache, unpacks what a guest and a
judge need."""

from __future__ import annotations

import lzma
import re
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO

from . import cache as lab_cache
from .lab_error import LabError

IMAGE = "linux-image-{release}-unsigned"
DEBUG = "linux-image-{release}-dbg"


@dataclass(frozen=True)
class Kernel:
    """An unpacked kernel. `release` is what `uname -r` says in the guest."""

    release: str
    folder: Path

    @property
    def vmlinuz(self) -> Path:
        return self.folder / "vmlinuz"

    def module(self, name: str) -> Path:
        path = self.folder / "modules" / f"{name}.ko"
        if not path.exists():
            raise LabError(f"kernel {self.release} has no module {name}: is it built in? See DISK_MODULES in guests.py")
        return path

    @property
    def vmlinux(self) -> Path:
        """With debug information; 300 MB of download, so only when somebody asks."""
        path = self.folder / "vmlinux"
        if not path.exists():
            suffix = f"/usr/lib/debug/boot/vmlinux-{self.release}"
            unpack(download(DEBUG.format(release=self.release)), lambda name: path if name.endswith(suffix) else None)
        return path


@cache
def newest(line: str) -> Kernel:
    """The newest kernel of a line, unpacked. The archive drops old ABIs: no version can be written down here."""
    release = newest_release(line)
    kernel = Kernel(release, lab_cache.root() / "kernel" / release)
    if not kernel.folder.exists():
        package = download(IMAGE.format(release=release))
        with lab_cache.new_folder(kernel.folder) as work:
            unpack(package, lambda name: place_of(name, work))
    return kernel


def newest_release(line: str) -> str:
    pattern = rf"^linux-image-{re.escape(line)}\.[0-9].*-cloud-amd64-(unsigned|dbg)$"
    lines = run(["apt-cache", "search", "--names-only", pattern]).splitlines()
    names = {entry.split(" ")[0] for entry in lines}
    releases = {name.removeprefix("linux-image-").removesuffix("-dbg") for name in names if name.endswith("-dbg")}
    complete = [release for release in releases if IMAGE.format(release=release) in names]
    if not complete:
        raise LabError(f"apt knows no cloud kernel {line} with debug symbols; run apt-get update, then try again")
    return max(complete, key=lambda release: [int(number) for number in re.findall(r"\d+", release)])


def download(package: str) -> Path:
    """The .deb of the package's candidate version, from the cache if it is there."""
    folder = lab_cache.folder("deb")
    present = sorted(folder.glob(f"{package}_*.deb"))
    if present:
        return present[-1]
    with lab_cache.new_folder(folder / f"{package}.download") as work:
        run(["apt-get", "-o", "APT::Sandbox::User=root", "download", package], cwd=work)
    (arrived,) = (folder / f"{package}.download").glob("*.deb")
    target = folder / arrived.name
    arrived.rename(target)
    (folder / f"{package}.download").rmdir()
    return target


def place_of(name: str, folder: Path) -> Path | None:
    """Where a file of the image package goes in the kernel's folder; None: not needed."""
    base = name.rsplit("/", 1)[-1]
    if name.startswith("./boot/"):
        return folder / base.split("-", 1)[0]
    if base.endswith((".ko", ".ko.xz")):
        return folder / "modules" / base.removesuffix(".xz")
    return None


def unpack(package: Path, place: Callable[[str], Path | None]) -> None:
    """Streams the package's files to where `place` says, xz modules unpacked."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE) as dpkg:
        with tarfile.open(fileobj=dpkg.stdout, mode="r|") as archive:
            for member in archive:
                target = place(member.name) if member.isfile() else None
                if target and (source := archive.extractfile(member)):
                    write_member(source, member.name.endswith(".xz"), target)
    if dpkg.returncode:
        raise LabError(f"cannot unpack {package}: dpkg-deb failed; delete the file and run lab.py fetch again")


def write_member(source: IO[bytes], compressed: bool, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.part")
    with partial.open("wb") as output:
        stream = lzma.open(source) if compressed else source
        while chunk := stream.read(1 << 20):
            output.write(chunk)
    partial.rename(target)


def run(command: list[str], **options) -> str:
    result = subprocess.run(command, capture_output=True, text=True, **options)
    if result.returncode:
        raise LabError(f"{' '.join(command)} failed: {result.stderr.strip()}")
    return result.stdout
