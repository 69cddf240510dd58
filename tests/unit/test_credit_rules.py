"""Credit and the captured money behind it, rule by rule."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.credit import FundedInvoice, Part, Source, given_back, spendable, take, total, within_reach
from domain.money import Money

ONE, OTHER, INVOICE, SECOND = uuid4(), uuid4(), uuid4(), uuid4()
START = datetime(2027, 4, 1, tzinfo=UTC)
END = START + timedelta(days=30)
DAY = timedelta(days=1)


def ils(minor: int) -> Money:
    return Money(minor, "ILS")


def source(left: int, unused: int = 0, used: int = 0, *, of: object = ONE) -> Source:
    return Source(of, ils(left), ils(unused), ils(used))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("left", "unused", "used", "room", "refundable", "overdrawn"),
    [
        (100, 0, 0, 100, 100, 0),
        (100, 40, 0, 60, 100, 0),
        (100, 40, 30, 30, 70, 0),
        (100, 60, 40, 0, 60, 0),
        (100, 60, 41, 0, 59, 1),
        (0, 0, 30, 0, 0, 30),
        (20, 0, 30, 0, 0, 10),
        (20, 5, 30, 0, 0, 15),
        (0, 0, 0, 0, 0, 0),
    ],
)
def test_what_a_payment_can_still_give(
    left: int, unused: int, used: int, room: int, refundable: int, overdrawn: int
) -> None:
    one = source(left, unused, used)
    assert (one.room, one.refundable, one.overdrawn) == (ils(room), ils(refundable), ils(overdrawn))


def test_parts_add_up_and_are_taken_in_order() -> None:
    parts = [Part(ONE, ils(30)), Part(OTHER, ils(20), INVOICE), Part(None, ils(50))]
    assert total(parts, "ILS") == ils(100)
    assert total([], "KWD") == Money.zero("KWD")
    assert take(parts, ils(0)) == []
    assert take(parts, ils(30)) == parts[:1]
    assert take(parts, ils(31)) == [parts[0], Part(OTHER, ils(1), INVOICE)]
    assert take(parts, ils(50)) == parts[:2]
    assert take(parts, ils(999)) == parts
    assert take([Part(ONE, ils(0)), Part(OTHER, ils(5))], ils(3)) == [Part(OTHER, ils(3))]


@given(st.lists(st.integers(0, 1000), max_size=6), st.integers(0, 4000))
def test_what_is_taken_is_what_was_wanted_or_all(amounts: list[int], wanted: int) -> None:
    parts = [Part(uuid4(), ils(amount)) for amount in amounts]
    assert total(take(parts, ils(wanted)), "ILS") == ils(min(wanted, sum(amounts)))


def test_credit_is_used_as_it_came_and_what_is_empty_is_none() -> None:
    found = spendable([source(100, 30), source(100, 0, 20, of=OTHER), source(50, 1, of=None), source(0, -1, of=OTHER)])
    assert found == [Part(ONE, ils(30)), Part(None, ils(1))]


def invoice(
    value: int, *credit: tuple[object, int], payment: object = ONE, since: datetime | None = START
) -> FundedInvoice:
    funded = tuple((key, ils(amount)) for key, amount in credit)
    return FundedInvoice(INVOICE, payment, ils(value), funded, since)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("days", "credit"),
    [(-5, 3000), (0, 3000), (10, 2001), (15, 1501), (29, 101), (30, 0), (31, 0)],
)
def test_no_more_than_the_unused_part_of_an_invoice(days: int, credit: int) -> None:
    """And one minor unit, for the roundings."""
    found = within_reach([invoice(3000)], {ONE: source(3000)}, end=END, at=START + days * DAY)
    assert found == ([Part(ONE, ils(credit))] if credit else [])


def test_what_was_carried_over_whole_does_not_shrink() -> None:
    at = START + 29 * DAY
    assert within_reach([invoice(3000, since=None)], {ONE: source(3000)}, end=END, at=at) == [Part(ONE, ils(3000))]


@pytest.mark.parametrize(
    ("left", "unused", "used", "credit"),
    [(3000, 0, 0, 3000), (1000, 0, 0, 1000), (3000, 1000, 500, 1500), (0, 0, 0, 0)],
)
def test_no_more_than_is_left_of_the_payment(left: int, unused: int, used: int, credit: int) -> None:
    found = within_reach([invoice(3000)], {ONE: source(left, unused, used)}, end=END, at=START)
    assert found == ([Part(ONE, ils(credit))] if credit else [])


def test_two_invoices_share_the_room_of_one_payment_and_the_first_is_served_first() -> None:
    first, second = invoice(800), invoice(900)
    found = within_reach([first, second], {ONE: source(1000)}, end=END, at=START)
    assert found == [Part(ONE, ils(800)), Part(ONE, ils(200))]


def test_credit_that_paid_an_invoice_comes_back_to_its_source() -> None:
    funded = invoice(500, (OTHER, 300), (None, 200))
    sources = {ONE: source(500), OTHER: source(300, 0, 300, of=OTHER), None: source(200, 0, 200, of=None)}
    assert within_reach([funded], sources, end=END, at=START) == [
        Part(OTHER, ils(300), INVOICE),
        Part(None, ils(200), INVOICE),
        Part(ONE, ils(500)),
    ]


def test_credit_whose_money_went_back_meanwhile_does_not_come_back() -> None:
    funded = invoice(0, (OTHER, 300), payment=None)
    for left, credit in ((400, 300), (300, 300), (299, 0), (0, 0)):
        found = within_reach([funded], {OTHER: source(left, 0, 300, of=OTHER)}, end=END, at=START)
        assert found == ([Part(OTHER, ils(credit), INVOICE)] if credit else [])
    twice = within_reach([funded, funded], {OTHER: source(600, 0, 600, of=OTHER)}, end=END, at=START)
    assert twice == [Part(OTHER, ils(300), INVOICE), Part(OTHER, ils(300), INVOICE)]


def test_what_nobody_paid_gives_nothing() -> None:
    assert within_reach([invoice(3000, payment=None)], {}, end=END, at=START) == []
    assert within_reach([], {}, end=END, at=START) == []
    assert within_reach([invoice(0)], {ONE: source(100)}, end=END, at=START) == []


def test_used_credit_that_is_given_back_after_all() -> None:
    parts = [Part(ONE, ils(60), INVOICE), Part(ONE, ils(40), SECOND), Part(OTHER, ils(10), INVOICE)]
    sources: dict[object, Source] = {ONE: source(30, 0, 100), OTHER: source(10, 0, 10, of=OTHER)}
    assert given_back(parts, sources) == [  # type: ignore[arg-type]
        (parts[0], ils(0)),
        (parts[1], ils(30)),
        (parts[2], ils(10)),
    ]


@given(st.integers(0, 5000), st.integers(0, 5000), st.integers(0, 5000), st.integers(0, 5000), st.integers(-5, 35))
def test_never_more_credit_than_captured_money(left: int, unused: int, used: int, value: int, days: int) -> None:
    one = source(left, unused, used)
    found = within_reach([invoice(value)], {ONE: one}, end=END, at=START + days * DAY)
    more = total(found, "ILS").minor
    assert 0 <= more <= value
    if more:
        assert unused + used + more <= left
