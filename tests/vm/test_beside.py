"""Two machines that have everything at the same addresses, one loaded by vdump and one by kexec-tools: their capture
kernels see the same memory and the same notes. Every difference has its reason here."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import pytest

from conftest import Note as Say
from vmlab.crash import Crash, crash
from vmlab.guests import BESIDE

PT_LOAD, PT_NOTE = 1, 4
NT_PRSTATUS = 1
# struct elf_prstatus of x86_64 (include/linux/elfcore.h): where the task's number and the registers are. The kernel
# leaves the rest zero (crash_save_cpu in kernel/crash_core.c).
PRSTATUS, PID, REGISTERS = 336, slice(32, 36), slice(112, 328)
RIP, CS = 112 + 16 * 8, 112 + 17 * 8
KERNEL_CS, USER_CS = 0x10, 0x33
IMAGE = 0xFFFF_FFFF_8000_0000
# The one line of VMCOREINFO that says when, not what. KASLR is off: the image, its physical place and its offset are
# equal and must be.
MOMENT = "CRASHTIME="


@dataclass(frozen=True)
class Header:
    kind: int
    offset: int
    vaddr: int
    paddr: int
    filesz: int
    memsz: int


@dataclass(frozen=True)
class Note:
    name: bytes
    kind: int
    data: bytes


def front(crashed: Crash) -> bytes:
    """What /proc/vmcore began with: headers and notes."""
    return (crashed.out / "headers.out").read_bytes()


def headers(crashed: Crash) -> list[Header]:
    data = front(crashed)
    (start,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    rows = [struct.unpack_from("<IIQQQQQQ", data, start + index * size) for index in range(count)]
    return [Header(kind, *sizes) for kind, _, *sizes, _ in rows]


def notes(crashed: Crash) -> list[Note]:
    (header,) = (row for row in headers(crashed) if row.kind == PT_NOTE)
    data = front(crashed)[header.offset : header.offset + header.filesz]
    assert len(data) == header.filesz, "the guest saved too little of its vmcore"
    found = []
    while data:
        name, size, kind = struct.unpack_from("<III", data)
        begin = 12 + -(-name // 4) * 4
        found.append(Note(data[12 : 12 + name], kind, data[begin : begin + size]))
        data = data[begin + -(-size // 4) * 4 :]
    return found


@pytest.fixture(scope="module")
def both() -> tuple[Crash, Crash]:
    ours, theirs = (crash(guest) for guest in BESIDE)
    return ours, theirs


def test_the_same_memory(both: tuple[Crash, Crash], note: Say) -> None:
    loads = [{(row.vaddr, row.paddr, row.memsz) for row in headers(one) if row.kind == PT_LOAD} for one in both]
    note(f"kexec-tools only: {sorted(loads[1] - loads[0])}; vdump only: {sorted(loads[0] - loads[1])}")
    ram = [{row for row in rows if row[0] < IMAGE} for rows in loads]
    assert ram[0] == ram[1]
    # The kernel's text: kexec-tools begins it at _stext rounded down, vdump where the kernel says.
    (mine,), (other,) = (rows - memory for rows, memory in zip(loads, ram, strict=True))
    assert mine[0] - mine[1] == other[0] - other[1], "another distance between virtual and physical addresses"
    assert other[1] <= mine[1] + (1 << 20) and mine[1] <= other[1] + other[2]


def test_the_same_notes_in_the_same_order(both: tuple[Crash, Crash]) -> None:
    # The capture kernel puts all notes behind one header. Its place and size are equal, to the byte.
    (mine,), (other,) = ([row for row in headers(one) if row.kind == PT_NOTE] for one in both)
    assert mine == other
    shapes = [[(note.name, note.kind, len(note.data)) for note in notes(one)] for one in both]
    assert shapes[0] == shapes[1]
    assert [shape[:2] for shape in shapes[0]] == [(b"CORE\0", NT_PRSTATUS)] * 2 + [(b"VMCOREINFO\0", 0)]
    assert {size for _, kind, size in shapes[0] if kind == NT_PRSTATUS} == {PRSTATUS}


def test_the_same_layout_of_registers(both: tuple[Crash, Crash]) -> None:
    """Which task ran on a CPU, and where it was, differs from crash to crash; nothing else does."""
    cpus = [[note.data for note in notes(one) if note.kind == NT_PRSTATUS] for one in both]
    for mine, other in zip(*cpus, strict=True):
        assert blank(mine) == blank(other) == bytes(PRSTATUS)
        assert {word(mine, CS), word(other, CS)} <= {KERNEL_CS, USER_CS}
    # CPU 0 panicked on both machines, so its note comes first, and it was at the same instruction of the same kernel.
    assert word(cpus[0][0], RIP) == word(cpus[1][0], RIP) >= IMAGE
    assert word(cpus[0][0], RIP) != word(cpus[0][1], RIP)


def blank(status: bytes) -> bytes:
    """Without what differs from crash to crash."""
    out = bytearray(status)
    out[PID] = bytes(4)
    out[REGISTERS] = bytes(REGISTERS.stop - REGISTERS.start)
    return bytes(out)


def word(data: bytes, at: int) -> int:
    return struct.unpack_from("<Q", data, at)[0]


def test_the_same_vmcoreinfo(both: tuple[Crash, Crash]) -> None:
    texts = [notes(one)[-1].data.decode() for one in both]
    moments = [[line for line in text.splitlines() if line.startswith(MOMENT)] for text in texts]
    assert [len(lines) for lines in moments] == [1, 1]
    same = [[line for line in text.splitlines() if not line.startswith(MOMENT)] for text in texts]
    assert same[0] == same[1]
    # As the running kernel said it: all of it, and nothing behind it.
    assert f"OSRELEASE={both[0].kernel.release}" == same[0][0] and "KERNELOFFSET=0" in same[0]


def test_our_reader_sees_the_same(both: tuple[Crash, Crash]) -> None:
    infos = [one.step("info").text("out") for one in both]
    assert all('"cpus": 2' in info and '"vmcoreinfo": true' in info for info in infos)
