#!/usr/bin/env python3
"""The VM lab's command line: checks the tools, fetches kernels, crashes guests, records machines, remakes the
repository's sample, runs the tests."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from vmlab import altered, cache, debian, deps, record, sample
from vmlab.crash import crash
from vmlab.guests import GUESTS
from vmlab.lab_error import LabError


def main() -> int:
    arguments = parse()
    os.environ["PATH"] += f":{deps.PATH}"
    try:
        if arguments.run in (run_test, run_altered):
            return arguments.run(arguments)
        with cache.held():
            return arguments.run(arguments) or 0
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, epilog=f"The cache is $VDUMP_LAB, now {cache.root()}.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("deps", help="check that every tool is there").set_defaults(run=run_deps)
    commands.add_parser("fetch", help="download kernels and Python packages into the cache").set_defaults(run=run_fetch)
    commands.add_parser("judges", help="make the judges' Python (drgn) in the cache").set_defaults(run=run_judges)
    one = commands.add_parser("crash", help="crash guests, or reuse their crashes")
    one.add_argument("name", nargs="+", choices=GUESTS, metavar=f"NAME ({', '.join(GUESTS)})")
    one.add_argument("--fresh", action="store_true", help="crash again even if nothing changed")
    one.set_defaults(run=run_crash)
    remake = commands.add_parser("sample", help="make the repository's small vmcore, compressed with zstd")
    remake.add_argument("out", type=Path)
    remake.set_defaults(run=run_sample)
    machine = commands.add_parser("record", help="record machines for the loader's tests (loader/tests/trees)")
    machine.add_argument("name", choices=record.MACHINES, metavar=f"NAME ({', '.join(record.MACHINES)})")
    machine.add_argument("out", type=Path, help="the file to write: NAME.tree")
    machine.set_defaults(run=run_record)
    remake = commands.add_parser("altered-sample", help="make that of an altered kernel, and the truth of its pages")
    remake.add_argument("out", type=Path)
    remake.set_defaults(run=run_altered_sample)
    commands.add_parser("test", help="run the tests; further words go to pytest").set_defaults(run=run_test)
    commands.add_parser("build", help="build the altered kernels").set_defaults(run=run_build)
    commands.add_parser("altered", help="run the tests on the altered kernels").set_defaults(run=run_altered)
    arguments, words = parser.parse_known_args()
    arguments.words = words
    if words and arguments.run not in (run_test, run_altered):
        parser.error(f"unknown words: {' '.join(words)}")
    return arguments


def run_deps(_: argparse.Namespace) -> int:
    missing = deps.missing()
    for line in missing:
        print(f"missing: {line}", file=sys.stderr)
    return 1 if missing else 0


def run_judges(_: argparse.Namespace) -> None:
    print(deps.python())


def run_fetch(_: argparse.Namespace) -> None:
    print(f"judges: {deps.python()}")
    for line in sorted({guest.line for guest in GUESTS.values() if not guest.altered}):
        print(f"kernel {line}: {debian.newest(line).vmlinux.parent}")


def run_crash(arguments: argparse.Namespace) -> None:
    for name in arguments.name:
        start = time.monotonic()
        result = crash(GUESTS[name], fresh=arguments.fresh)
        print(f"{name}: {result.folder} ({time.monotonic() - start:.0f} s)")


def run_sample(arguments: argparse.Namespace) -> None:
    print(sample.make(arguments.out)[0])


def run_altered_sample(arguments: argparse.Namespace) -> None:
    print(sample.make_altered(arguments.out))


def run_build(_: argparse.Namespace) -> None:
    for name in altered.ALTERED:
        kernel = altered.built(name)
        seconds = (kernel.folder / "seconds").read_text().strip()
        print(f"altered kernel {kernel.release}: {kernel.folder} (was built in {seconds} s)")


def run_altered(arguments: argparse.Namespace) -> int:
    os.environ["VDUMP_ALTERED"] = "1"
    arguments.words = ["-k", "altered", *arguments.words]
    return run_test(arguments)


def run_record(arguments: argparse.Namespace) -> None:
    record.record(arguments.name, arguments.out)


def run_test(arguments: argparse.Namespace) -> int:
    here = Path(__file__).parent
    with cache.held():
        judges = deps.python()
    # The tests take the cache again themselves, also when pytest is run without this program.
    return subprocess.call(
        [judges, "-m", "pytest", "-p", "no:cacheprovider", "--durations=10", "-rs", str(here), *arguments.words]
    )


if __name__ == "__main__":
    sys.exit(main())
