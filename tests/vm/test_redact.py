"""`--redact` on real kernels: drgn says where each thing is that a rule names; there, every output has X, and every other
byte is as in the full vmcore."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import drgn
import pytest
from drgn.helpers.linux.list import list_for_each_entry
from drgn.helpers.linux.mm import follow_phys
from drgn.helpers.linux.pid import for_each_task

from conftest import Note
from judge import drgn_view
from judge.kdump import Kdump
from judge.vmcore import PAGE, Vmcore
from test_layout import btf_of
from tool import SECONDS, Options, run
from vmlab import programs
from vmlab.crash import Crash

RULES = """
erase init_uts_ns.name.nodename
erase saved_command_line
erase init_task.comm
for t in init_task.tasks.next within task_struct:tasks
    erase t.cred.uid
    for thread in t.signal.thread_head within task_struct:thread_node
        erase thread.comm
    endfor
endfor
for m in modules within module:list
    erase m.name
endfor
"""
# BTF of these kernels says nothing of variables.
TYPES = """
type init_uts_ns struct uts_namespace
type saved_command_line char *
type init_task struct task_struct
type modules struct list_head
"""


def named(prog: drgn.Program) -> Iterator[tuple[int, int]]:
    """Address and length of all that the rules name."""
    nodename = prog["init_uts_ns"].name.nodename
    yield nodename.address_, len(nodename)
    line = prog["saved_command_line"]
    yield line.value_(), len(line.string_())
    for task in [prog["init_task"], *for_each_task(prog)]:
        yield task.comm.address_, len(task.comm)
        if task.pid.value_() == task.tgid.value_() and task.pid.value_():
            yield task.cred.uid.address_, 4
    for module in list_for_each_entry("struct module", prog["modules"].address_of_(), "list"):
        yield module.member_("name").address_, len(module.name)


@pytest.fixture(scope="module")
def expected(crashed: Crash, vmcore: Vmcore) -> dict[int, bytes]:
    """The pages that differ from the full vmcore's, and how they must look."""
    if crashed.guest.altered:
        pytest.skip("the rules name modules, and it is built without any")
    prog = drgn_view.open_dump(crashed.vmcore, crashed.vmlinux)
    pages: dict[int, bytearray] = {}
    for vaddr, size in named(prog):
        for at in range(vaddr, vaddr + size):
            pfn, offset = divmod(follow_phys(prog["init_mm"].address_of_(), at & -PAGE).value_() + at % PAGE, PAGE)
            pages.setdefault(pfn, bytearray(vmcore.page(pfn)))[offset] = ord("X")
    return {pfn: bytes(page) for pfn, page in pages.items()}


@pytest.fixture(scope="module")
def rules(crashed: Crash, scratch: Path) -> tuple[Path, Path]:
    """Without types of variables, and with them."""
    if crashed.guest.altered:
        pytest.skip("the rules name modules, and it is built without any")
    plain, typed = scratch / f"{crashed.guest.name}.rules", scratch / f"{crashed.guest.name}.typed"
    plain.write_text(RULES)
    typed.write_text(TYPES + RULES)
    return plain, typed


def is_redacted(vmcore: Vmcore, expected: dict[int, bytes], kept: set[int], page: Callable[[int], bytes]) -> None:
    assert len(kept & expected.keys()) > 50
    wrong = [hex(pfn) for pfn in kept if page(pfn) != (expected[pfn] if pfn in expected else vmcore.page(pfn))]
    assert not wrong


def physical(dump: Path) -> Callable[[int], bytes]:
    prog = drgn.Program()
    prog.set_core_dump(dump)
    return lambda pfn: prog.read(pfn * PAGE, PAGE, physical=True)


def redact(crashed: Crash, rules: Path, output: Path, *words: object) -> dict:
    report = run("filter", "--json", "--progress", "none", "--force", "--redact", rules, *words, crashed.vmcore, output)
    return json.loads(report)["redaction"]


