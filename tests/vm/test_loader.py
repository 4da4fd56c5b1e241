"""Kernels that vdump loaded: each way to load one starts it, and its /proc/vmcore is the dead kernel's memory."""

from __future__ import annotations

import struct

import pytest

from conftest import Note
from judge import drgn_view
from judge.vmcore import Vmcore
from vmlab.crash import Crash, crash
from vmlab.guests import BACKUP, BESIDE, BY_FILE, DAMAGED, ELF32, EXACTMAP, EXEC, VMLINUX, Guest

PT_LOAD = 1
# Where QEMU's BIOS data begins, in the middle of a page.
LOW_RAM_END = 0x9FC00


def ids(guest: Guest) -> str:
    return guest.name


@pytest.mark.parametrize("guest", [*BY_FILE, *VMLINUX, *EXACTMAP, ELF32], ids=ids)
def test_captures_and_the_panicking_task_is_there(guest: Guest) -> None:
    crashed = crash(guest)
    result = crashed.step("filter")
    assert result.exit_code == 0, result.text("err")
    prog = drgn_view.open_dump(result.dump, crashed.vmlinux)
    stack = str(prog.crashed_thread().stack_trace())
    assert "sysrq_handle_crash" in stack and "panic" in stack, stack


@pytest.mark.parametrize("guest", [*VMLINUX, *EXACTMAP, ELF32], ids=ids)
def test_the_purgatory_verified_it(guest: Guest) -> None:
    console = crash(guest).console
    assert "vdump purgatory: all segments are intact" in console


@pytest.mark.parametrize("guest", BY_FILE, ids=ids)
def test_a_refused_reload_leaves_the_machine_armed(guest: Guest) -> None:
    """The kernel of this guest was loaded before a reload that the kernel refused; that it captured is tested above."""
    console = crash(guest).console
    assert "Exec format error" in console and "the capture kernel that vdump loaded last is loaded again" in console


def test_a_map_on_the_command_line_is_used() -> None:
    for guest in EXACTMAP:
        assert "memmap=exactmap memmap=" in (crash(guest).out / "capture-dmesg").read_text()


@pytest.mark.parametrize("guest", EXEC, ids=ids)
def test_starts_the_next_kernel_without_firmware(guest: Guest) -> None:
    crashed = crash(guest)
    assert crashed.step("uname").text("out").split()[0] == crashed.kernel.release
    assert crashed.console.count("SeaBIOS") == 1, "the firmware ran a second time"
    assert "lab.second" in crashed.console.split("Starting new kernel")[-1]


def test_a_damaged_kernel_is_named_and_not_started() -> None:
    console = crash(DAMAGED).console
    assert "vdump purgatory: segment kernel" in console and "is damaged" in console
    after = console.split("vdump purgatory:")[-1]
    assert "halted" in after and "Linux version" not in after


def test_the_lowest_memory_is_the_dead_kernels() -> None:
    """What the host saw just before the crash is in the dump, though the capture kernel starts its CPUs from there."""
    crashed = crash(BACKUP)
    assert crashed.step("filter").exit_code == 0, crashed.step("filter").text("err")
    dump = Vmcore(crashed.step("filter").dump)
    low = [load for load in dump.loads if load.paddr < 0xA0000]
    assert sum(load.filesz for load in low) > 600 << 10
    assert any(crashed.low_memory[load.paddr : load.paddr + load.filesz].strip(b"\0") for load in low)
    for load in low:
        size = min(load.filesz, LOW_RAM_END - load.paddr)
        assert dump.data[load.offset : load.offset + size] == crashed.low_memory[load.paddr : load.paddr + size]


def headers(crashed: Crash) -> list[tuple[int, ...]]:
    """Type, virtual address, physical address and size of each program header that the capture kernel showed."""
    data = (crashed.out / "headers.out").read_bytes()
    (offset,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    rows = [struct.unpack_from("<IIQQQQQQ", data, offset + index * size) for index in range(count)]
    return [(kind, vaddr, paddr, memsz) for kind, _, _, vaddr, paddr, _, memsz, _ in rows]


def test_describes_the_memory_that_kexec_tools_describes(note: Note) -> None:
    ours, theirs = (crash(guest) for guest in BESIDE)
    loads = [{row for row in headers(crashed) if row[0] == PT_LOAD} for crashed in (ours, theirs)]
    note(f"kexec-tools only: {sorted(loads[1] - loads[0])}; vdump only: {sorted(loads[0] - loads[1])}")
    ram = [{row for row in rows if row[1] < 0xFFFF_FFFF_8000_0000} for rows in loads]
    assert ram[0] == ram[1]
    # The kernel's text: kexec-tools begins it at _stext rounded down, vdump where the kernel says.
    (mine,), (other,) = (rows - memory for rows, memory in zip(loads, ram, strict=True))
    assert mine[1] - mine[2] == other[1] - other[2], "another distance between virtual and physical addresses"
    assert other[2] <= mine[2] + (1 << 20) and mine[2] <= other[2] + other[3]
    infos = [crashed.step("info").text("out") for crashed in (ours, theirs)]
    assert all('"cpus": 2' in info and '"vmcoreinfo": true' in info for info in infos)
