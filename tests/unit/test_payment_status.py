"""The status machine ends in the same state whatever the order and the number of events."""

from __future__ import annotations

import random
from datetime import timedelta
from uuid import uuid4

from hypothesis import given
from hypothesis import strategies as st

from domain.payment import CAPTURED, OPEN, Advance, PaymentStatus, PollPlan, advance, payment_id_for

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
