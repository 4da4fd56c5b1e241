"""The readers that engineers use open vdump's dumps, and see what they see in the full vmcore."""

from __future__ import annotations

import pytest

from conftest import Note
from judge import crash_view, drgn_view, gdb_view, readers
from judge.drgn_view import Task
from judge.kdump import Kdump
from judge.vmcore import Vmcore
from tool import CODECS, Options
from vmlab.crash import Crash
from vmlab.guests import LA57

KDUMPS = [Options(codec=codec) for codec in CODECS]
ELF = Options(format="elf")
ABSENT_SAMPLES = 500


@pytest.fixture(scope="session")
def full_tasks(crashed: Crash) -> list[Task]:
    return drgn_view.tasks(drgn_view.open_dump(crashed.vmcore, crashed.vmlinux))


@pytest.mark.parametrize("options", KDUMPS, ids=lambda options: options.codec)
def test_libkdumpfile_reads_every_kept_page_equal(
    crashed: Crash, filtered, vmcore: Vmcore, note: Note, options: Options
) -> None:
    path = filtered(options)
    kdump, dump = Kdump(path), readers.Dump(path)
    assert dump.pfns() == kdump.kept
    result = readers.compare(dump, kdump.kept, vmcore)
    assert not result.different, f"{len(result.different)} pages differ, the first {result.different[:5]}"
    assert result.equal == len(kdump.kept) > 0
    note(f"{crashed.guest.name} {options.name}: libkdumpfile reads {result.equal} pages, all equal")


def test_libkdumpfile_says_that_an_excluded_page_is_absent(filtered) -> None:
    path = filtered(Options())
    kdump, dump = Kdump(path), readers.Dump(path)
    excluded = sorted(kdump.ram - kdump.kept)
    step = max(1, len(excluded) // ABSENT_SAMPLES)
    assert all(dump.is_absent(pfn) for pfn in excluded[::step])


def test_elf_holds_the_same_pages_as_kdump(filtered, vmcore: Vmcore) -> None:
    path = filtered(ELF)
    elf, kept = Vmcore(path), Kdump(filtered(Options())).kept
    result = readers.compare(readers.Dump(path), elf.whole.keys(), vmcore)
    assert not result.different, f"{len(result.different)} pages differ, the first {result.different[:5]}"
    # Zero pages may be a LOAD's tail, which readers fill with zeros.
    missing = {pfn for pfn in kept - elf.whole.keys() - vmcore.partial if pfn not in elf.zeros or any(vmcore.page(pfn))}
    assert not missing, f"{len(missing)} kept pages are not in the ELF, the first {sorted(missing)[:5]}"


def test_elf_has_no_bytes_of_excluded_pages(filtered) -> None:
    """Also not in gaps between LOADs, where user data would leak."""
    elf, kept = Vmcore(filtered(ELF)), Kdump(filtered(Options())).kept
    leaked = {pfn for pfn in elf.whole.keys() - kept if any(elf.page(pfn))}
    assert not leaked, f"{len(leaked)} excluded pages have bytes in the ELF, the first {sorted(leaked)[:5]}"


@pytest.mark.parametrize("options", [*KDUMPS, ELF], ids=lambda options: options.codec or options.format)
def test_drgn_walks_every_tasks_stack(
    crashed: Crash, filtered, full_tasks: list[Task], note: Note, options: Options
) -> None:
    tasks = drgn_view.tasks(drgn_view.open_dump(filtered(options), crashed.vmlinux))
    walked = [task for task in tasks if task.stack.startswith("#0")]
    note(f"{crashed.guest.name} {options.name}: drgn lists {len(tasks)} tasks and walks {len(walked)} stacks")
    assert tasks == full_tasks
    assert len(walked) == len(tasks) > 40
    panicking = [task for task in tasks if "sysrq_handle_crash" in task.stack]
    assert len(panicking) == 1
    assert "panic" in panicking[0].stack


# Debian's crash 8.0.2 does not open 6.12 kernels; drgn and libkdumpfile judge those alone.
@pytest.mark.parametrize("crashed", [LA57], indirect=True, ids=lambda guest: guest.name)
@pytest.mark.parametrize("options", [Options(), ELF], ids=lambda options: options.format)
def test_crash_sees_what_it_sees_in_the_full_vmcore(
    crashed: Crash, filtered, full_views: dict[str, str], options: Options
) -> None:
    seen = crash_view.views(filtered(options), crashed.vmlinux)
    assert not crash_view.trouble(seen)
    assert "sysrq_handle_crash" in seen["bt"]
    assert seen == full_views


def test_gdb_reads_the_elf_by_virtual_address(crashed: Crash, filtered, vmcore: Vmcore) -> None:
    offset = int(vmcore.vmcoreinfo["KERNELOFFSET"], 16)
    banner = gdb_view.banner(filtered(ELF), crashed.vmlinux, offset)
    assert banner.startswith(f"Linux version {crashed.kernel.release} ")
    assert banner == gdb_view.banner(crashed.vmcore, crashed.vmlinux, offset)
