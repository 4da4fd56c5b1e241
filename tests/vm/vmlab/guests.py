"""The table of guests: which kernel, which machine, what the capture kernel runs. Everything that differs between two
crashes is here."""

from __future__ import annotations

from dataclasses import dataclass, replace

# In load order; what a kernel line has built in is absent. Debian's cloud kernels of 6.12 build virtio and its PCI
# half in.
DISK_MODULES = {
    "6.1": ("virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "virtio_blk"),
    "6.12": ("virtio_blk",),
}

VMCORE = "/proc/vmcore"
OUT = "/mnt/out"

# What the capture kernel runs, in order: the name of the result files, and the command.
SAVE = (("save", f"vdump-plant save {VMCORE} /dev/vdb"),)
FILTER = tuple(
    (name, f"vdump filter -d 31 --json --progress plain {options} {VMCORE} {OUT}/{name}.vmcore")
    for name, options in (("kdump-j1", "-f kdump -j 1"), ("kdump-j2", "-f kdump -j 2"), ("elf-j2", "-f elf -j 2"))
)
LOOK = (("info", f"vdump info --json {VMCORE}"), ("dmesg", f"vdump dmesg {VMCORE}"))


@dataclass(frozen=True)
class Guest:
    """One machine and the way it ends."""

    name: str
    line: str
    """The kernel line: the newest ABI of it is taken."""
    cpu: str
    """QEMU's CPU model; `max` turns 5-level paging on, `qemu64` has 4 levels."""
    memory_mib: int = 1024
    crashkernel_mib: int = 256
    pages: int = 2048
    """Planted pages of the largest class; the others follow it."""
    balloon_mib: int = 0
    """Memory that the host takes back before the crash: offline pages in the guest."""
    scrub: bool = False
    """Overwrite free memory first, so that the dump compresses well."""
    crash_cpu: int = 0
    """The CPU that panics. A capture kernel with two CPUs must start on CPU 0: an INIT to the boot CPU resets the
    machine."""
    capture_cpus: int = 1
    steps: tuple[tuple[str, str], ...] = ()
    end: str = "crash"
    """`crash`: kexec into the capture kernel. `halt`: stay up, QEMU writes the dump. `raw`: QEMU writes the dump and saves
    the same moment's memory raw; then an NMI crashes the guest, and its memory is saved raw once more."""
    modules: tuple[str, ...] = ()
    """Beyond those of the disk."""

    @property
    def memory_failure(self) -> bool:
        """Whether pages can be poisoned: Debian's 6.1 cloud kernels are built without CONFIG_MEMORY_FAILURE."""
        return self.line != "6.1"

    @property
    def needs_vdump(self) -> bool:
        return any(command.startswith("vdump ") for _, command in self.steps)

    @property
    def all_modules(self) -> tuple[str, ...]:
        return DISK_MODULES[self.line] + self.modules

    @property
    def saves_vmcore(self) -> bool:
        return any(name == "save" for name, _ in self.steps)


LA57 = Guest(
    name="6.1-la57",
    line="6.1",
    cpu="max",
    balloon_mib=32,
    modules=("virtio_balloon",),
    capture_cpus=2,
    steps=FILTER + LOOK + SAVE,
)
FOUR_LEVEL = replace(LA57, name="6.12-4level", line="6.12", cpu="qemu64")


def one_cpu(guest: Guest) -> Guest:
    """The same machine with a capture kernel of one CPU, entered from the CPU that is not the boot CPU. Saves no full
    vmcore."""
    return replace(guest, name=f"{guest.name}-1cpu", capture_cpus=1, crash_cpu=1, steps=FILTER)


# The smallest machine that kexec agrees to: it refuses a capture kernel larger than half of the free memory.
SAMPLE = Guest(
    name="sample",
    line="6.12",
    cpu="qemu64",
    memory_mib=304,
    crashkernel_mib=128,
    pages=256,
    scrub=True,
    steps=SAVE,
)
QEMU_DUMP = Guest(
    name="qemu-dump",
    line="6.12",
    cpu="max",
    memory_mib=512,
    pages=512,
    end="halt",
    modules=("qemu_fw_cfg",),
)

RAW = replace(
    QEMU_DUMP,
    name="raw",
    memory_mib=768,
    end="raw",
    steps=(
        ("cmdline", "cat /proc/cmdline"),
        ("devices", "ls /dev"),
        ("devmem", f"vdump convert --json --progress plain --elfcorehdr {VMCORE} /dev/mem {OUT}/devmem.vmcore"),
        *SAVE,
    ),
)

GUESTS = {
    guest.name: guest
    for guest in (LA57, one_cpu(LA57), FOUR_LEVEL, one_cpu(FOUR_LEVEL), QEMU_DUMP, RAW, SAMPLE)
}
