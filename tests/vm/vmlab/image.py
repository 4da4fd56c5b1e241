"""What a guest boots from: the initramfs (busybox, modules, our programs) and the ext4 disk. No root and no
loop mounts needed."""

from __future__ import annotations

import re
import shlex
import stat
import subprocess
from collections.abc import Iterable
from pathlib import Path

from .debian import Kernel, run
from .guests import Guest

INITS = Path(__file__).parent.parent / "guest"
Files = dict[str, tuple[int, bytes]]
"""Mode and content of each file in an archive, by path."""
SYSTEMD = Path("/lib/systemd")
ENDING_UNITS = ("kexec.target", "systemd-kexec.service", "shutdown.target", "umount.target", "final.target")
ORDERLY_SERVICE = b"""
[Unit]
DefaultDependencies=no
[Service]
StandardOutput=tty
TTYPath=/dev/console
ExecStart=/bin/vdump exec --orderly
"""
# Read by the plant: clean page-cache pages. Text, so that a sample stays small.
CACHED = "".join(f"line {number} of a file that is in the page cache\n" for number in range(80_000)).encode()


def initramfs(guest: Guest, kernel: Kernel, programs: dict[str, Path]) -> bytes:
    """An uncompressed cpio archive; the same inputs give the same bytes, which is how an unchanged crash is
    recognised."""
    files = base("init", configuration(guest), kernel, guest.all_modules)
    for name, steps in (("steps", guest.steps), ("tries", guest.tries), ("live", guest.live)):
        files[name] = (0o644, "".join(f"{step}|{command}\n" for step, command in steps).encode())
    for name, path in programs.items():
        files[f"bin/{name}"] = (0o755, path.read_bytes())
    for name, path in guest.all_brings:
        files[f"bin/{name}"] = (0o755, Path(path).read_bytes())
        files |= libraries(Path(path))
    if guest.systemd:
        files |= systemd()
    return cpio(files)


def with_libraries(program: Path) -> Files:
    return {str(program).lstrip("/"): (0o755, program.read_bytes())} | libraries(program)


def libraries(program: Path) -> Files:
    return {str(path).lstrip("/"): (0o755, path.read_bytes()) for path in shared_libraries(program)}


def systemd() -> Files:
    """Debian's systemd: what it needs to start one service, and to end in a loaded kernel."""
    files: Files = {}
    for program in (SYSTEMD / "systemd", SYSTEMD / "systemd-shutdown", Path("/bin/systemctl")):
        files |= with_libraries(program)
    units = [(name, (SYSTEMD / "system" / name).read_bytes()) for name in ENDING_UNITS]
    units.append(("default.target", b"[Unit]\nRequires=orderly.service\n"))
    units.append(("orderly.service", ORDERLY_SERVICE))
    return files | {f"lib/systemd/system/{name}": (0o644, unit) for name, unit in units}


def base(init: str, conf: dict[str, object], kernel: Kernel, modules: Iterable[str]) -> Files:
    """What every guest has: its /init, the host's choices for it, busybox, and modules."""
    files = {
        "init": (0o755, (INITS / init).read_bytes()),
        "conf": (0o644, "".join(f"{name}={shlex.quote(str(value))}\n" for name, value in conf.items()).encode()),
        "bin/busybox": (0o755, Path("/bin/busybox").read_bytes()),
    }
    return files | {f"modules/{name}.ko": (0o644, kernel.module(name).read_bytes()) for name in modules}


def configuration(guest: Guest) -> dict[str, object]:
    return {
        "MODULES": " ".join(guest.all_modules),
        "PAGES": guest.pages,
        "SCRUB": "1" if guest.scrub else "",
        "HEAVY": "1" if guest.heavy else "",
        "END": guest.end,
        "CRASH_CPU": guest.crash_cpu,
        "CAPTURE_CPUS": guest.capture_cpus,
        "LOAD": guest.load,
        "IMAGE": guest.image,
        "RELOAD": "1" if guest.reload else "",
        "SYSTEMD": "1" if guest.systemd else "",
        "DIMMS": guest.dimms,
    }


def shared_libraries(program: Path) -> list[Path]:
    return [Path(path) for path in re.findall(r"(/\S+) \(0x", run(["ldd", str(program)]))]


def cpio(files: Files) -> bytes:
    """The `newc` format, which the kernel unpacks (Documentation/driver-api/early-userspace/buffer-format.rst)."""
    folders = {parent.as_posix() for name in files for parent in Path(name).parents if parent != Path(".")}
    entries = [(name, stat.S_IFDIR | 0o755, b"") for name in sorted(folders)]
    entries += [(name, stat.S_IFREG | mode, data) for name, (mode, data) in sorted(files.items())]
    entries.append(("TRAILER!!!", 0, b""))
    return b"".join(cpio_entry(inode, *entry) for inode, entry in enumerate(entries, 1))


def cpio_entry(inode: int, name: str, mode: int, data: bytes) -> bytes:
    label = name.encode() + b"\0"
    fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(label), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + label
    return pad4(head) + pad4(data)


def pad4(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def disk(target: Path, guest: Guest, kernel: Kernel, initrd: Path, size: int) -> None:
    """An ext4 disk with the capture kernel, a file to cache, and an empty `out`."""
    content = target.with_suffix(".content")
    (content / "boot").mkdir(parents=True)
    (content / "out").mkdir()
    if guest.image == "vmlinux":
        # As a kernel is before it is compressed: 300 MB of debug information would not fit into the guest's memory.
        run(["strip", "--strip-debug", "-o", str(content / "boot" / "vmlinux"), str(kernel.vmlinux)])
    else:
        (content / "boot" / "vmlinuz").hardlink_to(kernel.vmlinuz)
    (content / "boot" / "initrd").hardlink_to(initrd)
    (content / "out" / "cached").write_bytes(CACHED)
    blank(target, size)
    run(["mke2fs", "-q", "-t", "ext4", "-d", str(content), str(target)])
    subprocess.run(["rm", "-r", content], check=True)


def blank(target: Path, size: int) -> None:
    with target.open("wb") as file:
        file.truncate(size)


def take_out(image: Path, target: Path) -> None:
    """Copies the guest's `out` folder from the disk to the host."""
    run(["debugfs", "-R", f"rdump /out {target}", str(image)])
