"""Referral commissions: who earns what on an order, and why not."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction

from domain.mailbox import same_id
from domain.money import Money, MoneyError


class CommissionStatus(StrEnum):
    """A commission's life."""

    ACCRUED = "accrued"
    PAID = "paid"
    CLAWED_BACK = "clawed_back"
    """All of it went back with the order's refunds and lost disputes before it was paid out."""
    REJECTED = "rejected"
    """A person looked at what a fraud guard had held, and said no."""


class CommissionState(StrEnum):
    """Where a commission stands at a moment: its status, and what a rule on the books says of an accrued one."""

    PENDING = "pending"
    """In its holding period: the order may still be refunded or disputed."""
    PAYABLE = "payable"
    HELD = "held"
    """A review or an open dispute of the order is undecided, or the referrer is suspended."""
    IN_PAYOUT = "in_payout"
    """In a batch that is not finished."""
    PAID = "paid"
    CLAWED_BACK = "clawed_back"
    REJECTED = "rejected"


class Review(StrEnum):
    """A person's look at a commission that a fraud guard holds."""

    PENDING = "pending"
    APPROVED = "approved"
    REJECTED = "rejected"


class CommissionRefusal(StrEnum):
    """Why an order earns no commission. Each is written to the audit log."""

    NO_REFERRER = "no_referrer"
    SELF_REFERRAL = "self_referral"
    BELOW_MINIMUM = "below_minimum"
    NO_RATE = "no_rate"
    ORDER_HAS_COMMISSION = "order_has_commission"
    FRAUD_GUARD = "fraud_guard"
    """The entry also names the rules that said so."""


@dataclass(frozen=True, slots=True)
class CommissionDecision:
    """Either an `amount` to accrue or the `refusal`, never both."""

    amount: Money | None
    refusal: CommissionRefusal | None


def decide_commission(
    *,
    paid: Money,
    rate: Decimal,
    minimum: Money,
    referrer_id: str | None,
    customer_id: str | None,
) -> CommissionDecision:
    """Decide on the paid amount at the workspace's rate (a fraction: 0.10 is ten percent).

    Rounds half up to the minor unit. The minimum applies to the commission itself, so that no report fills up with
    shares too small to pay out. That an order earns at most once is decided by a constraint in storage, not here.
    """
    refusal = _refusal(rate, referrer_id, customer_id)
    if refusal is not None:
        return CommissionDecision(None, refusal)
    amount = paid.times(rate)
    if amount < minimum or amount.minor <= 0:
        return CommissionDecision(None, CommissionRefusal.BELOW_MINIMUM)
    return CommissionDecision(amount, None)


def claw_back(commission: Money, *, gone: Money, of: Money, taken: Money) -> Money:
    """What the referrer gives back now, when `gone` of the `of` that was captured has left by refunds and disputes.

    `taken` is what was given back before. The rule looks at the running total and not at this one movement, so refunds
    and disputes in any order, also a lost one that is won after all, leave exactly the share of what is gone. Negative
    when money has come back. Raises MoneyError when more would be gone than there was.
    """
    if not 0 <= gone.minor <= of.minor:
        raise MoneyError("at most what was captured can be gone")
    return commission.times(Fraction(gone.minor, of.minor)) - taken


def _refusal(rate: Decimal, referrer_id: str | None, customer_id: str | None) -> CommissionRefusal | None:
    if not referrer_id:
        return CommissionRefusal.NO_REFERRER
    if customer_id is not None and same_id(referrer_id, customer_id):
        return CommissionRefusal.SELF_REFERRAL
    if rate <= 0:
        return CommissionRefusal.NO_RATE
    return None
