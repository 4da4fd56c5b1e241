#!/usr/bin/env python3
"""Holds Cargo.lock against deny.toml: licences, two versions of one crate, sources; and every dependency's minimum Rust
version against ours. `cargo deny check` does the same and knows security advisories too: it is run where it is installed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

TOP = Path(__file__).parent.parent
CRATES_IO = "registry+https://github.com/rust-lang/crates.io-index"


def main() -> int:
    rules = tomllib.loads((TOP / "deny.toml").read_text())
    command = ["cargo", "metadata", "--format-version", "1", "--locked"]
    packages = json.loads(subprocess.run(command, cwd=TOP, check=True, stdout=subprocess.PIPE).stdout)["packages"]
    faults = [*licences(packages, set(rules["licenses"]["allow"])), *duplicates(packages, rules["bans"]["skip"])]
    faults += [*sources(packages), *too_new(packages)]
    for fault in faults:
        print(f"dependencies: {fault}", file=sys.stderr)
    if not shutil.which("cargo-deny"):
        print(f"{len(packages)} dependencies hold to deny.toml; advisories were not asked: cargo-deny is not installed")
    elif subprocess.call(["cargo", "deny", "check"], cwd=TOP):
        faults.append("cargo deny")
    return 1 if faults else 0


def licences(packages: list[dict], allowed: set[str]) -> list[str]:
    return [
        f"{name(package)} has the licence {package['license']}, which deny.toml does not allow"
        for package in packages
        if not permitted(package["license"] or "", allowed)
    ]


def permitted(expression: str, allowed: set[str]) -> bool:
    """An SPDX expression: AND binds stronger than OR; crates of old wrote a slash for OR."""
    words = re.findall(r"[()]|[^\s()]+", expression.replace("/", " OR "))

    def any_of() -> bool:
        result = all_of()
        while words and words[0] == "OR":
            words.pop(0)
            result = all_of() or result
        return result

    def all_of() -> bool:
        result = one()
        while words and words[0] == "AND":
            words.pop(0)
            result = one() and result
        return result

    def one() -> bool:
        if not words:
            return False
        if words[0] == "(":
            words.pop(0)
            result = any_of()
            words.pop(0)
            return result
        licence = words.pop(0)
        if words and words[0] == "WITH":
            licence += f" WITH {words[1]}"
            del words[:2]
        return licence in allowed

    return any_of() and not words


def duplicates(packages: list[dict], skipped: list[dict]) -> list[str]:
    versions = defaultdict(set)
    for package in packages:
        if not any(matches(package, skip["crate"]) for skip in skipped):
            versions[package["name"]].add(package["version"])
    # Bindings to Windows come in pairs, and no build of vdump has them.
    return [
        f"{crate} is there in the versions {', '.join(sorted(found))}"
        for crate, found in versions.items()
        if len(found) > 1 and not crate.startswith("windows")
    ]


def matches(package: dict, skip: str) -> bool:
    crate, _, version = skip.partition("@")
    return package["name"] == crate and f"{package['version']}.".startswith(f"{version}." if version else "")


def sources(packages: list[dict]) -> list[str]:
    return [f"{name(package)} comes from {package['source']}" for package in packages if package["source"] not in (None, CRATES_IO)]


def too_new(packages: list[dict]) -> list[str]:
    ours = next(package["rust_version"] for package in packages if package["name"] == "vdump")
    return [
        f"{name(package)} needs Rust {package['rust_version']}, vdump promises {ours}"
        for package in packages
        if package["rust_version"] and numbers(package["rust_version"]) > numbers(ours)
    ]


def numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")][:2]


def name(package: dict) -> str:
    return f"{package['name']} {package['version']}"


if __name__ == "__main__":
    sys.exit(main())
