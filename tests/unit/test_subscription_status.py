"""The table of a subscription's statuses."""

from __future__ import annotations

import pytest

from domain.subscription import ENDED, TRANSITIONS, IllegalTransition, SubscriptionStatus, change


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
