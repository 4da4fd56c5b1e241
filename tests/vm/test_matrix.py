"""Every input to every output: the repository's real vmcore in each form that it can come in, converted to each form
that vdump writes, and back. Pages are read by libkdumpfile or by the judges' own ELF reader on both sides, never by vdump."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from conftest import Note
from judge.kdump import Kdump
from judge.readers import Dump, runs
from judge.vmcore import PAGE, Vmcore
from tool import CODECS, SECONDS, run
from vmlab import programs
from vmlab.crash import QEMU_KDUMP, Crash

SAMPLE = Path(__file__).parents[1] / "data" / "vmcore-6.12.zst"
PARTS = 3


@dataclass(frozen=True)
class Form:
    """A dump in some form, and the plain file of the same pages that the judges read."""

    files: tuple[Path, ...]
    plain: Path
    words: tuple[object, ...] = ()
    """Options to read it with."""


Write = Callable[[Form, Path], Form]


class Pages:
    """What an outside reader finds in a plain kdump or ELF file: which frames, what is in them, and the notes."""

    def __init__(self, path: Path):
        self.pfns, read, self.notes = (self.of_kdump if path.open("rb").read(8) == b"KDUMP   " else self.of_elf)(path)
        digest = hashlib.blake2b()
        for first, count in runs(self.pfns):
            digest.update(first.to_bytes(8, "little"))
            digest.update(read(first, count))
        self.digest = digest.hexdigest()

    @staticmethod
    def of_kdump(path: Path) -> tuple[set[int], Callable[[int, int], bytes], bytes]:
        kdump, dump = Kdump(path), Dump(path)
        assert dump.pfns() == kdump.kept
        return kdump.kept, dump.read, kdump.notes

    @staticmethod
    def of_elf(path: Path) -> tuple[set[int], Callable[[int, int], bytes], bytes]:
        elf = Vmcore(path)

        def read(first: int, count: int) -> bytes:
            return b"".join(elf.page(pfn) if pfn not in elf.zeros else bytes(PAGE) for pfn in range(first, first + count))

        return elf.whole.keys() | elf.zeros | elf.partial, read, elf.notes


# Most ways lead to the same bytes: each is judged once.
JUDGED: dict[str, Pages] = {}


def judged(path: Path) -> Pages:
    with path.open("rb") as file:
        key = hashlib.file_digest(file, "blake2b").hexdigest()
    if key not in JUDGED:
        JUDGED[key] = Pages(path)
    return JUDGED[key]


def to_file(name: str, *words: str) -> Write:
    """A form that vdump writes to a file, which `unpack` makes plain."""

    def write(given: Form, folder: Path) -> Form:
        path = folder / name
        run("convert", "--force", "--progress", "none", *words, *given.words, *given.files, path)
        return Form((path,), unpack(path))

    return write


def to_pipe(name: str, *words: str) -> Write:
    """A form that vdump writes to standard output."""

    def write(given: Form, folder: Path) -> Form:
        path = folder / name
        with path.open("wb") as file:
            command = [programs.vdump(), "convert", "--progress", "none", *words, *given.words, *given.files, "-"]
            subprocess.run(command, check=True, stdout=file, timeout=SECONDS)
        return Form((path,), unpack(path))

    return write


def to_parts(given: Form, folder: Path) -> Form:
    """A split set. makedumpfile puts it together for the judges."""
    parts = tuple(folder / f"part.{part}" for part in range(PARTS))
    outputs = [word for part in parts for word in ("-o", part)]
    run("convert", "--force", "--progress", "none", "-c", "lzo", *outputs, *given.words, *given.files)
    return Form(parts, reassemble(parts))


def unpack(path: Path) -> Path:
    """The plain file inside, by the tools that everybody has."""
    plain = path.with_name(f"{path.name}.plain")
    match path.open("rb").read(4):
        case b"\x28\xb5\x2f\xfd":
            command = ["zstd", "-q", "-d", "-f", "-o", plain, path]
        case b"\x04\x22\x4d\x18":
            command = ["lz4", "-q", "-d", "-f", path, plain]
        case b"make":
            command = ["makedumpfile", "-f", "-R", plain]
        case _:
            return path
    with path.open("rb") as file:
        subprocess.run(command, check=True, stdin=file, capture_output=True, timeout=SECONDS)
    return plain


def reassemble(parts: tuple[Path, ...]) -> Path:
    whole = parts[0].with_name(f"{parts[0].name}.plain")
    command = ["makedumpfile", "-f", "--reassemble", *parts, whole]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    return whole


OUTPUTS: dict[str, Write] = {
    **{f"kdump-{codec}": to_file(f"kdump-{codec}", "-f", "kdump", "-c", codec) for codec in CODECS},
    "elf": to_file("elf", "-f", "elf", "-c", "none"),
    "elf-zstd": to_file("elf-zstd", "-f", "elf", "-c", "zstd"),
    "elf-lz4": to_file("elf-lz4", "-f", "elf", "-c", "lz4"),
    "flattened": to_pipe("flattened", "-f", "kdump", "-c", "lzo"),
    "elf-pipe": to_pipe("elf-pipe", "-f", "elf", "-c", "none"),
    "elf-zstd-pipe": to_pipe("elf-zstd-pipe", "-f", "elf", "-c", "zstd"),
    "parts": to_parts,
}


@pytest.fixture(scope="module")
def folder(scratch: Path) -> Iterator[Path]:
    path = scratch / "matrix"
    path.mkdir()
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def sample(folder: Path) -> Path:
    path = folder / "vmcore"
    subprocess.run(["zstd", "-q", "-d", "--long=27", SAMPLE, "-o", path], check=True, timeout=SECONDS)
    return path


def makedumpfile(words: list[object], output: Path | None = None) -> None:
    command = ["makedumpfile", "-f", *map(str, words)]
    if output is None:
        subprocess.run(command, check=True, capture_output=True, timeout=SECONDS)
        return
    with output.open("wb") as file:
        subprocess.run(command, check=True, stdout=file, stderr=subprocess.DEVNULL, timeout=SECONDS)


def theirs(sample: Path, folder: Path, kind: str) -> Form:
    """The same memory as makedumpfile and the compressors write it."""
    path = folder / f"theirs-{kind}"
    match kind:
        case "vmcore":
            return Form((sample,), sample)
        case "zlib" | "lzo" | "none":
            makedumpfile([*{"zlib": ["-c"], "lzo": ["-l"], "none": []}[kind], "-d", 0, sample, path])
            return Form((path,), path)
        case "elf":
            makedumpfile(["-E", "-d", 0, sample, path])
            return Form((path,), path)
        case "flattened":
            makedumpfile(["-F", "-l", "-d", 0, sample], path)
            return Form((path,), unpack(path))
        case "flattened-elf":
            makedumpfile(["-F", "-E", "-d", 0, sample], path)
            return Form((path,), unpack(path))
        case "parts":
            parts = tuple(path.with_name(f"{path.name}.{part}") for part in range(PARTS))
            makedumpfile(["-l", "-d", 0, "--split", "--splitblock-size", 64, sample, *parts])
            return Form(parts, reassemble(parts))
        case "whole-zstd":
            subprocess.run(["zstd", "-q", "-f", "-1", sample, "-o", path], check=True, timeout=SECONDS)
            return Form((path,), sample)
        case "whole-lz4":
            subprocess.run(["lz4", "-q", "-f", "-1", sample, path], check=True, timeout=SECONDS)
            return Form((path,), sample)
        case "raw":
            return Form((raw_memory(Vmcore(sample), path),), sample, ("--elfcorehdr", sample))
    raise AssertionError(kind)


def raw_memory(vmcore: Vmcore, path: Path) -> Path:
    """Each byte at its physical address, and nothing that says what of it is RAM: another core of the moment does."""
    with path.open("wb") as file:
        for load in vmcore.loads:
            file.seek(load.paddr)
            file.write(vmcore.data[load.offset : load.offset + load.filesz])
    return path


THEIRS = ("vmcore", "none", "zlib", "lzo", "elf", "flattened", "flattened-elf", "parts", "whole-zstd", "whole-lz4", "raw")


@cache
def ours(sample: Path, folder: Path, kind: str) -> Form:
    home = folder / "ours"
    home.mkdir(exist_ok=True)
    return OUTPUTS[kind](Form((sample,), sample), home)


@pytest.mark.parametrize("kind", [*(f"theirs-{kind}" for kind in THEIRS), *(f"ours-{kind}" for kind in OUTPUTS)])
def test_every_input_to_every_output_and_back(sample: Path, folder: Path, note: Note, kind: str) -> None:
    source, _, name = kind.partition("-")
    given = theirs(sample, folder, name) if source == "theirs" else ours(sample, folder, name)
    assert judged(given.plain).pfns <= judged(sample).pfns
    there_and_back(kind, given, folder, note)


@pytest.mark.parametrize("kind", ["elf", "kdump"])
def test_qemus_dumps_to_every_output_and_back(qemu_dump: Crash, folder: Path, note: Note, kind: str) -> None:
    plain = qemu_dump.vmcore
    if kind == "kdump":
        plain = folder / "qemu-kdump"
        with (qemu_dump.folder / QEMU_KDUMP).open("rb") as file:
            command = ["makedumpfile", "-f", "-R", plain]
            subprocess.run(command, check=True, stdin=file, capture_output=True, timeout=SECONDS)
    given = Form((qemu_dump.vmcore if kind == "elf" else qemu_dump.folder / QEMU_KDUMP,), plain)
    there_and_back(f"QEMU's {kind}", given, folder, note)


def there_and_back(kind: str, given: Form, folder: Path, note: Note) -> None:
    expected = judged(given.plain)
    assert len(expected.pfns) > 40_000
    there, back = folder / "there", folder / "back"
    for place in (there, back):
        place.mkdir(exist_ok=True)
    for output, write in OUTPUTS.items():
        converted = write(given, there)
        seen = judged(converted.plain)
        assert seen.pfns == expected.pfns and seen.digest == expected.digest, f"{kind} to {output}"
        assert note_texts(seen.notes) == note_texts(expected.notes), f"{kind} to {output}"
        again = judged(to_file("again", "-f", "kdump", "-c", "none")(converted, back).plain)
        assert again.pfns == expected.pfns and again.digest == expected.digest, f"{kind} to {output} and back"
        assert note_texts(again.notes) == note_texts(expected.notes), f"{kind} to {output} and back"
    for place in (there, back):
        shutil.rmtree(place)
    note(f"{kind}: {len(expected.pfns)} pages to {len(OUTPUTS)} outputs and back, all equal")


def note_texts(notes: bytes) -> bytes:
    """The notes without the zeros that writers pad them with at the end."""
    return notes.rstrip(b"\0")
