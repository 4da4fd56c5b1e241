"""What drgn sees in a dump: its tasks, their kernel stacks, its log."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import drgn
from drgn.helpers.linux.cpumask import for_each_online_cpu
from drgn.helpers.linux.pid import for_each_task
from drgn.helpers.linux.printk import get_dmesg
from drgn.helpers.linux.sched import idle_task


class Task(NamedTuple):
    pid: int
    name: str
    stack: str
    """One frame per line; empty when there is nothing to unwind."""


def open_dump(dump: Path, vmlinux: Path) -> drgn.Program:
    prog = drgn.Program()
    prog.set_core_dump(dump)
    prog.load_debug_info([vmlinux])
    return prog


def tasks(prog: drgn.Program) -> list[Task]:
    """Every task, each CPU's idle task included. A fault in a task's stack shows as its text, and so as a
    difference."""
    found = [*for_each_task(prog), *(idle_task(prog, cpu) for cpu in for_each_online_cpu(prog))]
    return [Task(task.pid.value_(), task.comm.string_().decode(), stack(prog, task)) for task in found]


def stack(prog: drgn.Program, task: drgn.Object) -> str:
    try:
        return str(prog.stack_trace(task))
    except (drgn.FaultError, ValueError, LookupError) as error:
        return f"no stack: {error}"


def dmesg(prog: drgn.Program) -> str:
    return get_dmesg(prog).decode(errors="replace")
