"""Changes outside of functions, which mutmut leaves alone: tables, sets, defaults, and bodies of properties.

The changes are mutmut's own. Each is tried in a process of its own, in which the module has the changed source.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import hypothesis
import libcst as cst
import pytest
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.file_mutation import MutationVisitor
from mutmut.mutation.mutators import mutation_operators
from mutmut.mutation.pragma_handling import get_ignored_lines

ROOT = Path(__file__).resolve().parents[2]
NOT_OF_THE_RULES = (
    "test_logs_and_codec.py",
    "test_new_cases.py",
    "test_receipts.py",
    "test_routing.py",
    "test_unusable_settings.py",
    "test_waits.py",
)
"""Tests in tests/unit of other things than `domain`, most of them slow."""
PATIENCE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Change:
    """One change: its name, what a line was and what it becomes. `source` is the whole module with it."""

    name: str
    was: str = ""
    now: str = ""
    source: str = field(default="", compare=False, repr=False)

    @property
    def where(self) -> str:
        """Module and function, without mutmut's marks."""
        plain = re.sub(r"__mutmut_\d+$", "", self.name).replace("xǁ", "").replace("ǁ", ".")
        return re.sub(r"\.x_(?=[^.]*$)", ".", plain)

    def __str__(self) -> str:
        return f"{self.where}: {self.was} → {self.now}"


class _Outside(MutationVisitor):
    """Mutmut's visitor, which enters properties too, and keeps what it finds outside of functions that mutmut takes."""

    def _skip_node_and_children(self, node: cst.CSTNode) -> bool:
        if isinstance(node, cst.FunctionDef):
            names = [getattr(one.decorator, "value", "") for one in node.decorators]
            return names != ["property"]
        return bool(super()._skip_node_and_children(node))


def changes_outside_of_functions(path: Path) -> list[Change]:
    """Every change of a module that mutmut would not make. That a whole table is gone needs no test, so it is none."""
    code = path.read_text(encoding="utf-8")
    wrapper = MetadataWrapper(cst.parse_module(code))
    visitor = _Outside(mutation_operators, get_ignored_lines(str(path), code, wrapper, None), None)
    module = wrapper.visit(visitor)
    places = wrapper.resolve(PositionProvider)
    lines, found = code.splitlines(), []
    for number, mutation in enumerate(visitor.mutations, start=1):
        if isinstance(mutation.original_node, cst.Assign | cst.Call):
            continue
        changed = cst.ensure_type(module.deep_replace(mutation.original_node, mutation.mutated_node), cst.Module).code
        line = places[mutation.original_node].start.line if mutation.original_node in places else 0
        now = changed.splitlines()
        at = next((index for index, (one, other) in enumerate(zip(lines, now, strict=False)) if one != other), line - 1)
        name = f"domain.{path.stem}.{_around(lines, at)}__mutmut_{number}"
        found.append(Change(name, lines[at].strip(), now[at].strip(), changed))
    return found


def _around(lines: Sequence[str], at: int) -> str:
    """The name of the class, property or table that a line belongs to."""
    for line in reversed(lines[: at + 1]):
        if match := re.match(r"(?:class |def )?(\w+)", line):
            return match[1]
    return "module"


def try_changes(changes: Sequence[Change], seconds: float) -> Mapping[Change, bool | None]:
    """Whether the module's tests notice each; None for those that the time did not reach."""
    hypothesis.settings.register_profile(
        "mutate", deadline=None, database=None, phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate]
    )
    hypothesis.settings.load_profile("mutate")
    end = time.monotonic() + seconds
    tests = {name: tests_of(name) for name in {_module(change) for change in changes}}
    for name, files in tests.items():
        if _exit_code(name, None, files, patience=10 * PATIENCE_SECONDS) != 0:
            raise SystemExit(f"the tests of {name} fail as they are: {' '.join(files)}")
    return {
        change: _exit_code(_module(change), change.source, tests[_module(change)]) != 0
        if time.monotonic() < end
        else None
        for change in changes
    }


def tests_of(module: str) -> list[str]:
    """The files of tests/unit that name a module of `domain`; all of the rules' where none does."""
    short = module.rpartition(".")[2]
    named = re.compile(rf"domain\.{short}\b|from domain import [^\n]*\b{short}\b")
    files = [path for path in sorted((ROOT / "tests/unit").glob("test_*.py")) if path.name not in NOT_OF_THE_RULES]
    found = [path for path in files if named.search(path.read_text(encoding="utf-8"))]
    return [str(path) for path in found or files]


def _module(change: Change) -> str:
    return ".".join(change.name.split(".")[:2])


class _Changed(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Gives one module another source."""

    def __init__(self, name: str, source: str) -> None:
        self._name, self._source = name, source

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.util.spec_from_loader(fullname, self) if fullname == self._name else None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._source, f"{self._name} changed", "exec"), vars(module))  # noqa: S102  (our own source)


def _exit_code(name: str, source: str | None, tests: Sequence[str], *, patience: float = PATIENCE_SECONDS) -> int:
    """Run the tests in a copy of this process, which has not imported the rules. 1 when it takes too long."""
    child = os.fork()
    if child == 0:
        with suppress(BaseException):
            os._exit(_tested(name, source, tests))
        os._exit(1)
    end = time.monotonic() + patience
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return 1


def _tested(name: str, source: str | None, tests: Sequence[str]) -> int:
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    for known in [known for known in sys.modules if known.split(".")[0] == "domain"]:
        del sys.modules[known]
    if source is not None:
        sys.meta_path.insert(0, _Changed(name, source))
    options = ["-x", "-q", "-p", "no:cacheprovider", f"--confcutdir={ROOT / 'tests/unit'}", "--hypothesis-seed=0"]
    known_by_now = ["-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"]
    return int(pytest.main([*options, *known_by_now, *tests]))
