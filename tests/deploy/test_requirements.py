"""The locks are complete and agree, so that no pip of any age has anything to resolve when it installs them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import requires
from itertools import pairwise

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from embedded.stack import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS: dict[str, tuple[str, ...]] = {"runtime": (), "embedded": ("embedded",), "dev": ("dev",)}
"""Each lock, the smaller ones first, and the extra that it holds beside what the service needs."""
_HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")

each_lock = pytest.mark.parametrize("name", EXTRAS)


@dataclass(frozen=True)
class Entry:
    """One line of a lock, its continuations with it."""

    requirement: Requirement
    hashes: frozenset[str]

    @property
    def version(self) -> str:
        (pin,) = self.requirement.specifier
        return pin.version

    @property
    def here(self) -> bool:
        """Whether this interpreter on this machine installs it."""
        return self.requirement.marker is None or self.requirement.marker.evaluate()

    def __str__(self) -> str:
        return str(self.requirement)


def entries(name: str) -> list[Entry]:
    text = (ROOT / "requirements" / f"{name}.lock").read_text()
    lines = re.sub(r"^\s*#.*\n?", "", text, flags=re.MULTILINE).replace("\\\n", " ").splitlines()
    return [
        Entry(Requirement(line.partition("--hash")[0].strip()), frozenset(_HASH.findall(line)))
        for line in lines
        if line.strip()
    ]


def needed(extras: tuple[str, ...]) -> dict[str, set[str]]:
    """What the project needs on this machine, directly and indirectly, with every version that somebody asks for."""
    versions: dict[str, set[str]] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    project = PROJECT["project"]
    waiting = [Requirement(line) for line in project["dependencies"]]
    waiting += [Requirement(line) for extra in extras for line in project["optional-dependencies"][extra]]
    while waiting:
        one = waiting.pop()
        name, asked = canonicalize_name(one.name), frozenset(one.extras)
        if name == project["name"]:
            waiting += [Requirement(line) for extra in asked for line in project["optional-dependencies"][extra]]
            continue
        versions.setdefault(name, set()).add(str(one.specifier))
        if (name, asked) not in seen:
            seen.add((name, asked))
            waiting += _needed_by(name, asked)
    return versions


def _needed_by(name: str, extras: frozenset[str]) -> Iterator[Requirement]:
    for line in requires(name) or ():
        one = Requirement(line)
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield one


@each_lock
def test_every_entry_is_one_release_with_its_hashes(name: str) -> None:
    for entry in entries(name):
        operators = [pin.operator for pin in entry.requirement.specifier]
        assert operators == ["=="], f"{entry} is not pinned"
        assert "*" not in entry.version, f"{entry} is not pinned"
        assert not entry.requirement.extras, f"{entry}: an extra would be resolved"
        assert entry.requirement.url is None
        assert entry.hashes, f"{entry} has no hash"


@each_lock
def test_a_lock_names_no_index(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.lock").read_text()
    assert "://" not in text
    assert not re.search(r"^\s*(-(?!-hash)|--(?!hash))", text, flags=re.MULTILINE), "only entries, no options"


@each_lock
def test_a_lock_holds_all_that_is_needed_and_nothing_else(name: str) -> None:
    locked = {str(canonicalize_name(entry.requirement.name)): entry.version for entry in entries(name) if entry.here}
    wanted = needed(EXTRAS[name])
    assert locked.keys() == wanted.keys()
    for package, asked in wanted.items():
        for versions in asked:
            assert locked[package] in Requirement(f"{package}{versions}").specifier, f"{package}{versions}"


def test_all_locks_name_the_same_releases() -> None:
    by_lock = [{str(entry): entry.hashes for entry in entries(name)} for name in EXTRAS]
    for smaller, larger in pairwise(by_lock):
        assert smaller.items() <= larger.items(), sorted(smaller.items() - larger.items())


def test_the_project_is_built_by_what_the_lock_of_running_holds() -> None:
    locked = {canonicalize_name(entry.requirement.name): entry.version for entry in entries("embedded")}
    for line in PROJECT["build-system"]["requires"]:
        one = Requirement(line)
        assert locked[canonicalize_name(one.name)] in one.specifier


def test_nothing_is_resolved_or_fetched_beside_the_locks() -> None:
    makefile, image = ((ROOT / path).read_text() for path in ("Makefile", "deploy/Dockerfile"))
    installs = [line for line in makefile.splitlines() if line.lstrip("\t@").startswith("$(INSTALL) ")]
    installs += re.findall(r"-m pip install.*", image)
    assert len(installs) == 4
    assert "pip install" not in makefile.replace("INSTALL := $(BIN)/python -m pip install", "")
    assert re.search(r"^INSTALL := .* --no-deps$", makefile, flags=re.MULTILINE)
    for line in installs:
        assert "$(INSTALL)" in line or "--no-deps" in line, line
        assert ("--require-hashes" in line) is ("-r " in line), line
        assert ("--no-build-isolation" in line) is ("--editable" in line), line
