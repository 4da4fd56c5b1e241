"""`vdump explain` and `vdump classes`, judged by planted pages, by struct pages that drgn reads, and by what the running kernel
said of itself a moment before."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import drgn
import pytest
from drgn.helpers.linux.mm import follow_phys, page_to_phys, pfn_to_page
from drgn.helpers.linux.nodemask import for_each_online_node
from drgn.helpers.linux.pid import for_each_task

from judge import planted
from judge.truth import Truth
from judge.vmcore import Vmcore
from tool import Options, run
from vmlab.crash import Crash

CLASS_OF = {
    "anon": "user",
    "anon-random": "user",
    "anon-zero": "user",
    "anon-mlocked": "user",
    "anon-ksm": "user",
    "anon-thp": "user",
    "hugetlb": "hugetlb",
    "shm": "cache",
    "file-clean": "cache",
    "file-dirty": "cache-private",
    "hwpoison": "hwpoison",
    "soft-offline": "hwpoison",
}
# The oracle's names, and those of the program.
BY_TRUTH = {"anon": "user", "other": "kernel"}
OF_EACH_KIND = 12
SPREAD = 400
SMALL = 64
"""Pages that a class may gain or lose whatever its size: the shell that runs the steps allocates a few."""
LOW = 256
"""The lowest MiB: the kernel has it, and the core headers of a dump leave it out."""


def explain(dump: Path, option: str, numbers: Iterable[int]) -> list[dict]:
    text = run("explain", "--json", option, ",".join(map(hex, numbers)), dump)
    return json.loads(text)["pages"]


def said(crashed: Crash, step: str) -> dict:
    """The JSON that a step printed; what measured it printed a line behind."""
    return json.JSONDecoder().raw_decode(crashed.step(step).text("out"))[0]


def some(pages: list, count: int) -> list:
    return pages[:: max(1, len(pages) // count)][:count]


@pytest.fixture(scope="module")
def of_each_kind(crashed: Crash) -> list[planted.Planted]:
    kinds: dict[str, list[planted.Planted]] = {}
    for page in planted.read(crashed.out):
        kinds.setdefault(page.kind, []).append(page)
    assert kinds.keys() <= CLASS_OF.keys()
    return [page for pages in kinds.values() for page in some(pages, OF_EACH_KIND)]


def test_planted_pages_are_explained(crashed: Crash, of_each_kind: list[planted.Planted]) -> None:
    told = explain(crashed.vmcore, "--pfn", (page.pfn for page in of_each_kind))
    for page, story in zip(of_each_kind, told, strict=True):
        assert (story["pfn"], story["class"]) == (page.pfn, CLASS_OF[page.kind]), story["why"]
        levels = [level for level in range(32) if page.is_dropped_at(level)]
        assert story["dropped_at"] == levels, page
        assert story["why"], page
        if page.head:
            assert story["memory"]["presence"] == "stored"
            assert story["content"]["head"] == page.head[:16].hex()
            assert story["content"]["zero"] == (page.kind == "anon-zero")


def test_a_filtered_dump_says_what_was_left_out(crashed: Crash, filtered, of_each_kind: list[planted.Planted]) -> None:
    told = explain(filtered(Options()), "--pfn", (page.pfn for page in of_each_kind))
    for page, story in zip(of_each_kind, told, strict=True):
        assert story["class"] == CLASS_OF[page.kind], story["why"]
        assert story["memory"]["presence"] == "excluded"
        assert "level 31" in story["memory"]["explanation"]
        assert story["content"]["zero"] is None


def test_all_of_memory_has_the_class_that_its_struct_pages_say(crashed: Crash, truth: Truth, vmcore: Vmcore) -> None:
    """Pages of every class that the oracle finds, and pages all over memory."""
    classes: dict[str, list[int]] = {}
    judged = sorted(truth.classes.keys() & (vmcore.whole.keys() - truth.image))
    for pfn in judged:
        classes.setdefault(truth.classes[pfn], []).append(pfn)
    every = {"free", "offline", "hugetlb", "anon", "cache", "cache-private", "slab", "other"}
    assert classes.keys() >= every - crashed.guest.lacks
    pfns = [pfn for pages in classes.values() for pfn in some(pages, OF_EACH_KIND)] + some(judged, SPREAD)
    for pfn, story in zip(pfns, explain(crashed.vmcore, "--pfn", pfns), strict=True):
        name = truth.classes[pfn]
        assert story["class"] == BY_TRUTH.get(name, name), (hex(pfn), story["why"])


def test_the_image_is_protected(crashed: Crash, truth: Truth) -> None:
    pfns = some(sorted(truth.image), OF_EACH_KIND)
    for story in explain(crashed.vmcore, "--pfn", pfns):
        assert any(name.startswith("kernel ") for name in story["protected"]), story
        assert story["dropped_at"] == []


def test_struct_pages_are_as_drgn_reads_them(crashed: Crash, truth: Truth, vmcore: Vmcore) -> None:
    if not crashed.guest.has_btf:
        pytest.skip("drgn needs the memory map in one piece")
    prog = truth.prog
    names = {name: value for name, value in prog.type("enum pageflags").enumerators if name.startswith("PG_")}
    flag_bits = prog.constant("__NR_PAGEFLAGS").value_()
    pfns = some(sorted(vmcore.whole.keys() & truth.classes.keys()), SPREAD)
    for pfn, story in zip(pfns, explain(crashed.vmcore, "--pfn", pfns), strict=True):
        page, told = pfn_to_page(prog, pfn), story["struct_page"]
        assert told["vaddr"] == hex(page.value_())
        assert told["paddr"] == hex(follow_phys(prog["init_mm"].address_of_(), page.value_()).value_())
        fields = {field["name"]: int(field["value"], 16) for field in told["fields"]}
        assert fields["flags"] == page.flags.value_()
        assert fields["mapping"] == page.mapping.value_()
        assert fields["_mapcount"] == page._mapcount.counter.value_() & 0xFFFFFFFF
        assert fields["_refcount"] == page._refcount.counter.value_() & 0xFFFFFFFF
        assert fields["private"] == page.private.value_()
        assert fields["compound_head"] == page.compound_head.value_()
        bits = {flag["bit"] for flag in told["flags"]}
        assert bits == {bit for bit in range(flag_bits) if fields["flags"] >> bit & 1}
        for flag in told["flags"]:
            for name in (flag["name"], *flag["aliases"]):
                assert names[f"PG_{name}"] == flag["bit"]
        assert story["paddr"] == hex(page_to_phys(page).value_())


def test_virtual_addresses_lead_where_drgn_says(crashed: Crash, truth: Truth) -> None:
    prog = truth.prog
    stacks = [task.stack.value_() for task in for_each_task(prog) if task.stack][:8]
    image = [prog.symbol(name).address for name in ("_text", "linux_banner", "init_mm")]
    addresses = [*stacks, *image, truth.address_of(1000)]
    for address, story in zip(addresses, explain(crashed.vmcore, "--vaddr", addresses), strict=True):
        expected = follow_phys(prog["init_mm"].address_of_(), address).value_()
        assert story["translation"]["paddr"] == hex(expected)
        assert story["pfn"] == expected // 4096
        assert len(story["translation"]["entries"]) >= 2
        direct = [int(s["page_vaddr"], 16) for s in story["memory"]["segments"] if s["page_vaddr"]]
        assert expected // 4096 * 4096 in {follow(prog, vaddr) for vaddr in direct}


def follow(prog: drgn.Program, address: int) -> int:
    return follow_phys(prog["init_mm"].address_of_(), address).value_()


def test_classes_are_those_of_the_struct_pages(crashed: Crash, truth: Truth, vmcore: Vmcore) -> None:
    report = json.loads(run("classes", "--json", "--verbose", crashed.vmcore))
    told = {line["name"]: line["pages"] for line in report["classes"]}
    ram = vmcore.whole.keys() | vmcore.partial
    assert report["ram_pages"] == len(ram)
    counts = Counter(BY_TRUTH.get(name, name) for pfn, name in truth.classes.items() if pfn in ram)
    for name in counts.keys() - {"kernel"}:
        assert told[name] == counts[name], name
    for line in report["levels"]:
        assert line["kept_pages"] == len(ram) - len(truth.dropped(line["level"]) & ram)
    if not crashed.guest.has_btf:
        assert "zone" in report["zones_unknown"]
        return
    assert zones_by_drgn(truth.prog) == {
        (zone["node"], zone["zone"], zone["start_pfn"], zone["end_pfn"]) for zone in report["zones"]
    }
    assert sum(zone["pages"] for zone in report["zones"]) == len(ram)


def zones_by_drgn(prog: drgn.Program) -> set[tuple[int, str, int, int]]:
    """Zones that have any page."""
    found = set()
    for node in for_each_online_node(prog):
        # A kernel without NUMA has one node.
        for zone in (prog["node_data"][node] if "node_data" in prog else prog["contig_page_data"]).node_zones:
            start, pages = zone.zone_start_pfn.value_(), zone.spanned_pages.value_()
            if pages:
                found.add((node, zone.name.string_().decode(), start, start + pages))
    return found


@pytest.fixture
def looked(crashed: Crash) -> Crash:
    """A guest whose first kernel's vdump looked at /proc/kcore."""
    if not crashed.guest.live:
        pytest.skip("vdump is not there before the crash")
    return crashed


