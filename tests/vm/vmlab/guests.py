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
    load: str = "vdump load --panic --method segments"
    """What loads the second kernel in the first boot; its files and command line follow."""
    image: str = "vmlinuz"
    """What it loads: `vmlinuz`, or `vmlinux`, the ELF kernel."""
    append: str = ""
    """More on the first kernel's command line."""
    reload: bool = False
    """Load once more after that, a kernel that is refused: the first one must be loaded again."""
    damage: bool = False
    """Change a byte of the loaded kernel before the crash, from outside. Needs `end` nmi."""
    end: str = "crash"
    """`crash`: panic, and so start the capture kernel. `nmi`: the same by an NMI from outside, after the host has looked
    at memory. `exec`: start the second kernel in order. `halt`: stay up, QEMU writes the dump. `raw`: QEMU writes the dump
    and saves the same moment's memory raw; then an NMI crashes the guest, and its memory is saved raw once more."""
    heavy: bool = False
    """For measuring, not for judging: fill memory as a busy server does."""
    modules: tuple[str, ...] = ()
    """Beyond those of the disk."""

    @property
    def memory_failure(self) -> bool:
        """Whether pages can be poisoned: Debian's 6.1 cloud kernels are built without CONFIG_MEMORY_FAILURE."""
        return self.line != "6.1"

    @property
    def needs_vdump(self) -> bool:
        return self.end != "halt"

    @property
    def needs_kexec_tools(self) -> bool:
        return self.load.startswith("kexec ")

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


# The smallest machine that the kernel agrees to: it refuses a capture kernel larger than half of the free memory.
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

# The realistic case of benches/whole, and smaller ones that are like it; no test crashes them.
BUSY = Guest(
    name="busy",
    line="6.12",
    cpu="qemu64",
    memory_mib=6656,
    heavy=True,
    steps=SAVE,
)
HALF_BUSY = replace(BUSY, name="busy-half", memory_mib=BUSY.memory_mib // 2)
QUARTER_BUSY = replace(BUSY, name="busy-quarter", memory_mib=BUSY.memory_mib // 4)

# Small machines that are only loaded and crashed: one for each way to load.
def loading(name: str, line: str, **differences: object) -> Guest:
    cpu = "max" if line == "6.1" else "qemu64"
    steps = (
        ("headers", f"head -c 4096 {VMCORE}"),
        ("info", f"vdump info --json {VMCORE}"),
        ("filter", f"vdump filter --progress plain {VMCORE} {OUT}/filter.vmcore"),
    )
    guest = Guest(name=f"{name}-{line}", line=line, cpu=cpu, memory_mib=768, pages=64, steps=steps)
    return replace(guest, **differences)


VDUMP = "vdump load --panic"
LINES = tuple(DISK_MODULES)
BY_FILE = tuple(loading("file", line, load=f"{VDUMP} --method file", reload=True) for line in LINES)
VMLINUX = tuple(loading("vmlinux", line, image="vmlinux") for line in LINES)
EXACTMAP = tuple(loading("exactmap", line, load=f"{VDUMP} --memory-map exactmap") for line in LINES)
ELF32 = loading("elf32", "6.12", load=f"{VDUMP} --core-headers 32")
BACKUP = replace(
    loading("backup", "6.1", load=f"{VDUMP} --backup always", end="nmi"),
    steps=(("filter", f"vdump filter -d 0 -f elf --progress plain {VMCORE} {OUT}/filter.vmcore"),),
)
DAMAGED = loading("damaged", "6.12", load=f"{VDUMP} --method segments", end="nmi", damage=True, steps=())
EXEC = tuple(
    loading("exec", line, load="vdump load --method segments", end="exec", steps=(("uname", "uname -r"),)) for line in LINES
)
# Two machines that have everything at the same addresses, loaded by either tool.
BESIDE = tuple(loading(f"beside-{tool.split()[0]}", "6.12", load=tool, append="nokaslr")
               for tool in (f"{VDUMP} --method segments --backup always", "kexec -c -p"))

LOADING = (*BY_FILE, *VMLINUX, *EXACTMAP, ELF32, BACKUP, DAMAGED, *EXEC, *BESIDE)
CRASHING = (LA57, one_cpu(LA57), FOUR_LEVEL, one_cpu(FOUR_LEVEL), QEMU_DUMP, RAW, SAMPLE)
MEASURED = (BUSY, HALF_BUSY, QUARTER_BUSY)
GUESTS = {guest.name: guest for guest in (*CRASHING, *LOADING, *MEASURED)}
