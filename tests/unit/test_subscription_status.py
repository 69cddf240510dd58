"""The table of a subscription's statuses."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from domain.payment import PollPlan
from domain.subscription import (
    ENDED,
    TRANSITIONS,
    AdvanceSubscription,
    ChangeKind,
    IllegalTransition,
    StartSubscription,
    SubscriptionChange,
    SubscriptionChanged,
    SubscriptionStatus,
    SubscriptionStep,
    SubscriptionWatch,
    SyncSubscription,
    change,
)


def test_every_status_has_its_line_and_every_end_can_be_reached() -> None:
    assert set(TRANSITIONS) == set(SubscriptionStatus)
    reached, left = {SubscriptionStatus.INCOMPLETE, SubscriptionStatus.TRIALING}, list(SubscriptionStatus)
    for _ in left:
        reached |= {after for before in reached for after in TRANSITIONS[before]}
    assert reached == set(SubscriptionStatus)


def test_a_cancelled_subscription_stays_cancelled() -> None:
    for wanted in set(SubscriptionStatus) - {SubscriptionStatus.CANCELLED}:
        with pytest.raises(IllegalTransition, match="cancelled does not become"):
            change(SubscriptionStatus.CANCELLED, wanted)


def test_money_that_comes_late_brings_an_expired_one_back_and_nothing_else_does() -> None:
    assert TRANSITIONS[SubscriptionStatus.EXPIRED] == {SubscriptionStatus.ACTIVE}


def test_everything_that_runs_can_be_cancelled_and_staying_is_legal() -> None:
    for status in set(SubscriptionStatus) - ENDED:
        assert change(status, SubscriptionStatus.CANCELLED) is SubscriptionStatus.CANCELLED
        assert change(status, status) is status


def test_a_wish_at_a_moment_is_the_same_wish() -> None:
    one, at = uuid4(), datetime(2027, 1, 1, tzinfo=UTC)
    wish = SubscriptionChange(one, one, ChangeKind.CHANGE_PLAN, "merchant", plan_id=one, quantity=2)
    assert wish.at is None
    assert wish.on(at) == replace(wish, at=at)
    assert wish.on(at).at == at


def test_what_a_command_says_when_nothing_else_is_said() -> None:
    """Histories of earlier releases are read with these."""
    one, at = uuid4(), datetime(2027, 1, 1, tzinfo=UTC)
    start = StartSubscription(one, one, "c-1")
    assert (start.poll, start.resumed) == (PollPlan(), None)
    watch = SubscriptionWatch(SubscriptionStatus.ACTIVE)
    assert (watch.seen_event_ids, watch.triggers) == ((), ())
    step = SubscriptionStep(SubscriptionStatus.ACTIVE, "x")
    assert (step.ended, step.wake_at, step.start, step.close) == (False, None, None, ())
    assert (step.first_ready, step.refunds, step.sync) == (True, (), False)
    wish = SubscriptionChange(one, one, ChangeKind.CANCEL, "merchant")
    assert {name: getattr(wish, name) for name in ("plan_id", "quantity", "payment_method_id", "resume_at")} == {
        "plan_id": None,
        "quantity": None,
        "payment_method_id": None,
        "resume_at": None,
    }
    assert (wish.reason, wish.at, wish.fingerprint) == (None, None, None)
    done = SubscriptionChanged(SubscriptionStatus.ACTIVE)
    assert (done.effects, done.refusal, done.detail) == ({}, None, None)
    assert SyncSubscription(one).inbox_ids == ()
    assert AdvanceSubscription(one, at).at == at