def test_dwarf_and_btf_lead_to_what_drgn_sees(
    crashed: Crash, vmcore: Vmcore, expected: dict[int, bytes], rules: tuple[Path, Path], scratch: Path, note: Note
) -> None:
    """The types of vmlinux, of BTF in a file, and of the BTF in the dump itself, whose symbols come from kallsyms."""
    btf = btf_of(crashed, scratch)
    ways = {"DWARF": (rules[0], ["-x", crashed.vmlinux]), "BTF": (rules[1], ["--btf", btf]), "memory": (rules[1], [])}
    output = scratch / f"{crashed.guest.name}-redacted"
    for name, (file, words) in ways.items():
        said = redact(crashed, file, output, *words)
        is_redacted(vmcore, expected, Kdump(output).kept, physical(output))
        assert not said["incomplete"]
        note(f"{crashed.guest.name}: {name}: {said['bytes']} bytes overwritten in {said['pages']} pages")


def test_every_format_shows_the_same(
    crashed: Crash, vmcore: Vmcore, expected: dict[int, bytes], rules: tuple[Path, Path], scratch: Path
) -> None:
    def out(end: str) -> Path:
        return scratch / f"{crashed.guest.name}-redacted{end}"

    whole = out("")
    redact(crashed, rules[0], whole, "-x", crashed.vmlinux)
    kept = Kdump(whole).kept
    for codec in ("zlib", "lzo", "snappy"):
        redact(crashed, rules[0], out(""), "-x", crashed.vmlinux, "-c", codec)
        is_redacted(vmcore, expected, kept, physical(out("")))
    redact(crashed, rules[0], out(".elf.zst"), "-x", crashed.vmlinux)
    subprocess.run(["zstd", "-d", "-q", "-f", out(".elf.zst")], check=True, timeout=SECONDS)
    is_redacted(vmcore, expected, kept, Vmcore(out(".elf")).page)
    redact(crashed, rules[0], out(".elf"), "-x", crashed.vmlinux, "--virtual")
    is_redacted(vmcore, expected, kept, Vmcore(out(".elf")).page)
    # What was mapped and named is not shown at its virtual address either.
    module = drgn_view.open_dump(out(".elf"), crashed.vmlinux)["modules"].next.value_()
    assert b"X" * 56 in drgn_view.open_dump(out(".elf"), crashed.vmlinux).read(module - 64, 256)
    parts = [out("-1"), out("-2")]
    redact(crashed, rules[0], out(""), "-x", crashed.vmlinux, "--split", 2)
    run("merge", "--force", *parts, whole)
    is_redacted(vmcore, expected, kept, physical(whole))
    command = [programs.vdump(), "filter", "-x", crashed.vmlinux, "--redact", rules[0], crashed.vmcore, "-"]
    with out(".stream").open("wb") as stream:
        subprocess.run(command, stdout=stream, stderr=subprocess.DEVNULL, check=True, timeout=SECONDS)
    with out(".stream").open("rb") as stream:
        subprocess.run([programs.vdump(), "merge", "--force", "-", whole], stdin=stream, check=True, timeout=SECONDS)
    is_redacted(vmcore, expected, kept, physical(whole))
    for path in (*parts, out(".stream"), out(".elf"), out(".elf.zst")):
        path.unlink()


def test_readers_see_what_is_left(crashed: Crash, rules: tuple[Path, Path], filtered, scratch: Path) -> None:
    """The dump is as good as before, but for what is gone: every task's name."""
    output = scratch / f"{crashed.guest.name}-redacted"
    redact(crashed, rules[0], output, "-x", crashed.vmlinux)
    prog, before = (drgn_view.open_dump(path, crashed.vmlinux) for path in (output, filtered(Options())))
    ours, theirs = drgn_view.tasks(prog), drgn_view.tasks(before)
    assert [(task.pid, task.stack) for task in ours] == [(task.pid, task.stack) for task in theirs]
    assert {task.name for task in ours if task.pid} == {"X" * 16} != {task.name for task in theirs if task.pid}
    assert drgn_view.dmesg(prog) == drgn_view.dmesg(before)
