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
    """A running guest. Use as a context manager; the console goes to `folder`/console.log."""

    def __init__(self, guest: Guest, folder: Path, vmlinuz: Path, initrd: Path, disks: list[Path]):
        self.folder = folder
        self.log = folder / "console.log"
        self.socket = folder / "qmp.sock"
        self.stub = folder / "gdb.sock"
        self.command = command_line(guest, vmlinuz, initrd, disks, self.socket)
        if guest.damage:
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


def command_line(guest: Guest, vmlinuz: Path, initrd: Path, disks: list[Path], monitor: Path) -> list[str]:
    # On a busy host the kernel may find that its timer does not tick.
    words = f"console=ttyS0 rdinit=/init panic=-1 no_timer_check crashkernel={guest.crashkernel_mib}M"
    append = f"{words} {guest.append}".strip()
    command = [
        "qemu-system-x86_64",
        "-accel",
        "tcg,thread=multi",
        "-cpu",
        guest.cpu,
        "-smp",
        "2",
        "-m",
        f"{guest.memory_mib}M",
    ]
    command += ["-kernel", str(vmlinuz), "-initrd", str(initrd), "-append", append]
    for path in disks:
        # Nobody outlives a host crash here: do not wait for the host's disk.
        command += ["-drive", f"file={path},format=raw,if=virtio,cache=unsafe,discard=unmap"]
    if guest.balloon_mib:
        command += ["-device", "virtio-balloon-pci"]
    if guest.end != "crash":
        command += ["-device", "vmcoreinfo"]
    command += ["-nographic", "-no-reboot", "-monitor", "none", "-serial", "stdio"]
    return command + ["-net", "none", "-qmp", f"unix:{monitor},server=on,wait=off"]
