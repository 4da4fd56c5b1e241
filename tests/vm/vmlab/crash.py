"""One crash from start to end: images in, console followed, results out. A crash whose inputs have not changed is
reused."""

from __future__ import annotations

import hashlib
import inspect
import os
import re
import subprocess
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from . import altered, cache, debian, image, programs, qemu
from .guests import Guest
from .lab_error import LabError

BOOT_SECONDS = 120
CAPTURE_SECONDS = 240
HEAVY_SECONDS = 1800
"""Both boots of a `heavy` guest."""
DISK_BYTES = 3 << 30
DIMM_BYTES = 256 << 20
BOOTS = 3
"""How often a guest that the emulator broke is started."""
EMULATOR_FAULT = re.compile(r"\bint3: 0000 \[#.*")
"""The kernel changes its own code behind a breakpoint (`text_poke_bp_batch` in arch/x86/kernel/alternative.c, 6.12).
Where QEMU has a thread for each CPU, one CPU may still run its translation of that breakpoint when the other has taken
it away, and the kernel finds nobody who put it there. Seen once in some thousand starts, 50 ms after
`sched_clock: Marking stable`, with the right code in the oops."""
QEMU_KDUMP = "kdump-zlib"
"""The kdump-compressed format that Debian's QEMU writes, flattened; it is built without lzo and snappy."""


class EmulatorFault(LabError):
    """QEMU broke the guest."""


@dataclass(frozen=True)
class Crash:
    """What a crash left: `vmcore`, `console.log`, and `out/` with the guest's report and each step's files."""

    guest: Guest
    kernel: debian.Kernel
    folder: Path

    @property
    def vmcore(self) -> Path:
        return self.folder / "vmcore"

    @property
    def vmlinux(self) -> Path:
        return self.kernel.vmlinux

    @property
    def console(self) -> str:
        return (self.folder / "console.log").read_text(errors="replace")

    @property
    def low_memory(self) -> bytes:
        """The lowest 640 KiB before the crash (`nmi` guests)."""
        return (self.folder / "low-memory").read_bytes()

    @property
    def out(self) -> Path:
        return self.folder / "out"

    @property
    def qemu_dump(self) -> Path:
        """QEMU's dump of a `raw` guest before it crashed."""
        return self.folder / "qemu.elf"

    def memory(self, moment: str) -> Path:
        """All memory of a `raw` guest, each byte at its physical address: `before` or `after` the crash."""
        return self.folder / f"{moment}.raw"

    def step(self, name: str) -> Step:
        return Step(self.out, name)


@dataclass(frozen=True)
class Step:
    """One command of the capture kernel: its exit code, peak memory and outputs."""

    out: Path
    name: str

    def measured(self, key: str) -> str:
        text = self.text("peak")
        found = re.search(rf"\b{key}=(\S+)", text)
        if not found:
            raise LabError(f"step {self.name} did not run to its end: {text or 'no result'}")
        return found[1]

    @property
    def exit_code(self) -> int:
        return int(self.measured("exit"))

    @property
    def max_rss_kib(self) -> int:
        return int(self.measured("maxrss_kib"))

    def text(self, suffix: str) -> str:
        path = self.out / f"{self.name}.{suffix}"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def dump(self) -> Path:
        return self.out / f"{self.name}.vmcore"


def crash(guest: Guest, fresh: bool = False) -> Crash:
    """The guest's crash: the saved one if nothing that went into it has changed, else a new one."""
    kernel = altered.built(guest.altered) if guest.altered else debian.newest(guest.line)
    initrd = image.initramfs(guest, kernel, programs.for_guest(guest))
    result = Crash(guest, kernel, cache.root() / "crash" / guest.name)
    code = [inspect.getsource(module).encode() for module in (image, qemu)]
    if guest.end == "halt":
        code.append(inspect.getsource(dump_by_qemu).encode())
    if guest.altered:
        code.append(kernel.vmlinuz.read_bytes())
    key = digest((repr(guest).encode(), kernel.release.encode(), initrd, *code))
    stamp = result.folder / "inputs"
    if not fresh and stamp.exists() and stamp.read_text() == key:
        return result
    for start in range(1, BOOTS + 1):
        try:
            with cache.new_folder(result.folder) as work:
                run(guest, kernel, initrd, work)
                # Dangling until a judge needs the 300 MB of debug information.
                (work / "vmlinux").symlink_to(os.path.relpath(kernel.folder / "vmlinux", result.folder))
                (work / "inputs").write_text(key)
            break
        except EmulatorFault as fault:
            if start == BOOTS:
                raise
            warnings.warn(f"{guest.name}, start {start} of at most {BOOTS}: {fault}", stacklevel=2)
    return result


