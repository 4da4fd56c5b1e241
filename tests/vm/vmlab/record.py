"""Records machines for the loader's tests: boots one in QEMU, and packs what it says about itself into a text file."""

from __future__ import annotations

import shutil
import tarfile
from dataclasses import dataclass, replace
from pathlib import Path

from . import cache, debian, image, qemu, tree
from .guests import DISK_MODULES
from .lab_error import LabError

SECONDS = 240
DISK_BYTES = 4 << 20
# Debian's package ovmf: the code, and the variables that a machine keeps.
EFI_CODE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
EFI_VARIABLES = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
# On the kernel's command line: 140 reserved pages, each in the middle of RAM.
PIECES = "memmap=" + ",".join(f"4K${320 + number}M" for number in range(140))
# What ndctl and daxctl do to use persistent memory as RAM.
PERSISTENT_AS_RAM = """
    cd /sys/bus/nd/devices
    echo namespace0.0 >../drivers/nd_pmem/unbind
    cat /proc/sys/kernel/random/uuid >dax0.0/uuid
    echo ram >dax0.0/mode
    echo 2097152 >dax0.0/align
    echo namespace0.0 >dax0.0/namespace
    echo dax0.0 >../drivers/dax_pmem/bind
    echo dax0.0 >/sys/bus/dax/drivers/device_dax/unbind
    echo dax0.0 >/sys/bus/dax/drivers/kmem/new_id
"""


@dataclass(frozen=True)
class Machine:
    """A machine to record."""

    about: str
    """What is special about it: the first line of the file."""
    append: str = "crashkernel=256M"
    line: str = "6.12"
    cpu: str = "qemu64"
    memory: str = "1G"
    options: tuple[str, ...] = ()
    """More for QEMU."""
    efi: bool = False
    reader: str = "root"
    """Who reads the files."""
    modules: tuple[str, ...] = ()
    dimm_mib: int = 0
    """Memory that is added when the guest is up."""
    setup: str = ""
    """What the guest's shell does first."""
    until: str = "true"
    """What must hold in the guest before it is recorded."""


KASLR = Machine("A small virtual machine with KASLR.", memory="768M")
MACHINES = {
    "debian-6.12-kaslr": KASLR,
    "debian-6.1-la57": replace(KASLR, about="Page tables of five levels.", line="6.1", cpu="max"),
    "efi": Machine("Booted by EFI, by way of the kernel's EFI stub.", efi=True),
    "high-and-low": Machine(
        "Crash memory in two pieces, one above 4 GiB.",
        append="crashkernel=512M,high crashkernel=72M,low",
        memory="6G",
    ),
    "many-entries": Machine(
        "More than 128 pieces of memory: 140 reserved pages in the middle of RAM.", append=f"crashkernel=256M {PIECES}"
    ),
    "hot-added": Machine(
        "Memory added while the machine ran: a DIMM, virtio-mem, persistent memory as RAM. Persistent memory of two kinds.",
        append="crashkernel=256M memhp_default_state=online memmap=64M!640M",
        memory="1G,slots=2,maxmem=8G",
        options=(
            *("-machine", "nvdimm=on", "-object", "memory-backend-ram,id=nvdimm-memory,size=384M"),
            *("-device", "nvdimm,id=nvdimm,memdev=nvdimm-memory", "-object", "memory-backend-ram,id=vm,size=512M"),
            *("-device", "virtio-mem-pci,memdev=vm,requested-size=256M"),
        ),
        modules=("libnvdimm", "nd_btt", "nd_pmem", "nfit", "virtio_mem", "dax_pmem", "device_dax", "kmem"),
        setup=PERSISTENT_AS_RAM,
        dimm_mib=256,
        until="grep -q kmem /proc/iomem && grep -q virtio_mem /proc/iomem && grep -Eq '^[12][0-9a-f]{8}-.* : System RAM$' /proc/iomem",
    ),
    "no-crashkernel": Machine("A machine that reserves nothing.", append="quiet"),
    "too-small": Machine(
        "crashkernel=48M, which no distribution's kernel and initramfs fit into.", append="crashkernel=48M"
    ),
    "not-root": Machine("What an unprivileged user sees.", reader="nobody"),
}


def record(name: str, out: Path) -> None:
    """Boots the machine and writes its text to `out`."""
    machine = MACHINES[name]
    kernel = debian.newest(machine.line)
    with cache.new_folder(cache.root() / "record" / name) as work:
        archive, disk = work / "initrd", work / "disk.img"
        modules = DISK_MODULES[machine.line] + machine.modules
        conf = {"MODULES": " ".join(modules), "SETUP": machine.setup, "UNTIL": machine.until, "READER": machine.reader}
        archive.write_bytes(image.cpio(image.base("record", conf, kernel, modules)))
        image.blank(disk, DISK_BYTES)
        command = qemu.boot(kernel.vmlinuz, archive, machine.append, machine.cpu, machine.memory)
        command += [*qemu.drives([disk]), *machine.options, *(firmware(work) if machine.efi else ())]
        with qemu.Machine(command, work) as running:
            if machine.dimm_mib:
                running.wait_console("LAB: ready", SECONDS)
                running.plug("dimm", machine.dimm_mib << 20)
            running.wait_exit(SECONDS)
            if "LAB: recorded" not in running.console():
                raise running.failure("the guest did not pack its files")
        text = tree.pack(machine.about, unpacked(disk))
    shutil.rmtree(cache.root() / "record" / name)
    out.write_text(text)


def firmware(work: Path) -> list[str]:
    """EFI instead of a BIOS; it writes to its variables, so they are a copy."""
    if not EFI_CODE.exists():
        raise LabError(f"there is no {EFI_CODE}: install the package ovmf")
    variables = work / "efi-variables"
    shutil.copy(EFI_VARIABLES, variables)
    flash = "if=pflash,format=raw"
    return ["-drive", f"{flash},readonly=on,file={EFI_CODE}", "-drive", f"{flash},file={variables}"]


def unpacked(disk: Path) -> dict[str, bytes]:
    """The files of the archive on the disk; what lies behind its end is left alone."""
    files = {}
    with disk.open("rb") as raw, tarfile.open(fileobj=raw, mode="r|gz") as archive:
        for member in archive:
            if member.isfile() and (source := archive.extractfile(member)):
                files[member.name.removeprefix("./")] = source.read()
    return files
