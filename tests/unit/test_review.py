"""The registry of review reasons is the only place that reasons come from."""

from __future__ import annotations

import ast
from pathlib import Path

from api.problems import CODES
from domain.review import NEEDS_REFERENCE, OF_OVERPAYMENTS, REVIEWS, UNBOOKED, WHOLE, ReviewAction, ReviewReason

ROOT = Path(__file__).parents[2]
CODE = [
    path
    for folder in ("activities", "api", "cli", "dispatch", "domain", "engine", "storage", "workflows")
    for path in sorted((ROOT / folder).rglob("*.py"))
]


def test_no_reason_is_without_an_act() -> None:
    assert set(REVIEWS) == set(ReviewReason)
    for reason, review in REVIEWS.items():
        assert review.meaning, reason
        assert review.acts, f"{reason} waits for ever"
        assert set(review.acts) <= set(ReviewAction)
        assert all(review.acts.values()), reason
    assert set(REVIEWS) >= UNBOOKED | OF_OVERPAYMENTS | WHOLE | NEEDS_REFERENCE


def test_a_reason_is_set_in_one_place_and_from_the_registry() -> None:
    """Whoever marks a payment names a member of the registry; its column is written nowhere else."""
    writers: set[str] = set()
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text())):
            targets = node.targets if isinstance(node, ast.Assign) else []
            if any(isinstance(one, ast.Attribute) and one.attr == "flag" for one in targets):
                writers.add(path.relative_to(ROOT).as_posix())
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("set_flag", "clear_flag"):
                named = node.args[2]
                assert not isinstance(named, ast.Constant), f"{path.name}:{node.lineno} names no member"
    assert writers == {"storage/payments.py"}


def test_reasons_are_spelled_out_in_the_registry_alone() -> None:
    """A text that happens to be a reason would not be found when the reason changes."""
    words = set(ReviewReason) - CODES.keys()  # a problem may have the same name
    spelled = {
        path.relative_to(ROOT).as_posix()
        for path in CODE
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in words
    }
    assert spelled <= {"domain/review.py"}
