"""What a user types who has not read much: each answer names the file or the cause, and what to do next."""

from __future__ import annotations

import json

import pytest

from vmlab.crash import crash
from vmlab.guests import NOVICE, ORDERLY, Guest

KERNEL, INITRD = "/mnt/boot/vmlinuz", "/mnt/boot/initrd"
HOW_TO_LOAD = ("to load one", "vdump load --panic KERNEL --initrd FILE")
ROOT = "run this as root"
# The guest, the step, its exit code, and words of its one line of errors.
REFUSED = [
    (NOVICE, "exec-nothing", 1, ("no kernel is loaded", "vdump load KERNEL")),
    (NOVICE, "no-such-kernel", 1, ("kernel /boot/vmlinuz", "No such file", "/boot/vmlinuz-VERSION")),
    (NOVICE, "no-such-initrd", 1, ("initrd /mnt/boot/initrd.img", "No such file", "make one first")),
    (NOVICE, "text-as-kernel", 1, ("/conf", "a text file", "give a kernel")),
    (NOVICE, "initrd-as-kernel", 1, (INITRD, "an initramfs", "give a kernel")),
    (NOVICE, "program-as-kernel", 1, ("/bin/vdump", "a program, not a kernel", "give a kernel")),
    (NOVICE, "nobody-loads", 1, ("/proc/iomem", "only zeros", ROOT)),
    (NOVICE, "nobody-unloads", 1, ("unload the capture kernel", "CAP_SYS_BOOT", ROOT)),
    (NOVICE, "nobody-asks", 1, ("/proc/iomem", "only zeros", ROOT)),
    (NOVICE, "locked-load", 1, ("kexec_file_load", "locked down", "signature", "kernel that is signed")),
    (NOVICE, "locked-segments", 1, ("locked down", "signed files only", "--method file")),
    (NOVICE, "limited-load", 1, ("kernel.kexec_load_limit_panic is 0", "reboot, and set a higher limit")),
    (NOVICE, "disabled-load", 1, ("kernel.kexec_load_disabled is 1", "before the sysctl is set")),
    (NOVICE, "disabled-unload", 1, ("kernel.kexec_load_disabled is 1", "stays loaded")),
    (ORDERLY, "load-bare", 1, ("booted without crashkernel=", "add crashkernel=256M", "reboot")),
    (ORDERLY, "orderly-nothing", 1, ("no kernel is loaded", "vdump load KERNEL")),
    (ORDERLY, "orderly-without-systemd", 1, ("systemd does not run here", "vdump exec", "without --orderly")),
]


@pytest.mark.parametrize(("guest", "name", "code", "words"), REFUSED, ids=[row[1] for row in REFUSED])
def test_says_what_is_wrong_in_one_line(guest: Guest, name: str, code: int, words: tuple[str, ...]) -> None:
    step = crash(guest).step(name)
    error = step.text("err")
    assert step.exit_code == code
    assert error.startswith("vdump: ") and error.count("\n") == 1, error
    assert all(word in error for word in words), error


@pytest.mark.parametrize("name", ["load", "load-again", "by-segments", "by-segments-again", "unload", "locked-unload"])
def test_loads_and_unloads_again_and_again(name: str) -> None:
    step = crash(NOVICE).step(name)
    assert step.exit_code == 0, step.text("err")
    nothing = name == "locked-unload"
    assert step.text("err") == ("vdump: note: nothing was loaded\n" if nothing else "")


# The guest, the step, and the lines of its status, by their first words. It exits 0 if a crash now would be dumped as it should.
SHOWN = [
    (NOVICE, "status-empty", {"crash memory": "256.0 MiB", "capture kernel": "not loaded", HOW_TO_LOAD[0]: HOW_TO_LOAD[1]}),
    (NOVICE, "status-loaded", {"capture kernel": "loaded", "kernel": KERNEL, "initrd": INITRD, "fits": "yes"}),
    # The kernel has rewritten the core headers of what it placed itself; what vdump placed it may not touch.
    (NOVICE, "status-followed", {"capture kernel": "loaded", "method": "file", "fits": "yes"}),
    (NOVICE, "status-stale", {"capture kernel": "loaded", "method": "segments", "load again": "memory or CPUs"}),
    (NOVICE, "status-unloaded", {"capture kernel": "not loaded", HOW_TO_LOAD[0]: HOW_TO_LOAD[1]}),
    (ORDERLY, "status-bare", {"crash memory": "none: boot with crashkernel=SIZE", "what size": "vdump load --panic --dry-run", "capture kernel": "not loaded"}),
    (ORDERLY, "status-next", {"capture kernel": "not loaded", "next kernel": "loaded", "kernel": KERNEL}),
]


@pytest.mark.parametrize(("guest", "name", "lines"), SHOWN, ids=[row[1] for row in SHOWN])
def test_status_says_how_things_stand(guest: Guest, name: str, lines: dict[str, str]) -> None:
    step = crash(guest).step(name)
    ready = lines["capture kernel"] == "loaded" and "load again" not in lines
    assert step.exit_code == (0 if ready else 1), step.text("err")
    assert step.text("err") == ""
    shown = [line.strip() for line in step.text("out").splitlines()]
    for start, rest in lines.items():
        assert any(line.startswith(f"{start}  ") and line[len(start) :].strip().startswith(rest) for line in shown), shown
    assert ("load again" in lines) == any(line.startswith("load again") for line in shown)


def test_status_is_for_programs_too() -> None:
    """Loaded again after memory was added: nothing is stale."""
    # The plant's measurement is the last line.
    text, _, _ = crash(NOVICE).step("status-fits").text("out").rpartition("exit=")
    status = json.loads(text)
    capture = status["capture"]
    assert (capture["loaded"], capture["method"], capture["stale"]) == (True, "segments", [])
    assert status["reserved_bytes"] == 256 << 20 and status["next"]["loaded"] is False


def test_systemd_ends_in_the_loaded_kernel() -> None:
    crashed = crash(ORDERLY)
    first, second = crashed.console.split("Starting new kernel")
    assert "Stopped target default.target" in first and "systemd-shutdown[1]: All filesystems unmounted" in first
    assert crashed.step("uname").text("out").split()[0] == crashed.kernel.release
    assert "SeaBIOS" not in second and "lab.second" in second
