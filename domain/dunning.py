"""What happens after a renewal could not be charged: retries, waits, and what ends it. Each decision says why."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from domain.declines import DeclineClass

DAY = timedelta(days=1)


class FinalAction(StrEnum):
    """What becomes of a subscription whose grace has ended without money."""

    CANCEL = "cancel"
    EXPIRE = "expire"
    KEEP = "keep"
    """It stays past due; the invoice is given up and the next period is charged as usual."""


@dataclass(frozen=True, slots=True)
class DunningPolicy:
    """A workspace's rules. `retry_days` are the waits before each retry, `grace_days` count from the first failure."""

    retry_days: tuple[int, ...] = (2, 5, 7, 7)
    grace_days: int = 21
    final_action: FinalAction = FinalAction.CANCEL

    def grace_until(self, first_failed_at: datetime) -> datetime:
        """When patience ends."""
        return first_failed_at + self.grace_days * DAY


class Next(StrEnum):
    """What to do now."""

    RETRY = "retry"
    WAIT_FOR_METHOD = "wait_for_method"
    WAIT_FOR_PAYER = "wait_for_payer"
    GIVE_UP = "give_up"


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision of the dunning. `at` is when the next try or, where nothing is tried, the end of the grace is."""

    next: Next
    at: datetime
    reason: str


def decide(
    policy: DunningPolicy,
    *,
    decline: DeclineClass,
    code: str | None,
    failed_at: datetime,
    first_failed_at: datetime,
    retries_made: int,
) -> Decision:
    """What follows from a try that has certainly failed. `retries_made` counts the tries after the first one.

    Retries are counted from the first failure, so that a slow answer moves none of them. An unknown *outcome* never
    comes here: it is resolved at the provider before anything else is tried. An unknown *code* of a certain failure is
    retried as a soft one.
    """
    end = policy.grace_until(first_failed_at)
    if failed_at >= end:
        return Decision(Next.GIVE_UP, end, f"grace of {policy.grace_days} days is over")
    until = f"until {end:%Y-%m-%d %H:%M} UTC"
    named = code or "no code"
    if decline is DeclineClass.HARD:
        reason = f"{named} is a hard decline: this method is not tried again, another one is waited for {until}"
        return Decision(Next.WAIT_FOR_METHOD, end, reason)
    if decline is DeclineClass.ACTION_REQUIRED:
        return Decision(Next.WAIT_FOR_PAYER, end, f"{named}: the payer has to confirm it, waited for {until}")
    if retries_made >= len(policy.retry_days):
        return Decision(Next.WAIT_FOR_METHOD, end, f"all {retries_made} retries were made; waited for money {until}")
    retry_at = max(failed_at, first_failed_at + sum(policy.retry_days[: retries_made + 1]) * DAY)
    if retry_at > end:
        return Decision(Next.WAIT_FOR_METHOD, end, f"the next retry would be after the grace; waited for money {until}")
    kind = "is a soft decline" if decline is DeclineClass.SOFT else "is not known, taken as a soft decline"
    which = f"retry {retries_made + 1} of {len(policy.retry_days)}"
    return Decision(Next.RETRY, retry_at, f"{named} {kind}: {which} at {retry_at:%Y-%m-%d %H:%M} UTC")


def on_fault(at: datetime, code: str) -> Decision:
    """The try was refused for a fault of the request or the account: the customer can mend nothing of that."""
    retry_at = at + DAY
    reason = (
        f"{code} is a fault of the request or the account, no decline: tried again at {retry_at:%Y-%m-%d %H:%M} UTC"
    )
    return Decision(Next.RETRY, retry_at, reason)


def on_new_method(at: datetime) -> Decision:
    """Another method was given: it is tried at once, whatever was decided before."""
    return Decision(Next.RETRY, at, "another payment method was given: tried at once")


def ask_by_link(at: datetime, code: str | None) -> Decision:
    """No saved method is left that could be charged: the payer is asked by a link at once."""
    return Decision(Next.WAIT_FOR_PAYER, at, f"{code or 'no code'}: no other method is saved, the payer gets a link")


def at_the_end(policy: DunningPolicy) -> str:
    """Why the final action is taken, for the audit log."""
    return f"no money within the grace of {policy.grace_days} days: {policy.final_action.value}"
