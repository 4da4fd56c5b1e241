"""The form of a recorded machine: one text file for the many files of /proc and /sys that the loader reads
(loader/tests/trees, unpacked by loader/tests/plans/tree.rs). What is binary there is lines of numbers here."""

from __future__ import annotations

import re
import struct

PT_LOAD, PT_NOTE = 1, 4
# What the loader asks the running kernel's VMCOREINFO.
VMCOREINFO_LINES = ("NUMBER(pgtable_l5_enabled)",)
FIRMWARE_MAP = "sys/firmware/memmap"
EFI_MAP = "sys/firmware/efi/runtime-map"
BOOT_PARAMS = "sys/kernel/boot_params/data"
KCORE = "proc/kcore"
ORDER = ("proc/", "sys/kernel/", "sys/devices/", "sys/firmware/")


def pack(about: str, files: dict[str, bytes]) -> str:
    """The text of a machine; `files` are its files by path, `about` says what is special about it."""
    packed = (FIRMWARE_MAP, EFI_MAP, BOOT_PARAMS, KCORE)
    plain = [name for name in files if not name.startswith(packed)]
    sections = {name: files[name].decode().rstrip("\n") for name in sorted(plain, key=place)}
    sections["boot-params"] = boot_params(files.get(BOOT_PARAMS, b""))
    sections["firmware-map"] = firmware_map(files)
    sections["efi-map"] = efi_map(files)
    sections["kcore"] = kcore(files.get(KCORE, b""))
    body = "".join(f"== {name}\n{text}\n" for name, text in sections.items() if text)
    return f"# {about}\n# Recorded in QEMU: tests/vm/lab.py record.\n{body}"


def place(name: str) -> tuple[int, list[int | str]]:
    """A folder after the other, numbers in their order."""
    folder = next((index for index, start in enumerate(ORDER) if name.startswith(start)), len(ORDER))
    return folder, [int(word) if word.isdigit() else word for word in re.split(r"(\d+)", name)]


def entries(files: dict[str, bytes], folder: str) -> list[tuple[int, dict[str, str]]]:
    """The numbered folders below `folder`: what their files say."""
    found: dict[int, dict[str, str]] = {}
    for name, data in files.items():
        if name.startswith(f"{folder}/"):
            number, file = name.removeprefix(f"{folder}/").split("/")
            found.setdefault(int(number), {})[file] = data.decode().strip()
    return sorted(found.items())


def firmware_map(files: dict[str, bytes]) -> str:
    rows = [(int(row["start"], 16), int(row["end"], 16), row["type"]) for _, row in entries(files, FIRMWARE_MAP)]
    return "\n".join(f"{start:08x}-{end:08x} : {kind}" for start, end, kind in rows)


def efi_map(files: dict[str, bytes]) -> str:
    fields = ("type", "phys_addr", "virt_addr", "num_pages", "attribute")
    rows = [(number, *(int(row[field], 16) for field in fields)) for number, row in entries(files, EFI_MAP)]
    return "\n".join(f"{number} " + " ".join(f"{value:x}" for value in values) for number, *values in rows)


def boot_params(data: bytes) -> str:
    rows = [(at, data[at : at + 16].rstrip(b"\0")) for at in range(0, len(data), 16)]
    return "\n".join(f"{at:03x} {row.hex(' ')}" for at, row in rows if row)


def kcore(data: bytes) -> str:
    """Virtual address, physical address and size of each mapping, then lines of the VMCOREINFO note."""
    if not data:
        return ""
    (start,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    lines = []
    for index in range(count):
        kind, _, offset, vaddr, paddr, filesz, memsz, _ = struct.unpack_from("<IIQQQQQQ", data, start + index * size)
        if kind == PT_LOAD:
            lines.append(f"{vaddr:016x} {paddr:016x} {memsz:x}")
        elif kind == PT_NOTE:
            text = data[offset : offset + filesz].decode(errors="replace")
            notes = [line for line in text.splitlines() if line.startswith(VMCOREINFO_LINES)]
    return "\n".join(lines + notes)
