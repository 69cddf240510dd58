"""The status machine ends in the same state whatever the order and the number of events."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.money import Money
from domain.payment import (
    CAPTURED,
    OPEN,
    Advance,
    Checkout,
    Confirm,
    Confirmation,
    PaymentOutcome,
    PaymentStatus,
    PollPlan,
    StartPayment,
    Watch,
    advance,
    payment_id_for,
)

facts = st.lists(
    st.sampled_from(
        [status for status in PaymentStatus if status not in (PaymentStatus.CREATED, PaymentStatus.UNKNOWN)]
    ),
    max_size=8,
)


def end_of(sequence: list[PaymentStatus]) -> PaymentStatus:
    status = PaymentStatus.CREATED
    for fact in sequence:
        status = advance(status, fact).status
    return status


@given(facts, st.randoms(use_true_random=False), st.data())
def test_any_order_and_duplication_ends_in_the_same_status(
    sequence: list[PaymentStatus], chance: random.Random, data: st.DataObject
) -> None:
    extra = data.draw(st.lists(st.sampled_from(sequence))) if sequence else []
    shuffled = sequence + extra
    chance.shuffle(shuffled)
    assert end_of(shuffled) == end_of(sequence)


@given(facts)
def test_money_once_captured_is_never_forgotten(sequence: list[PaymentStatus]) -> None:
    if any(fact in CAPTURED for fact in sequence):
        assert end_of(sequence) in CAPTURED


@given(facts, st.integers(0, 8))
def test_not_knowing_never_hides_what_is_known(sequence: list[PaymentStatus], place: int) -> None:
    with_doubt = [*sequence[:place], PaymentStatus.UNKNOWN, *sequence[place:]]
    if end_of(sequence) not in OPEN:
        assert end_of(with_doubt) == end_of(sequence)


def test_late_truth_is_marked() -> None:
    assert advance(PaymentStatus.EXPIRED, PaymentStatus.PAID).advance is Advance.LATE
    assert advance(PaymentStatus.PENDING, PaymentStatus.PAID).advance is Advance.APPLIED
    assert advance(PaymentStatus.PAID, PaymentStatus.EXPIRED).advance is Advance.IGNORED
    assert advance(PaymentStatus.PAID, PaymentStatus.PAID).advance is Advance.UNCHANGED
    assert advance(PaymentStatus.PAID, PaymentStatus.UNKNOWN).status is PaymentStatus.PAID


def test_the_same_key_names_the_same_payment_in_one_workspace_only() -> None:
    one, other = uuid4(), uuid4()
    assert payment_id_for(one, "k") == payment_id_for(one, "k") != payment_id_for(other, "k")


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_looks_become_rarer_up_to_a_bound(looks: int, roll: float) -> None:
    plan = PollPlan()
    wait = plan.interval(looks, roll)
    assert timedelta(seconds=54) <= wait <= timedelta(seconds=3960)
    if looks == 0:
        assert wait <= timedelta(seconds=66)


@pytest.mark.parametrize(
    ("looks", "roll", "seconds"),
    [
        (0, 0.5, 60.0),
        (1, 0.5, 120.0),
        (5, 0.5, 1920.0),
        (6, 0.5, 3600.0),
        (10_000, 0.5, 3600.0),
        (0, 0.0, 54.0),
        (0, 1.0, 66.0),
        (6, 0.75, 3780.0),
    ],
)
def test_waits_double_to_an_hour_and_are_spread_by_a_tenth(looks: int, roll: float, seconds: float) -> None:
    assert PollPlan().interval(looks, roll) == timedelta(seconds=seconds)


def test_a_plan_of_ones_own() -> None:
    plan = PollPlan(first_seconds=2, growth=1.5, max_seconds=10, jitter=0)
    assert [plan.interval(looks, 0.9).total_seconds() for looks in range(5)] == [2, 3, 4.5, 6.75, 10]


def test_what_a_command_says_when_nothing_else_is_said() -> None:
    """Histories of earlier releases are read with these."""
    payment_id, at = uuid4(), datetime(2027, 1, 1, tzinfo=UTC)
    start = StartPayment(payment_id, payment_id, "stripe", payment_id, "o-1", None, 12990, "ILS", at)
    assert start.amount == Money.parse("129.90", "ILS")
    assert (start.poll, start.resumed, start.payment_method_id, start.subscription_id) == (
        PollPlan(60.0, 2.0, 3600.0, 0.1),
        None,
        None,
        None,
    )
    watch = Watch()
    assert (watch.status, watch.looks_done, watch.seen_event_ids, watch.checkout_url) == (
        PaymentStatus.PENDING,
        0,
        (),
        None,
    )
    assert (watch.others_open, watch.receipt_id, watch.triggers, watch.cancel_requested, watch.retry_in) == (
        False,
        None,
        (),
        False,
        None,
    )
    checkout = Checkout(PaymentStatus.PENDING)
    assert (checkout.url, checkout.error_code, checkout.error_detail, checkout.error_type, checkout.look_now) == (
        None,
        None,
        None,
        None,
        False,
    )
    asked = Confirm(payment_id)
    assert (asked.inbox_ids, asked.close_as) == ((), None)
    confirmed = Confirmation(PaymentStatus.PAID)
    assert (confirmed.receipt_id, confirmed.flag, confirmed.others_open) == (None, None, False)
    assert (confirmed.surplus_ids, confirmed.subscription_id) == ((), None)
    assert PaymentOutcome(payment_id, PaymentStatus.PAID).receipt_id is None


def test_a_wait_that_grows_slowly_stops_growing_after_64_looks() -> None:
    """More doublings than that are beyond any number of seconds, and a float."""
    plan = PollPlan(first_seconds=100, growth=1.25, max_seconds=1e12, jitter=0)
    assert plan.interval(64, 0.5) == plan.interval(10_000, 0.5) == timedelta(seconds=100 * 1.25**64)
    assert plan.interval(63, 0.5) < plan.interval(64, 0.5)
