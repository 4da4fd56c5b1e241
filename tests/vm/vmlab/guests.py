"""The table of guests: which kernel, which machine, what the capture kernel runs. Everything that differs between two
crashes is here."""

from __future__ import annotations

from dataclasses import dataclass, replace

from .altered import ALTERED

# In load order; what a kernel line has built in is absent. Debian's cloud kernels of 6.12 build virtio and its PCI
# half in.
DISK_MODULES = {
    "6.1": ("virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "virtio_blk"),
    "6.12": ("virtio_blk",),
}

# Debian's 6.1 cloud kernels are built without CONFIG_MEMORY_FAILURE.
LACKS = {"6.1": frozenset({"hwpoison", "soft-offline"})}

VMCORE = "/proc/vmcore"
OUT = "/mnt/out"

# What the capture kernel runs, in order: the name of the result files, and the command.
SAVE = (("save", f"vdump-plant save {VMCORE} /dev/vdb"),)
FILTER = tuple(
    (name, f"vdump filter -d 31 --json --progress plain {options} {VMCORE} {OUT}/{name}.vmcore")
    for name, options in (("kdump-j1", "-f kdump -j 1"), ("kdump-j2", "-f kdump -j 2"), ("elf-j2", "-f elf -j 2"))
)
LOOK = (("info", f"vdump info --json {VMCORE}"), ("dmesg", f"vdump dmesg {VMCORE}"))
# What the first kernel runs on its own memory before it crashes; last of all what is compared with the dump.
KCORE = "/proc/kcore"
LIVE = (
    ("live-info", f"vdump info --json {KCORE}"),
    ("live-dmesg", f"vdump dmesg {KCORE}"),
    ("live-explain", f"vdump explain --json --pfn 0x1000,0x2000,0x10000 {KCORE}"),
    ("live-refused", f"vdump filter --progress plain {KCORE} {OUT}/live-refused.vmcore"),
    ("live-zones", f"vdump classes --json --verbose --zero --progress plain {KCORE}"),
    ("live-dry-run", f"vdump filter --dry-run --json --progress plain {KCORE}"),
    ("live-classes", f"vdump classes --json --progress none -j 1 {KCORE}"),
)


@dataclass(frozen=True)
class Guest:
    """One machine and the way it ends."""

    name: str
    line: str
    """The kernel line: the newest ABI of it is taken."""
    cpu: str
    """QEMU's CPU model; `max` turns 5-level paging on, `qemu64` has 4 levels."""
    altered: str = ""
    """The kernel that is built here and taken instead (`altered.py`); it needs no modules."""
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
    tries: tuple[tuple[str, str], ...] = ()
    """The same for the first boot, before a second kernel is loaded; run by a shell."""
    live: tuple[tuple[str, str], ...] = ()
    """What the first kernel runs before the crash."""
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
    dimms: int = 0
    """DIMMs of 256 MiB that are added one by one, when a try asks for one, or one when the second kernel is loaded."""
    systemd: bool = False
    """Let systemd take over when the second kernel is loaded, and start it in order. Needs `end` exec."""
    end: str = "crash"
    """`crash`: panic, and so start the capture kernel. `nmi`: the same by an NMI from outside, after the host has looked
    at memory. `exec`: start the second kernel in order. `halt`: stay up, QEMU writes the dump. `raw`: QEMU writes the dump
    and saves the same moment's memory raw; then an NMI crashes the guest, and its memory is saved raw once more. `try`:
    nothing more to do after the tries."""
    heavy: bool = False
    """For measuring, not for judging: fill memory as a busy server does."""
    counted: bool = False
    """For measuring: the machine's clock counts instructions, each a nanosecond, so that a busy host changes no CPU time."""
    modules: tuple[str, ...] = ()
    """Beyond those of the disk."""
    brings: tuple[tuple[str, str], ...] = ()
    """Programs of this machine that the guest has too, with their libraries: the name there, and the path here."""

    @property
    def lacks(self) -> frozenset[str]:
        """Kinds of pages that the kernel cannot have."""
        return ALTERED[self.altered].lacks if self.altered else LACKS.get(self.line, frozenset())

    @property
    def has_btf(self) -> bool:
        return not self.altered or ALTERED[self.altered].has_btf

    @property
    def needs_vdump(self) -> bool:
        return self.end != "halt"

    @property
    def all_brings(self) -> tuple[tuple[str, str], ...]:
        return self.brings + ((("kexec", "/sbin/kexec"),) if self.load.startswith("kexec ") else ())

    @property
    def all_modules(self) -> tuple[str, ...]:
        return () if self.altered else DISK_MODULES[self.line] + self.modules

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
    live=LIVE,
)
FOUR_LEVEL = replace(LA57, name="6.12-4level", line="6.12", cpu="qemu64")


def one_cpu(guest: Guest) -> Guest:
    """The same machine with a capture kernel of one CPU, entered from the CPU that is not the boot CPU. Saves no full
    vmcore."""
    return replace(guest, name=f"{guest.name}-1cpu", capture_cpus=1, crash_cpu=1, steps=FILTER, live=())


