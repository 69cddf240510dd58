"""The retry plan, by class of decline."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from domain.declines import DeclineClass
from domain.dunning import Decision, DunningPolicy, Next, decide

FIRST = datetime(2027, 1, 31, 7, tzinfo=UTC)
DAY = timedelta(days=1)


def decided(
    decline: DeclineClass, retries_made: int, failed_at: datetime, policy: DunningPolicy | None = None
) -> Decision:
    return decide(
        policy or DunningPolicy(),
        decline=decline,
        code="insufficient_funds",
        failed_at=failed_at,
        first_failed_at=FIRST,
        retries_made=retries_made,
    )


@pytest.mark.parametrize("decline", [DeclineClass.SOFT, DeclineClass.UNKNOWN])
def test_soft_declines_are_retried_after_2_5_7_and_7_days(decline: DeclineClass) -> None:
    at, days = FIRST, []
    for made in range(4):
        decision = decided(decline, made, at + timedelta(minutes=1))
        assert decision.next is Next.RETRY
        days.append((decision.at - FIRST) // DAY)
        at = decision.at
        assert f"retry {made + 1} of 4" in decision.reason
    assert days == [2, 7, 14, 21]
    assert decided(decline, 4, at).next is Next.GIVE_UP


def test_a_hard_decline_is_never_retried() -> None:
    decision = decided(DeclineClass.HARD, 0, FIRST)
    assert (decision.next, decision.at) == (Next.WAIT_FOR_METHOD, FIRST + 21 * DAY)
    assert "hard decline" in decision.reason


def test_the_payer_is_waited_for_until_the_grace_ends() -> None:
    decision = decided(DeclineClass.ACTION_REQUIRED, 0, FIRST)
    assert (decision.next, decision.at) == (Next.WAIT_FOR_PAYER, FIRST + 21 * DAY)


def test_no_retry_beyond_the_grace() -> None:
    short = DunningPolicy(retry_days=(2, 5), grace_days=5)
    assert decided(DeclineClass.SOFT, 1, FIRST + 2 * DAY, short).next is Next.WAIT_FOR_METHOD
    assert decided(DeclineClass.SOFT, 1, FIRST + 5 * DAY, short).next is Next.GIVE_UP


def test_after_the_last_retry_the_rest_of_the_grace_is_waited_out() -> None:
    long = DunningPolicy(retry_days=(1,), grace_days=30)
    decision = decided(DeclineClass.SOFT, 1, FIRST + DAY, long)
    assert (decision.next, decision.at) == (Next.WAIT_FOR_METHOD, FIRST + 30 * DAY)
    assert "all 1 retries" in decision.reason


def test_a_retry_that_an_outage_has_missed_is_made_at_once() -> None:
    late = FIRST + 9 * DAY
    assert decided(DeclineClass.SOFT, 1, late).at == late