def digest(parts: Iterable[bytes]) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def run(guest: Guest, kernel: debian.Kernel, initrd: bytes, work: Path) -> None:
    """One start of the guest, to its end."""
    failure = None
    try:
        run_to_end(guest, kernel, initrd, work)
    except Exception as error:
        failure = error
    # Whatever went wrong after the emulator's fault says nothing, and so does what went well.
    log = work / "console.log"
    if log.exists() and (oops := EMULATOR_FAULT.search(log.read_text(errors="replace"))):
        raise EmulatorFault(f"QEMU ran a stale instruction: {oops[0]}") from failure
    if failure:
        raise failure


def run_to_end(guest: Guest, kernel: debian.Kernel, initrd: bytes, work: Path) -> None:
    archive, disk, raw = work / "initrd", work / "disk.img", work / "vmcore"
    archive.write_bytes(initrd)
    image.disk(disk, guest, kernel, archive, DISK_BYTES)
    image.blank(raw, (guest.memory_mib + 128) << 20)
    command = qemu.command_line(guest, kernel.vmlinuz, archive, [disk, raw])
    with qemu.Machine(command, work, stub=guest.damage) as machine:
        if guest.balloon_mib:
            # The device remembers the wish until the guest's driver asks.
            machine.monitor("balloon", value=(guest.memory_mib - guest.balloon_mib) << 20)
        if guest.end == "halt":
            dump_by_qemu(machine, raw)
        else:
            if guest.end == "raw":
                crash_by_hand(guest, machine, work)
            if guest.end == "nmi":
                crash_from_outside(machine, guest, work)
            for number in range(guest.dimms):
                add_memory(machine, number)
            if guest.damage and "reboot" in guest.load:
                machine.wait_exit(CAPTURE_SECONDS)
            elif guest.damage:
                machine.wait_console("the capture kernel is damaged", CAPTURE_SECONDS)
            if guest.damage:
                return
            machine.wait_exit(HEAVY_SECONDS if guest.heavy else BOOT_SECONDS + CAPTURE_SECONDS)
            if "LAB: captured" not in machine.console():
                raise machine.failure("the capture kernel did not finish")
    image.take_out(disk, work)
    keep_vmcore(guest, work)
    disk.unlink()


def dump_by_qemu(machine: qemu.Machine, vmcore: Path) -> None:
    """The memory of the guest at one moment, as an ELF core and kdump-compressed beside it."""
    machine.wait_console("LAB: planted", BOOT_SECONDS)
    machine.monitor("stop")
    for name, path in (("elf", vmcore), (QEMU_KDUMP, vmcore.with_name(QEMU_KDUMP))):
        machine.monitor("dump-guest-memory", CAPTURE_SECONDS, paging=False, protocol=f"file:{path}", format=name)


def crash_by_hand(guest: Guest, machine: qemu.Machine, work: Path) -> None:
    """Saves one moment's memory in both of QEMU's ways, crashes the guest, and saves what the capture kernel sees."""
    machine.wait_console("LAB: planted", BOOT_SECONDS)
    machine.monitor("stop")
    machine.monitor("dump-guest-memory", CAPTURE_SECONDS, paging=False, protocol=f"file:{work / 'qemu.elf'}")
    save_memory(guest, machine, work / "before.raw")
    machine.monitor("cont")
    machine.monitor("inject-nmi")
    machine.wait_console("LAB: capture kernel", BOOT_SECONDS)
    machine.monitor("stop")
    save_memory(guest, machine, work / "after.raw")
    machine.monitor("cont")


def save_memory(guest: Guest, machine: qemu.Machine, target: Path) -> None:
    size = guest.memory_mib << 20
    machine.monitor("pmemsave", CAPTURE_SECONDS, val=0, size=size, filename=str(target))
    subprocess.run(["fallocate", "--dig-holes", target], check=True)


def crash_from_outside(machine: qemu.Machine, guest: Guest, work: Path) -> None:
    machine.wait_console("LAB: planted", BOOT_SECONDS)
    machine.monitor("pmemsave", val=0, size=0xA0000, filename=str(work / "low-memory"))
    if guest.damage:
        kernel = re.search(r"^ +kernel +0x([0-9a-f]+)-", machine.console(), re.MULTILINE)
        if not kernel:
            raise machine.failure("the console does not say where the kernel was loaded")
        machine.flip_byte(int(kernel[1], 16) + 0x12345)
    machine.monitor("inject-nmi")


def add_memory(machine: qemu.Machine, number: int) -> None:
    machine.wait_console(f"LAB: add memory {number}", CAPTURE_SECONDS)
    machine.plug(f"dimm{number}", DIMM_BYTES)


def keep_vmcore(guest: Guest, work: Path) -> None:
    """Cuts the raw disk to the vmcore that was written to it."""
    if guest.saves_vmcore:
        step = Step(work / "out", "save")
        if step.exit_code:
            raise LabError(f"the capture kernel could not save the vmcore: {step.text('err')}")
        size = step.text("out").split("size=")[1].split()[0]
        os.truncate(work / "vmcore", int(size))
    elif guest.end != "halt":
        (work / "vmcore").unlink(missing_ok=True)