# Kernels that nobody ships. Small: what they leave is a sample too.
PADDED_GUEST = replace(
    LA57,
    name="altered-padded",
    line="6.12",
    altered="padded",
    memory_mib=384,
    crashkernel_mib=160,
    pages=256,
    balloon_mib=8,
    scrub=True,
    # Scrubbed without vdump.
    live=(),
)
SPARSE_GUEST = replace(PADDED_GUEST, name="altered-sparse", altered="sparse", cpu="qemu64")

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
        ("headers", f"head -c 32768 {VMCORE}"),
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
# Memory that comes after the load: the running kernel rewrites the core headers.
HOTPLUG = loading(
    "hotplug", "6.12", load=f"{VDUMP} --method segments --hotplug", dimms=1, append="memhp_default_state=online"
)
BACKUP = replace(
    loading("backup", "6.1", load=f"{VDUMP} --backup always", end="nmi"),
    steps=(("filter", f"vdump filter -d 0 -f elf --progress plain {VMCORE} {OUT}/filter.vmcore"),),
)
DAMAGED = loading("damaged", "6.12", load=f"{VDUMP} --method segments", end="nmi", damage=True, steps=())
REBOOTED = replace(DAMAGED, name="rebooted-6.12", load=f"{DAMAGED.load} --on-mismatch reboot")
EXEC = tuple(
    loading("exec", line, load="vdump load --method segments", end="exec", steps=(("uname", "uname -r"),)) for line in LINES
)
# Two machines that have everything at the same addresses, loaded by either tool.
BESIDE = tuple(loading(f"beside-{tool.split()[0]}", "6.12", load=tool, append="nokaslr")
               for tool in (f"{VDUMP} --method segments --backup always", "kexec -c -p"))

# What a new user types, right and wrong, in one boot: the name of the result files, and the command.
GOOD = "vdump load --panic --initrd=/mnt/boot/initrd --append=quiet /mnt/boot/vmlinuz"
AS_NOBODY = "su -s /bin/sh nobody -c"
ADD_MEMORY = "add-memory"
"""In the guest: waits until the host has added a DIMM."""
NOVICE = replace(
    loading("novice", "6.12", end="try", dimms=2, append="memhp_default_state=online", memory_mib=1024),
    steps=(),
    tries=(
        ("status-empty", "vdump status"),
        ("unload-nothing", "vdump unload --panic"),
        ("exec-nothing", "vdump exec"),
        ("no-such-kernel", "vdump load --panic /boot/vmlinuz"),
        ("no-such-initrd", "vdump load --panic --initrd=/mnt/boot/initrd.img /mnt/boot/vmlinuz"),
        ("text-as-kernel", "vdump load --panic /conf"),
        ("initrd-as-kernel", "vdump load --panic /mnt/boot/initrd"),
        ("program-as-kernel", "vdump load --panic /bin/vdump"),
        ("nobody-loads", f"{AS_NOBODY} '{GOOD}'"),
        ("nobody-unloads", f"{AS_NOBODY} 'vdump unload --panic'"),
        ("nobody-starts", f"{AS_NOBODY} 'vdump exec'"),
        ("nobody-asks", f"{AS_NOBODY} 'vdump status'"),
        ("load", GOOD),
        ("load-again", GOOD),
        ("status-loaded", "vdump status"),
        ("more-by-file", ADD_MEMORY),
        ("status-followed", "vdump status"),
        ("by-segments", f"{GOOD} --method=segments"),
        ("more-by-segments", ADD_MEMORY),
        ("status-stale", "vdump status"),
        ("by-segments-again", f"{GOOD} --method=segments"),
        ("status-fits", "vdump status --json"),
        ("unload", "vdump unload --panic"),
        ("status-unloaded", "vdump status"),
        ("lock-down", "mount -t securityfs none /sys/kernel/security && echo integrity >/sys/kernel/security/lockdown"),
        ("locked-load", GOOD),
        ("locked-segments", f"{GOOD} --method=segments"),
        ("locked-unload", "vdump unload --panic"),
        ("spend-limit", "echo 0 >/proc/sys/kernel/kexec_load_limit_panic"),
        ("limited-load", GOOD),
        ("disable", "echo 1 >/proc/sys/kernel/kexec_load_disabled"),
        ("disabled-load", GOOD),
        ("disabled-unload", "vdump unload --panic"),
    ),
)
# No crash memory; then the fast reboot in order, by systemd.
ORDERLY = replace(
    loading("orderly", "6.12", end="exec", load="vdump load", systemd=True, crashkernel_mib=0),
    steps=(("uname", "uname -r"),),
    tries=(
        ("status-bare", "vdump status"),
        ("load-bare", GOOD),
        ("orderly-nothing", "vdump exec --orderly"),
        ("load-next", "vdump load --initrd=/mnt/boot/initrd --reuse-cmdline /mnt/boot/vmlinuz"),
        ("status-next", "vdump status"),
        ("orderly-without-systemd", "vdump exec --orderly"),
    ),
)

LOADING = (*BY_FILE, *VMLINUX, *EXACTMAP, ELF32, HOTPLUG, BACKUP, DAMAGED, REBOOTED, *EXEC, *BESIDE, NOVICE, ORDERLY)
CRASHING = (LA57, one_cpu(LA57), FOUR_LEVEL, one_cpu(FOUR_LEVEL), QEMU_DUMP, RAW, SAMPLE)
ALTERED_GUESTS = (PADDED_GUEST, SPARSE_GUEST)
MEASURED = (BUSY, HALF_BUSY, QUARTER_BUSY)
GUESTS = {guest.name: guest for guest in (*CRASHING, *LOADING, *ALTERED_GUESTS, *MEASURED)}
