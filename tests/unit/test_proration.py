"""Changes of plan: to the minor unit, conserving, reversible at the same moment."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.money import Money, MoneyError
from domain.proration import prorate, restart, unused

START, END = datetime(2027, 4, 1, tzinfo=UTC), datetime(2027, 5, 1, tzinfo=UTC)
prices = st.integers(0, 10**9).map(lambda minor: Money(minor, "ILS"))
moments = st.integers(0, 30 * 86400).map(lambda seconds: START + timedelta(seconds=seconds))


def ils(text: str) -> Money:
    return Money.parse(text, "ILS")


def test_an_upgrade_and_a_downgrade_by_hand() -> None:
    at = START + timedelta(days=10)  # two thirds are left
    up = prorate(ils("30.00"), ils("100.00"), start=START, end=END, at=at)
    assert (str(up.credit), str(up.charge), str(up.due)) == ("20.00", "66.67", "46.67")
    down = prorate(ils("100.00"), ils("30.00"), start=START, end=END, at=at)
    assert (str(down.credit), str(down.charge), str(down.due)) == ("66.67", "20.00", "-46.67")


def test_another_interval_begins_a_whole_period() -> None:
    found = restart(ils("30.00"), ils("300.00"), start=START, end=END, at=START + timedelta(days=20))
    assert (str(found.credit), str(found.charge)) == ("10.00", "300.00")


def test_currencies_without_and_with_three_digits() -> None:
    at = START + timedelta(days=20)
    assert unused(Money(1000, "JPY"), start=START, end=END, at=at) == Money(333, "JPY")
    assert unused(Money(1000, "KWD"), start=START, end=END, at=at) == Money(333, "KWD")


@given(prices, prices, moments)
def test_there_and_back_at_the_same_moment_is_nothing(old: Money, new: Money, at: datetime) -> None:
    there = prorate(old, new, start=START, end=END, at=at)
    back = prorate(new, old, start=START, end=END, at=at)
    assert there.due + back.due == Money.zero("ILS")


@given(prices, moments)
def test_the_same_price_is_nothing(price: Money, at: datetime) -> None:
    assert prorate(price, price, start=START, end=END, at=at).due == Money.zero("ILS")


@given(prices, prices, st.lists(moments, min_size=2, max_size=2))
def test_a_credit_never_exceeds_what_was_paid(old: Money, new: Money, ats: list[datetime]) -> None:
    """Also of what was charged for a part of the period: the credit only shrinks as time goes by."""
    first, second = sorted(ats)
    paid = prorate(old, new, start=START, end=END, at=first)
    again = prorate(new, old, start=START, end=END, at=second)
    assert paid.credit <= old
    assert again.credit <= paid.charge


@given(prices, moments)
def test_the_used_and_the_unused_part_make_up_the_price(price: Money, at: datetime) -> None:
    left = unused(price, start=START, end=END, at=at)
    exact = Fraction(price.minor) * Fraction((END - at) // timedelta(seconds=1), 30 * 86400)
    assert abs(left.minor - exact) < 1
    assert Money.zero("ILS") <= left <= price


def test_edges_and_refusals() -> None:
    price = ils("10.00")
    assert unused(price, start=START, end=END, at=START) == price
    assert unused(price, start=START, end=END, at=END + timedelta(days=1)) == Money.zero("ILS")
    with pytest.raises(MoneyError, match="ends after"):
        unused(price, start=END, end=START, at=START)
    with pytest.raises(MoneyError, match="not negative"):
        unused(-price, start=START, end=END, at=START)
    with pytest.raises(MoneyError, match="cannot change"):
        prorate(price, Money(1, "COP"), start=START, end=END, at=START)


@pytest.mark.parametrize("make", [prorate, restart])
def test_refusals_say_why(make: Callable[..., object]) -> None:
    price = ils("10.00")
    for values, says in (
        ({"new": Money(1, "COP")}, "cannot change from ILS to COP"),
        ({"old": -price}, "a price is not negative"),
        ({"start": END, "end": START}, "a period ends after it starts"),
        ({"end": START}, "a period ends after it starts"),
    ):
        with pytest.raises(MoneyError) as refused:
            make(**({"old": price, "new": price, "start": START, "end": END, "at": START} | values))
        assert str(refused.value) == says


@pytest.mark.parametrize(
    ("at", "left"),
    [
        (START - timedelta(days=1), 10),
        (START, 10),
        (START + timedelta(microseconds=1), 10),
        (START + timedelta(days=3), 9),
        (START + timedelta(days=15), 5),
        (START + timedelta(days=16, hours=12), 4),  # 4.5: ties go to the used part
        (END - timedelta(microseconds=1), 0),
        (END, 0),
        (END + timedelta(days=9), 0),
    ],
)
def test_what_is_left_at_a_moment(at: datetime, left: int) -> None:
    assert unused(Money(10, "ILS"), start=START, end=END, at=at) == Money(left, "ILS")


def test_a_free_plan_gives_and_takes_nothing() -> None:
    assert unused(ils("0.00"), start=START, end=END, at=START) == ils("0.00")


def test_a_restart_before_and_after_the_period() -> None:
    for at, credit in ((START, "30.00"), (END, "0.00")):
        found = restart(ils("30.00"), ils("300.00"), start=START, end=END, at=at)
        assert (found.credit, found.charge, found.due) == (ils(credit), ils("300.00"), ils("300.00") - ils(credit))
