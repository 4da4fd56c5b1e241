"""Pages that must be in every dump, found through drgn: task stacks, per-CPU areas. (Slab and page tables are in
kpageflags.)"""

from __future__ import annotations

from collections.abc import Iterator

import drgn
from drgn.helpers.linux.cpumask import for_each_possible_cpu
from drgn.helpers.linux.mm import follow_pfn
from drgn.helpers.linux.percpu import per_cpu_ptr
from drgn.helpers.linux.pid import for_each_task

PAGE = 4096


def stacks(prog: drgn.Program) -> set[int]:
    """Each task's kernel stack, which lies in vmalloc space: through the kernel's page tables."""
    size = prog["THREAD_SIZE"].value_() if "THREAD_SIZE" in prog else 4 * PAGE
    tops = (task.stack.value_() for task in for_each_task(prog) if task.stack)
    return {pfn for top in tops for pfn in translate(prog, top, size)}


def per_cpu(prog: drgn.Program) -> set[int]:
    """Each CPU's copy of the static per-CPU variables."""
    start, end = (prog.symbol(name).address for name in ("__per_cpu_start", "__per_cpu_end"))
    area = drgn.Object(prog, "char *", value=start)
    bases = (per_cpu_ptr(area, cpu).value_() for cpu in for_each_possible_cpu(prog))
    return {pfn for base in bases for pfn in translate(prog, base, end - start)}


def translate(prog: drgn.Program, address: int, size: int) -> Iterator[int]:
    kernel = prog["init_mm"].address_of_()
    for page in range(address // PAGE * PAGE, address + size, PAGE):
        yield follow_pfn(kernel, page).value_()
