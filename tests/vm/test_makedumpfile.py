"""Side by side with Debian's makedumpfile on the same vmcore: every page that the two treat differently has a named
reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import Note
from judge import makedumpfile
from judge.kdump import Kdump
from judge.truth import Truth
from judge.vmcore import Vmcore
from tool import Options
from vmlab.crash import Crash


@pytest.mark.parametrize("level", [1, 2, 4, 8, 16, 31])
def test_each_difference_has_a_reason(
    crashed: Crash, filtered, truth: Truth, vmcore: Vmcore, scratch: Path, note: Note, level: int
) -> None:
    theirs = makedumpfile.run(crashed.vmcore, level, scratch / f"{crashed.guest.name}-makedumpfile-{level}")
    ours = Kdump(filtered(Options(level=level)))
    # makedumpfile leaves out what is only partly RAM; vdump keeps it, with zeros around.
    assert ours.ram - theirs.ram == ours.kept - theirs.ram == vmcore.partial
    for who, pages, reasons in (
        ("vdump", theirs.kept - ours.kept, makedumpfile.WE_DROPPED_ALONE),
        ("makedumpfile", ours.kept & theirs.ram - theirs.kept, makedumpfile.THEY_DROPPED_ALONE),
    ):
        counts, unexplained = makedumpfile.explain(pages, reasons, truth, level)
        for reason, count in counts.items():
            note(f"{crashed.guest.name} -d {level}: {count} pages dropped by {who} alone: {reason}")
        shown = [(hex(case.pfn), case.kind) for case in unexplained[:5]]
        assert not unexplained, (
            f"-d {level}: {len(unexplained)} pages dropped by {who} alone without a reason, the first {shown}"
        )