def test_the_running_kernel_showed_itself(looked: Crash) -> None:
    """What the first kernel's vdump said of /proc/kcore."""
    crashed = looked
    for step in crashed.guest.live:
        wanted = 2 if step[0] == "live-refused" else 0
        result = crashed.step(step[0])
        assert result.exit_code == wanted, (step, result.text("err"))
    assert "vdump load --panic" in crashed.step("live-refused").text("err")
    assert not crashed.step("live-refused").dump.exists()
    info = said(crashed, "live-info")
    assert info["kernel"] == crashed.kernel.release
    assert "running kernel" in info["format"]
    assert "vdump-lab: kernel log line three" in crashed.step("live-dmesg").text("out")
    for story in said(crashed, "live-explain")["pages"]:
        assert story["class"] and story["struct_page"]["fields"] and story["zones"], story
    assert crashed.step("live-zones").max_rss_kib < 64 << 10
    assert crashed.step("live-classes").max_rss_kib < 64 << 10


def test_the_running_kernel_shows_what_its_dump_has(looked: Crash, note) -> None:
    """Within 5 %, once the memory of the program that looked, which was free in the dump, is taken off."""
    crashed = looked
    before = said(crashed, "live-classes")
    after = json.loads(run("classes", "--json", crashed.vmcore))
    assert before["live"] and not after["live"]
    own = before["own_pages"]
    assert 0 < own < crashed.step("live-classes").max_rss_kib // 4
    assert 0 <= before["ram_pages"] - after["ram_pages"] <= LOW
    told, dumped = ({line["name"]: line["pages"] for line in report["classes"]} for report in (before, after))
    for counts in (told, dumped):
        # A page that is free goes to a CPU's list and back at any moment.
        counts["free"] += counts.pop("free-pcp", 0)
    figures = []
    for name in told.keys() | dumped.keys():
        one, two = told.get(name, 0), dumped.get(name, 0)
        one += {"user": -own, "free": own}.get(name, 0)
        allowed = max(two * 0.05, SMALL)
        figures.append(f"{name} {one}/{two}")
        assert abs(one - two) <= allowed, f"{name}: {one} pages before the crash, {two} in the dump, {own} of vdump"
    note(f"{crashed.guest.name}: /proc/kcore/vmcore pages: {', '.join(sorted(figures))}")
    # A level's size is what a dump of that level has.
    for one, two in zip(before["levels"], after["levels"], strict=True):
        assert abs(one["kept_pages"] - two["kept_pages"]) <= two["kept_pages"] * 0.05 + own + LOW


def test_a_dry_run_of_the_running_kernel_foretells_the_dump(looked: Crash, note) -> None:
    crashed = looked
    foretold = said(crashed, "live-dry-run")["bytes_written"]
    written = said(crashed, "kdump-j2")["bytes_written"]
    note(f"{crashed.guest.name}: a dry run on /proc/kcore said {foretold} bytes, the dump has {written}")
    # The pages that vdump itself gives back lie on the CPUs' lists, where nothing tells them from the kernel's own.
    own = crashed.step("live-dry-run").max_rss_kib * 1024 // 2
    assert abs(foretold - written) <= written * 0.1 + own
