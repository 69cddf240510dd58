"""The retry plan, by class of decline."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from domain.declines import DeclineClass
from domain.dunning import Decision, DunningPolicy, FinalAction, Next, at_the_end, decide, on_fault, on_new_method

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


END, UNTIL = FIRST + 21 * DAY, "until 2027-02-21 07:00 UTC"


@pytest.mark.parametrize(
    ("decline", "code", "made", "days_later", "expected"),
    [
        (
            DeclineClass.SOFT,
            "insufficient_funds",
            0,
            0,
            Decision(
                Next.RETRY,
                FIRST + 2 * DAY,
                "insufficient_funds is a soft decline: retry 1 of 4 at 2027-02-02 07:00 UTC",
            ),
        ),
        (
            DeclineClass.UNKNOWN,
            "strange",
            1,
            2,
            Decision(
                Next.RETRY,
                FIRST + 7 * DAY,
                "strange is not known, taken as a soft decline: retry 2 of 4 at 2027-02-07 07:00 UTC",
            ),
        ),
        (
            DeclineClass.UNKNOWN,
            None,
            3,
            14,
            Decision(
                Next.RETRY, END, "no code is not known, taken as a soft decline: retry 4 of 4 at 2027-02-21 07:00 UTC"
            ),
        ),
        (
            DeclineClass.HARD,
            "stolen_card",
            2,
            7,
            Decision(
                Next.WAIT_FOR_METHOD,
                END,
                f"stolen_card is a hard decline: this method is not tried again, another one is waited for {UNTIL}",
            ),
        ),
        (
            DeclineClass.ACTION_REQUIRED,
            "authentication_required",
            0,
            0,
            Decision(
                Next.WAIT_FOR_PAYER,
                END,
                f"authentication_required: the payer has to confirm it, waited for {UNTIL}",
            ),
        ),
        (
            DeclineClass.SOFT,
            None,
            4,
            20,
            Decision(Next.WAIT_FOR_METHOD, END, f"all 4 retries were made; waited for money {UNTIL}"),
        ),
        (DeclineClass.HARD, "stolen_card", 0, 21, Decision(Next.GIVE_UP, END, "grace of 21 days is over")),
        (DeclineClass.SOFT, None, 0, 22, Decision(Next.GIVE_UP, END, "grace of 21 days is over")),
    ],
)
def test_each_decision_says_what_when_and_why(
    decline: DeclineClass, code: str | None, made: int, days_later: int, expected: Decision
) -> None:
    found = decide(
        DunningPolicy(),
        decline=decline,
        code=code,
        failed_at=FIRST + days_later * DAY,
        first_failed_at=FIRST,
        retries_made=made,
    )
    assert found == expected


def test_a_retry_at_the_last_moment_of_the_grace_is_made_and_one_after_it_is_not() -> None:
    exact, short = (DunningPolicy(retry_days=(5,), grace_days=days) for days in (5, 4))
    assert decided(DeclineClass.SOFT, 0, FIRST, exact).next is Next.RETRY
    assert decided(DeclineClass.SOFT, 0, FIRST, short) == Decision(
        Next.WAIT_FOR_METHOD,
        FIRST + 4 * DAY,
        "the next retry would be after the grace; waited for money until 2027-02-04 07:00 UTC",
    )


def test_a_new_method_and_the_end() -> None:
    assert on_new_method(FIRST) == Decision(Next.RETRY, FIRST, "another payment method was given: tried at once")
    assert at_the_end(DunningPolicy()) == "no money within the grace of 21 days: cancel"
    kept = DunningPolicy(grace_days=3, final_action=FinalAction.KEEP)
    assert at_the_end(kept) == "no money within the grace of 3 days: keep"


def test_what_a_workspace_has_that_says_nothing() -> None:
    policy = DunningPolicy()
    assert (policy.retry_days, policy.grace_days, policy.final_action) == ((2, 5, 7, 7), 21, FinalAction.CANCEL)


def test_a_fault_of_the_merchants_is_tried_again_a_day_later_and_says_so() -> None:
    decision = on_fault(FIRST, "http_401")
    assert (decision.next, decision.at) == (Next.RETRY, FIRST + DAY)
    words = "is a fault of the request or the account, no decline: tried again at 2027-02-01 07:00 UTC"
    assert decision.reason == f"http_401 {words}"
