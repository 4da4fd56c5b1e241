"""One QEMU machine under TCG: starts it, follows its console, talks to its monitor, and never leaves it running."""

from __future__ import annotations

import json
import socket
import subprocess
import time
from pathlib import Path

from .guests import Guest
from .lab_error import LabError

TAIL_LINES = 40


class Machine:
    """A running guest. Use as a context manager; the console goes to `folder`/console.log. `command` is all of QEMU's
    line but what connects it to us; a debug stub makes the guest slower, so only on demand."""

    def __init__(self, command: list[str], folder: Path, stub: bool = False):
        self.folder = folder
        self.log = folder / "console.log"
        self.socket = folder / "qmp.sock"
        self.stub = folder / "gdb.sock"
        self.command = [*command, "-nographic", "-no-reboot", "-monitor", "none", "-serial", "stdio", "-net", "none"]
        self.command += ["-qmp", f"unix:{self.socket},server=on,wait=off"]
        if stub:
            self.command += ["-gdb", f"unix:path={self.stub},server=on,wait=off"]

    def __enter__(self) -> Machine:
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        self.socket.unlink(missing_ok=True)
        self.stub.unlink(missing_ok=True)

    def wait_exit(self, seconds: float) -> None:
        """Until the guest powers off."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise self.failure(f"the guest was still running after {seconds:.0f} s") from None

    def wait_console(self, text: str, seconds: float) -> None:
        end = time.monotonic() + seconds
        while text not in self.console():
            if self.process.poll() is not None:
                raise self.failure(f"the guest ended before it said '{text}'")
            if time.monotonic() > end:
                raise self.failure(f"the guest did not say '{text}' within {seconds:.0f} s")
            time.sleep(0.1)

    def console(self) -> str:
        return self.log.read_text(errors="replace")

    def failure(self, what: str) -> LabError:
        tail = "\n".join(self.console().splitlines()[-TAIL_LINES:])
        return LabError(f"{what}; the end of its console:\n{tail}")

    def monitor(self, command: str, seconds: float = 60, **arguments: object) -> None:
        """Runs one QMP command and waits for its answer."""
        with socket.socket(socket.AF_UNIX) as connection:
            self.connect(connection)
            connection.settimeout(seconds)
            stream = connection.makefile("rw")
            stream.readline()
            for name, parameters in (("qmp_capabilities", {}), (command, arguments)):
                stream.write(json.dumps({"execute": name, "arguments": parameters}) + "\n")
                stream.flush()
                self.answer(stream)

    def plug(self, name: str, size: int) -> None:
        """Adds a DIMM of `size` bytes to the running machine."""
        self.monitor("object-add", **{"qom-type": "memory-backend-ram", "id": f"{name}-memory", "size": size})
        self.monitor("device_add", driver="pc-dimm", id=name, memdev=f"{name}-memory")

    def flip_byte(self, address: int) -> None:
        """Changes a byte of the guest's physical memory through QEMU's debug stub (the gdb remote protocol)."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.stub))
            connection.settimeout(30)
            stub = connection.makefile("rwb")
            packet(stub, b"Qqemu.PhyMemMode:1")
            old = int(packet(stub, b"m%x,1" % address), 16)
            if packet(stub, b"M%x,1:%02x" % (address, old ^ 0xFF)) != b"OK":
                raise self.failure(f"QEMU's debug stub does not write to {address:#x}")
            # The guest stands still while a debugger looks on.
            packet(stub, b"D")

    def connect(self, connection: socket.socket) -> None:
        # QEMU makes its socket a moment after it starts. AF_UNIX paths have at most 107 bytes, so keep the lab's
        # folder name short.
        for _ in range(100):
            try:
                return connection.connect(str(self.socket))
            except (FileNotFoundError, ConnectionRefusedError):
                time.sleep(0.05)
        raise self.failure("QEMU's monitor does not answer")

    def answer(self, stream) -> None:
        while line := stream.readline():
            message = json.loads(line)
            if "error" in message:
                raise self.failure(f"QEMU refused: {message['error']['desc']}")
            if "return" in message:
                return
        raise self.failure("QEMU closed its monitor")


def packet(stub, data: bytes) -> bytes:
    """Sends a packet, gives the answer's data. That the guest has stopped, which the stub says first, is none."""
    stub.write(b"$%b#%02x" % (data, sum(data) % 256))
    stub.flush()
    answer = b"T"
    while answer[:1] in (b"T", b"S"):
        while (byte := stub.read(1)) != b"$":
            if not byte:
                raise LabError("QEMU closed its debug stub")
        answer = b""
        while (byte := stub.read(1)) not in (b"#", b""):
            answer += byte
        stub.read(2)
        stub.write(b"+")
        stub.flush()
    return answer


def command_line(guest: Guest, vmlinuz: Path, initrd: Path, disks: list[Path]) -> list[str]:
    reserve = f"crashkernel={guest.crashkernel_mib}M " if guest.crashkernel_mib else ""
    memory = f"{guest.memory_mib}M" + (f",slots={guest.dimms},maxmem=8G" if guest.dimms else "")
    # Instructions are counted only where one thread runs all CPUs.
    threads = "single" if guest.counted else "multi"
    command = boot(vmlinuz, initrd, reserve + guest.append, guest.cpu, memory, threads)
    command += drives(disks)
    if guest.counted:
        # Where all CPUs wait, time is skipped.
        command += ["-icount", "shift=0,sleep=off"]
    if guest.balloon_mib:
        command += ["-device", "virtio-balloon-pci"]
    if guest.end != "crash":
        command += ["-device", "vmcoreinfo"]
    return command


def boot(vmlinuz: Path, initrd: Path, append: str, cpu: str, memory: str, threads: str = "multi") -> list[str]:
    """A machine of two CPUs that runs /init of the initramfs; `append` goes on the kernel's command line."""
    command = ["qemu-system-x86_64", "-accel", f"tcg,thread={threads}", "-cpu", cpu, "-smp", "2", "-m", memory]
    command += ["-kernel", str(vmlinuz), "-initrd", str(initrd)]
    # On a busy host the kernel would wait in vain for a tick of the emulated timer, and panic.
    return [*command, "-append", f"console=ttyS0 no_timer_check rdinit=/init panic=-1 {append}".strip()]


def drives(disks: list[Path]) -> list[str]:
    # Nobody outlives a host crash here: do not wait for the host's disk.
    options = "format=raw,if=virtio,cache=unsafe,discard=unmap"
    return [word for path in disks for word in ("-drive", f"file={path},{options}")]
