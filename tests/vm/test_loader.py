"""Kernels that vdump loaded: each way to load one starts it, and its /proc/vmcore is the dead kernel's memory."""

from __future__ import annotations

import re

import pytest

from judge import drgn_view
from judge.vmcore import Vmcore
from vmlab.crash import crash
from vmlab.guests import BACKUP, BY_FILE, DAMAGED, ELF32, EXACTMAP, EXEC, HOTPLUG, REBOOTED, VMLINUX, Guest

# Where QEMU's BIOS data begins, in the middle of a page.
LOW_RAM_END = 0x9FC00


def ids(guest: Guest) -> str:
    return guest.name


@pytest.mark.parametrize("guest", [*BY_FILE, *VMLINUX, *EXACTMAP, ELF32, HOTPLUG], ids=ids)
def test_captures_and_the_panicking_task_is_there(guest: Guest) -> None:
    crashed = crash(guest)
    result = crashed.step("filter")
    assert result.exit_code == 0, result.text("err")
    prog = drgn_view.open_dump(result.dump, crashed.vmlinux)
    stack = str(prog.crashed_thread().stack_trace())
    assert "sysrq_handle_crash" in stack and "panic" in stack, stack


@pytest.mark.parametrize("guest", [*VMLINUX, *EXACTMAP, ELF32, HOTPLUG], ids=ids)
def test_the_purgatory_verified_it(guest: Guest) -> None:
    console = crash(guest).console
    assert "vdump purgatory: all segments are intact" in console


@pytest.mark.parametrize("guest", BY_FILE, ids=ids)
def test_a_refused_reload_leaves_the_machine_armed(guest: Guest) -> None:
    """The kernel of this guest was loaded before a reload that the kernel refused; that it captured is tested above."""
    console = crash(guest).console
    assert "Exec format error" in console and "the capture kernel that vdump loaded last is loaded again" in console


def test_memory_that_came_after_the_load_is_in_the_dump() -> None:
    """The running kernel wrote its range into the core headers that vdump had left room in."""
    crashed = crash(HOTPLUG)
    added = crashed.console.split("LAB: add memory")[-1]
    assert "fits          yes" in added.split("LAB:")[0]
    ram = re.search(r"^(1[0-9a-f]{8})-([0-9a-f]{9}) : System RAM$", (crashed.out / "iomem").read_text(), re.MULTILINE)
    assert ram, "no memory was added"
    start, end = int(ram[1], 16), int(ram[2], 16) + 1
    shown = [(load.paddr, load.memsz) for load in Vmcore(crashed.out / "headers.out").loads]
    assert (start, end - start) in shown, shown


def test_a_map_on_the_command_line_is_used() -> None:
    for guest in EXACTMAP:
        assert "memmap=exactmap memmap=" in (crash(guest).out / "capture-dmesg").read_text()


@pytest.mark.parametrize("guest", EXEC, ids=ids)
def test_starts_the_next_kernel_without_firmware(guest: Guest) -> None:
    crashed = crash(guest)
    assert crashed.step("uname").text("out").split()[0] == crashed.kernel.release
    assert crashed.console.count("SeaBIOS") == 1, "the firmware ran a second time"
    assert "lab.second" in crashed.console.split("Starting new kernel")[-1]


@pytest.mark.parametrize(("guest", "end"), [(DAMAGED, "halted"), (REBOOTED, "rebooting")], ids=["hang", "reboot"])
def test_a_damaged_kernel_is_named_and_not_started(guest: Guest, end: str) -> None:
    """After a reset QEMU ends by itself; the lab waits for that."""
    console = crash(guest).console
    assert "vdump purgatory: segment kernel" in console and "is damaged" in console
    after = console.split("vdump purgatory:")[-1]
    assert end in after and "Linux version" not in after


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
