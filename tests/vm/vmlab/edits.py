"""Edits of a kernel's source that move what a dump filter must find: members of struct page, page flags, page types.
They look for names, not for lines, so that point releases do not matter; what is not found is an error."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from .lab_error import LabError

TYPES = "include/linux/mm_types.h"
FLAGS = "include/linux/page-flags.h"

# What lies over struct page, and the members that lie over its flags. The kernel's static assertions fail the build if
# one of them is left out.
OVER_FLAGS = (
    (TYPES, "struct page", r"flags"),
    (TYPES, "struct folio", r"flags|_flags_\d"),
    (TYPES, "struct ptdesc", r"__page_flags"),
    ("mm/slab.h", "struct slab", r"__page_flags"),
    ("include/net/netmem.h", "struct net_iov", r"__unused_padding"),
)
# And the pairs that lie over its map count (or type) and its reference count.
OVER_COUNTS = (
    (TYPES, "struct folio", "atomic_t _mapcount;", "atomic_t _refcount;"),
    (TYPES, "struct ptdesc", "unsigned int __page_type;", "atomic_t __page_refcount;"),
    ("mm/slab.h", "struct slab", "unsigned int __page_type;", "atomic_t __page_refcount;"),
)
# Flags whose bits the kernel's code relies on.
FIXED = {0: "PG_locked", 6: "PG_head", 7: "PG_waiters"}
NEW_FLAGS = ("PG_vdump_1", "PG_vdump_2", "PG_vdump_3")


def pad_before_flags(tree: Path) -> None:
    """Puts 16 bytes before the flags (two words: SLUB needs its pair of words at a multiple of 16)."""
    for file, name, members in OVER_FLAGS:
        edit(tree / file, name, lambda body, members=members: pad(body, members))


def pad(body: str, members: str) -> str:
    pads = (f"vdump_pad_{number}" for number in range(100))
    return substitute(
        rf"^[ \t]*unsigned long (?:{members});", lambda found: f"\tunsigned long {next(pads)}[2];\n{found[0]}", body
    )


def refcount_before_mapcount(tree: Path) -> None:
    """Swaps the two counts; the type of a page, which shares the map count's place, moves with it."""
    edit(tree / TYPES, "struct page", refcount_first)
    for file, name, first, second in OVER_COUNTS:
        pattern = rf"({re.escape(first)})(\s*)({re.escape(second)})"
        edit(tree / file, name, lambda body, pattern=pattern: substitute(pattern, r"\3\2\1", body))


def refcount_first(body: str) -> str:
    body = substitute(r"^\tatomic_t _refcount;", "", body)
    union = body.rindex("\n\tunion {", 0, body.index("unsigned int page_type;"))
    return f"{body[:union]}\n\tatomic_t _refcount;{body[union:]}"


def renumber_flags(tree: Path) -> None:
    """The other way round, with new flags in between. The first byte's flags stay in it: it is what folios' second pages
    may not use."""
    edit(tree / FLAGS, "enum pageflags", lambda body: substitute(r"\A.*?(?=^#ifdef)", reordered, body))
    # The kernel keeps a list of their names, which must be complete.
    file = tree / "include/trace/events/mmflags.h"
    names = "".join(f"DEF_PAGEFLAG_NAME({name.removeprefix('PG_')}), " for name in NEW_FLAGS)
    file.write_text(substitute(r"^\tDEF_PAGEFLAG_NAME\(locked\)", rf"\t{names}DEF_PAGEFLAG_NAME(locked)", file.read_text()))


def reordered(found: re.Match[str]) -> str:
    names = re.findall(r"^\s*(PG_\w+),", found[0], re.MULTILINE)
    if any(names[bit] != name for bit, name in FIXED.items()):
        raise LabError(f"the page flags do not begin as expected: {names[:8]}")
    low = iter(name for name in reversed(names[:8]) if name not in FIXED.values())
    high = names[:7:-1]
    order = [FIXED.get(bit) or next(low) for bit in range(8)]
    order += [NEW_FLAGS[0], *high[:4], NEW_FLAGS[1], *high[4:], NEW_FLAGS[2]]
    return "\n" + "".join(f"\t{name},\n" for name in order)


def renumber_page_types(tree: Path) -> None:
    """Counts the page types down from 0xfe instead of up from 0xf0."""
    edit(
        tree / FLAGS,
        "enum pagetype",
        lambda body: substitute(r"(= 0xf)([0-9a-e])\b", lambda found: f"= {0xFE - int(found[2], 16):#x}", body),
    )


def edit(file: Path, name: str, change: Callable[[str], str]) -> None:
    """Changes the body of one structure or enumeration."""
    text = file.read_text()
    found = re.search(rf"^{name} \{{(.*?)^\}}", text, re.MULTILINE | re.DOTALL)
    if not found:
        raise LabError(f"{file} has no {name}")
    try:
        body = change(found[1])
    except (LabError, ValueError) as error:
        raise LabError(f"{file}, {name}: {error}") from error
    file.write_text(text[: found.start(1)] + body + text[found.end(1) :])


def substitute(pattern: str, replacement: str | Callable[[re.Match[str]], str], text: str) -> str:
    text, count = re.subn(pattern, replacement, text, flags=re.MULTILINE | re.DOTALL)
    if not count:
        raise LabError(f"nothing there is like {pattern!r}")
    return text
