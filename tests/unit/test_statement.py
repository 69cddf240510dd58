"""A referrer's statement: what each kind of movement means, and that it sums up."""

from __future__ import annotations

from itertools import combinations

import pytest

from domain.money import Money
from domain.statement import POSTINGS, Posting, Statement, statement

MEANING = {
    "capture": "accrual",
    "refund": "claw_back",
    "dispute_lost": "claw_back",
    "dispute_loss_undone": "claw_back",
    "commission_rejected": "claw_back",
    "commission_payout": "payout",
    "payout_sent": "payout",
    "payout_returned": "payout",
}


def ils(minor: int) -> Money:
    return Money(minor, "ILS")


def test_what_each_kind_means() -> None:
    assert {kind: posting.value for kind, posting in POSTINGS.items()} == MEANING
    assert {posting.value for posting in Posting} == {"accrual", "claw_back", "payout", "other"}


@pytest.mark.parametrize("kind", [*MEANING, "a_kind_of_next_year"])
@pytest.mark.parametrize("minor", [700, -700])
def test_each_kind_stands_in_its_column(kind: str, minor: int) -> None:
    """What takes from the balance is shown as a positive number where its column says so."""
    made = statement(ils(100), {kind: ils(minor)})
    columns = {"accrual": "accrued", "claw_back": "clawed_back", "payout": "paid", "other": "other"}
    column = columns[MEANING.get(kind, "other")]
    shown = dict.fromkeys(columns.values(), 0) | {column: -minor if column in ("clawed_back", "paid") else minor}
    assert made == Statement(ils(100), **{name: ils(value) for name, value in shown.items()})
    assert made.closing == ils(100 + minor)


@pytest.mark.parametrize(("one", "other"), list(combinations(MEANING, 2)))
def test_two_kinds_add_up(one: str, other: str) -> None:
    made = statement(ils(-5), {one: ils(30), other: ils(-12)})
    assert made.closing == ils(13)
    assert made.opening == ils(-5)


def test_nothing_booked_leaves_the_balance() -> None:
    assert statement(ils(-5), {}) == Statement(ils(-5), ils(0), ils(0), ils(0), ils(0))
