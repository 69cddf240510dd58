"""Properties meet new cases at every run, in CI too, and a red run says how to meet the same ones again."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROPERTY = """
from hypothesis import given, strategies as st

@given(st.lists(st.integers(0, 2**64), min_size=1, max_size=1))
def test_drawn(numbers):
    print("drawn", numbers)
    assert numbers[0] < 1000
"""


def run(folder: Path, *arguments: str) -> str:
    """The output of a run as CI makes it, with our conftest; no example of an earlier run is remembered."""
    (folder / "test_drawn.py").write_text(PROPERTY)
    command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "-p", "tests.conftest"]
    done = subprocess.run(
        [*command, *arguments, str(folder / "test_drawn.py")],
        env=os.environ | {"CI": "1", "HYPOTHESIS_STORAGE_DIRECTORY": str(folder / "examples")},
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    return done.stdout


def cases(output: str) -> list[str]:
    found = re.findall(r"^drawn .*$", output, re.MULTILINE)
    assert len(found) > 10, output
    return found


def test_runs_in_ci_meet_different_cases_and_a_red_one_says_how_to_repeat_it(tmp_path: Path) -> None:
    red = run(tmp_path)
    assert "1 failed" in red
    assert "@reproduce_failure" in red
    seed = re.search(r"repeat them with (--hypothesis-seed=\d+)", red)
    assert seed is not None, red
    assert cases(run(tmp_path, seed[1])) == cases(red) != cases(run(tmp_path))
