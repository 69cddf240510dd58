"""`make mutate`: the pure rules and the posting of captures are changed one place at a time; tests must notice each.

Parts: `functions` (bodies of `domain`, by mutmut), `tables` (what stands outside of them: tables, defaults, properties)
and `posting` (`activities/settlement.py`, on a PostgreSQL that outlives the changes). The score is what was noticed of
all changes but those that `explained.toml` shows to change nothing. Exit code 0: the score of the rules is at least
90 % and each change that was not noticed is explained. The report is printed and written to `build/mutation.txt`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from embedded.stack import ROOT, Ports, engines
from tests.mutation.tables import NOT_OF_THE_RULES, Change, changes_outside_of_functions, tests_of, try_changes

BUILD = ROOT / "build"
EXPLAINED = Path(__file__).with_name("explained.toml")
ENOUGH = 0.90
PARTS = ("functions", "tables", "posting")
NOTICED = {1, 3, 24, 36, 152, 255, -24, -9, -11}
"""Exit codes that mutmut keeps: a test failed, pytest broke, or the change ran into a time-out or a crash."""


@dataclass(frozen=True, slots=True)
class Score:
    """How one part went. `missed` are changes that no test noticed and nothing explains; `unseen` were not tried."""

    part: str
    tried: int
    noticed: int
    explained: Sequence[tuple[Change, str]]
    missed: Sequence[Change]
    unseen: int

    @property
    def share(self) -> float:
        """Of those that change something; what the time did not reach counts as missed."""
        meant = self.tried + self.unseen - len(self.explained)
        return self.noticed / meant if meant else 1.0

    def report(self) -> str:
        """For people: the score, then each change that was not noticed."""
        meant = self.tried + self.unseen - len(self.explained)
        counts = f"{self.noticed} of {meant} noticed, {len(self.missed)} missed, {self.unseen} not reached"
        lines = [f"{self.part}: {self.share:.1%} ({counts}; {len(self.explained)} more change nothing)"]
        lines += [f"  missed     {change}" for change in self.missed]
        lines += [f"  no change  {change}: {why}" for change, why in self.explained]
        return "\n".join(lines)


def main() -> int:
    """Run the parts that were asked for."""
    parser = argparse.ArgumentParser(prog="make mutate", description=(__doc__ or "").split("\n\n", maxsplit=1)[0])
    parser.add_argument("--part", choices=PARTS, action="append", help="this part alone; may be given several times")
    parser.add_argument("--module", help="one module of `domain` alone, such as money")
    parser.add_argument("--minutes", type=float, default=25.0, help="how long one part may take")
    chosen = parser.parse_args()
    BUILD.mkdir(exist_ok=True)
    scores = []
    for part in chosen.part or PARTS:
        before = time.monotonic()
        tried = run(part, chosen.module or "*", chosen.minutes * 60)
        score = scored(part, tried)
        print(f"{score.report()}\n  {time.monotonic() - before:.0f} s\n", flush=True)
        scores.append(score)
    (BUILD / "mutation.txt").write_text("\n\n".join(score.report() for score in scores) + "\n", encoding="utf-8")
    rules = [score for score in scores if score.part != "posting"]
    good = all(score.share >= ENOUGH for score in rules) and not any(score.missed or score.unseen for score in scores)
    return 0 if good else 1


def run(part: str, module: str, seconds: float) -> Mapping[Change, bool | None]:
    """Each change and whether it was noticed; None where the time was over first."""
    if part == "tables":
        found = [change for path in rules(module) for change in changes_outside_of_functions(path)]
        return try_changes(found, seconds)
    if part == "functions":
        ignored = [f"--ignore=tests/unit/{name}" for name in NOT_OF_THE_RULES]
        named = [] if module == "*" else [str(Path(one).relative_to(ROOT)) for one in tests_of(f"domain.{module}")]
        return run_mutmut("domain", f"domain/{module}.py", named or ["tests/unit"], ignored, seconds, {})
    return asyncio.run(run_posting(seconds))


def rules(module: str) -> list[Path]:
    """The files of the pure rules."""
    return sorted((ROOT / "domain").glob(f"{module}.py"))


async def run_posting(seconds: float) -> Mapping[Change, bool | None]:
    """The same for the posting of captures, with a database that is started once."""
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "stack"
        state.mkdir()
        for reached in (Path(folder), state):
            reached.chmod(0o755)  # the database's own user has to get there
        async with engines(state, Ports.free()) as stack:
            return await asyncio.to_thread(
                run_mutmut,
                "activities",
                "activities/settlement.py",
                ["tests/storage/test_capture_posting.py"],
                [],
                seconds,
                {"BOOKS_DATABASE_URL": stack.database_url},
            )


def run_mutmut(
    source: str, only: str, tests: list[str], options: list[str], seconds: float, env: Mapping[str, str]
) -> Mapping[Change, bool | None]:
    """Let mutmut change `only` within a copy of the sources, one process, and read what it found."""
    work = BUILD / "mutation" / source
    shutil.rmtree(work, ignore_errors=True)
    for name in (source, "tests"):
        shutil.copytree(ROOT / name, work / name, ignore=shutil.ignore_patterns("__pycache__"))
    settings = {
        "source_paths": [source],
        "only_mutate": [only],
        "pytest_add_cli_args": [
            "-p",
            "no:cacheprovider",
            "--hypothesis-profile=mutate",
            "--hypothesis-seed=0",
            *options,
        ],
        "pytest_add_cli_args_test_selection": tests,
    }
    own = "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items())
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (work / "pyproject.toml").write_text(f"{text}\n[tool.mutmut]\n{own}", encoding="utf-8")
    mutmut = [sys.executable, "-m", "mutmut"]
    with (BUILD / f"mutation-{source}.log").open("w", encoding="utf-8") as log:
        try:
            subprocess.run(
                [*mutmut, "run", "--max-children", "1"],
                cwd=work,
                env=os.environ | env,
                stdout=log,
                stderr=log,
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            print(f"the time is over: see {log.name}")
    found: dict[Change, bool | None] = {}
    for kept in sorted((work / "mutants" / source).glob("**/*.meta")):
        codes = json.loads(kept.read_text(encoding="utf-8"))["exit_code_by_key"]
        for name, code in codes.items():
            noticed = None if code in (None, 2) else code in NOTICED
            found[shown(mutmut, name, work) if noticed is False else Change(name)] = noticed
    if not found:
        raise SystemExit(f"mutmut changed nothing; {log.name} says why")
    return found


def shown(mutmut: list[str], name: str, work: Path) -> Change:
    """A change with the lines that it takes and puts."""
    diff = subprocess.run([*mutmut, "show", name], cwd=work, capture_output=True, text=True, check=False).stdout
    lines = [line for line in diff.splitlines() if line[:1] in "+-" and not line.startswith(("+++", "---"))]
    was = " ".join(line[1:].strip() for line in lines if line[0] == "-")
    now = " ".join(line[1:].strip() for line in lines if line[0] == "+")
    return Change(name, was, now)


def scored(part: str, tried: Mapping[Change, bool | None]) -> Score:
    """Tell what is missed from what is explained."""
    reasons = [(entry["where"], entry["now"], entry["why"]) for entry in explanations()]
    left = [change for change, noticed in tried.items() if noticed is False]
    explained = [(change, why) for change in left if (why := _why(change, reasons)) is not None]
    known = {change for change, _ in explained}
    return Score(
        part,
        tried=sum(noticed is not None for noticed in tried.values()),
        noticed=sum(noticed is True for noticed in tried.values()),
        explained=explained,
        missed=[change for change in left if change not in known],
        unseen=sum(noticed is None for noticed in tried.values()),
    )


def explanations() -> list[dict[str, str]]:
    """Changes that change nothing: where, what the line becomes, and why nobody can notice."""
    return list(tomllib.loads(EXPLAINED.read_text(encoding="utf-8"))["change"])


def _why(change: Change, reasons: Iterable[tuple[str, str, str]]) -> str | None:
    return next((why for where, now, why in reasons if change.where == where and change.now == now), None)


if __name__ == "__main__":
    sys.exit(main())
